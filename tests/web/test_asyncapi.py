import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from conftest import Server, serving

from cotexd.config import Settings
from cotexd.domain.event import Summary, frame
from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.live.session import Close, Session
from cotexd.operations.cursors import Gap, Start
from cotexd.web import asyncapi, reference

OFFICIAL = json.loads(Path(__file__).with_name("asyncapi-3.0.0.schema.json").read_text())
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
START = Start("e0", 9, 2, 7, "ok", None, None)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(reference.encoded(reference.asyncapi_document()))


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with serving(Settings(port=0, data_dir=tmp_path_factory.mktemp("asyncapi") / "data")) as server:
        yield server


async def test_the_document_is_served_without_a_token(running: Server, document: dict[str, Any]):
    answer = await running.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document


def test_the_document_is_asyncapi(document: dict[str, Any]):
    faults = [error.message[:500] for error in jsonschema.Draft7Validator(OFFICIAL).iter_errors(document)]
    assert not faults
    assert list(jsonschema.Draft7Validator(OFFICIAL).iter_errors({**document, "channels": []}))


def test_whatever_the_document_refers_to_is_there(document: dict[str, Any]):
    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return here + [each for part in value.values() for each in references(part)]
        return [each for part in value for each in references(part)] if isinstance(value, list) else []

    for reference_ in set(references(document)):
        found = document
        for part in reference_.removeprefix("#/").split("/"):
            found = found[part]


# What is sent and read is what is documented.

SUMMARY = Summary("g", "push", "o/r", "main", "ada", NOW, "1 commit pushed to main", (), 1, ("a",), {})
FRAME = frame(
    seq=7,
    event_id="e",
    repo_id="r",
    repo_name="o/r",
    event_type="push",
    summary=msgspec.json.encode(SUMMARY),
    created_at=NOW,
)
SENT = {
    "github_event": wire.github_event(wire.addressed_to("u"), FRAME, 6),
    "hello": wire.hello(START, NOW, NOW),
    "gap": wire.gap(Gap("expired", "e0.1", 2, None), NOW),
    "live": wire.live(7, NOW),
    "ping": wire.ping(7, NOW),
    "token_expiring": wire.token_expiring(NOW, NOW),
    "auth_ok": wire.auth_ok(NOW, NOW),
    "drain": wire.drain(500, NOW),
    "notice": wire.notice("Done", NOW),
    "told": wire.told("Done", NOW),
    "error": wire.error("u", "No", NOW),
}
SAID = {
    "client_ack": {"type": "client_event", "event": "ack", "seq": 7},
    "client_resume": {"type": "client_event", "event": "resume", "cursor": "e0.7"},
    "client_auth": {"type": "client_event", "event": "auth", "token": "t"},
    "client_pong": {"type": "client_event", "event": "pong"},
}


def faults(document: dict[str, Any], name: str, message: object) -> list[str]:
    """What a message has that its description doesn't allow, closed against fields that nobody described."""
    closed = {
        each: {**schema, "additionalProperties": schema.get("additionalProperties", False)}
        for each, schema in document["components"]["schemas"].items()
    }
    beside = {"components": {**document["components"], "schemas": closed}}
    schema = {**document["components"]["messages"][name]["payload"], **beside}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(message)]


def test_every_message_is_tried_here():
    assert SENT.keys() == asyncapi.FROM_SERVER.keys()
    assert SAID.keys() == asyncapi.FROM_CLIENT.keys()


@pytest.mark.parametrize("name", SENT)
def test_a_message_is_sent_as_it_is_documented(document: dict[str, Any], name: str):
    assert not faults(document, name, json.loads(SENT[name]))
    others = [each for each in SENT if each != name and not faults(document, each, json.loads(SENT[name]))]
    assert not others


@pytest.mark.parametrize("name", SAID)
def test_what_a_client_says_is_read_as_it_is_documented(document: dict[str, Any], name: str):
    assert not faults(document, name, SAID[name])
    read = wire.client_event(json.dumps(SAID[name]))
    assert read.event == SAID[name]["event"]
    session = Session("u", wire.addressed_to("u"), START, v2=True, token_exp=NOW, now=0.0, moment=NOW)
    session.place.sent = 7
    effects = session.received(json.dumps(SAID[name]).encode(), text=True, moment=NOW)
    assert not [each for each in effects if isinstance(each, Close)]
    assert b"There is no client event" not in b"".join(getattr(each, "message", b"") for each in effects)


def test_what_a_session_greets_with_is_on_both_channels(document: dict[str, Any]):
    for channel in document["channels"].values():
        assert {"github_event", "hello", "gap", "live", "drain"} <= channel["messages"].keys()
    assert not [name for name in document["channels"]["stream"]["messages"] if name in asyncapi.FROM_CLIENT]


def test_every_close_code_is_documented(document: dict[str, Any]):
    codes = {value for value in vars(lives).values() if isinstance(value, int) and 1000 <= value < 5000}
    assert {int(code) for code in document["channels"]["websocket"]["x-close-codes"]} == codes


def test_what_a_client_asks_for_is_in_the_bindings(document: dict[str, Any]):
    asked = document["channels"]["websocket"]["bindings"]["ws"]["query"]["properties"]
    assert asked.keys() == {"v", "cursor", "device", "repos", "events"}
    streamed = document["operations"]["stream"]["bindings"]["http"]["query"]["properties"]
    assert streamed.keys() == {"cursor", "device", "repos", "events"}
