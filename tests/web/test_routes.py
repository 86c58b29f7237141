"""Every route of the running server, and whom it lets in: one that is mounted and not in this table fails."""

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from conftest import Server, inside_app, serving, with_password

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.operations import cursors, events, members, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for all: every test brings its own users. SQLite, since no database decides who may come in."""
    settings = Settings(
        port=0,
        data_dir=tmp_path_factory.mktemp("routes") / "data",
        rate_limit=10**6,
        stripe_webhook_secrets=("whsec_made-up",),
    )
    async with serving(settings) as server:
        yield server


@dataclass(frozen=True)
class World:
    """ada's things: a repository that she shares with bob, and an event of it. eve has nothing to do with them."""

    server: Server
    ada: Account
    bob: Account
    carl: Account
    eve: Account
    repo: Tracked
    event_id: str
    seq: int
    epoch: str
    device: str

    @property
    def cursor(self) -> str:
        """That of a client that has the event."""
        return f"{self.epoch}.{self.seq}"

    @property
    def hers(self) -> set[str]:
        """What must be in no answer to another user."""
        return {self.repo.id, self.repo.repo_name, self.event_id, self.ada.id, self.ada.name, self.device}


EVERYTHING = "everything"
"""instead of a scope: only for tokens without scopes"""
Request = Callable[[World], dict[str, Any]]
"""how a request for ada's things is made: `params`, `json`"""


def plain(_: World) -> dict[str, Any]:
    return {}


def the_repo(world: World) -> dict[str, Any]:
    return {"params": {"id": world.repo.id}}


@dataclass(frozen=True)
class Open:
    """A route that asks for no token; what a bad one does to it is nothing."""

    status: int
    ask: Request = plain


@dataclass(frozen=True)
class Kept:
    """A route for those who are signed in. Without a token it is 401."""

    scope: str
    """what a token with scopes must have"""
    status: int
    """for ada, who asks for what is hers"""
    foreign: int
    """for eve, who asks for what is ada's"""
    ask: Request = field(default=plain)


TABLE: dict[str, Open | Kept] = {
    "GET /health": Open(200),
    "HEAD /health": Open(200),
    "GET /livez": Open(200),
    "HEAD /livez": Open(200),
    "GET /readyz": Open(200),
    "HEAD /readyz": Open(200),
    "GET /metrics": Open(200),
    "GET /openapi.json": Open(200),
    "GET /asyncapi.json": Open(200),
    "GET /auth/v1/.well-known/jwks.json": Open(200),
    "GET /auth/v1/settings": Open(200),
    "GET /auth/v1/health": Open(200),
    # It asks for a password or a refresh token.
    "POST /auth/v1/token": Open(
        400,
        lambda world: {
            "params": {"grant_type": "password"},
            "json": {"email": world.ada.email, "password": "a guess"},
        },
    ),
    # It asks for a signature.
    "POST /api/webhooks/github/<repo_id:str>": Open(
        401,
        lambda _: {
            "content": b"{}",
            "headers": {
                "content-type": "application/json",
                "x-github-event": "push",
                "x-github-delivery": "a-guess",
            },
        },
    ),
    # It asks for a signature as well.
    "POST /webhooks/stripe": Open(
        400,
        lambda _: {"content": b"{}", "headers": {"stripe-signature": "t=1,v1=a-guess"}},
    ),
    # What they tell of anybody is behind a reference that only we can read.
    "GET /billing/done": Open(200, lambda world: {"params": {"who": world.ada.id}}),
    "GET /billing/cancelled": Open(200, lambda world: {"params": {"who": world.ada.id}}),
    # There is nothing to buy here.
    "POST /api/checkout": Kept(scope.BILLING_WRITE, 503, 503),
    "POST /api/billing/portal": Kept(scope.BILLING_WRITE, 503, 503),
    "GET /auth/v1/user": Kept(scope.ACCOUNT_READ, 200, 200),
    # It ends sessions of the user, which a script has no part in.
    "POST /auth/v1/logout": Kept(EVERYTHING, 204, 204),
    "GET /api/me": Kept(scope.ACCOUNT_READ, 200, 200),
    "GET /api/me/devices": Kept(scope.ACCOUNT_READ, 200, 200),
    "DELETE /api/me/devices": Kept(
        scope.EVENTS_READ, 204, 404, lambda world: {"params": {"device": world.device}}
    ),
    "GET /api/repos": Kept(scope.REPOS_READ, 200, 404, the_repo),
    "POST /api/repos": Kept(scope.REPOS_WRITE, 201, 201, lambda _: {"json": {"repo_name": "octo/another"}}),
    "PATCH /api/repos": Kept(
        scope.REPOS_WRITE, 200, 404, lambda world: {**the_repo(world), "json": {"status": "paused"}}
    ),
    "DELETE /api/repos": Kept(scope.REPOS_WRITE, 204, 404, the_repo),
    "GET /api/repos/members": Kept(scope.REPOS_READ, 200, 404, the_repo),
    "POST /api/repos/members": Kept(
        scope.REPOS_WRITE, 201, 404, lambda world: {**the_repo(world), "json": {"user": world.carl.name}}
    ),
    "DELETE /api/repos/members": Kept(
        scope.REPOS_WRITE, 204, 404, lambda world: {"params": {"id": world.repo.id, "user": world.bob.id}}
    ),
    "GET /api/github-events": Kept(
        scope.EVENTS_READ, 200, 404, lambda world: {"params": {"repo_id": world.repo.id}}
    ),
    "GET /api/github-events/recent": Kept(
        scope.EVENTS_READ,
        200,
        404,
        lambda world: {"params": {"repo_id": world.repo.id, "include_payload": "true"}},
    ),
    "GET /api/github-events/event": Kept(
        scope.EVENTS_READ, 200, 404, lambda world: {"params": {"id": world.event_id}}
    ),
    # A cursor is of the whole log, and moves one's own mark; see test_attacks.py.
    "POST /api/github-events/ack": Kept(
        scope.EVENTS_READ, 200, 200, lambda world: {"json": {"cursor": world.cursor, "device": "laptop"}}
    ),
    "GET /api/github-events/delivery": Kept(
        scope.EVENTS_READ, 200, 404, lambda world: {"params": {"id": world.event_id}}
    ),
    # A cursor before her event; eve is let in, and waits for her own.
    "GET /api/events": Kept(
        scope.EVENTS_READ, 200, 200, lambda world: {"params": {"after": f"{world.epoch}.{world.seq - 1}"}}
    ),
    # 400: let in, but this is no cursor.
    "GET /api/events/stream": Kept(scope.EVENTS_READ, 400, 400, lambda _: {"params": {"cursor": "none"}}),
    # 400: let in, but this is no handshake.
    "GET /ws": Kept(scope.EVENTS_READ, 400, 400),
}


