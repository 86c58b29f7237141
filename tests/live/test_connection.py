import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from actors import join, logged, push
from conftest import eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lines import (
    Line,
    begun,
    client_event,
    code,
    frames,
    happen,
    names,
    running,
    seqs,
    socket,
    stream,
    told,
)
from websockets.frames import Close, Frame, Opcode

from cotexd.domain.selection import Selection
from cotexd.live import session as lives
from cotexd.live.connection import Connection
from cotexd.live.hub import Hub
from cotexd.live.session import BOUND
from cotexd.live.socket import MAX_UNREAD
from cotexd.operations import accounts, events, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Device

GOODBYE = Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)


@pytest.fixture
def database() -> str:
    """SQLite: what a transport is given does not depend on the database."""
    return ""


@pytest.fixture
async def hub(store: Store, hello: Tracked) -> AsyncIterator[Hub]:
    """A hub that opens when all that its users are told of octo/hello was told."""
    async with running(store) as opened:
        yield opened


def big(number: int) -> dict:
    """A push whose summary has about 20 KB."""
    commit = {"id": f"{number:040x}", "added": [f"{number}/{'x' * 60}/{file}" for file in range(150)]}
    return push(number, commits=[commit])


def look(connection: Connection, seconds: float) -> None:
    """Let its clock be so far ahead for one look."""
    connection.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


# Beginning and going on.


async def test_it_is_greeted_fed_from_the_log_and_then_live(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 3)
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, after=1)))
    await eventually(lambda: "live" in names(line))
    assert names(line) == ["hello", "push", "push", "live"]
    await happen(store, hello)
    await eventually(lambda: len(seqs(line)) == 3)
    assert [(each["seq"], each["prev"]) for each in told(line) if "prev" in each] == [(2, 1), (3, 2), (4, 3)]


async def test_what_came_with_the_request_is_heard_after_the_greeting(store: Store, hub: Hub, hello: Tracked):
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id)), client_event("what"))
    await eventually(lambda: "live" in names(line))
    assert names(line)[:2] == ["hello", "error"]


async def test_an_event_that_is_committed_while_it_catches_up_comes_once_and_in_its_place(
    store: Store, hub: Hub, hello: Tracked
):
    logged(store, hello, 250)
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, after=0)))
    for _ in range(5):
        await happen(store, hello)
    await eventually(lambda: len(seqs(line)) == 255)
    assert seqs(line) == list(range(1, 256))


async def test_who_resumes_is_set_back_and_gets_everything_from_there_again(
    store: Store, hub: Hub, hello: Tracked
):
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id)))
    await eventually(lambda: "live" in names(line))
    await happen(store, hello)
    await happen(store, hello)
    line.say(client_event("resume", cursor=f"{store.look(events.log).epoch}.0"))
    await happen(store, hello)
    await eventually(lambda: len(seqs(line)) == 5 and names(line).count("live") == 2)
    assert names(line)[:6] == ["hello", "live", "push", "push", "hello", "push"]
    assert seqs(line) == [1, 2, 1, 2, 3]


# What the other side does not take.


async def test_a_reader_that_stops_is_given_no_more_than_the_bound_and_later_all_of_it(
    store: Store, hub: Hub, hello: Tracked
):
    connection = socket(hub, begun(hub, store, hello.user_id))
    line = Line().begin(hub, connection)
    await eventually(lambda: connection.session.live)
    line.stop_reading()
    for number in range(12):
        await happen(store, hello, big(number))
    assert not connection.session.live
    assert BOUND / 2 < connection.waiting == line.most <= BOUND + 1024, (
        "events, and the heads of their frames"
    )
    line.read()
    await eventually(lambda: connection.session.live)
    assert seqs(line) == list(range(1, 13))


async def test_a_reader_that_takes_a_little_is_fed_when_nothing_waits_and_not_before(
    store: Store, hub: Hub, hello: Tracked
):
    for number in range(12):
        logged(store, hello, payload=big(number))
    connection, line = socket(hub, begun(hub, store, hello.user_id, after=0)), Line()
    line.stop_reading()
    line.begin(hub, connection)
    await eventually(lambda: connection.session.sent > 0)
    while not connection.session.live:
        before, waiting = connection.session.sent, connection.waiting
        line.read(waiting - 1)
        await asyncio.sleep(0)
        assert (connection.session.sent, connection.waiting) == (before, 1)
        line.read(1)
        await eventually(lambda before=before: connection.session.live or connection.session.sent > before)
    line.read()
    assert line.most <= BOUND + 1024
    assert seqs(line) == list(range(1, 13))


