"""SQLite or Postgres: the only file where either is named.

Both give the store the same four things: a write transaction that waits for every other writer in any process, a
read transaction that sees one moment, a sign that another process wrote, and a lock for migrations.
"""

import re
import select
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import peewee

from cotexd.errors import Failed, Invalid, Unavailable
from cotexd.store import files

BUSY_TIMEOUT = 8.0
"""seconds; GitHub waits 10 s for an answer and does not try again"""
IDLE_WITHIN = 15.0
"""seconds for which a writer may do nothing in a transaction, while all others wait for it; then it has lost that"""
WATCH_INTERVAL = 0.25
"""seconds between two looks at whether another process wrote"""
PORTION = 200
"""rows of a long query that are in memory at once; a payload may have megabytes"""
_URL = re.compile(r"[a-z][a-z0-9+]*://[^/?#]*(/[^?#]*)?(\?[^#]*)?")
NOTHING_CHANGED = "Nothing was changed."
HIDDEN = "***"
"""in the place of a URL that cannot be shown"""
_CHANNEL = "cotexd_log"
_MIGRATION_LOCK = 0x636F746578  # "cotex"


class Dialect(ABC):
    """What the store asks of a database."""

    name: str
    label: str
    """for people"""
    translations: dict[str, str]

    @abstractmethod
    def open(self, *, read_only: bool, patient: bool = False) -> peewee.Database:
        """One connection, opened when it is first used, for one thread at a time; any thread may close it.

        :param patient: it may rest in the middle of writing for as long as it takes, and nobody else writes meanwhile
        """

    @abstractmethod
    def begin_write(self, database: peewee.Database) -> None:
        """Begin a transaction that is alone: order of commits = order of begins, in all processes."""

    @abstractmethod
    def begin_read(self, database: peewee.Database) -> None:
        """Begin a transaction whose reads all see one moment."""

    @abstractmethod
    def before_commit(self, database: peewee.Database) -> None:
        """Let other processes know, if the database can."""

    @abstractmethod
    def in_transaction(self, database: peewee.Database) -> bool:
        """Whether the database still has our transaction: SQLite drops it whole when the disk is full."""

    @abstractmethod
    def watcher(self) -> "Watcher":
        """To be made and used by one thread."""

    @abstractmethod
    def migrating(self, database: peewee.Database) -> AbstractContextManager[None]:
        """One transaction that no other process migrates beside."""

    @abstractmethod
    def size(self, database: peewee.Database) -> int:
        """Bytes on disk."""

    @abstractmethod
    def stream(self, database: peewee.Database, query: str) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query in portions, within a transaction, however many there are."""

    @abstractmethod
    def insert(
        self, database: peewee.Database, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Insert many rows, within a transaction, as quickly as the database takes them."""

    @abstractmethod
    def count_on(self, database: peewee.Database, table: str, column: str) -> None:
        """Let a column that counts by itself go on after the highest number that is there."""

    @abstractmethod
    def damage(self, within: float) -> str:
        """What the database itself finds wrong with its data; "" if nothing.

        :param within: seconds
        :raises Unavailable: it takes longer
        """

    @abstractmethod
    def snapshot(self, name: str) -> None:
        """Keep a copy of the whole database beside it, if it is one file.

        :raises Failed: it cannot be written there
        """

    def translate(self, sql: str) -> str:
        for name, meaning in self.translations.items():
            sql = sql.replace("{" + name + "}", meaning)
        return sql

    def rollback(self, database: peewee.Database) -> None:
        """Leave the transaction if there is still one; a broken connection is closed, to be opened anew."""
        try:
            if self.in_transaction(database):
                database.rollback()
        except (peewee.DatabaseError, peewee.InterfaceError):
            database.close()


class Watcher(ABC):
    """Waits until another connection has written."""

    @abstractmethod
    def wait(self) -> bool:
        """Wait WATCH_INTERVAL at most; True if the log may have moved."""

    @abstractmethod
    def close(self) -> None: ...