def mounted() -> set[str]:
    """The routes of the server that runs in this process."""
    return {f"{method} /{route.path}" for route in inside_app().router.routes for method in route.methods}


@pytest.fixture
async def world(running: Server) -> World:
    few = uuid.uuid4().hex[:8]
    ada = with_password(running, f"ada-{few}")
    bob, carl, eve = (running.user(f"{name}-{few}") for name in ("bob", "carl", "eve"))
    repo = running.track(ada, f"octo/hello-{few}")
    running.store.run(members.share, ada.id, repo.id, bob.id)
    accepted = (await running.github.deliver(repo)).json()
    epoch, device = running.store.look(events.log).epoch, f"laptop-{few}"
    running.store.run(cursors.attach, ada.id, device=device, cursor=None)
    return World(running, ada, bob, carl, eve, repo, accepted["event_id"], accepted["seq"], epoch, device)


async def ask(world: World, route: str, token: str = "") -> httpx.Response:
    method, _, path = route.partition(" ")
    wanted = TABLE[route].ask(world)
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    headers = {**bearer, **wanted.pop("headers", {})}
    path = path.replace("<repo_id:str>", world.repo.id)
    return await world.server.request(method, path, headers=headers, **wanted)


def token_of(world: World, user: Account, *scopes: str) -> str:
    """:param scopes: none is a token without scopes, which may do everything"""
    return world.server.store.run(tokens.issue, user.id, scopes=frozenset(scopes) or None).token


async def test_every_route_that_is_mounted_is_in_the_table(running: Server):
    assert mounted() == TABLE.keys()


@pytest.mark.parametrize("route", TABLE)
async def test_without_a_token(world: World, route: str):
    expected = TABLE[route]
    if isinstance(expected, Open):
        for token in ("", "a.bad.token", token_of(world, world.eve)):
            assert (await ask(world, route, token)).status_code == expected.status
    else:
        for token in ("", "a.bad.token"):
            answer = await ask(world, route, token)
            assert answer.status_code == 401
            assert answer.json().get("error_code", answer.json()["code"]) in {"unauthorized", "bad_jwt"}
            assert not [each for each in world.hers if each in answer.text]


KEPT = {route: expected for route, expected in TABLE.items() if isinstance(expected, Kept)}


@pytest.mark.parametrize("route", KEPT)
async def test_with_another_users_token(world: World, route: str):
    answer = await ask(world, route, token_of(world, world.eve))
    assert answer.status_code == KEPT[route].foreign
    if answer.status_code == 404:
        # As if it never had been: what differs is the id that was asked for.
        assert answer.json()["code"] == "not_found"
        told = answer.text
        for asked in (world.repo.id, world.event_id, world.device):
            told = told.replace(asked, "")
    else:
        told = answer.text
    assert not [each for each in world.hers if each in told]
    assert (await ask(world, route, token_of(world, world.ada))).status_code == KEPT[route].status


@pytest.mark.parametrize("route", KEPT)
async def test_with_a_narrower_scope(world: World, route: str):
    needed = KEPT[route].scope
    answer = await ask(world, route, token_of(world, world.ada, *(set(scope.ALL) - {needed})))
    assert answer.status_code == 403
    assert answer.json().get("error_code", answer.json()["code"]) == "insufficient_scope"
    assert not [each for each in world.hers if each in answer.text]
    enough = () if needed == EVERYTHING else (needed,)
    assert (await ask(world, route, token_of(world, world.ada, *enough))).status_code == KEPT[route].status


async def test_what_a_narrower_token_was_refused_was_not_done(world: World):
    reading = token_of(world, world.ada, scope.EVENTS_READ, scope.REPOS_READ, scope.ACCOUNT_READ)
    for route, expected in KEPT.items():
        if expected.scope == scope.REPOS_WRITE:
            await ask(world, route, reading)
    answer = await world.server.get("/api/repos", world.ada)
    assert [(each["repo_name"], each["status"]) for each in answer.json()] == [
        (world.repo.repo_name, "active")
    ]
    answer = await world.server.get(f"/api/repos/members?id={world.repo.id}", world.ada)
    assert [each["name"] for each in answer.json()] == [world.ada.name, world.bob.name]
