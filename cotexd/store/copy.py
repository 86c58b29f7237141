"""Copy a database into another one, of either kind, while its server goes on; then that one is moved there.

The log is by far the most of it, and only grows (nothing is purged meanwhile), so it goes first, a portion a
transaction: whatever is killed goes on after the last portion that the target has. Then the source is closed to
writes, which takes one transaction; what came since the last portion follows, and with it all other tables, which are
small. Each portion and each table is read back from the target, and must have the hash of what was read here. Only
then the target is open.

If it is killed after the source was closed, the source stays closed: had the target been complete and this one gone
on, what came in between would be in neither log.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import peewee

from cotexd.errors import Conflict, Failed, Unavailable
from cotexd.store import dialect as dialects
from cotexd.store import migrations, moving, rows
from cotexd.store.dialect import Dialect
from cotexd.store.models import Event, LogState, Node, alive, bound, table_of

PORTION = 500
"""events"""
PORTION_BYTES = 8 * 1024 * 1024
"""of payloads, after which a portion is full; at least one event"""
HOLD_EVERY = 30.0
"""seconds between two words to the source that it is still being copied"""
_LAST = "SELECT COALESCE(MAX(seq), 0) FROM event"
T = TypeVar("T")
_COLUMNS = rows.columns_of(Event)


@dataclass(frozen=True, slots=True)
class Copied:
    events: int
    """in the target's log, stubs too"""
    rows: int
    """of all other tables"""
    head: int
    closed_seconds: float
    """for which nothing could be written: from closing the source until the target was whole"""