async def test_bytes_that_leave_keep_a_slow_reader_and_bytes_that_do_not_end_it(
    store: Store, hub: Hub, hello: Tracked
):
    connection = socket(hub, begun(hub, store, hello.user_id))
    line = Line().begin(hub, connection)
    await eventually(lambda: connection.session.live)
    line.stop_reading()
    await happen(store, hello, big(1))
    for seconds in (10.0, 20.0, 30.0, 40.0, 50.0):
        line.read(10)
        look(connection, seconds)
    assert not line.ended
    for seconds in (60.0, 81.0):
        look(connection, seconds)
    assert line.ended, "a closing frame would only wait behind the rest"
    assert code(line) is None
    assert len(hub) == 0


async def test_who_asks_on_and_on_and_does_not_read_is_let_go(store: Store, hub: Hub, hello: Tracked):
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id)))
    await eventually(lambda: "live" in names(line))
    line.stop_reading()
    asked = 0
    while not line.ended:
        line.say(client_event("what") * 50)
        asked += 1
        assert asked < 500
    assert line.most < MAX_UNREAD + 50 * 1024


async def test_who_resumes_on_and_on_and_does_not_read_is_given_no_more_than_is_bounded(
    store: Store, hub: Hub, hello: Tracked
):
    logged(store, hello, 50, payload=big(1))
    connection = socket(hub, begun(hub, store, hello.user_id, after=0))
    line = Line().begin(hub, connection)
    await eventually(lambda: connection.session.sent > 0)
    line.stop_reading()
    resume = client_event("resume", cursor=f"{store.look(events.log).epoch}.0")
    for _ in range(300):
        line.say(resume)
        await asyncio.sleep(0)
    assert line.most < MAX_UNREAD + 50 * 1024


# The end.


async def test_the_last_bytes_arrive_and_nothing_is_written_after_them(
    store: Store, hub: Hub, hello: Tracked
):
    connection = socket(hub, begun(hub, store, hello.user_id))
    line = Line().begin(hub, connection)
    await eventually(lambda: connection.session.live)
    line.stop_reading()
    await happen(store, hello)
    connection.close(lives.FORBIDDEN, "the user is disabled")
    connection.told("more")
    connection.drain(1.0)
    connection.close(lives.RESTARTING, "again")
    look(connection, 4000.0)
    await happen(store, hello)
    line.read()
    assert names(line) == ["hello", "live", "push"]
    assert [frame.opcode for frame in frames(line)][-1] is Opcode.CLOSE
    assert code(line) == lives.FORBIDDEN
    line.say(GOODBYE)
    await eventually(lambda: line.ended)


async def test_who_does_not_answer_the_farewell_is_let_go_all_the_same(
    store: Store, hub: Hub, hello: Tracked
):
    connection = socket(hub, begun(hub, store, hello.user_id))
    line = Line().begin(hub, connection)
    connection.close(lives.FORBIDDEN, "the user is disabled")
    await eventually(lambda: line.ended)
    assert len(hub) == 0


async def test_what_is_answered_after_it_has_gone_goes_nowhere(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 250)
    connection = socket(hub, begun(hub, store, hello.user_id, after=0, device="laptop"))
    line = Line().begin(hub, connection)
    line.say(client_event("resume", cursor=f"{store.look(events.log).epoch}.0"))
    line.vanish()
    other = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, after=0)))
    await eventually(lambda: "live" in names(other))
    assert names(line) == ["hello"]
    assert (connection.session.sent, connection.session.live, len(hub)) == (0, False, 1)


async def test_for_who_has_gone_nothing_more_is_read(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 1500)
    connection = socket(hub, begun(hub, store, hello.user_id, after=0))
    line = Line().begin(hub, connection)
    await eventually(lambda: connection.session.sent > 0)
    line.vanish()
    reached = connection.session.sent
    other = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, after=0)))
    await eventually(lambda: "live" in names(other))
    assert connection.session.sent - reached <= events.MAX_BACKLOG
    assert connection.session.scanned < 1500


# Effects that are the hub's.


async def test_an_acknowledgement_reaches_the_device_that_it_is_of(store: Store, hub: Hub, hello: Tracked):
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, device="laptop")))
    await eventually(lambda: "live" in names(line))
    await happen(store, hello)
    line.say(client_event("ack", seq=1))
    await eventually(
        lambda: store.look(
            lambda _: Device.select().where(Device.name == "laptop", Device.cursor == 1).exists()
        )
    )