class Sqlite(Dialect):
    name = "sqlite"
    label = "SQLite"
    translations = {  # noqa: RUF012  # constants of the class
        "blob": "BLOB",
        "bool": "INTEGER",
        "false": "0",
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "bigint_key": "INTEGER PRIMARY KEY",
    }

    def __init__(self, path: Path, sleep: Callable[[float], object]) -> None:
        self.path = path
        self._sleep = sleep

    def open(self, *, read_only: bool, patient: bool = False) -> peewee.Database:  # noqa: ARG002  # who is gone holds no file
        pragmas = {
            "journal_mode": "wal",
            # A commit is on the disk before a webhook is answered.
            "synchronous": "full",
            "foreign_keys": 1,
            "temp_store": "memory",
            "cache_size": -16 * 1024,
            # Pages: whoever commits that many waits for them, 2 ms and not the 7 of the default of 1,000.
            "wal_autocheckpoint": 250,
        }
        if read_only:
            pragmas = {"query_only": 1, "temp_store": "memory"}
        return peewee.SqliteDatabase(
            str(self.path), pragmas=pragmas, timeout=BUSY_TIMEOUT, thread_safe=False, check_same_thread=False
        )

    def begin_write(self, database: peewee.Database) -> None:
        # The first to open a new file turns it to WAL, and SQLite does not wait for that as it does for other locks.
        deadline = time.monotonic() + BUSY_TIMEOUT
        while database.is_closed():
            try:
                database.connect()
            except peewee.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                self._sleep(0.01)
        database.execute_sql("BEGIN IMMEDIATE")

    def begin_read(self, database: peewee.Database) -> None:
        database.execute_sql("BEGIN")

    def before_commit(self, database: peewee.Database) -> None:
        """Nothing to do: watchers see `PRAGMA data_version` move."""

    def in_transaction(self, database: peewee.Database) -> bool:
        return not database.is_closed() and bool(database.connection().in_transaction)

    def watcher(self) -> Watcher:
        return _SqliteWatcher(self.path, self._sleep)

    @contextmanager
    def migrating(self, database: peewee.Database) -> Iterator[None]:
        self.begin_write(database)
        try:
            yield
            database.commit()
        except BaseException:
            self.rollback(database)
            raise

    def snapshot(self, name: str) -> None:
        kept = self.path.with_name(f"{self.path.name}.{name}")
        try:
            with (
                files.whole(kept) as half,
                closing(sqlite3.connect(self.path)) as here,
                closing(sqlite3.connect(half)) as there,
            ):
                here.backup(there)
        except OSError as error:
            raise Failed(
                f"The copy {kept} cannot be made: {error.strerror}.", hint="Make room for it."
            ) from error

    def size(self, database: peewee.Database) -> int:
        pages = database.execute_sql("PRAGMA page_count").fetchone()[0]
        return int(pages) * int(database.execute_sql("PRAGMA page_size").fetchone()[0])

    def stream(self, database: peewee.Database, query: str) -> Iterator[list[tuple[Any, ...]]]:
        cursor = database.execute_sql(query)
        while rows := cursor.fetchmany(PORTION):
            yield rows

    def insert(
        self, database: peewee.Database, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        marks = ", ".join("?" * len(columns))
        database.cursor().executemany(f"INSERT INTO {_listed(table, columns)} VALUES ({marks})", rows)  # noqa: S608  # our own names

    def count_on(self, database: peewee.Database, table: str, column: str) -> None:
        """SQLite does so by itself."""

    def damage(self, within: float) -> str:
        # A connection of its own: a large file takes long, and whoever does not wait for it must not be disturbed.
        ends = time.monotonic() + within
        with closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True)) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > ends), 10_000)
            try:
                found = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
            except sqlite3.OperationalError as error:
                raise Unavailable(f"The database could not be checked: {error}.") from error
            except sqlite3.DatabaseError as error:
                return str(error)
        return "" if found == ["ok"] else "; ".join(found)


