from datetime import timedelta

import pytest
from actors import logged
from conftest import Clock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotexd.operations import nodes, presence, pulse, repositories, upkeep
from cotexd.operations.nodes import Server
from cotexd.operations.presence import Present
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import Event, LogState, Webhook

HOUR = timedelta(hours=1)


def present(name: str, user_id: str, sent: int, clock: Clock, *, live: bool = True) -> Present:
    return Present(name, user_id, "v2", "", "127.0.0.1", sent, live, 7, clock())


def test_it_counts_the_connections_of_servers_that_are_alive(store: Store, hello: Tracked, clock: Clock):
    logged(store, hello, 5)
    for name in ("dead", "alive"):
        store.run(nodes.beat, Server(name, f"http://{name}", "1.0", 1, 0, clock()))
        store.run(presence.note, name, [present(f"{name}-1", hello.user_id, 5, clock)], [])
        clock.forward(nodes.ALIVE)
    store.run(nodes.beat, Server("alive", "http://alive", "1.0", 1, 0, clock()))
    store.run(presence.note, "alive", [present("alive-2", hello.user_id, 2, clock, live=False)], [])
    found = store.look(pulse.pulse)
    assert (found.connections, found.catching_up, found.behind, found.unsent) == (2, 1, 3, 14)
    assert (found.head, found.repaired, found.looked_at, found.problems) == (5, 0, None, 0)


def test_it_tells_what_was_fetched_from_github(store: Store, hello: Tracked, clock: Clock):
    def looked(_: Tx) -> None:
        Webhook.insert(
            repo_id=hello.id, look_at=clock(), looked_at=clock(), repaired=3, problem="away"
        ).execute()

    store.run(looked)
    found = store.look(pulse.pulse)
    assert (found.repaired, found.looked_at, found.problems) == (3, clock(), 1)


def test_an_empty_log_has_empty_hours(store: Store):
    assert store.look(pulse.by_hour) == [0] * 24


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 4)), max_size=12))
def test_each_hour_has_the_events_that_came_in_it(
    store: Store, hello: Tracked, clock: Clock, steps: list[tuple[int, int]]
):
    clock.forward(timedelta(days=2))  # beyond what the example before has left
    for minutes, count in steps:
        clock.forward(timedelta(minutes=minutes))
        logged(store, hello, count)
    now = clock()

    def came(_: Tx) -> list[int]:
        ages = [(now - row.created_at) // HOUR for row in Event.select(Event.created_at)]
        # One that is exactly so many hours old came at the beginning of the hour after.
        exact = [(now - row.created_at) % HOUR == timedelta(0) for row in Event.select(Event.created_at)]
        hours = [age - (whole and age > 0) for age, whole in zip(ages, exact, strict=True)]
        return [hours.count(hour) for hour in range(23, -1, -1)]

    assert store.look(pulse.by_hour) == store.look(came)


def test_what_was_purged_or_deleted_since_changes_it_no_more_than_it_must(
    store: Store, hello: Tracked, clock: Clock
):
    gone = store.run(repositories.add, hello.user_id, "octo/gone")
    logged(store, gone, 2)
    logged(store, hello, 3)
    store.run(repositories.remove, hello.user_id, gone.id)
    while store.run(upkeep.purge_removed):
        pass
    assert store.look(lambda _: Event.select().count()) == 3
    assert store.look(lambda _: LogState.get_by_id(1).head) == 5
    assert store.look(pulse.by_hour)[-1] == pytest.approx(5)
