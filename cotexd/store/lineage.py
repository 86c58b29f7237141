"""Notice a database that was swapped or set back.

A database can't know by itself that it is an old copy. So a small file beside it says which epoch it had and how far
its log had come, written after every commit and before anything of that commit is published. If the database is
behind the file at the start of a server, then clients may hold cursors that it will give out again for other events:
it gets a new epoch, and remembers up to where the old one holds (docs/protocol.md, "epoch").

The write is one pwrite of a fixed-size record, without fsync: it survives the death of the process. After a power
cut the file may be behind the database, which is harmless.
"""

import os
from pathlib import Path

from cotexd.store.migrations import new_epoch
from cotexd.store.models import Lineage, LogState, Setting
from cotexd.store.moving import COPIED_IDENTITY
from cotexd.store.transaction import Tx

_SIZE = 256


class LineageFile:
    def __init__(self, path: Path, identity: str) -> None:
        """:param identity: of the database server, see Dialect.identity"""
        self._identity = identity
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._epoch = ""

    def check(self, tx: Tx) -> bool:
        """Compare with the database, in a write transaction; True if it had to get a new epoch."""
        log = LogState.get_by_id(1)
        epoch, head, identity = self._read()
        known = bool(epoch)
        swapped = known and epoch != log.epoch and not self._is_ancestor(epoch)
        set_back = known and epoch == log.epoch and log.head < head
        # Another server, or this one after a point-in-time recovery, that wrote on: nothing tells since when.
        # Unless a copy has brought it here, which left nothing out.
        brought = Setting.get_or_none(Setting.name == COPIED_IDENTITY)
        expected = {self._identity} | ({brought.value} if brought else set())
        moved = known and bool(identity) and identity not in expected and log.head != head
        renew = swapped or set_back or moved
        if renew:
            order = Lineage.select().count() + 1
            shared = log.floor if moved else log.head
            Lineage.insert(id=order, epoch=log.epoch, head=shared, created_at=tx.now).execute()
            LogState.update(epoch=new_epoch()).execute()
            log = LogState.get_by_id(1)
        self._epoch = log.epoch
        self.write(log.head)
        return renew

    def write(self, head: int) -> None:
        record = f"{self._epoch} {head} {self._identity}\n".encode().ljust(_SIZE)
        os.pwrite(self._file, record, 0)

    def close(self) -> None:
        os.close(self._file)

    def _read(self) -> tuple[str, int, str]:
        fields = os.pread(self._file, _SIZE, 0).decode("ascii", "replace").split()
        if len(fields) < 2 or not fields[1].isdigit():
            return "", 0, ""
        return fields[0], int(fields[1]), fields[2] if len(fields) > 2 else ""

    @staticmethod
    def _is_ancestor(epoch: str) -> bool:
        """The database already knows the file's epoch as a past one: it was restored by us, and is ahead."""
        return Lineage.select().where(Lineage.epoch == epoch).exists()
