import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from actors import push
from conftest import eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lines import Line, begun, client_event, frames, happen, names, running, seqs, socket, stream, told
from websockets.frames import Close, Frame, Opcode

from cotexd.domain.selection import Selection
from cotexd.live.company import Company
from cotexd.live.connection import Connection
from cotexd.live.hub import Hub
from cotexd.operations import events
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

GOODBYE = Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)


@pytest.fixture
def database() -> str:
    """SQLite: who is written to with whom does not depend on the database."""
    return ""


@pytest.fixture
async def hub(store: Store, hello: Tracked) -> AsyncIterator[Hub]:
    async with running(store) as opened:
        yield opened


def big(size: int) -> dict:
    """A push whose summary has about so many bytes."""
    commit = {"id": "0" * 40, "added": [f"{'x' * 92}/{file:05}" for file in range(size // 101)]}
    return push(commits=[commit])


def company(hub: Hub) -> Company:
    (only,) = hub._companies.values()
    return only


def in_step(hub: Hub) -> set[Connection]:
    return set(company(hub)._in_step)


async def live(hub: Hub, store: Store, hello: Tracked, v2: bool = True) -> tuple[Connection, Line]:
    connection = socket(hub, begun(hub, store, hello.user_id, v2=v2))
    line = Line().begin(hub, connection)
    await eventually(lambda: connection.session.live)
    return connection, line


def chained(line: Line) -> list[int]:
    """The seqs of the events that have arrived, each of which names the one before it."""
    found = [(each["prev"], each["seq"]) for each in told(line) if each["type"] == "github_event"]
    assert all(prev == before[1] for before, (prev, _) in itertools.pairwise(found))
    return [seq for _, seq in found]


async def test_all_that_have_had_the_same_event_are_in_step_and_get_the_next_ones(
    store: Store, hub: Hub, hello: Tracked
):
    found = [await live(hub, store, hello, v2) for v2 in (True, True, False)]
    assert not in_step(hub)
    for count in range(1, 4):
        await happen(store, hello)
        assert in_step(hub) == {connection for connection, _ in found}
        assert [seqs(line) for _, line in found] == [list(range(1, count + 1))] * 3
    assert len({id(connection.session.place) for connection, _ in found}) == 1
    assert found[0][0].session.sent == found[0][0].session.scanned == 3


async def test_who_does_not_take_all_of_an_event_leaves_and_gets_each_once(
    store: Store, hub: Hub, hello: Tracked
):
    quick, slow = [await live(hub, store, hello) for _ in range(2)]
    await happen(store, hello)
    slow[1].stop_reading()
    await happen(store, hello)
    assert in_step(hub) == {quick[0]}
    for _ in range(12):
        await happen(store, hello, big(20_000))
    assert (slow[0].session.live, slow[0].session.sent < 14) == (False, True)
    assert chained(quick[1]) == list(range(1, 15))
    slow[1].read()
    await eventually(lambda: slow[0].session.live)
    await happen(store, hello)
    assert in_step(hub) == {quick[0], slow[0]}
    assert chained(slow[1]) == chained(quick[1]) == list(range(1, 16))


async def test_who_resumes_leaves_at_once_and_comes_back(store: Store, hub: Hub, hello: Tracked):
    one, other = [await live(hub, store, hello) for _ in range(2)]
    await happen(store, hello)
    one[1].say(client_event("resume", cursor=f"{store.look(events.log).epoch}.0"))
    assert in_step(hub) == {other[0]}
    await happen(store, hello)
    await eventually(lambda: one[0].session.live)
    assert seqs(one[1]) == [1, 1, 2]
    await happen(store, hello)
    assert in_step(hub) == {one[0], other[0]}
    assert (seqs(one[1]), seqs(other[1])) == ([1, 1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize("how", ["the client says goodbye", "the server sends it away", "it vanishes"])
async def test_who_ends_is_written_nothing_more(store: Store, hub: Hub, hello: Tracked, how: str):
    stays, goes = [await live(hub, store, hello) for _ in range(2)]
    await happen(store, hello)
    if how == "the client says goodbye":
        goes[1].say(GOODBYE)
    elif how == "the server sends it away":
        goes[0].close(1012, "restarting")
    else:
        goes[1].vanish()
    assert in_step(hub) == {stays[0]}
    await happen(store, hello)
    assert (seqs(goes[1]), seqs(stays[1])) == ([1], [1, 2])
    goes[1].vanish()
    assert (len(company(hub)), len(hub)) == (1, 1)


async def test_a_batch_longer_than_a_buffers_bound_is_written_by_each_session(
    store: Store, hub: Hub, hello: Tracked
):
    connection, line = await live(hub, store, hello)
    await happen(store, hello)
    await asyncio.gather(*[happen(store, hello, big(20_000)) for _ in range(12)])
    assert not in_step(hub)
    await eventually(lambda: connection.session.live)
    await happen(store, hello)
    assert (in_step(hub), chained(line)) == ({connection}, list(range(1, 15)))


async def test_who_selects_and_who_is_no_websocket_is_never_in_step(store: Store, hub: Hub, hello: Tracked):
    only = Selection(events=frozenset({"issues"}))
    apart = socket(hub, begun(hub, store, hello.user_id, selection=only))
    listens = stream(hub, begun(hub, store, hello.user_id))
    lines = [Line().begin(hub, each) for each in (apart, listens)]
    await eventually(lambda: apart.session.live and listens.session.live)
    await happen(store, hello, None, None)
    assert in_step(hub) == set()
    assert (seqs(lines[0]), lines[1].taken.count(b"event: github_event")) == ([], 2)


async def test_a_legacy_client_in_step_is_asked_for_a_proof_of_what_it_got(
    store: Store, hub: Hub, hello: Tracked
):
    connection, line = await live(hub, store, hello, v2=False)
    await happen(store, hello, None, None)
    assert in_step(hub) == {connection}
    connection.tick(time.monotonic(), datetime.now(UTC))
    (proof,) = [bytes(each.data) for each in frames(line) if each.opcode is Opcode.PING]
    assert proof.startswith(b"2.")
    connection.tick(time.monotonic(), datetime.now(UTC))
    assert len([each for each in frames(line) if each.opcode is Opcode.PING]) == 1, "nothing new to prove"


# Any order of what happens to a few of them.


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["event", "event", "large event", "stop", "read", "read some", "resume", "say goodbye"]
        ),
        st.integers(0, 3),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_each_gets_every_event_once_and_in_order_whatever_the_others_do(
    store: Store, hub: Hub, hello: Tracked, steps: list[tuple[str, int]]
):
    began = hub.head
    epoch = store.look(events.log).epoch
    found = [await live(hub, store, hello, v2) for v2 in (True, True, True, False)]
    gone, resumed = set(), set()
    for step, number in steps:
        _, line = found[number]
        if step == "event":
            await happen(store, hello)
        elif step == "large event":
            await happen(store, hello, big(30_000))
        elif step == "stop":
            line.stop_reading()
        elif step == "read":
            line.read()
        elif step == "read some":
            line.read(10_000)
        elif step == "resume" and number < 3 and number not in gone:
            resumed.add(number)
            line.say(client_event("resume", cursor=f"{epoch}.{began}"))
        elif step == "say goodbye":
            gone.add(number)
            line.say(GOODBYE)
    staying = [each for number, each in enumerate(found) if number not in gone]
    for _, line in found:
        line.read()
    await eventually(lambda: all(connection.session.live for connection, _ in staying))
    await happen(store, hello)
    await happen(store, hello)
    everything = list(range(began + 1, hub.head + 1))
    if staying:
        assert in_step(hub) == {connection for connection, _ in staying}
    for number, (_, line) in enumerate(found):
        got = [seq for seq in seqs(line) if seq > began]
        if number in resumed:
            last = len(names(line)) - names(line)[::-1].index("hello")
            got = [each["seq"] for each in told(line)[last:] if each["type"] == "github_event"]
        assert got == everything[: len(got)]
        assert number in gone or got == everything
    for _, line in found:
        line.vanish()
    assert not hub._companies
