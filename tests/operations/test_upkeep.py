from datetime import timedelta
from itertools import pairwise

import msgspec
import pytest
from actors import incoming, logged

from cotexd.operations import accounts, cursors, events, history, notices, presence, repositories, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.presence import Present
from cotexd.operations.repositories import Tracked
from cotexd.operations.upkeep import BATCH, BATCH_BYTES, SESSIONS_KEPT, STUBS_KEPT
from cotexd.store import Store, Tx
from cotexd.store.models import Device, Event

RETENTION = timedelta(days=14)
DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


def rows(_: Tx) -> list[tuple[int, bool]]:
    """The seqs that are there, and whether with their payload."""
    found = Event.select().order_by(Event.seq)
    assert all((row.summary is None) == (row.payload is None) for row in found)
    return [(row.seq, row.payload is not None) for row in found]


def clients(_: Tx) -> set[str]:
    return {f"{row.kind} {row.name}".strip() for row in Device.select()}


def batches(store: Store, operation, *given) -> list[int]:
    """What each call did until there was nothing more."""
    found = []
    while done := store.run(operation, *given):
        found.append(done)
    return found


def test_the_purge_leaves_stubs_and_moves_the_floor(store: Store, hello: Tracked, clock):
    logged(store, hello, 2)
    clock.forward(RETENTION + MOMENT)
    logged(store, hello)
    assert batches(store, upkeep.purge, RETENTION) == [2]
    assert store.look(rows) == [(1, False), (2, False), (3, True)]
    assert store.look(events.log).floor == 2


def test_a_stub_knows_what_it_was(store: Store, hello: Tracked, clock):
    logged(store, hello, guid="the-guid")
    came = clock()
    clock.forward(2 * RETENTION)
    store.run(upkeep.purge, RETENTION)
    stub = store.look(history.details, "the-guid")
    assert (stub.seq, stub.repo_id, stub.event_type, stub.branch) == (1, hello.id, "push", "main")
    assert stub.created_at == came


def test_nothing_is_purged_before_its_time(store: Store, hello: Tracked, clock):
    logged(store, hello)
    clock.forward(RETENTION)
    assert store.run(upkeep.purge, RETENTION) == 0
    clock.forward(MOMENT)
    assert store.run(upkeep.purge, RETENTION) == 1


def test_an_empty_log_is_purged_of_nothing(store: Store):
    assert store.run(upkeep.purge, RETENTION) == 0
    assert store.look(events.log).floor == 0


def test_much_is_purged_in_small_batches(store: Store, hello: Tracked, clock):
    logged(store, hello, 2 * BATCH + 5)
    clock.forward(2 * RETENTION)
    assert batches(store, upkeep.purge, RETENTION) == [BATCH, BATCH, 5]
    assert store.look(events.log).floor == 2 * BATCH + 5


