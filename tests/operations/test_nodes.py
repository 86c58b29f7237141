from datetime import timedelta

import msgspec
from actors import logged

from cotexd.operations import events, nodes, repositories, upkeep
from cotexd.operations.nodes import ALIVE, FORGOTTEN, Server
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import Node


def server(clock, name: str = "one", connections: int = 0) -> Server:
    return Server(name, "http://127.0.0.1:8080", "1.0", 4711, connections, clock())


def running(store: Store) -> list[str]:
    return [each.id for each in store.look(nodes.running)]


def test_a_server_that_beats_is_seen_as_it_is_right_now(store: Store, clock):
    store.run(nodes.beat, server(clock))
    clock.forward(timedelta(seconds=5))
    later = msgspec.structs.replace(store.look(nodes.running)[0], connections=7)
    store.run(nodes.beat, Server(*msgspec.structs.astuple(later)[:6]))
    (seen,) = store.look(nodes.running)
    assert (seen.connections, seen.url, seen.pid) == (7, "http://127.0.0.1:8080", 4711)
    assert seen.seen_at - seen.started_at == timedelta(seconds=5)


def test_a_server_that_was_killed_is_soon_not_running(store: Store, clock):
    store.run(nodes.beat, server(clock))
    clock.forward(ALIVE)
    assert running(store) == ["one"]
    clock.forward(timedelta(seconds=1))
    assert running(store) == []


def test_a_server_of_a_clock_that_was_ahead_is_not_running(store: Store, clock):
    clock.forward(timedelta(hours=1))
    store.run(nodes.beat, server(clock))
    clock.forward(-timedelta(hours=1))
    assert store.look(nodes.running) == []


def test_the_one_that_wrote_last_is_known_until_it_leaves(store: Store, clock):
    assert store.look(nodes.last_seen) is None
    store.run(nodes.beat, server(clock))
    clock.forward(2 * nodes.ALIVE)
    found = store.look(nodes.last_seen)
    assert found is not None
    assert found.id == "one"
    store.run(nodes.leave, "one")
    assert store.look(nodes.last_seen) is None


def test_a_server_that_leaves_is_gone_at_once_and_the_others_are_not(store: Store, clock):
    store.run(nodes.beat, server(clock, "one"))
    store.run(nodes.beat, server(clock, "two"))
    store.run(nodes.leave, "one")
    assert running(store) == ["two"]


def test_the_youngest_server_comes_first(store: Store, clock):
    store.run(nodes.beat, server(clock, "old"))
    clock.forward(timedelta(seconds=1))
    store.run(nodes.beat, server(clock, "young"))
    assert running(store) == ["young", "old"]


def test_a_servers_row_is_forgotten_a_day_after_it_was_killed(store: Store, clock):
    def rows(_: Tx) -> list[str]:
        return [row.id for row in Node.select()]

    store.run(nodes.beat, server(clock, "killed"))
    clock.forward(FORGOTTEN + timedelta(seconds=1))
    store.run(nodes.beat, server(clock, "next"))
    assert store.look(rows) == ["next"]


def test_totals_count_what_there_is_now(store: Store, hello: Tracked, clock):
    docs = store.run(repositories.add, hello.user_id, "octo/docs")
    logged(store, hello, 3)
    clock.forward(timedelta(days=2))
    logged(store, docs, 2)
    store.run(upkeep.purge, timedelta(days=1))
    store.run(repositories.remove, hello.user_id, hello.id)
    totals = store.look(nodes.totals)
    assert (totals.users, totals.repositories, totals.events, totals.oldest) == (1, 1, 2, clock())
    assert (totals.epoch, totals.head, totals.floor) == (store.look(events.log).epoch, 5, 3)


def test_an_empty_log_has_no_oldest_event(store: Store):
    assert store.look(nodes.totals).oldest is None