class _SqliteWatcher(Watcher):
    def __init__(self, path: Path, sleep: Callable[[float], object]) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._sleep = sleep
        self._version = -1

    def wait(self) -> bool:
        self._sleep(WATCH_INTERVAL)
        before, self._version = (
            self._version,
            self._connection.execute("PRAGMA data_version").fetchone()[0],
        )
        return before != self._version

    def close(self) -> None:
        self._connection.close()


class Postgres(Dialect):
    name = "postgresql"
    label = "PostgreSQL"
    translations = {  # noqa: RUF012  # constants of the class
        "blob": "BYTEA",
        "bool": "BOOLEAN",
        "false": "FALSE",
        "serial": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "bigint_key": "BIGINT PRIMARY KEY",
    }

    def __init__(self, url: str) -> None:
        """:raises Invalid: the driver cannot read it; its own words might show the password"""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            conninfo_to_dict(url)
        except ProgrammingError:
            raise not_a_url(url) from None
        self._url = url

    def open(self, *, read_only: bool, patient: bool = False) -> peewee.Database:
        options = f"-c lock_timeout={int(BUSY_TIMEOUT * 1000)} -c client_min_messages=warning"
        # Of a server that vanished with its machine: seen from the database, and from us.
        options += " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
        if read_only:
            options += " -c default_transaction_read_only=on"
        elif not patient:
            options += f" -c idle_in_transaction_session_timeout={int(IDLE_WITHIN * 1000)}"
        return peewee.PostgresqlDatabase(
            self._url,
            prefer_psycopg3=True,
            options=options,
            connect_timeout=int(BUSY_TIMEOUT),
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=int(IDLE_WITHIN * 1000),
            thread_safe=False,
        )

    def begin_write(self, database: peewee.Database) -> None:
        try:
            _begin(database, "BEGIN")
            # Every writer in every process waits here: what BEGIN IMMEDIATE is to SQLite.
            if database.execute_sql("SELECT 1 FROM log_state WHERE id = 1 FOR UPDATE").fetchone() is None:
                raise Failed(
                    "The database is damaged: its log's state is gone.", hint="Restore it from a backup."
                )
        except (peewee.OperationalError, peewee.InterfaceError):
            # The server restarted, or the connection was cut: the next batch opens a new one.
            database.close()
            raise

    def begin_read(self, database: peewee.Database) -> None:
        _begin(database, "BEGIN ISOLATION LEVEL REPEATABLE READ")

    def before_commit(self, database: peewee.Database) -> None:
        database.execute_sql(f"NOTIFY {_CHANNEL}")

    def in_transaction(self, database: peewee.Database) -> bool:
        if database.is_closed():
            return False
        return database.connection().info.transaction_status.name in {"INTRANS", "INERROR"}

    def watcher(self) -> Watcher:
        return _PostgresWatcher(self._url)

    @contextmanager
    def migrating(self, database: peewee.Database) -> Iterator[None]:
        with database.atomic():
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            yield

    def snapshot(self, name: str) -> None:
        """It is no file of ours: docs/upgrade.md asks for a backup."""

    def size(self, database: peewee.Database) -> int:
        return int(database.execute_sql("SELECT pg_database_size(current_database())").fetchone()[0])

    def stream(self, database: peewee.Database, query: str) -> Iterator[list[tuple[Any, ...]]]:
        # Else the driver would take all of it at once.
        database.execute_sql(f"DECLARE portions NO SCROLL CURSOR FOR {query}")
        while rows := database.execute_sql(f"FETCH {PORTION:d} FROM portions").fetchall():
            yield rows
        database.execute_sql("CLOSE portions")

    def insert(
        self, database: peewee.Database, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        with database.cursor().copy(f"COPY {_listed(table, columns)} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def count_on(self, database: peewee.Database, table: str, column: str) -> None:
        database.execute_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), COALESCE(MAX({column}), 0) + 1, false)"  # noqa: S608  # our own names
            f" FROM {table}"
        )

    def damage(self, within: float) -> str:  # noqa: ARG002  # it checks its pages as it reads them
        return ""


