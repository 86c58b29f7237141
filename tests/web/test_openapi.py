import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import documented
import httpx
import openapi_spec_validator
import pytest
from conftest import Server, inside_app, serving, with_password
from fakestripe import FakeStripe

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.errors import NotFound, RepoPaused
from cotexd.operations import tokens
from cotexd.web import openapi, reference
from cotexd.web.identity import Refusal
from cotexd.web.openapi import PUBLIC, UNSCOPED, Answer, Body, Parameter, Route
from cotexd.web.repos import NewMember
from cotexd.web.routes import ROUTES

WITHOUT_END = ("/ws", "/api/events/stream")
"""what a tool that waits for the end of an answer can't try"""


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    with FakeStripe() as fake:
        settings = Settings(
            port=0,
            data_dir=tmp_path_factory.mktemp("openapi") / "data",
            rate_limit=10**6,
            stripe_key=fake.secret_key,
            stripe_api_url=fake.url,
            stripe_webhook_secrets=("whsec_made-up",),
            stripe_price=fake.price(900),
        )
        async with serving(settings) as server:
            yield server


async def test_the_document_is_openapi_and_needs_no_token(running: Server):
    answer = await running.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    openapi_spec_validator.validate(answer.json())
    assert answer.json()["openapi"] == "3.1.0"


async def test_every_route_that_is_mounted_is_documented_and_no_other(running: Server):
    mounted = {
        (method, f"/{route.path}", route.name.split(".")[-1])
        for route in inside_app().router.routes
        for method in route.methods
    }
    assert {(route.method, route.path, route.name) for route in ROUTES} == mounted
    assert len(ROUTES) == len(mounted)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_lets_in_whom_it_says(running: Server, route: Route):
    ada = running.user(f"ada-{uuid.uuid4().hex[:8]}")

    async def code(*scopes: str) -> str:
        """The code of the refusal, with a token of these scopes, or with none."""
        granted = running.store.run(tokens.issue, ada.id, scopes=frozenset(scopes)).token if scopes else ""
        headers = {"authorization": f"Bearer {granted}"} if granted else {}
        path = route.path.replace("<repo_id:str>", "x")
        answer = await running.request(route.method, path, headers=headers)
        if answer.status_code < 400 or not answer.content:
            return ""
        return str(answer.json().get("error_code", answer.json()["code"]))

    if route.scope is PUBLIC:
        assert await code() not in {"unauthorized", "bad_jwt"}
    else:
        assert await code() in {"unauthorized", "bad_jwt"}
        assert await code(*(set(scope.ALL) - {route.scope})) == "insufficient_scope"
        if route.path not in WITHOUT_END and route.scope != UNSCOPED:
            assert await code(route.scope) != "insufficient_scope"


async def explore(running: Server, folder: Path, *more: str) -> str:
    """Ask for everything that the document describes, and for what it rules out; what was found that it doesn't say."""
    ada = with_password(running, f"ada-{uuid.uuid4().hex[:8]}")
    await running.github.deliver(running.track(ada))
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{running.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {running.token(ada)}"),
        *("--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--no-shrink"),
        *("--checks", "all"),
        # What a schema can't say (a cursor of this log, one of two parameters) is refused all the same; what it rules
        # out may be taken in good part.
        *("--exclude-checks", "positive_data_acceptance,negative_data_rejection"),
        *("--request-timeout", "20", "--continue-on-failure", "--warnings", "off", "--no-color"),
        *(part for path in WITHOUT_END for part in ("--exclude-path", path)),
        *more,
    ]
    done = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder
    )
    try:
        told, _ = await done.communicate()
    finally:
        if done.returncode is None:
            done.kill()
    return told.decode() if done.returncode else ""


@pytest.mark.timeout(300)
async def test_nothing_is_answered_that_is_not_documented_and_nothing_fails(running: Server, tmp_path: Path):
    assert not await explore(running, tmp_path, "--max-examples", "25")


