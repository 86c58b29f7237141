import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain.event import Summary, frame
from cotexd.live import wire
from cotexd.operations.cursors import Gap, Keeper, Start

NOW = datetime(2026, 11, 24, 12, 0, 0, 500, UTC)
STAMP = "2026-11-24T12:00:00.000500Z"
START = Start("e0", 9, 2, 7, "ok", None, Keeper("u", "device", "laptop"))


def event(
    user_id: str = "u", prev: int = 6, summary: bytes = b'{"id":"g"}', repo: str = "octo/hello"
) -> dict:
    travelling = frame(
        seq=7, event_id="e", repo_id="r", repo_name=repo, event_type="push", summary=summary, created_at=NOW
    )
    return json.loads(wire.github_event(wire.addressed_to(user_id), travelling, prev))


def test_an_event_has_the_fields_that_every_client_knows_and_those_of_v2():
    assert event() == {
        "type": "github_event",
        "user_id": "u",
        "target_user_id": "u",
        "repo_name": "octo/hello",
        "event": "push",
        "payload": {"id": "g"},
        "timestamp": STAMP,
        "event_id": "e",
        "seq": 7,
        "prev": 6,
    }


def test_the_summary_travels_as_it_was_stored():
    stored = b'{"id":"g", "files":[],"x":1e3}'
    travelling = frame(
        seq=1, event_id="e", repo_id="r", repo_name="o/r", event_type="push", summary=stored, created_at=NOW
    )
    assert stored in wire.github_event(wire.addressed_to("u"), travelling, 0)


@given(st.text(), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_name_breaks_out_of_its_string(user_id: str, repo: str):
    user_id = user_id.encode("utf-8", "replace").decode()
    told = event(user_id=user_id, repo=repo)
    assert (told["user_id"], told["target_user_id"], told["repo_name"]) == (user_id, user_id, repo)
    assert (told["type"], told["prev"]) == ("github_event", 6)


@pytest.mark.parametrize("repaired", [False, True])
def test_an_event_is_of_the_form_that_is_documented(repaired: bool):
    """It is joined from bytes: this holds it to the type of which /asyncapi.json is made."""
    summary = Summary("g", "push", "o/r", "main", "ada", NOW, "1 commit pushed to main", (), 1, ("a",), {})
    travelling = frame(
        seq=7,
        event_id="e",
        repo_id="r",
        repo_name="o/r",
        event_type="push",
        summary=msgspec.json.encode(summary),
        created_at=NOW,
        repaired=repaired,
    )
    sent = json.loads(wire.github_event(wire.addressed_to("u"), travelling, 6))
    documented = wire.GithubEvent("u", "u", "o/r", "push", summary, NOW, "e", 7, 6, repaired=repaired)
    # What is not there is false: a legacy client sees no key that it does not know.
    assert {"repaired": False} | sent == json.loads(msgspec.json.encode(documented))
    assert ("repaired" in sent) is repaired


def system(name: str, payload: dict) -> dict:
    return {"type": "system_event", "event": name, "payload": payload, "timestamp": STAMP}


def test_hello_says_where_the_log_is_and_where_the_client_goes_on():
    assert json.loads(wire.hello(START, datetime(2026, 11, 25, tzinfo=UTC), NOW)) == system(
        "hello",
        {
            "v": 2,
            "epoch": "e0",
            "head": 9,
            "floor": 2,
            "resume": "ok",
            "from": 7,
            "ping": 25,
            "token_exp": "2026-11-25T00:00:00Z",
            "window": 0,
        },
    )


@pytest.mark.parametrize("missed", [None, 0, 5])
def test_a_gap_says_how_many_are_gone_or_that_nobody_can_count_them(missed: int | None):
    told = json.loads(wire.gap(Gap("expired", "e0.1", 2, missed), NOW))
    assert told == system("gap", {"reason": "expired", "asked": "e0.1", "floor": 2, "missed": missed})


def test_live_ping_and_notice_have_one_form():
    assert json.loads(wire.live(7, NOW)) == system("live", {"seq": 7})
    assert json.loads(wire.ping(7, NOW)) == system("ping", {"seq": 7})
    assert json.loads(wire.notice("Done", NOW)) == system("notice", {"text": "Done"})


def test_a_legacy_client_is_told_a_sentence():
    assert json.loads(wire.told("Done", NOW)) == {
        "type": "system_event",
        "payload": "Done",
        "timestamp": STAMP,
    }


def test_an_error_is_addressed_to_its_receiver():
    assert json.loads(wire.error("u", "No", NOW)) == {
        "type": "error",
        "user_id": "u",
        "payload": "No",
        "timestamp": STAMP,
    }


@pytest.mark.parametrize(
    ("fields", "seq"),
    [
        ({"seq": 7}, 7),
        ({"payload": {"seq": 7}}, 7),
        ({"seq": 7, "payload": {"seq": 8}}, 7),
        ({"seq": 0}, 0),
        ({}, None),
        ({"payload": None}, None),
        ({"payload": {}}, None),
        ({"payload": {"seq": "7"}}, None),
        ({"payload": [7]}, None),
        ({"payload": "7"}, None),
    ],
    ids=str,
)
def test_the_seq_of_an_ack_stands_beside_it_or_in_its_payload(fields: dict, seq: int | None):
    sent = json.dumps({"type": "client_event", "event": "ack", **fields})
    assert wire.client_event(sent).fields.seq == seq


def test_what_a_client_says_of_others_is_not_even_read():
    sent = {
        "type": "client_event",
        "event": "pong",
        "user_id": "eve",
        "target_user_id": "eve",
        "role": {"a": 1},
    }
    got = wire.client_event(json.dumps(sent))
    assert not {"user_id", "target_user_id", "role"} & set(dir(got))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"client_event"',
        b'{"type":"github_event"}',
        b'{"type":null}',
        b'{"type":"client_event","event":null}',
        b'{"type":"client_event","seq":1.5}',
        b'{"type":"client_event","seq":"1"}',
        b'{"type":"client_event","seq":1e400}',
        b'{"type":"client_event"} {}',
        b'{"type":"client_event","event":"\xff"}',
        b'{"type":"client_event","payload":' + b"[" * 100_000,
        b"[" * 100_000,
    ],
    ids=lambda message: repr(message[:50]),
)
def test_what_is_no_client_event_is_a_value_error(message: bytes):
    with pytest.raises(ValueError):
        wire.client_event(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"type": st.just("client_event")}, optional={"event": JSON, "seq": JSON, "payload": JSON, "target": JSON}
).map(lambda fields: json.dumps(fields).encode())


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | EVENTS)
def test_every_message_is_a_client_event_or_a_value_error(message: bytes):
    try:
        got = wire.client_event(message)
    except ValueError:
        return
    assert got.fields.seq is None or isinstance(got.fields.seq, int)
