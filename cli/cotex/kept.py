"""The cursor of a command that follows events, kept on disk: started again, it goes on where it was."""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Self

import msgspec

from cotexd.domain import cursor as cursors
from cotexd.errors import CotexError, Failed


class Kept:
    """One file for one purpose, which one process at a time has.

    A file is replaced, never written over: whenever the process ends, the one before or the one after is there.
    """

    def __init__(self, folder: Path, *purpose: str) -> None:
        """:param purpose: what tells one from another: the command, the server, the user, the filters

        :raises Failed: the folder can't be written
        """
        self.cursor: str | None = None
        name = hashlib.sha256(msgspec.json.encode(purpose)).hexdigest()[:16]
        self._file = folder / "cursors" / name
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Failed(
                f"The cursor can't be kept in {self._file.parent}: {error.strerror}.",
                hint="Choose another folder: --data-dir",
            ) from error
        self.mine = self._take()
        if self.mine and self._file.exists():
            self.cursor = _read(self._file)

    def keep(self, cursor: str) -> None:
        if self.mine and cursor != self.cursor:
            fresh = self._file.with_suffix(".new")
            fresh.write_text(cursor)
            fresh.replace(self._file)
            self.cursor = cursor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def _take(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _read(file: Path) -> str | None:
    """What lies there; None if it is no cursor."""
    try:
        return str(cursors.parse(file.read_text().strip()))
    except (OSError, ValueError, CotexError):
        return None