@pytest.mark.timeout(60)
async def test_a_route_that_answers_something_else_is_found(
    running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The test above would notice."""
    lie = [
        Route("GET", "/api/me", "me", "The user", scope.ACCOUNT_READ, {200: Answer("Them.", NewMember)}),
    ]
    monkeypatch.setattr(reference, "_encoded_openapi", lambda: openapi_bytes(lie))
    assert "Response violates schema" in await explore(running, tmp_path, "--max-examples", "1")


def openapi_bytes(routes: list[Route]) -> bytes:
    return reference.encoded(openapi.document(routes, Refusal))


# The document of a table.

SHARE = Route(
    "POST",
    "/api/repos/<repo_id:str>/members",
    "share",
    "Share it",
    scope.REPOS_WRITE,
    {201: Answer("Shared.", NewMember)},
    (Parameter("repo_id", str, "Which.", "path", required=True),),
    Body(NewMember),
    (NotFound, RepoPaused),
)


def test_a_route_says_what_it_takes_and_answers():
    operation = openapi.document([SHARE], Refusal)["paths"]["/api/repos/{repo_id}/members"]["post"]
    assert (operation["operationId"], operation["summary"], operation["tags"]) == (
        "share",
        "Share it",
        ["Repositories"],
    )
    assert operation["security"] == [{"bearer": ["repos:write"]}]
    (parameter,) = operation["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("repo_id", "path", True)
    form = {"schema": {"$ref": "#/components/schemas/NewMember"}}
    assert operation["requestBody"] == {"required": True, "content": {"application/json": form}}
    assert operation["responses"]["201"]["content"] == {"application/json": form}


def test_refusals_that_several_routes_have_are_written_once():
    made = openapi.document([SHARE], Refusal)
    responses = made["paths"]["/api/repos/{repo_id}/members"]["post"]["responses"]
    assert responses["404"] == {"$ref": "#/components/responses/404.not_found"}
    assert responses["403"] == {"$ref": "#/components/responses/403.forbidden.insufficient_scope.repo_paused"}
    shown = made["components"]["responses"]["404.not_found"]["content"]["application/problem+json"]["schema"]
    assert shown["allOf"][0] == {"$ref": "#/components/schemas/Problem"}
    assert shown["allOf"][1]["properties"] == {"status": {"const": 404}, "code": {"enum": ["not_found"]}}


@pytest.mark.parametrize(
    ("scoped", "security"),
    [(PUBLIC, []), (UNSCOPED, [{"bearer": []}]), (scope.EVENTS_READ, [{"bearer": ["events:read"]}])],
)
def test_a_route_says_whom_it_lets_in(scoped: str | None, security: list[dict[str, list[str]]]):
    route = Route("GET", "/x", "x", "It", scoped, {200: Answer("It.", str)})
    operation = openapi.document([route], Refusal)["paths"]["/x"]["get"]
    assert operation["security"] == security
    assert ("401" in operation["responses"]) is ("429" in operation["responses"]) is bool(security)


def test_a_refusal_in_words_of_its_own_stands_beside_the_common_one():
    route = Route(
        "POST", "/auth/v1/x", "x", "It", PUBLIC, {204: Answer("Done.")}, in_its_words={400: ("wrong",)}
    )
    responses = openapi.document([route], Refusal)["paths"]["/auth/v1/x"]["post"]["responses"]
    assert set(responses["400"]["content"]) == {"application/json", "application/problem+json"}
    assert "content" not in responses["204"]


def test_an_answer_of_several_forms_is_any_of_them():
    route = Route("GET", "/x", "x", "It", PUBLIC, {200: Answer("It.", (str, NewMember))})
    shown = openapi.document([route], Refusal)["paths"]["/x"]["get"]["responses"]["200"]["content"]
    assert shown["application/json"]["schema"] == {
        "anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/NewMember"}]
    }


# What holds every answer of every test against it (tests/documented.py).


def an_answer(status: int, **content: object) -> httpx.Response:
    request = httpx.Request("GET", "http://x/api/me/devices")
    limits = {"x-request-id": "r", "ratelimit": '"api";r=1;t=1', "ratelimit-policy": '"api";q=1;w=60'}
    return httpx.Response(status, headers=limits, request=request, **content)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (an_answer(200, json=[]), None),
        (an_answer(200, json=[{"device": "laptop"}]), "'protocol' is a required property"),
        (an_answer(200, json={}), "is not of type 'array'"),
        (an_answer(200, text="[]"), "text/plain"),
        (an_answer(202), "status"),
        (an_answer(404, json={}), "status"),
    ],
    ids=str,
)
def test_an_answer_is_held_against_the_document(answer: httpx.Response, fault: str | None):
    operation = documented.operation_of(answer.request)
    assert operation is not None
    found = documented.faults(operation, answer)
    assert fault in found[0] if fault else not found
