import asyncio
from collections.abc import AsyncIterator

import pytest
from conftest import database_away, eventually, holding
from lines import Line, begun, happen, running, socket, stream

from cotexd.live import presence
from cotexd.live.connection import About
from cotexd.live.hub import Hub
from cotexd.live.poll import Poll
from cotexd.operations import accounts, nodes
from cotexd.operations import presence as told
from cotexd.operations.presence import MAX_AT_ONCE
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import Present


@pytest.fixture
async def hub(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """A hub whose few seconds are short, so that a test can wait for them."""
    monkeypatch.setattr(presence, "EVERY", 0.3)
    async with running(store, node_id="one") as opened:
        yield opened


def rows(_: Tx) -> dict[str, Present]:
    return {row.id: row for row in Present.select()}


async def until_there(store: Store, *ids: str) -> None:
    """The database knows exactly these."""
    await eventually(lambda: store.look(rows).keys() == {*ids})


async def test_who_comes_is_told_with_all_that_is_known_and_who_goes_is_no_longer(
    store: Store, hub: Hub, hello: Tracked
):
    made = socket(hub, begun(hub, store, hello.user_id, device="laptop"), "laptop")
    line = Line().begin(hub, made)
    await until_there(store, made.about.id)
    row = store.look(rows)[made.about.id]
    assert (row.node_id, row.user_id, row.protocol, row.device, row.address) == (
        "one",
        hello.user_id,
        "v2",
        "laptop",
        "127.0.0.1",
    )
    assert row.connected_at == made.about.connected_at
    line.vanish()
    await until_there(store)


async def test_each_way_to_be_connected_is_told_by_its_name_but_for_who_only_asks(
    store: Store, hub: Hub, hello: Tracked
):
    poll = Poll(begun(hub, store, hello.user_id), hub, About("poll"))
    hub.attach(poll)
    made = [
        socket(hub, begun(hub, store, hello.user_id)),
        socket(hub, begun(hub, store, hello.user_id, v2=False, token_session="s")),
        stream(hub, begun(hub, store, hello.user_id)),
    ]
    for each in made:
        Line().begin(hub, each)
    await until_there(store, *(each.about.id for each in made))
    assert {row.protocol for row in store.look(rows).values()} == {"v2", "legacy", "stream"}
    hub.detach(poll)
    assert len(hub) == 3


async def test_how_far_everybody_is_is_told_every_few_seconds(store: Store, hub: Hub, hello: Tracked):
    made = socket(hub, begun(hub, store, hello.user_id))
    line = Line().begin(hub, made)
    await eventually(lambda: made.session.live)
    line.stop_reading()
    await happen(store, hello)
    await happen(store, hello)

    def seen() -> tuple[int, bool, int]:
        row = store.look(rows)[made.about.id]
        return row.sent, row.live, row.buffer

    await until_there(store, made.about.id)
    await eventually(lambda: seen() == (2, True, made.waiting))
    line.read()
    await happen(store, hello)
    await eventually(lambda: seen() == (3, True, 0))


async def test_where_nothing_changes_nothing_is_written(store: Store, hub: Hub, hello: Tracked):
    made = socket(hub, begun(hub, store, hello.user_id))
    Line().begin(hub, made)
    await eventually(lambda: made.session.live)
    await until_there(store, made.about.id)
    await eventually(lambda: store.look(rows)[made.about.id].live)
    written = store.look(rows)[made.about.id].sent
    # Whatever wrote again would now put back what it knows.
    store.run(lambda _: Present.update(sent=written + 77).execute())
    for _ in range(3):
        hub._presence._news.set()
        await eventually(lambda: not hub._presence._news.is_set())
    assert store.look(rows)[made.about.id].sent == written + 77


async def test_who_comes_and_goes_in_one_moment_leaves_nothing(store: Store, hub: Hub, hello: Tracked):
    stays = socket(hub, begun(hub, store, hello.user_id))
    for _ in range(10):
        Line().begin(hub, socket(hub, begun(hub, store, hello.user_id))).vanish()
    Line().begin(hub, stays)
    await until_there(store, stays.about.id)


async def test_many_are_told_in_more_than_one_write(store: Store, hub: Hub, hello: Tracked):
    lines = [
        Line().begin(hub, socket(hub, begun(hub, store, hello.user_id))) for _ in range(2 * MAX_AT_ONCE + 5)
    ]
    await until_there(store, *(each.about.id for each in hub._all()))
    for line in lines[1:]:
        line.vanish()
    await until_there(store, *(each.about.id for each in hub._all()))
    assert len(store.look(rows)) == 1


async def test_people_who_look_find_it(store: Store, hub: Hub, hello: Tracked, clock):
    eve = store.run(accounts.create, "eve")
    store.run(nodes.beat, nodes.Server("one", hub.__class__.__name__, "1.0", 1, 0, clock()))
    made = socket(hub, begun(hub, store, hello.user_id, device="laptop"), "laptop")
    Line().begin(hub, made)
    await until_there(store, made.about.id)
    assert [(each.device, each.connections) for each in store.look(told.devices, hello.user_id)] == [
        ("laptop", 1)
    ]
    assert store.look(told.devices, eve.id) == []


# Where it can't be told.


@pytest.mark.parametrize("database", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
async def test_what_could_not_be_told_is_told_when_the_database_is_back(
    store: Store, database: str, hub: Hub, hello: Tracked
):
    first, second, third = (socket(hub, begun(hub, store, hello.user_id)) for _ in range(3))
    gone = Line().begin(hub, first)
    Line().begin(hub, second)
    await until_there(store, first.about.id, second.about.id)
    async with database_away(database):
        Line().begin(hub, third)
        gone.vanish()
        await eventually(lambda: not hub._presence._news.is_set())
    await eventually(lambda: back(store))
    await until_there(store, second.about.id, third.about.id)


def back(store: Store) -> bool:
    try:
        store.look(rows)
    except Exception:  # noqa: BLE001  # not yet
        return False
    return True


async def test_who_goes_while_their_coming_is_written_is_gone(store: Store, hub: Hub, hello: Tracked):
    made = socket(hub, begun(hub, store, hello.user_id))
    async with holding(store):
        line = Line().begin(hub, made)
        await eventually(lambda: store.queued > 0)
        line.vanish()
    await until_there(store)


# The end.


async def test_a_server_that_stops_leaves_nothing(store: Store, hub: Hub, hello: Tracked):
    made = [socket(hub, begun(hub, store, hello.user_id)) for _ in range(3)]
    for each in made:
        Line().begin(hub, each)
    await until_there(store, *(each.about.id for each in made))
    await hub._presence.close()
    assert store.look(rows) == {}


async def test_a_server_that_stops_while_it_tells_leaves_nothing(store: Store, hub: Hub, hello: Tracked):
    made = socket(hub, begun(hub, store, hello.user_id))
    async with holding(store):
        Line().begin(hub, made)
        await eventually(lambda: store.queued > 0)
        closing = asyncio.ensure_future(hub._presence.close())
        await asyncio.wait([hub._presence._task])
    await closing
    await store.write(lambda _: None)
    assert store.look(rows) == {}


async def test_what_another_server_told_stays(store: Store, hub: Hub, hello: Tracked):
    other = socket(hub, begun(hub, store, hello.user_id))
    store.run(told.note, "two", [presence._present(other)], ())
    line = Line().begin(hub, mine := socket(hub, begun(hub, store, hello.user_id)))
    await until_there(store, other.about.id, mine.about.id)
    line.vanish()
    await hub._presence.close()
    assert store.look(rows).keys() == {other.about.id}


async def test_who_was_never_opened_can_be_closed(store: Store):
    await presence.Presence(store, "one").close()
