"""Notice a database that was swapped or set back.

A database can't know by itself that it is an old copy: a backup that was put back by hand, a replica that lagged when
it took over. So a small file beside the server says which epoch the log had, how far it had come, and which event was
its last, written after every commit and before anything of that commit is published. If the log is behind that, or
has another event there, then clients may hold cursors that are given out again for other events: it gets a new epoch,
and remembers up to where the old one holds (docs/protocol.md, "epoch"). That is looked at when a server starts, and at
the beginning of each of its transactions.

The write is one pwrite of a fixed-size record, without fsync: it survives the death of the process. After a power
cut the file may be behind the database, which is harmless.
"""

import os
from pathlib import Path
from typing import NamedTuple

import peewee

from cotexd.errors import Failed
from cotexd.store.migrations import new_epoch
from cotexd.store.models import Event, Lineage, LogState, Node, alive
from cotexd.store.transaction import Tx

_SIZE = 256


class _Seen(NamedTuple):
    epoch: str
    head: int
    event_id: str
    """of the event at the head; "" if it is not known"""
    node_id: str
    """of the server that wrote this"""


class LineageFile:
    def __init__(self, path: Path, node_id: str = "") -> None:
        """:param node_id: of the server whose file it is"""
        self._node_id = node_id
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._seen = self._read()
        self._connection: object = None

    def guard(self, tx: Tx) -> bool:
        """At the beginning of a write transaction: True if the log had to get a new epoch.

        :raises Failed: there is no log any more
        """
        found = tx.rows("SELECT epoch, head FROM log_state WHERE id = 1")
        if not found:
            raise Failed(
                "The database is damaged: its log's state is gone.", hint="Restore it from a backup."
            )
        ((epoch, head),) = found
        connection = tx.database.connection()
        # Its last event is looked at on a new connection, which may be one to another database server.
        if self._seen is not None and connection is self._connection:
            if (epoch, head) == self._seen[:2]:
                return False
            if epoch == self._seen.epoch and head > self._seen.head:
                self._note(tx, head)
                return False
        self._connection = connection
        return self.check(tx)

    def check(self, tx: Tx) -> bool:
        """Compare with the database, in a write transaction: True if the log had to get a new epoch."""
        log = LogState.get_by_id(1)
        shared = None if self._seen is None else self._shared(tx, log, self._seen)
        if shared is not None:
            renew(tx, shared)
        self._note(tx, log.head)
        return shared is not None

    def behind(self, tx: Tx, epoch: str, head: int) -> None:
        """More was handed out of this epoch, up to `head`, than the log has; unless that is known by now."""
        log = LogState.get_by_id(1)
        if log.epoch == epoch and log.head < head:
            renew(tx, log.floor if self._others(tx) else log.head)
            self._note(tx, log.head)

    def write(self, tx: Tx) -> None:
        """After the commit of a transaction that moved the head."""
        assert tx.head is not None
        epoch = tx.epoch or (self._seen.epoch if self._seen else "")
        node_id = self._node_id or (self._seen.node_id if self._seen else "")
        self._seen = _Seen(epoch, tx.head, tx.head_id, node_id)
        record = f"{epoch} {tx.head} {node_id or '-'} {tx.head_id}\n"
        os.pwrite(self._file, record.encode().ljust(_SIZE), 0)

    def close(self) -> None:
        os.close(self._file)

    def _note(self, tx: Tx, head: int) -> None:
        """What is there is what is known from now on, once this is committed."""
        tx.epoch, tx.head, tx.head_id = LogState.get_by_id(1).epoch, head, _id_at(head)

    def _shared(self, tx: Tx, log: LogState, seen: _Seen) -> int | None:
        """Up to where the log is the one that was seen; None if it has all of that."""
        others = self._others(tx)
        if seen.epoch != log.epoch:
            # It was restored by us, or renewed by another server; else it is not the log of this folder at all.
            known = Lineage.select().where(Lineage.epoch == seen.epoch).exists()
            return None if known or others else log.head
        if log.head < seen.head:
            return log.floor if others else log.head
        found = _id_at(seen.head)
        return log.floor if found and seen.event_id and found != seen.event_id else None

    def _others(self, tx: Tx) -> bool:
        """Another server runs: it has looked at this log by itself, and perhaps written on."""
        mine = {self._node_id, self._seen.node_id if self._seen else ""}
        return bool(Node.select().where(alive(tx.now), Node.id.not_in(mine)).exists())

    def _read(self) -> _Seen | None:
        fields = os.pread(self._file, _SIZE, 0).decode("ascii", "replace").split()
        if len(fields) < 2 or not fields[1].isdigit():
            return None
        node_id, event_id = fields[2:4] if len(fields) > 3 else ("", "")
        return _Seen(fields[0], int(fields[1]), event_id, node_id)


def renew(tx: Tx, shared: int) -> None:
    """Give the log a new epoch, which is the old one up to `shared`."""
    log = LogState.get_by_id(1)
    order = Lineage.select(peewee.fn.COUNT(Lineage.id)).scalar() + 1
    Lineage.insert(id=order, epoch=log.epoch, head=shared, created_at=tx.now).execute()
    LogState.update(epoch=new_epoch()).execute()


def _id_at(seq: int) -> str:
    row = Event.get_or_none(Event.seq == seq)
    return "" if row is None else str(row.id)
