import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from actors import logged, push
from conftest import Clock, eventually
from hypothesis import given
from hypothesis import strategies as st
from lines import Line, begun, client_event, happen, running, sse, stream

from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.live.hub import Hub
from cotexd.live.news import Send
from cotexd.live.session import BOUND, Ping
from cotexd.live.stream import Stream
from cotexd.operations import accounts, events, upkeep
from cotexd.operations.repositories import Tracked
from cotexd.store import Store


@pytest.fixture
def database() -> str:
    """SQLite: what is written does not depend on the database."""
    return ""


@pytest.fixture
async def hub(store: Store, hello: Tracked) -> AsyncIterator[Hub]:
    """A hub that opens when all that its users are told of octo/hello was told."""
    async with running(store) as opened:
        yield opened


def begin(hub: Hub, store: Store, repo: Tracked, **how) -> tuple[Stream, Line]:
    made = stream(hub, begun(hub, store, repo.user_id, answers=False, **how))
    return made, Line().begin(hub, made)


def names(line: Line) -> list[str]:
    return [data.get("event", data["type"]) for data in (json.loads(event["data"]) for event in sse(line))]


def ids(line: Line) -> list[int | None]:
    """Where each event that has arrived moves its receiver to."""
    return [int(event["id"].split(".")[1]) if "id" in event else None for event in sse(line)]


def seqs(line: Line) -> list[int]:
    found = [json.loads(event["data"]) for event in sse(line) if event["event"] == "github_event"]
    return [message["seq"] for message in found]


def look(made: Stream, seconds: float) -> None:
    """Let its clock be so far ahead for one look."""
    made.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


# How it is written.


async def test_an_event_is_its_id_its_type_and_the_message_of_the_websocket_each_on_a_line(
    store: Store, hub: Hub, hello: Tracked
):
    logged(store, hello)
    _, line = begin(hub, store, hello, after=0)
    await eventually(lambda: "live" in names(line))
    (event,) = (each for each in bytes(line.taken).split(b"\n\n") if b"event: github_event" in each)
    named, kind, data = event.split(b"\n")
    frame = store.look(events.backlog, hello.user_id, 0).frames[0]
    assert named == b"id: %b.1" % store.look(events.log).epoch.encode()
    assert kind == b"event: github_event"
    assert data == b"data: " + wire.github_event(wire.addressed_to(hello.user_id), frame, 0)


async def test_every_message_has_a_type_that_a_browser_can_listen_to(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: "live" in names(line))
    await happen(store, hello)
    made.told("Done")
    made._do([made.session._refuse("No.", datetime.now(UTC))])
    # That the repository was added may be told late.
    kinds = [event["event"] for event in sse(line)]
    assert kinds[:2] == ["system_event", "system_event"]
    assert (set(kinds), kinds[-1]) == ({"system_event", "github_event", "error"}, "error")


async def test_what_moves_the_cursor_has_an_id_and_nothing_else_has(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 4)
    made, line = begin(hub, store, hello, after=2)
    await eventually(lambda: "live" in names(line))
    made.told("Done")
    made.drain(1.0)
    look(made, 26.0)
    # That the repository was added may be told as well.
    told = [each for each in zip(names(line), ids(line), strict=True) if each != ("notice", None)]
    assert told == [("hello", 2), ("push", 3), ("push", 4), ("live", None), ("drain", None), ("ping", None)]


async def test_the_greeting_moves_who_is_new_to_the_head(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 4)
    _, line = begin(hub, store, hello)
    assert (names(line), ids(line)) == (["hello"], [4])


async def test_a_gap_moves_the_cursor_to_where_it_ends(store: Store, hub: Hub, hello: Tracked, clock: Clock):
    logged(store, hello, 4)
    clock.forward(timedelta(days=20))
    store.run(upkeep.purge, timedelta(days=14))
    _, line = begin(hub, store, hello, after=1)
    # The hello has none: who breaks off before the gap is told of it again.
    assert (names(line), ids(line)) == (["hello", "gap"], [None, 4])


