"""A copy has every row, on the same kind of database and on the other one, whatever interrupts it."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from actors import logged, push
from conftest import Clock
from tables import another_postgres, as_plain, rows_of

from cotexd.errors import Conflict, Failed
from cotexd.operations import (
    accounts,
    check,
    cursors,
    events,
    members,
    nodes,
    repositories,
    secrets,
    upkeep,
)
from cotexd.operations.accounts import Account
from cotexd.operations.nodes import Server
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, copy, dialect, moving, touch_private
from cotexd.store.copy import Copied, Copy
from cotexd.store.lineage import LineageFile
from cotexd.store.moving import Moved
from cotexd.store.rows import told_nobody

Other = Callable[[str], Store]
RETENTION = timedelta(days=14)


class Killed(BaseException):
    """As if the process were gone."""


@pytest.fixture(params=["", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if not request.param:
        touch_private(tmp_path / "new.db")
        return f"sqlite:///{tmp_path / 'new.db'}"
    return another_postgres(request)


def copied(store: Store, url: str, clock: Clock, progress: Callable[[int], None] = lambda _: None) -> Copied:
    there = dialect.of(url, lambda _: None)
    return Copy(store.dialect, there, "new", clock, lambda events, _: progress(events)).run()


def kill_at(count: int) -> Callable[[int], None]:
    def progress(events: int) -> None:
        if events >= count:
            raise Killed

    return progress


def same(one: Store, two: Store) -> bool:
    """Every row of the two, but for the marks of the copy."""
    before, after = as_plain_tables(one), as_plain_tables(two)
    return before == after


def as_plain_tables(store: Store) -> dict[str, object]:
    found = {name: as_plain(rows) for name, rows in rows_of(store).items()}
    found["setting"] = [row for row in found["setting"] if row[0] not in moving.NAMES]
    return found


def test_all_of_it_is_there_and_the_copy_goes_on_where_the_first_stops(
    full: Store,
    other: Other,
    url: str,
    clock: Clock,
):
    seen: list[int] = []
    done = copied(full, url, clock, seen.append)
    there = other(url)
    assert same(full, there)
    assert (done.events, done.head, seen[-1]) == (250, 250, 250)
    assert there.look(check.check).good
    assert there.look(events.log).epoch == full.look(events.log).epoch
    (tracked,) = there.look(repositories.everyone)
    assert there.look(repositories.secret_of, tracked.id) == full.look(repositories.secret_of, tracked.id)
    logged(there, tracked, payload=push())
    there.run(members.unshare, tracked.user_id, tracked.id, "grace")
    there.run(accounts.create, "eve")
    assert there.look(events.log).head == 251


def test_the_first_is_then_read_and_not_written_until_that_is_undone(full: Store, url: str, clock: Clock):
    copied(full, url, clock)
    with pytest.raises(Moved, match="has moved"):
        full.run(accounts.create, "eve")
    assert len(full.look(accounts.all_of_them)) == 2
    assert copy.undo(full.dialect) == "new"
    assert copy.undo(full.dialect) is None
    full.run(accounts.create, "eve")


def test_one_that_was_killed_goes_on_where_it_was(
    full: Store,
    other: Other,
    hello: Tracked,
    url: str,
    clock: Clock,
):
    logged(full, hello, 1000, payload=push())
    with pytest.raises(Killed):
        copied(full, url, clock, kill_at(500))
    logged(full, hello, 7, payload=push())
    seen: list[int] = []
    done = copied(full, url, clock, seen.append)
    assert (seen[0], done.events) == (1000, 1257)
    assert same(full, other(url))


def test_until_it_is_through_the_target_is_written_by_nobody_else(
    full: Store,
    other: Other,
    url: str,
    clock: Clock,
):
    with pytest.raises(Killed):
        copied(full, url, clock, kill_at(1))
    there = other(url)
    with pytest.raises(Moved, match="filled by a copy"):
        there.run(accounts.create, "eve")
    copied(full, url, clock)
    there.run(accounts.create, "eve")


def test_one_that_is_killed_after_the_first_was_closed_leaves_it_closed_and_goes_on(
    full: Store,
    other: Other,
    hello: Tracked,
    url: str,
    clock: Clock,
):
    class Last(Copy):
        def _close_source(self) -> None:
            super()._close_source()
            raise Killed

    with pytest.raises(Killed):
        Last(full.dialect, dialect.of(url, lambda _: None), "new", clock).run()
    with pytest.raises(Moved):
        logged(full, hello)
    copied(full, url, clock)
    assert same(full, other(url))


def test_what_was_purged_between_two_attempts_is_purged_in_the_copy(
    full: Store,
    other: Other,
    hello: Tracked,
    ada: Account,
    url: str,
    clock: Clock,
):
    gone = full.run(repositories.add, ada.id, "octo/gone")
    logged(full, gone, 5, payload=push())
    clock.forward(RETENTION)
    logged(full, hello, 3, payload=push())
    with pytest.raises(Killed):
        copied(full, url, clock, kill_at(1))
    clock.forward(timedelta(days=1))
    full.run(repositories.remove, ada.id, gone.id)
    while full.run(upkeep.purge, RETENTION) or full.run(upkeep.purge_removed):
        pass
    copied(full, url, clock)
    there = other(url)
    assert same(full, there)
    assert there.look(check.check).good


def test_what_is_written_while_it_goes_on_is_in_it(
    full: Store, other: Other, hello: Tracked, url: str, clock: Clock
):
    logged(full, hello, 2000, payload=push())
    refused = threading.Event()
    written: list[int] = []

    def write() -> None:
        beside = Store(full.url, full.files.folder, "", clock)
        try:
            while True:
                written.extend(logged(beside, hello, payload=push()))
        except Moved:
            refused.set()
        finally:
            beside.close()

    thread = threading.Thread(target=write)
    thread.start()
    done = copied(full, url, clock)
    thread.join()
    assert refused.is_set()
    assert written
    assert done.head == written[-1] == full.look(events.log).head
    assert same(full, other(url))


def test_a_client_goes_on_with_its_cursor(full: Store, other: Other, ada: Account, url: str, clock: Clock):
    epoch = full.look(events.log).epoch
    copied(full, url, clock)
    start = other(url).run(cursors.attach, ada.id, device="", cursor=cursors.Cursor(epoch, 240))
    assert (start.resume, start.after) == ("ok", 240)


def test_nothing_is_written_over(full: Store, other: Other, url: str, clock: Clock):
    there = other(url)
    there.run(accounts.create, "eve")
    with pytest.raises(Conflict, match="not empty"):
        copied(full, url, clock)
    assert [each.name for each in there.look(accounts.all_of_them)] == ["eve"]
    full.run(accounts.create, "mallory")


def test_the_beginning_of_another_copy_is_refused(full: Store, other: Other, url: str, clock: Clock):
    there = other(url)
    there.run(lambda tx: moving.put(tx.database, moving.COPIED_FROM, "another"))
    with pytest.raises(Conflict, match="another database's"):
        copied(full, url, clock)


def test_the_beginning_of_a_copy_is_copied_nowhere(full: Store, url: str, clock: Clock, tmp_path: Path):
    with pytest.raises(Killed):
        copied(full, url, clock, kill_at(1))
    touch_private(tmp_path / "third.db")
    there = dialect.of(f"sqlite:///{tmp_path / 'third.db'}", lambda _: None)
    with pytest.raises(Conflict, match="itself the beginning"):
        Copy(dialect.of(url, lambda _: None), there, "third", clock).run()


@pytest.mark.parametrize("end", [500, 1250], ids=["in the middle", "to the end"])
def test_of_two_copies_at_once_one_is_refused_and_what_the_other_made_stays(
    full: Store, other: Other, hello: Tracked, url: str, clock: Clock, end: int
):
    """The other goes on, up to there, while the first has just put its first portion."""
    logged(full, hello, 1000, payload=push())
    begun: list[int] = []

    def beside(events: int) -> None:
        if not begun:
            begun.append(events)
            if end < 1250:
                with pytest.raises(Killed):
                    copied(full, url, clock, kill_at(events + end))
            else:
                copied(full, url, clock)
                other(url).run(accounts.create, "of-the-new-one")

    if end < 1250:
        copied(full, url, clock, beside)
        assert same(full, other(url))
        return
    with pytest.raises(Conflict, match="filled by another copy"):
        copied(full, url, clock, beside)
    names = [each.name for each in other(url).look(accounts.all_of_them)]
    assert "of-the-new-one" in names


def test_one_that_has_moved_does_not_move_elsewhere(full: Store, url: str, clock: Clock, tmp_path: Path):
    copied(full, url, clock)
    with pytest.raises(Conflict, match="moved to new already"):
        Copy(
            full.dialect, dialect.of(f"sqlite:///{tmp_path / 'third.db'}", lambda _: None), "third", clock
        ).run()


def test_a_target_that_changes_what_it_is_given_is_found_out(
    full: Store,
    other: Other,
    tmp_path: Path,
    clock: Clock,
):
    url = f"sqlite:///{tmp_path / 'new.db'}"
    there = other(url)
    trigger = (
        "CREATE TRIGGER t AFTER INSERT ON event WHEN NEW.seq = 77 BEGIN UPDATE event SET branch = '?'; END"
    )
    there.run(lambda tx: tx.database.execute_sql(trigger))
    with pytest.raises(Failed, match="not what was written"):
        copied(full, url, clock)
    full.run(accounts.create, "eve")


def test_who_would_open_the_first_again_waits_until_the_copy_has_ended(
    full: Store, other: Other, url: str, clock: Clock
):
    """Else both would go on, and what comes in between would be in one of them."""
    found: list[str | None] = []

    class Interrupted(Copy):
        def _copy_log_state(self) -> None:
            super()._copy_log_state()
            thread.start()
            thread.join(0.3)

    thread = threading.Thread(target=lambda: found.append(copy.undo(full.dialect)))
    Interrupted(full.dialect, dialect.of(url, lambda _: None), "new", clock).run()
    thread.join()
    assert found == ["new"]
    assert same(full, other(url))


def test_a_copy_whose_source_was_opened_again_does_not_open_its_target(
    full: Store, other: Other, hello: Tracked, url: str, clock: Clock
):
    class Undone(Copy):
        def _finish(self) -> tuple[int, int]:
            copy.undo(full.dialect)
            logged(full, hello, payload=push())
            return super()._finish()

    with pytest.raises(Conflict, match="opened again"):
        Undone(full.dialect, dialect.of(url, lambda _: None), "new", clock).run()
    with pytest.raises(Moved):
        other(url).run(accounts.create, "eve")
    copied(full, url, clock)
    assert same(full, other(url))


def test_the_log_keeps_its_name_though_the_file_beside_it_lags(
    full: Store, other: Other, hello: Tracked, url: str, clock: Clock
):
    epoch, event_id = full.look(
        lambda tx: tx.rows("SELECT epoch, event.id FROM log_state, event WHERE seq = 100")
    )[0]
    copied(full, url, clock)
    there = other(url)
    there.files.lineage.write_bytes(f"{epoch} 100 - {event_id}\n".encode().ljust(256))
    file = LineageFile(there.files.lineage)
    assert there.run(file.check) is False
    file.close()
    assert there.look(events.log).epoch == epoch


def test_a_target_on_which_a_server_runs_is_refused(full: Store, other: Other, url: str, clock: Clock):
    there = other(url)
    there.run(nodes.beat, Server("n", "http://there", "1.0", 1, 0, clock()))
    with pytest.raises(Conflict, match="A server runs"):
        copied(full, url, clock)
    full.run(accounts.create, "eve")


def test_one_that_was_killed_after_its_last_step_is_through(
    full: Store, other: Other, url: str, clock: Clock
):
    first = copied(full, url, clock)
    again = copied(full, url, clock)
    assert (again.events, again.head, again.closed_seconds) == (first.events, first.head, 0)
    assert same(full, other(url))
    copy.undo(full.dialect)
    with pytest.raises(Conflict, match="not empty"):
        copied(full, url, clock)


def test_a_database_is_not_copied_into_itself(store: Store, clock: Clock):
    with pytest.raises(Conflict, match="this database itself"):
        Copy(store.dialect, store.dialect, "itself", clock).run()
    store.run(accounts.create, "eve")


def test_a_database_that_somebody_else_fills_is_left_as_it_is(full: Store, url: str, clock: Clock):
    target = dialect.of(url, lambda _: None)
    database = target.open(read_only=False)
    database.execute_sql("CREATE TABLE event (name TEXT)")
    with pytest.raises(Conflict, match="not empty"):
        copied(full, url, clock)
    assert database.get_tables() == ["event"]
    database.close()


def test_a_portion_ends_where_its_payloads_are_large(
    full: Store, other: Other, hello: Tracked, url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(copy, "PORTION_BYTES", 1000)
    logged(full, hello, 20, payload=push())
    seen: list[int] = []
    copied(full, url, clock, seen.append)
    assert len(seen) > 20
    assert same(full, other(url))


def test_a_target_that_has_a_secret_is_not_empty(full: Store, other: Other, url: str, clock: Clock):
    there = other(url)
    there.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_other")
    with pytest.raises(Conflict, match="not empty"):
        copied(full, url, clock)
    assert there.look(secrets.get, secrets.GITHUB_TOKEN) == "ghp_other"


def test_what_is_purged_while_a_copy_is_held_up_is_purged_in_it(
    full: Store, other: Other, ada: Account, url: str, clock: Clock
):
    gone = full.run(repositories.add, ada.id, "octo/gone")
    logged(full, gone, 5, payload=push())

    def held_up(events: int, _: int) -> None:
        making._held -= moving.HELD.total_seconds() + 1
        clock.forward(RETENTION + timedelta(days=1))
        full.run(repositories.remove, gone.user_id, gone.id)
        while full.run(upkeep.purge, RETENTION) or full.run(upkeep.purge_removed):
            pass
        making._progress = told_nobody

    making = Copy(full.dialect, dialect.of(url, lambda _: None), "new", clock, held_up)
    making.run()
    assert same(full, other(url))
