"""The store: operations are plain functions of a transaction, and this carries them to the database.

    await store.write(accounts.create, name="ada")     the server: one writer thread, group commit
    await store.read(events.page, user_id, limit=30)   the server: a pool of read-only connections
    store.run(accounts.create, name="ada")             the command line: here and now, in a write transaction
    store.look(events.page, user_id, limit=30)         the same, read-only

An operation takes a `Tx` first; `ParamSpec` lets mypy check the rest of every call.
"""

import asyncio
import os
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import peewee

from cotexd import metrics
from cotexd.domain.vault import Vault
from cotexd.errors import CotexError, Failed, Unavailable
from cotexd.store import dialect as dialects
from cotexd.store import key, migrations, moving
from cotexd.store.dialect import redacted
from cotexd.store.files import give
from cotexd.store.lineage import LineageFile
from cotexd.store.models import bound
from cotexd.store.transaction import Actor, Published, Tx, act_as, acted_by
from cotexd.store.writer import Job, Writer

__all__ = [
    "Actor",
    "Description",
    "Published",
    "Store",
    "StoreFiles",
    "Tx",
    "act_as",
    "acted_by",
    "make_private",
    "redacted",
    "touch_private",
    "url_of",
    "utc_now",
]

READERS = 4
"""threads that read; each has a connection of its own"""

P = ParamSpec("P")
Item = TypeVar("Item")
R = TypeVar("R")
Operation = Callable[Concatenate[Tx, P], R]
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """What lies in the data folder."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "cotexd.key"

    @property
    def database(self) -> Path:
        return self.folder / "cotexd.db"

    @property
    def lineage(self) -> Path:
        return self.folder / "cotexd.lineage"


@dataclass(frozen=True, slots=True)
class Description:
    engine: str
    url: str
    """without its password"""
    schema: int
    size_bytes: int
    moved_to: str | None
    """the URL of the database that is written in this one's place, without its password"""