def test_a_batch_is_small_in_bytes_too_and_never_empty(store: Store, hello: Tracked, clock):
    sizes = [BATCH_BYTES // 2, BATCH_BYTES // 2, 1, BATCH_BYTES + 1, 1]
    store.run(
        events.accept_many,
        [msgspec.structs.replace(incoming(hello), payload=b"x" * size, packed=True) for size in sizes],
    )
    clock.forward(2 * RETENTION)
    assert batches(store, upkeep.purge, RETENTION) == [2, 1, 1, 1]


def test_behind_a_young_event_nothing_is_purged_though_the_clock_was_set_back(
    store: Store, hello: Tracked, clock
):
    logged(store, hello)
    clock.forward(-100 * DAY)
    logged(store, hello)
    clock.forward(100 * DAY + RETENTION)
    assert store.run(upkeep.purge, RETENTION) == 0
    clock.forward(MOMENT)
    assert store.run(upkeep.purge, RETENTION) == 2


def test_the_events_of_a_removed_repository_go_and_no_others(store: Store, hello: Tracked, eve: Account):
    docs = store.run(repositories.add, eve.id, "octo/docs")
    store.run(events.accept_many, [incoming(repo) for _ in range(3) for repo in (hello, docs)])
    assert store.run(upkeep.purge_removed) == 0
    store.run(repositories.remove, hello.user_id, hello.id)
    batches(store, upkeep.purge_removed)
    assert store.look(rows) == [(2, True), (4, True), (6, True)]
    assert logged(store, docs) == [7]


def test_stubs_of_a_removed_repository_go_too(store: Store, hello: Tracked, clock):
    logged(store, hello, 2)
    clock.forward(2 * RETENTION)
    store.run(upkeep.purge, RETENTION)
    store.run(repositories.remove, hello.user_id, hello.id)
    batches(store, upkeep.purge_removed)
    assert store.look(rows) == []


def test_a_removed_repository_is_purged_in_small_batches(store: Store, hello: Tracked):
    def left(_: Tx) -> int:
        return Event.select().count()

    logged(store, hello, 2 * BATCH + 5)
    store.run(repositories.remove, hello.user_id, hello.id)
    counts = [store.look(left)]
    while store.run(upkeep.purge_removed):
        counts.append(store.look(left))
    assert max(before - after for before, after in pairwise(counts)) == BATCH
    assert counts[-1] == 0


def test_the_purge_of_removed_repositories_says_how_many_events_went(
    store: Store, hello: Tracked, eve: Account
):
    empty = store.run(repositories.add, eve.id, "octo/empty")
    store.run(repositories.remove, empty.user_id, empty.id)
    docs = store.run(repositories.add, eve.id, "octo/docs")
    logged(store, docs, BATCH)
    logged(store, hello, 3)
    for repo in (hello, docs):
        store.run(repositories.remove, repo.user_id, repo.id)
    assert sum(batches(store, upkeep.purge_removed)) == BATCH + 3
    assert store.look(rows) == []


def test_a_stub_is_forgotten_after_a_year_and_no_earlier(store: Store, hello: Tracked, clock):
    logged(store, hello, guid="the-guid")
    clock.forward(STUBS_KEPT)
    store.run(upkeep.purge, RETENTION)
    assert store.run(upkeep.forget_stubs) == 0
    (again,) = store.run(events.accept_many, [incoming(hello, guid="the-guid")])
    assert (again.seq, again.duplicate) == (1, True)
    clock.forward(MOMENT)
    assert store.run(upkeep.forget_stubs) == 1
    assert store.look(rows) == []


def test_what_still_has_its_payload_is_never_forgotten(store: Store, hello: Tracked, clock):
    logged(store, hello, 2)
    clock.forward(2 * STUBS_KEPT)
    assert store.run(upkeep.forget_stubs) == 0
    assert store.look(rows) == [(1, True), (2, True)]


def test_stubs_are_forgotten_in_small_batches(store: Store, hello: Tracked, clock):
    logged(store, hello, BATCH + 5)
    clock.forward(2 * STUBS_KEPT)
    batches(store, upkeep.purge, RETENTION)
    logged(store, hello)
    assert batches(store, upkeep.forget_stubs) == [BATCH, 5]
    assert store.look(rows) == [(BATCH + 6, True)]


def test_legacy_clients_that_were_long_away_are_forgotten_and_devices_and_the_shared_cursor_never(
    store: Store, ada: Account, clock
):
    store.run(cursors.attach, ada.id, device="laptop", cursor=None)
    store.run(cursors.attach_legacy, ada.id, "app")
    clock.forward(SESSIONS_KEPT)
    store.run(upkeep.forget_old)
    assert store.look(clients) == {"shared", "device laptop", "session app"}
    clock.forward(MOMENT)
    store.run(upkeep.forget_old)
    assert store.look(clients) == {"shared", "device laptop"}


def test_a_legacy_client_that_is_connected_is_not_forgotten_however_quiet_it_is(
    store: Store, ada: Account, clock
):
    store.run(cursors.attach_legacy, ada.id, "app")
    here = Present("1", ada.id, "legacy", "app", "", 0, live=True, buffer=0, connected_at=clock())
    store.run(presence.note, "n", [here], [])
    clock.forward(2 * SESSIONS_KEPT)
    store.run(upkeep.forget_old)
    assert "session app" in store.look(clients)


def test_a_client_that_came_back_in_time_is_not_forgotten(store: Store, ada: Account, clock):
    store.run(cursors.attach_legacy, ada.id, "app")
    clock.forward(SESSIONS_KEPT)
    store.run(cursors.attach_legacy, ada.id, "app")
    clock.forward(DAY)
    store.run(upkeep.forget_old)
    assert "session app" in store.look(clients)


def test_old_notices_are_forgotten_with_the_clients(store: Store, hello: Tracked, clock):
    clock.forward(notices.KEPT + MOMENT)
    assert store.run(upkeep.forget_old) == 1
    assert store.look(notices.after, 0) == []
