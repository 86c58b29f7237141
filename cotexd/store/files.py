"""Files that are there whole or not at all, and that only their owner can read."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HALF = ".half"
"""how the name of one ends that is being written, or whose writer was killed"""


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Where to write what then, once it is on the disk, gets the file's name; until then that is as it was.

    :raises OSError: it cannot be written there
    """
    handle, name = tempfile.mkstemp(HALF, f".{file.name}.", file.parent)
    half = Path(name)
    try:
        yield half
        give(half)
        os.fsync(handle)
        half.rename(file)
    finally:
        os.close(handle)
        half.unlink(missing_ok=True)
    _sync(file.parent)


def give(file: Path) -> None:
    """What root makes in the folder of another account is that account's: the server's, which has to read it."""
    owner = file.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(file, owner.st_uid, owner.st_gid)


def _sync(folder: Path) -> None:
    """So that the new name is there after a power cut, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
