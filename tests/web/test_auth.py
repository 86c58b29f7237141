import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from conftest import Server, inside_app
from websockets.asyncio.client import connect

from cotexd.operations import accounts, tokens
from cotexd.operations.accounts import Account

OPEN = {
    *("health", "livez", "readyz", "metrics", "openapi.json", "asyncapi.json"),
    *("api/webhooks/github/<repo_id:str>", "webhooks/stripe"),
    *("auth/v1/token", "auth/v1/settings", "auth/v1/health", "auth/v1/.well-known/jwks.json"),
}
"""the routes that ask for no token, beside the pages under /billing/"""
# What makes a token bad does not depend on which database there is.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def changed(server: Server, user: Account, **claims: object) -> str:
    """A token that was issued, signed again with our own key and other claims; None leaves one out."""
    key = server.store.run(tokens.signing_key)
    good = jwt.decode(server.token(user), options={"verify_signature": False})
    kept = {name: value for name, value in {**good, **claims}.items() if value is not None}
    return jwt.encode(kept, key, algorithm="HS256")


def signed_by_another(server: Server, user: Account) -> str:
    good = jwt.decode(server.token(user), options={"verify_signature": False})
    return jwt.encode(good, b"x" * 32, algorithm="HS256")


def unsigned(server: Server, user: Account) -> str:
    good = jwt.decode(server.token(user), options={"verify_signature": False})
    return jwt.encode(good, None, algorithm="none")


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def revoked(server: Server, user: Account) -> str:
    token = server.token(user)
    server.store.run(tokens.revoke, user.id)
    return token


BAD: dict[str, Callable[[Server, Account], str]] = {
    "garbage": lambda server, ada: "garbage",
    "three parts of nothing": lambda server, ada: "a.b.c",
    "cut short": lambda server, ada: server.token(ada)[:-2],
    "another's key": signed_by_another,
    "no signature": unsigned,
    "expired": lambda server, ada: changed(server, ada, exp=ago(minutes=1)),
    "from the future": lambda server, ada: changed(server, ada, iat=ago(minutes=-10)),
    "for another audience": lambda server, ada: changed(server, ada, aud="somebody"),
    "of another issuer": lambda server, ada: changed(server, ada, iss="somebody"),
    "without an end": lambda server, ada: changed(server, ada, exp=None),
    "endless": lambda server, ada: changed(server, ada, exp=1e400),
    "of nobody": lambda server, ada: changed(server, ada, sub=str(uuid.uuid4())),
    "never issued": lambda server, ada: changed(server, ada, jti=str(uuid.uuid4())),
    "revoked": revoked,
    "too long": lambda server, ada: changed(server, ada, more="x" * 9000),
}


@on_sqlite
async def test_a_token_that_is_signed_again_with_our_key_is_as_good(server: Server):
    bearer = {"authorization": f"Bearer {changed(server, server.user('ada'))}"}
    assert (await server.get("/api/repos", headers=bearer)).status_code == 200


@on_sqlite
@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_token_is_unauthorized_and_is_not_repeated(server: Server, kind: str):
    token = BAD[kind](server, server.user("ada"))
    answer = await server.get("/api/repos", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert token not in answer.text


@pytest.mark.parametrize(
    "header", ["Basic YWRhOmFkYQ==", "Bearer", "{token}", "Token {token}", "Bearer{token}"]
)
async def test_what_is_no_bearer_is_unauthorized(server: Server, header: str):
    token = server.token(server.user("ada"))
    answer = await server.get("/api/repos", headers={"authorization": header.format(token=token)})
    assert answer.status_code == 401


@on_sqlite
async def test_bytes_that_are_no_text_are_a_bad_token(server: Server):
    for value in (b"Bearer \xff\xfe", "Bearer ä.ö.ü".encode(), b"\xff"):
        answer = await server.get("/api/repos", headers={"authorization": value})
        assert answer.status_code == 401, value


@on_sqlite
async def test_the_name_of_the_scheme_may_be_written_in_any_case(server: Server):
    token = server.token(server.user("ada"))
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await server.get("/api/repos", headers={"authorization": f"{scheme} {token}"})
        assert answer.status_code == 200


async def test_every_route_asks_for_a_token_but_those_that_say_so(server: Server):
    asked = set()
    for route in inside_app().router.routes:
        for method in route.methods:
            answer = await server.request(method, "/" + route.path.replace("<repo_id:str>", "x"))
            if route.path not in OPEN and not route.path.startswith("billing/"):
                assert answer.status_code == 401, (method, route.path)
                asked.add(route.path)
    assert {"ws", "api/repos", "api/github-events", "api/me", "auth/v1/user"} <= asked


@on_sqlite
async def test_a_token_in_the_query_is_not_even_read(server: Server):
    token = server.token(server.user("ada"))
    for name in ("token", "access_token", "authorization", "bearer"):
        assert (await server.get(f"/api/repos?{name}={token}")).status_code == 401


async def test_a_disabled_user_is_forbidden_and_the_same_token_is_good_again_once_they_are_enabled(
    server: Server,
):
    ada = server.user("ada")
    bearer = {"authorization": f"Bearer {server.token(ada)}"}
    server.store.run(accounts.disable, "ada")
    answer = await server.get("/api/repos", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    server.store.run(accounts.enable, "ada")
    assert (await server.get("/api/repos", headers=bearer)).status_code == 200


async def test_a_browser_gives_its_token_as_a_subprotocol(server: Server):
    token = server.token(server.user("ada"))
    address = server.url.replace("http", "ws") + "/ws?v=2"
    async with connect(address, subprotocols=["cotex.v2", f"cotex.bearer.{token}"], proxy=None) as socket:
        assert socket.subprotocol == "cotex.v2"
        assert "hello" in await socket.recv()


@on_sqlite
async def test_the_token_among_the_subprotocols_is_never_the_one_that_is_chosen(server: Server):
    token = server.token(server.user("ada"))
    address = server.url.replace("http", "ws") + "/ws?v=2"
    async with connect(address, subprotocols=[f"cotex.bearer.{token}"], proxy=None) as socket:
        assert socket.subprotocol is None
        assert socket.response is not None
        assert token not in str(socket.response.headers)


@on_sqlite
async def test_the_header_goes_before_the_subprotocol(server: Server):
    good, bad = server.token(server.user("ada")), "a.b.c"
    for header, offered, status in ((good, bad, 400), (bad, good, 401)):
        answer = await server.get(
            "/ws",
            headers={
                "authorization": f"Bearer {header}",
                "sec-websocket-protocol": f"cotex.v2, cotex.bearer.{offered}",
            },
        )
        # 400: known, but it is no handshake.
        assert answer.status_code == status