def _begin(database: peewee.Database, statement: str) -> None:
    """On a new connection if the one that there was is cut: nothing was done on it yet."""
    try:
        database.execute_sql(statement)
    except (peewee.OperationalError, peewee.InterfaceError):
        database.close()
        database.execute_sql(statement)


class _PostgresWatcher(Watcher):
    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True, connect_timeout=int(BUSY_TIMEOUT))
        self._connection.execute(f"LISTEN {_CHANNEL}")

    def wait(self) -> bool:
        select.select([self._connection.fileno()], [], [], WATCH_INTERVAL)
        for _ in self._connection.notifies(timeout=0):
            pass
        # Also without a notification: one may be lost with a connection, and the look is one row.
        return True

    def close(self) -> None:
        self._connection.close()


def of(url: str, sleep: Callable[[float], object]) -> Dialect:
    """The dialect for a database URL: `sqlite:///path` or `postgresql://…` (libpq's form, sockets too).

    :param sleep: waits so many seconds, or until the store closes
    :raises Invalid: another scheme, or no path
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme in {"postgresql", "postgres"}:
        return Postgres("postgresql" + url[len(parts.scheme) :])
    if parts.scheme == "sqlite" and parts.path.strip("/") and not parts.netloc:
        return Sqlite(Path(unquote(parts.path.removeprefix("/"))), sleep)
    raise Invalid(
        f'"{redacted(url)}" is not the URL of a database.',
        hint="Use postgresql://user:password@host/name, or sqlite:///relative or sqlite:////absolute path.",
    )


def not_a_url(url: str) -> Invalid:
    return Invalid(
        f'"{redacted(url)}" is not the URL of a database.',
        hint="Write a % in it as %25, an @ as %40, a / as %2F, a # as %23.",
    )


def redacted(url: str) -> str:
    """The URL without its password, wherever it stands in it, to be shown to people.

    What is not of the form that we know is not shown at all: a password may be anywhere in it.
    """
    if url.startswith("sqlite:"):
        return url
    try:
        parts = urlsplit(url)
        odd = not _URL.fullmatch(url) or bool(parts.fragment) or "@" in parts.path
    except ValueError:
        odd = True
    if odd:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{parts.username or ''}:***@{host}" if parts.password else parts.netloc
    query = "&".join(f"{name}={'***' if 'pass' in name else value}" for name, value in parse_qsl(parts.query))
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}"


def errors_named(*names: str, others: tuple[type[Exception], ...] = ()) -> tuple[type[Exception], ...]:
    """Those of the drivers themselves too: a statement on a bare cursor passes Peewee by.

    A driver that is not loaded (`__main__` leaves one out) raises none.
    """
    modules = filter(None, (peewee, sqlite3, sys.modules.get("psycopg")))
    return others + tuple(getattr(module, name) for module in modules for name in names)


@contextmanager
def unavailable(what: str = "The database", hint: str = NOTHING_CHANGED) -> Iterator[None]:
    """Turn what the database can't do right now into Unavailable, and a broken file into Failed.

    :raises Unavailable: locked for too long, full, read-only, away, or restarting
    :raises Invalid: a text with a character that it cannot hold: NUL, or half a surrogate pair
    :raises Failed: the file is not a database
    """
    try:
        yield
    except errors_named("DataError", others=(UnicodeEncodeError,)) as error:
        raise Invalid("That holds a character which cannot be stored.") from error
    except errors_named("OperationalError", "InterfaceError", "InternalError") as error:
        raise Unavailable(
            f"{what} cannot be used right now: {_first_line(error)}.",
            hint=f"{hint} Look at the disk's space and at the database server, and try again.",
        ) from error
    except peewee.DatabaseError as error:
        if "not a database" in str(error) or "malformed" in str(error):
            raise Failed(
                f"{what} is damaged, or no database: {_first_line(error)}.",
                hint="Restore it from a backup.",
            ) from error
        raise


def _listed(table: str, columns: Sequence[str]) -> str:
    """A table and some of its columns, as an INSERT names them."""
    names = ", ".join(f'"{each}"' for each in columns)
    return f'"{table}" ({names})'


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