class Store:
    """One open database. The command line uses `run` and `look`; a server also calls `start`."""

    def __init__(self, url: str, folder: Path, configured_key: str = "", clock: Clock = utc_now) -> None:
        """Open the database, make what is missing (folder, schema, key), and unlock its secrets.

        :param url: see dialect.of; "" is the SQLite file in `folder`
        :raises Failed: the key is missing, wrong or readable by others; the schema is newer than this version
        :raises Unavailable: the database does not answer
        """
        self.files = StoreFiles(folder)
        self._clock = clock
        self._closing = threading.Event()
        make_private(self.files)
        self.url = url_of(url, folder)
        self.dialect = dialects.of(self.url, self._closing.wait)
        if isinstance(self.dialect, dialects.Sqlite):
            touch_private(self.dialect.path)
        self._foreground = self.dialect.open(read_only=False)
        self._background = self.dialect.open(read_only=True)
        self._reader = threading.local()
        self._opened = [self._foreground, self._background]
        self._vault: Vault | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._watcher: threading.Thread | None = None
        self._lineage: LineageFile | None = None
        try:
            with dialects.unavailable():
                self.migrated = migrations.migrate(self._foreground, self.dialect)
                with bound(self._foreground):
                    self._vault = self._in_write(
                        lambda _: key.unlock(configured_key, self.files.key), moved_too=True
                    )
        except BaseException:
            self._foreground.close()
            raise

    # Here and now: the command line.

    def run(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation in a write transaction, on this thread.

        :raises Unavailable: the database cannot be written right now
        """
        with dialects.unavailable(), bound(self._foreground):
            return self._in_write(lambda tx: operation(tx, *args, **kwargs))

    def rehearse(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation, and take all of it back: what it returns is what it would do.

        :raises Unavailable: the database cannot be written right now
        """
        with dialects.unavailable(), bound(self._foreground):
            self.dialect.begin_write(self._foreground)
            try:
                moving.refuse(self._foreground)
                return operation(self._begin(self._foreground), *args, **kwargs)
            finally:
                self.dialect.rollback(self._foreground)

    def look(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation that only reads, on this thread; all its reads see one moment."""
        return self._read_in(self._background, lambda tx: operation(tx, *args, **kwargs))

    def describe(self) -> Description:
        """Which database this is, for people."""
        return self.look(
            lambda tx: Description(
                engine=self.dialect.name,
                url=redacted(self.url),
                schema=migrations.schema_of(tx.database),
                size_bytes=self.dialect.size(tx.database),
                moved_to=moving.value(tx.database, moving.MOVED_TO),
            )
        )

    def _in_write(self, operation: Callable[[Tx], R], *, moved_too: bool = False) -> R:
        database = self._foreground
        self.dialect.begin_write(database)
        try:
            if not moved_too:
                moving.refuse(database)
            result = operation(self._begin(database))
            self.dialect.before_commit(database)
            database.commit()
        except BaseException:
            self.dialect.rollback(database)
            raise
        return result

    def _read_in(self, database: peewee.Database, operation: Callable[[Tx], R]) -> R:
        with dialects.unavailable(), bound(database):
            self.dialect.begin_read(database)
            try:
                return operation(self._begin(database))
            finally:
                self.dialect.rollback(database)

    def _begin(self, database: peewee.Database) -> Tx:
        # None only while the key itself is looked for, by an operation that opens no secret.
        return Tx(self._clock(), self._vault, database)  # type: ignore[arg-type]

    def _begin_guarded(self, database: peewee.Database) -> Tx:
        tx = self._begin(database)
        if self._lineage is not None:
            self._lineage.guard(tx)
        return tx

    # The server: threads, and futures on the loop.

    def start(
        self, publish: Callable[[Sequence[Published]], None], moved: Callable[[], None], node_id: str = ""
    ) -> bool:
        """Start the threads that serve the running event loop.

        :param publish: gets every committed batch on the loop, in commit order, before its writers are answered
        :param moved: is called on the loop when the log, or what servers are told, may have moved
        :param node_id: under which the server tells others that it runs
        :returns: True if the database had been swapped or set back, and got a new epoch
        """
        loop = asyncio.get_running_loop()
        lineage = self._lineage = LineageFile(self.files.lineage, node_id)
        renewed, tx = self.run(lambda tx: (lineage.check(tx), tx))
        lineage.write(tx)
        self._writer = Writer(self.dialect, self._begin_guarded, publish, self._committed)
        self._readers = ThreadPoolExecutor(READERS, "cotexd-reader", initializer=self._open_reader)
        self._watcher = threading.Thread(
            target=self._watch, args=(loop, moved), name="cotexd-watcher", daemon=True
        )
        self._watcher.start()
        return renewed

    async def write(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation in the writer's next transaction; returns once that is committed.

        :raises Unavailable: it could not be committed, or there is too much to write
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._the_writer().submit(Job(future, lambda tx: operation(tx, *args, **kwargs)))
        return await future

    async def write_many(self, operation: Callable[[Tx, list[Item]], list[R | CotexError]], item: Item) -> R:
        """Like `write`, for an operation that takes a list: all items that wait together go into one call.

        The operation returns one result an item; one that is a CotexError is raised to that item's writer.
        """
        return await self.submit_many(operation, item)

    def submit_many(
        self, operation: Callable[[Tx, list[Item]], list[R | CotexError]], item: Item
    ) -> asyncio.Future[R]:
        """The same, for one who waits in another way: the future has the result, or the error.

        :raises Unavailable: there is too much to write
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._the_writer().submit(Job(future, many=operation, item=item))
        return future

    async def set_back(self, epoch: str, head: int) -> None:
        """Give the log a new epoch, since it has ended before what was handed out: up to `head`, of this one.

        :raises Unavailable: the database cannot be written right now
        """
        if self._lineage is not None:
            await self.write(self._lineage.behind, epoch, head)

    async def flush(self) -> None:
        """Return once all that was given to the writer until now is committed, and handed to the hub.

        :raises Unavailable: the writer does not get to it
        """
        await self.write(lambda _: None)

    async def read(self, operation: Operation[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run an operation that only reads, in the pool; all its reads see one moment."""
        if self._readers is None:
            raise Unavailable("The server is shutting down.")
        with metrics.READ_TIME.time(), metrics.READS_PENDING.track_inprogress():
            return await asyncio.get_running_loop().run_in_executor(
                self._readers, self._read_there, lambda tx: operation(tx, *args, **kwargs)
            )

    @property
    def queued(self) -> int:
        """Jobs that wait for the writer."""
        return self._writer.queued if self._writer else 0

    @property
    def failure(self) -> Unavailable | None:
        """Why a server could not write something a moment ago; None if it could, or had nothing to write."""
        return self._writer.failure if self._writer else None

    @property
    def closing(self) -> bool:
        """It is being stopped: long work ends."""
        return self._closing.is_set()

    async def drain(self) -> None:
        """Finish all that was submitted to the writer, and refuse the rest."""
        if self._writer is not None:
            await self._writer.close()

    async def stop(self) -> None:
        """Drain, and end the threads."""
        await self.drain()
        self._closing.set()
        if self._readers is not None:
            readers, self._readers = self._readers, None
            await asyncio.to_thread(readers.shutdown)
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.join)
        self.close()

    def close(self) -> None:
        """Close every connection: the last one takes SQLite's write-ahead log into the database file."""
        self._closing.set()
        for database in self._opened:
            database.close()
        if self._lineage is not None:
            self._lineage.close()
            self._lineage = None

    def _open_reader(self) -> None:
        self._reader.database = self.dialect.open(read_only=True)
        self._opened.append(self._reader.database)

    def _read_there(self, operation: Callable[[Tx], R]) -> R:
        return self._read_in(self._reader.database, operation)

    def _the_writer(self) -> Writer:
        if self._writer is None:
            raise Unavailable("The server is not started.")
        return self._writer

    def _committed(self, tx: Tx) -> None:
        if tx.published:
            metrics.PAYLOAD_STORED.inc(sum(each.stored for each in tx.published))
        if tx.head is not None and self._lineage is not None:
            self._lineage.write(tx)

    def _watch(self, loop: asyncio.AbstractEventLoop, moved: Callable[[], None]) -> None:
        while not self._closing.is_set():
            try:
                with closing(self.dialect.watcher()) as watcher:
                    while not self._closing.is_set():
                        if watcher.wait():
                            loop.call_soon_threadsafe(moved)
            except Exception:  # noqa: BLE001  # the database is away: look again until it is back
                self._closing.wait(1.0)


def url_of(configured: str, folder: Path) -> str:
    """:param configured: "" is the SQLite file in `folder`"""
    return configured or f"sqlite:///{quote(str(StoreFiles(folder).database))}"


def make_private(files: StoreFiles) -> None:
    """Make the data folder, for its owner only; an empty one is closed, one that others can look into is refused."""
    folder = files.folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
            if not any(folder.iterdir()):
                folder.chmod(0o700)
                return
            raise Failed(
                f"Others on this machine can look into the data folder {folder}.",
                hint=f"Close it: chmod 700 {folder}",
            )
    except OSError as error:
        raise Failed(
            f"The data folder {folder} cannot be used: {error.strerror}.",
            hint="Choose another: --data-dir, or COTEX_DATA_DIR.",
        ) from error


def touch_private(path: Path) -> None:
    try:
        new = not path.exists()
        path.touch(mode=0o600)
        if new:
            give(path)
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise Failed(
            f"The database {path} cannot be written: {error.strerror}.",
            hint="cotex doctor looks at the disk.",
        ) from error
    if mode & 0o077:
        raise Failed(
            f"Others on this machine can read the database {path} (mode {mode:04o}).",
            hint=f"Close it: chmod 600 {path}*",
        )