class Copy:
    """:param url: of the target, without its password, to be shown
    :param progress: is told how many events the target has, and the source
    """

    def __init__(
        self,
        source: Dialect,
        target: Dialect,
        url: str,
        clock: Callable[[], datetime],
        progress: rows.Progress = rows.told_nobody,
    ) -> None:
        self._url = url
        self._clock = clock
        self._progress = progress
        self._source, self._target = source, target
        self._from = source.open(read_only=True)
        self._marks = source.open(read_only=False, patient=True)
        self._to = target.open(read_only=False, patient=True)
        self._held = float("-inf")
        self._copied = self._total = self._checked = 0
        self._epoch = ""
        self._lapsed = False

    def run(self) -> Copied:
        """Copy all of it, and close the source.

        :raises Conflict: the target is not empty, the source itself, or another copy's; or the source has moved to
            another one, or is not whole itself
        :raises Failed: the target has not what was written to it
        :raises Unavailable: one of the two cannot be used right now; what was copied stays
        """
        try:
            with dialects.unavailable("The target"):
                self._to.get_tables()
            with dialects.unavailable(hint="What is copied stays, and the same command goes on from there."):
                if self._is_through():
                    return self._what_is_there()
                self._prepare()
                while self._copy_events():
                    self._hold()
                if not self._lapsed:
                    self._check_log()  # most of it, while the source is still open
                began = time.monotonic()
                self._close_source()
                others, head = self._finish()
                return Copied(self._copied, others, head, time.monotonic() - began)
        except dialects.errors_named("IntegrityError") as error:
            raise Conflict(
                "Somebody else writes to the target: another copy, perhaps.",
                hint="Let that end, and try again.",
            ) from error
        finally:
            for database in (self._from, self._marks, self._to):
                database.close()

    def _is_through(self) -> bool:
        """It was killed after its very last step."""
        self._epoch = self._in(self._source, self._from, lambda: _epoch(self._from), write=False)
        return (
            moving.value(self._from, moving.MOVED_TO) == self._url
            and "log_state" in self._to.get_tables()
            and _epoch(self._to) == self._epoch
            and moving.value(self._to, moving.COPIED_FROM) is None
        )

    def _what_is_there(self) -> Copied:
        counts = {each: rows.count(self._to, table_of(each)) for each in rows.KEPT if each is not LogState}
        head = int(_one(self._to, "SELECT head FROM log_state"))
        return Copied(counts.pop(Event), sum(counts.values()), head, 0.0)

    def _prepare(self) -> None:
        if moving.value(self._from, moving.COPIED_FROM) is not None:
            raise Conflict("This database is itself the beginning of a copy.", hint="Finish that one first.")
        if set(self._to.get_tables()) & {table_of(each) for each in rows.KEPT}:
            self._check_free()
        migrations.migrate(self._to, self._target)

        def claim() -> int:
            self._check_free()
            moving.put(self._to, moving.COPIED_FROM, self._epoch)
            return rows.count(self._to, "event")

        self._copied = self._in(self._target, self._to, claim)
        self._total = rows.count(self._from, "event")
        if moving.value(self._from, moving.COPIED_FROM) is not None:
            self._in(self._target, self._to, lambda: moving.take_away(self._to, moving.COPIED_FROM))
            raise Conflict("The target is this database itself.", hint="Name another one, an empty one.")
        self._hold()
        if self._copied:
            self._in(self._target, self._to, self._catch_up)

    def _check_free(self) -> None:
        """The target has nothing, or the beginning of this copy."""
        not_empty = Conflict(
            "The target is not empty.", hint="Name an empty database: nothing is written over."
        )
        if "schema_version" not in self._to.get_tables():
            raise not_empty
        begun = moving.value(self._to, moving.COPIED_FROM)
        with bound(self._to):
            running = Node.select().where(alive(self._clock())).exists()
        if running:
            raise Conflict("A server runs on the target.", hint="Stop it first.")
        if begun is None and any(rows.count(self._to, each) for each in ("event", "user", "sealed_secret")):
            raise not_empty
        if begun not in {None, self._epoch}:
            raise Conflict(
                "The target has the beginning of another database's copy.", hint="Name an empty database."
            )

    def _check_claim(self) -> None:
        """Another copy may have come to its end meanwhile, and a server have been started on it."""
        if moving.value(self._to, moving.COPIED_FROM) != self._epoch:
            raise Conflict(
                "The target was filled by another copy meanwhile, and is open.", hint="cotex db check"
            )

    def _catch_up(self) -> None:
        """Take from the target what the source has purged since a copy that was not finished."""
        mark = self._to.param
        floor = _one(self._from, "SELECT floor FROM log_state")
        self._to.execute_sql(
            f"UPDATE event SET summary = NULL, payload = NULL WHERE seq <= {mark} AND payload IS NOT NULL",  # noqa: S608
            (floor,),
        )
        gone: list[int] = []
        for some in self._target.stream(self._to, "SELECT seq FROM event ORDER BY seq"):
            there = {seq for (seq,) in some}
            between = f"SELECT seq FROM event WHERE seq BETWEEN {min(there):d} AND {max(there):d}"  # noqa: S608
            gone += there - {seq for (seq,) in self._from.execute_sql(between).fetchall()}
        self._to.cursor().executemany(f"DELETE FROM event WHERE seq = {mark}", [(seq,) for seq in gone])  # noqa: S608
        self._copied -= len(gone)

    def _hold(self) -> None:
        """Keep the purge away from the source for a while longer."""
        self._lapsed |= self._is_lapsed()
        if time.monotonic() - self._held > HOLD_EVERY and moving.value(self._from, moving.MOVED_TO) is None:
            until = (self._clock() + moving.HELD).isoformat()
            self._in(self._source, self._marks, lambda: moving.put(self._marks, moving.COPYING_UNTIL, until))
            self._held = time.monotonic()

    def _close_source(self) -> None:
        self._lapsed |= self._is_lapsed()

        def close() -> None:
            moved = moving.value(self._marks, moving.MOVED_TO)
            if moved not in {None, self._url}:
                raise Conflict(
                    f"This database has moved to {moved} already.", hint="Undo that: cotex db copy --undo."
                )
            moving.put(self._marks, moving.MOVED_TO, self._url)

        self._in(self._source, self._marks, close)

    def _is_lapsed(self) -> bool:
        """A portion took so long that the source has purged meanwhile, or this process was stopped."""
        return 0 < self._held < time.monotonic() - moving.HELD.total_seconds()

    def _finish(self) -> tuple[int, int]:
        """Copy what is left of a source that is closed, and see to it that it stays so until the target is open."""
        try:
            with dialects.unavailable():
                if self._lapsed:
                    self._in(self._target, self._to, self._catch_up)
                    self._checked = 0
                while self._copy_events():
                    pass
                return self._in(self._source, self._marks, self._copy_the_rest, keep=False)
        except Unavailable as error:
            hint = "The source is closed to writes: run the same command again, or cotex db copy --undo."
            raise Unavailable(error.message, hint=hint) from error

    def _copy_events(self) -> bool:
        """Copy a portion; False if there was none."""
        after = int(_one(self._to, _LAST))
        some = self._in(self._source, self._from, lambda: self._portion_after(after), write=False)
        if not some:
            return False

        def put() -> None:
            self._check_claim()
            self._target.insert(self._to, "event", _COLUMNS, some)
            there = self._to.execute_sql(f"{_log(self._to)} ORDER BY seq", (after,)).fetchall()
            _compare("event", _digests(some), _digests(rows.plain(Event, row) for row in there))

        self._in(self._target, self._to, put)
        self._copied += len(some)
        self._total = max(self._total, self._copied)
        self._progress(self._copied, self._total)
        return True

    def _portion_after(self, after: int) -> list[rows.Row]:
        upto = size = 0
        sizes = "SELECT seq, COALESCE(LENGTH(payload), 0) FROM event"
        query = f"{sizes} WHERE seq > {self._from.param} ORDER BY seq LIMIT {PORTION:d}"
        for seq, length in self._from.execute_sql(query, (after,)).fetchall():
            upto, size = seq, size + length
            if size > PORTION_BYTES:
                break
        query = f"{_log(self._from)} AND seq <= {self._from.param} ORDER BY seq"
        return [rows.plain(Event, row) for row in self._from.execute_sql(query, (after, upto)).fetchall()]

    def _copy_the_rest(self) -> tuple[int, int]:
        """All but the log, in the place of what a new database has; with that, the target is open.

        In a write transaction of the source, which nobody then opens again.
        """
        if moving.value(self._marks, moving.MOVED_TO) != self._url or _epoch(self._marks) != self._epoch:
            raise Conflict("The source was opened again meanwhile.", hint="Run the same command again.")

        def put() -> tuple[int, int]:
            self._check_claim()
            others = [each for each in rows.KEPT if each not in {Event, LogState}]
            for model in reversed(others):
                self._to.execute_sql(f'DELETE FROM "{table_of(model)}"')  # noqa: S608  # our own names
            count = sum(self._copy_table(each) for each in others)
            self._copy_log_state()
            moving.forget(self._to)
            rows.count_on(self._to, self._target)
            self._check_log()
            if self._checked != int(_one(self._from, _LAST)):
                raise Failed("The target lacks the last events.", hint="Run the same command again.")
            return count, int(_one(self._to, "SELECT head FROM log_state"))

        return self._in(self._target, self._to, put)

    def _copy_table(self, model: type[peewee.Model]) -> int:
        name, columns = table_of(model), rows.columns_of(model)
        query = rows.selecting(name, columns)

        def take() -> list[bytes]:
            here: list[bytes] = []
            for some in self._source.stream(self._from, query):
                fresh = [rows.plain(model, row) for row in some]
                self._target.insert(self._to, name, columns, fresh)
                here += _digests(fresh)
            return here

        here = self._in(self._source, self._from, take, write=False)
        there: list[bytes] = []
        for some in self._target.stream(self._to, query):
            there += _digests(rows.plain(model, row) for row in some)
        _compare(name, here, there)
        return len(here)

    def _copy_log_state(self) -> None:
        """In place: on PostgreSQL whoever waits for its lock waits for this very row."""
        columns = rows.columns_of(LogState)
        row = self._from.execute_sql(rows.selecting("log_state", columns)).fetchone()
        assigned = ", ".join(f'"{each}" = {self._to.param}' for each in columns)
        self._to.execute_sql(f"UPDATE log_state SET {assigned}", row)  # noqa: S608  # our own names

    def _check_log(self) -> None:
        """The two logs are equally long as far as the target's goes; what was looked at before is not again."""
        upto = int(_one(self._to, _LAST))
        between = f"seq > {self._checked:d} AND seq <= {upto:d}"
        if rows.count(self._from, "event", between) != rows.count(self._to, "event", between):
            raise Failed("The target has not all events.", hint="Empty it, and copy again.")
        self._checked = upto

    @staticmethod
    def _in(
        dialect: Dialect,
        database: peewee.Database,
        do: Callable[[], T],
        *,
        write: bool = True,
        keep: bool = True,
    ) -> T:
        """Do it in a transaction, and keep it whole or not at all.

        :param keep: else the transaction is only held meanwhile
        """
        (dialect.begin_write if write else dialect.begin_read)(database)
        try:
            done = do()
            if write and keep:
                dialect.before_commit(database)
                database.commit()
        finally:
            dialect.rollback(database)
        return done