async def test_two_connections_of_a_user_may_select_what_each_wants(store: Store, hub: Hub, hello: Tracked):
    repos = [hello, store.run(repositories.add, hello.user_id, "octo/docs")]
    one, two, three = (
        Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, selection=Selection(*wanted))))
        for wanted in (
            (),
            (frozenset({"octo/hello"}),),
            (frozenset({repos[1].id}), frozenset({"star"})),
        )
    )
    await eventually(lambda: all("live" in names(line) for line in (one, two, three)))
    for repo in repos:
        for kind in ("push", "star"):
            await happen(store, repo, event=kind)
    assert [seqs(line) for line in (one, two, three)] == [[1, 2, 3, 4], [1, 2], [4]]


# Any bytes at all.


def raw(opcode: int, payload: bytes, fin: bool, masked: bool) -> bytes:
    """A frame, whether it may be or not."""
    head = bytes((fin << 7 | opcode, masked << 7 | len(payload)))
    return head + (b"\0\0\0\0" if masked else b"") + payload


SAID = [
    b'{"type":"client_event","event":"resume","cursor":"e0.1"}',
    b'{"type":"client_event","event":"auth","token":"t"}',
    b'{"type":"client_event","event":"ack","seq":1}',
    b'{"type":"client_event","event":"what"}',
    b'{"type":"client_event"',
    b"\x03\xe8",
]
MOSTLY = st.booleans() | st.just(value=True)
PIECES = st.lists(
    st.binary(max_size=60)
    | st.builds(
        raw,
        st.sampled_from([*Opcode, 3, 15]),
        st.sampled_from(SAID) | st.binary(max_size=125),
        MOSTLY,
        MOSTLY,
    ),
    max_size=8,
)


@pytest.fixture
def eve(store: Store, hello: Tracked) -> Account:
    """Who sees the same as ada."""
    made = store.run(accounts.create, "eve")
    store.run(join, made.id, hello.id)
    return made


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    early=PIECES,
    late=PIECES,
    v2=MOSTLY,
    way=st.sampled_from([socket, socket, stream]),
    end=st.sampled_from(["vanishes", "says no more", "stays"]),
)
async def test_no_bytes_raise_or_end_the_session_of_another(
    store: Store,
    hub: Hub,
    hello: Tracked,
    eve: Account,
    early: list[bytes],
    late: list[bytes],
    v2: bool,
    way,
    end: str,
):
    witness = Line().begin(hub, socket(hub, begun(hub, store, eve.id)))
    session = begun(hub, store, hello.user_id, v2=v2 or way is stream)
    line = Line().begin(hub, way(hub, session), b"".join(early))
    for data in late:
        line.say(data)
        await asyncio.sleep(0)
    if end == "says no more":
        line.say_no_more()
    elif end == "vanishes":
        line.vanish()
    await eventually(lambda: "live" in names(witness))
    await happen(store, hello)
    assert names(witness) == ["hello", "live", "push"]
    for each in (line, witness):
        each.vanish()
    assert len(hub) == 0


@pytest.mark.parametrize(("tls", "limits"), [(False, (0, 0)), (True, (1, 0))])
async def test_it_is_told_as_soon_as_something_waits(
    store: Store, hub: Hub, hello: Tracked, tls: bool, limits: tuple[int, int]
):
    """A TLS transport pauses at its limit: at 0 with nothing waiting, and then not when something does."""
    line = Line()
    if tls:
        line._extra["sslcontext"] = object()
    line.begin(hub, socket(hub, begun(hub, store, hello.user_id)))
    assert line.limits == limits
    await eventually(lambda: "live" in names(line))


async def test_what_was_acknowledged_in_the_same_breath_as_goodbye_counts(
    store: Store, hub: Hub, hello: Tracked
):
    line = Line().begin(hub, socket(hub, begun(hub, store, hello.user_id, device="laptop"), "laptop"))
    await eventually(lambda: "live" in names(line))
    await happen(store, hello)
    line.say(client_event("ack", seq=1) + GOODBYE)
    assert code(line) == 1000

    def acked() -> dict[str, int]:
        return store.look(lambda _: {row.name: row.acked for row in Device.select()})

    await eventually(lambda: acked()["laptop"] == 1)
