"""Backups that the server makes by itself, and the old ones that it deletes."""

import re
import time
from datetime import timedelta
from pathlib import Path

import structlog

from cotexd import __version__
from cotexd.errors import Failed, Unavailable
from cotexd.operations import backups
from cotexd.store import Store, Tx, backup, files

_NAME = re.compile(r"cotex-\d{8}T\d{6}Z\.backup")
"""what we have made; nothing else in the folder is ours to delete"""

_logger = structlog.get_logger("cotexd.backups")


class Backups:
    """:param every: how often; nothing is none
    :param keep: how many files stay
    :param key: that opens the secrets; "" is the file in the data folder
    :param passphrase: that opens the backups; "" is none
    """

    def __init__(
        self, store: Store, folder: Path, every: timedelta, keep: int, key: str = "", passphrase: str = ""
    ) -> None:
        self._store = store
        self._folder = folder
        self._every = every
        self._keep = keep
        self._key = key
        self._passphrase = passphrase

    async def look(self) -> None:
        """Make one if it is time, unless another server of the same database does; then delete the oldest.

        :raises Failed: it cannot be written there
        :raises Unavailable: the database cannot be read right now
        """
        if not self._every or not await self._store.write(backups.claim, self._every):
            return
        try:
            head = await self._store.read(self._write)
            await self._store.write(backups.note, scheduled=True)
            gone = self._prune()
        except OSError as error:
            raise Failed(f"The backups in {self._folder} cannot be kept: {error.strerror}.") from error
        _logger.info("backed_up", head=head.head, folder=str(self._folder), deleted=gone)

    def _write(self, tx: Tx) -> backup.Head:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._delete_halves()
        file = self._folder / f"cotex-{tx.now:%Y%m%dT%H%M%SZ}.backup"
        key = self._key or self._store.files.key.read_text().strip()
        with backup.new_file(file, self._passphrase) as out:
            return backup.write(
                tx, self._store.dialect, out, version=__version__, key=key, progress=self._go_on
            )

    def _go_on(self, _done: int, _total: int) -> None:
        if self._store.closing:
            raise Unavailable("The server is shutting down.")

    def _delete_halves(self) -> None:
        """Those of servers that were killed: on a disk that fills, each attempt would leave one."""
        old = time.time() - backups.CLAIM.total_seconds()
        for each in self._folder.glob(f".cotex-*{files.HALF}"):
            if each.stat().st_mtime < old:
                each.unlink(missing_ok=True)

    def _prune(self) -> int:
        ours = sorted(each for each in self._folder.iterdir() if _NAME.fullmatch(each.name))
        # The one that was just made stays, whatever names there are from a time when the clock was wrong.
        made = max(ours, key=lambda each: each.stat().st_mtime_ns)
        old = [each for each in ours[: -self._keep] if each != made]
        for each in old:
            each.unlink(missing_ok=True)
        return len(old)