def undo(source: Dialect) -> str | None:
    """Let a database that has moved be written again; where it had moved to, None if it had not.

    Whatever the other one took since is not here.
    """
    database = source.open(read_only=False)
    try:
        with dialects.unavailable():
            source.begin_write(database)
            try:
                moved = moving.value(database, moving.MOVED_TO)
                moving.take_away(database, moving.MOVED_TO)
                moving.take_away(database, moving.COPYING_UNTIL)
                source.before_commit(database)
                database.commit()
            finally:
                source.rollback(database)
    finally:
        database.close()
    return moved


def _log(database: peewee.Database) -> str:
    return f"{rows.selecting('event', _COLUMNS)} WHERE seq > {database.param}"


def _epoch(database: peewee.Database) -> str:
    return str(_one(database, "SELECT epoch FROM log_state"))


def _one(database: peewee.Database, query: str) -> Any:
    return database.execute_sql(query).fetchone()[0]


def _compare(name: str, here: list[bytes], there: list[bytes]) -> None:
    """In no order: the two databases sort text differently.

    :raises Failed: they are not the same rows
    """
    if sorted(here) != sorted(there):
        raise Failed(
            f"The target has not what was written to it (in {name}).",
            hint="Look at its server's log; then empty it, and copy again.",
        )


def _digests(some: Iterable[rows.Row]) -> list[bytes]:
    return [hashlib.sha256(msgspec.msgpack.encode(row)).digest() for row in some]
