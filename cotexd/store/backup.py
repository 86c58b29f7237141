"""A backup: every table as a stream of rows, the same for both databases, so that one may be restored on the other.

The file is compressed (zstd, with checksums). It begins with a head that says of which schema the tables are; then come
portions of rows, in the order in which tables refer to one another; and it ends with a hash over all before it: a file
without that end, or with another, was cut or damaged, and restores nothing.
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import msgspec
import peewee
import zstandard

from cotexd.domain.vault import Vault
from cotexd.errors import Conflict, Failed, Invalid
from cotexd.store import files, migrations, moving, rows
from cotexd.store import key as keys
from cotexd.store.dialect import Dialect
from cotexd.store.models import ALL, Lineage, LogState, Node, alive, bound, table_of
from cotexd.store.sealing import Sealed
from cotexd.store.transaction import Tx

FORMAT = 1
LEVEL = 6
"""of zstd: payloads are compressed already"""
MAX_MESSAGE = 1 << 30
"""bytes; a portion of rows has far less"""
_MAX_END = 1000
"""bytes"""
_LENGTH = struct.Struct(">I")

T = TypeVar("T")


class Table(msgspec.Struct, frozen=True):
    name: str
    columns: tuple[str, ...]


class Head(msgspec.Struct, frozen=True):
    format: int
    schema: int
    version: str
    made_at: datetime
    engine: str
    epoch: str
    head: int
    tables: tuple[Table, ...]
    key: str
    """that opens the secrets; "" if it was left out"""
    rows: int = 0
    """of all tables; 0 in a backup of version 0.1"""


class _Portion(msgspec.Struct, frozen=True, array_like=True):
    table: int
    rows: list[list[Any]]


class _End(msgspec.Struct, frozen=True):
    sha256: bytes


@contextmanager
def new_file(file: Path, passphrase: str = "") -> Iterator[BinaryIO]:
    """A file that only its owner can read, under its name once it is whole and on the disk; before, it is not there.

    :param passphrase: without which nobody can read it; "" is none
    :raises Conflict: something has that name
    :raises Failed: it cannot be written
    """
    try:
        if file.exists():
            raise Conflict(f"{file} is there already.", hint="Name another file: nothing is overwritten.")
        with files.whole(file) as half, half.open("wb") as out:
            if not passphrase:
                yield out
                return
            sealed = Sealed(out, passphrase)
            yield cast("BinaryIO", sealed)
            sealed.finish()
    except OSError as error:
        raise Failed(f"{file} cannot be written: {error.strerror}.") from error


def write(
    tx: Tx,
    dialect: Dialect,
    file: BinaryIO,
    *,
    version: str,
    key: str = "",
    progress: rows.Progress = rows.told_nobody,
) -> Head:
    """Write all that one read transaction sees: the server goes on meanwhile.

    :param version: of the program
    :param key: to go with it, so that the file alone is enough to restore from
    :param progress: is told how many rows were written, and of how many
    """
    log = LogState.get_by_id(1)
    tables = tuple(Table(table_of(each), rows.columns_of(each)) for each in rows.KEPT)
    total = sum(rows.count(tx.database, each.name) for each in tables)
    head = Head(
        FORMAT, migrations.SCHEMA, version, tx.now, dialect.name, log.epoch, log.head, tables, key, total
    )
    count = 0
    with zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(
        file, closefd=False
    ) as packed:
        out = _Out(packed)
        out.put(head)
        for number, (model, table) in enumerate(zip(rows.KEPT, tables, strict=True)):
            for some in dialect.stream(tx.database, rows.selecting(table.name, table.columns)):
                out.put(_Portion(number, [rows.plain(model, row) for row in some]))
                count += len(some)
                progress(count, total)
        out.end()
    return head


def read_head(file: BinaryIO) -> Head:
    """:raises Invalid: it is no backup, or of a newer version"""
    return _In(file).head()


def restore(
    database: peewee.Database,
    dialect: Dialect,
    file: BinaryIO,
    now: datetime,
    key: str = "",
    progress: rows.Progress = rows.told_nobody,
) -> Head:
    """Put what a backup holds in the place of what there is: all of it, or, whatever happens, nothing.

    The log gets a new epoch, which remembers that it is the backup's up to its head: clients whose cursors are beyond
    that are told of the gap.

    :param file: it is read twice: first all of it is checked, then what is there makes room
    :param key: that will open the secrets here
    :raises Conflict: a server runs on this database
    :raises Failed: the key is another one than that of the backup
    :raises Invalid: the file is no backup, of a newer version, cut or damaged
    """
    _In(file).check()
    file.seek(0)
    source = _In(file)
    head = source.head()
    with bound(database), dialect.migrating(database):
        _make_room(database, now)
        migrations.take_steps(database, dialect, 0, head.schema)
        count = 0
        for portion in source.portions():
            table = head.tables[portion.table]
            dialect.insert(database, table.name, table.columns, portion.rows)
            count += len(portion.rows)
            progress(count, head.rows)
        migrations.take_steps(database, dialect, head.schema, migrations.SCHEMA)
        rows.count_on(database, dialect)
        moving.forget(database)
        _check_key(key)
        _begin_epoch(now)
    return head


def _make_room(database: peewee.Database, now: datetime) -> None:
    there = set(database.get_tables()) & {table_of(each) for each in ALL}
    if there:
        if "node" in there and Node.select().where(alive(now)).exists():
            raise Conflict("A server runs on this database.", hint="Stop it first.")
        for model in reversed(ALL):
            database.execute_sql(f'DROP TABLE IF EXISTS "{table_of(model)}"')
    database.execute_sql("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    database.execute_sql("DELETE FROM schema_version")
    database.execute_sql("INSERT INTO schema_version VALUES (0)")


def _check_key(key: str) -> None:
    wanted = keys.fingerprint()
    if wanted is not None and (not key or Vault(key).fingerprint != wanted):
        told = "another one than that of the backup" if key else "not here, and not in the backup"
        raise Failed(
            f"The key that opens the secrets is {told}. Nothing was changed.",
            hint="Put the backup's own into the data folder (cotexd.key), or name it: COTEX_KEY, COTEX_KEY_FILE.",
        )


def _begin_epoch(now: datetime) -> None:
    log = LogState.get_by_id(1)
    order = Lineage.select().count() + 1
    Lineage.insert(id=order, epoch=log.epoch, head=log.head, created_at=now).execute()
    LogState.update(epoch=migrations.new_epoch()).execute()


class _Out:
    """Messages, each behind its length, and a hash over all of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def put(self, message: msgspec.Struct) -> None:
        encoded = msgspec.msgpack.encode(message)
        framed = _LENGTH.pack(len(encoded)) + encoded
        self._digest.update(framed)
        self._file.write(framed)

    def end(self) -> None:
        encoded = msgspec.msgpack.encode(_End(self._digest.digest()))
        self._file.write(_LENGTH.pack(0) + _LENGTH.pack(len(encoded)) + encoded)