async def test_who_comes_back_with_the_last_id_gets_what_came_since(store: Store, hub: Hub, hello: Tracked):
    first, line = begin(hub, store, hello, after=0)
    await eventually(lambda: first.session.live)
    await happen(store, hello)
    await happen(store, hello)
    line.vanish()
    last = [event["id"] for event in sse(line) if "id" in event][-1]
    await happen(store, hello)
    _, again = begin(hub, store, hello, after=last)
    await eventually(lambda: "live" in names(again))
    assert seqs(line) + seqs(again) == [1, 2, 3]


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs"])).map(
            lambda text: wire.notice(text, datetime(2026, 11, 24, tzinfo=UTC))
        )
        | st.text(alphabet=st.characters(exclude_categories=["Cs"])).map(
            lambda text: wire.error(text, text, datetime(2026, 11, 24, tzinfo=UTC))
        )
    )
)
def test_no_text_breaks_out_of_its_line(messages: list[bytes]):
    made = Stream.__new__(Stream)
    written = made._encode([Send(message) for message in messages])
    *whole, rest = written.split(b"\n\n")
    assert rest == b""
    found = [event.partition(b"\ndata: ")[2] for event in whole]
    assert [json.loads(each) for each in found] == [json.loads(message) for message in messages]
    assert all(len(each.decode().splitlines()) == 1 for each in found)


async def test_a_ping_of_the_websocket_is_not_written(store: Store, hub: Hub, hello: Tracked):
    made = stream(hub, begun(hub, store, hello.user_id))
    assert made._encode([Ping(b"1")]) == b""


# What comes, and what does not.


async def test_a_stream_may_select_and_then_its_ids_pass_over_the_rest(
    store: Store, hub: Hub, hello: Tracked
):
    stars = lives.Selection(events=frozenset({"star"}))
    made, line = begin(hub, store, hello, selection=stars)
    await eventually(lambda: made.session.live)
    for kind in ("push", "star", "push", "star"):
        await happen(store, hello, event=kind)
    assert seqs(line) == [2, 4]
    assert ids(line) == [0, None, 2, 4]


async def test_what_a_client_says_is_not_heard(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    for data in (client_event("what"), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000):
        line.say(data)
    assert names(line) == ["hello", "live"]
    await happen(store, hello)
    assert seqs(line) == [1]


async def test_silence_is_no_sign_on_a_stream(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    for second in range(0, 3500, 5):
        look(made, float(second))
    assert not made.closing
    assert names(line).count("ping") > 100


async def test_a_stream_ends_after_its_token_has(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    look(made, 3600.0 - 30)
    assert "token_expiring" in names(line)
    look(made, 3600.0 + 24)
    assert not made.closing
    look(made, 3600.0 + 26)
    await eventually(lambda: line.ended)
    assert len(hub) == 0


async def test_a_stream_of_who_is_disabled_ends(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    store.run(accounts.disable, "ada")
    await eventually(lambda: line.ended)


async def test_after_the_end_nothing_is_written(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    made.close(lives.RESTARTING, "restarting")
    # The line itself refuses what is written after its end.
    made.told("Done")
    made.drain(1.0)
    made.tick(time.monotonic() + 26, datetime.now(UTC))
    await happen(store, hello)
    await eventually(lambda: line.ended)
    assert names(line) == ["hello", "live"]


async def test_what_was_written_before_the_end_arrives_whole(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    line.stop_reading()
    await happen(store, hello)
    made.close(lives.RESTARTING, "restarting")
    line.read()
    assert seqs(line) == [1]
    assert line.taken.endswith(b"\n\n")
    await eventually(lambda: line.ended)


async def test_who_reads_nothing_to_the_end_is_let_go_all_the_same(store: Store, hub: Hub, hello: Tracked):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    line.stop_reading()
    await happen(store, hello)
    made.close(lives.RESTARTING, "restarting")
    await eventually(lambda: line.ended)
    assert len(hub) == 0


# Slow readers.


def big() -> dict:
    """A push whose summary has about 20 KB."""
    return push(1, commits=[{"id": "a" * 40, "added": [f"{'x' * 60}/{file}" for file in range(250)]}])


async def test_a_reader_that_stops_costs_a_bounded_buffer_and_gets_all_when_it_reads_again(
    store: Store, hub: Hub, hello: Tracked
):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    line.stop_reading()
    for _ in range(12):
        await happen(store, hello, big())
    assert BOUND / 2 < line.most <= BOUND + 1024, "events, and what stands around them"
    line.read()
    await eventually(lambda: made.session.live)
    assert seqs(line) == list(range(1, 13))


async def test_a_reader_of_whom_no_byte_moves_is_let_go_and_has_cost_a_bounded_buffer(
    store: Store, hub: Hub, hello: Tracked
):
    made, line = begin(hub, store, hello)
    await eventually(lambda: made.session.live)
    line.stop_reading()
    for _ in range(12):
        await happen(store, hello, big())
    for second in range(0, 30, 5):
        look(made, float(second))
    assert not line.ended
    look(made, 36.0)
    assert line.ended
    assert line.most <= BOUND + 1024
    assert len(hub) == 0