class _In:
    """The same, read again. Whatever is wrong with it is one error: nobody can do anything about the difference."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = zstandard.ZstdDecompressor().stream_reader(file)
        self._digest = hashlib.sha256()

    def head(self) -> Head:
        head = self._decode(self._message() or b"", Head)
        if head.format != FORMAT or head.schema > migrations.SCHEMA:
            raise Failed(
                f"The backup is of version {head.version}, which is newer than this one.",
                hint="Restore it with a version that is at least as new.",
            )
        known = {table_of(each) for each in ALL}
        if not all(
            each.name in known and all(column.isidentifier() for column in each.columns)
            for each in head.tables
        ):
            raise _damaged()
        return head

    def portions(self) -> Iterator[_Portion]:
        while (message := self._message()) is not None:
            yield self._decode(message, _Portion)

    def check(self) -> None:
        """Read to the end, and see whether that is the end of all that was written."""
        while self._message() is not None:
            pass
        digest = self._digest.digest()
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > _MAX_END or self._decode(self._exactly(length), _End).sha256 != digest:
            raise _damaged()

    def _message(self) -> bytes | None:
        """The next one; None at the end."""
        size = self._exactly(_LENGTH.size)
        (length,) = _LENGTH.unpack(size)
        if not 0 < length <= MAX_MESSAGE:
            if length:
                raise _damaged()
            return None
        message = self._exactly(length)
        self._digest.update(size + message)
        return message

    def _exactly(self, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            try:
                part = self._file.read(length)
            except zstandard.ZstdError:
                raise _damaged() from None
            if not part:
                raise _damaged()
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    @staticmethod
    def _decode(message: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(message, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _damaged() from None


def _damaged() -> Invalid:
    return Invalid("The file is no backup, or it was cut short or damaged.", hint="Take another one.")
