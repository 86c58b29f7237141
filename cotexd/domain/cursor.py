"""Where a client is in the log, and where it goes on.

A cursor is `<epoch>.<seq>`: everything up to `seq` is known, in the log that `epoch` names. After a restore the log
has a new epoch and remembers its lineage: which epochs came before, and up to which head each of them is a part of
this log. docs/protocol.md has the rules for clients.
"""

import re
from typing import Annotated, Literal

import msgspec

from cotexd.errors import InvalidCursor

Reason = Literal["expired", "epoch", "ahead"]
MAX_SEQ = 2**63 - 1

_CURSOR = re.compile(r"([0-9a-f]{1,64})\.([0-9]{1,19})", re.ASCII)

CursorText = Annotated[
    str, msgspec.Meta(extra_json_schema={"pattern": f"^{_CURSOR.pattern}$", "examples": ["5f0c.1042"]})
]
"""`<epoch>.<seq>`; `parse` checks it"""


class Cursor(msgspec.Struct, frozen=True):
    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


class Ancestor(msgspec.Struct, frozen=True):
    """An earlier epoch of this log, which it shares up to `head`."""

    epoch: str
    head: int


class Log(msgspec.Struct, frozen=True):
    """The log at one moment: events in (floor, head] can be read, those up to floor are purged."""

    epoch: str
    head: int
    floor: int
    lineage: tuple[Ancestor, ...] = ()
    """oldest first"""


class Place(msgspec.Struct, frozen=True):
    """The seq after which a client goes on; with a reason, if that is not where it asked to."""

    seq: int
    reason: Reason | None = None


def parse(text: str) -> Cursor:
    """:raises InvalidCursor: not `<epoch>.<seq>`"""
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[2]) > MAX_SEQ:
        raise InvalidCursor("A cursor is <epoch>.<seq>, as the server gave it.")
    return Cursor(match[1], int(match[2]))


def place(cursor: Cursor, log: Log) -> Place:
    """Find where a client with `cursor` goes on in `log`.

    "expired" is only a suspicion here: between the cursor and the floor there may have been nothing of this user's.
    """
    shared = log.head if cursor.epoch == log.epoch else _shared_head(cursor.epoch, log)
    if shared is None:
        return Place(log.floor, "epoch")
    if cursor.seq > shared:
        return Place(max(shared, log.floor), "ahead" if cursor.epoch == log.epoch else "epoch")
    if cursor.seq < log.floor:
        return Place(log.floor, "expired")
    return Place(cursor.seq)


def _shared_head(epoch: str, log: Log) -> int | None:
    """Up to where the log of `epoch` and this one are the same: the lowest head since then."""
    shared: int | None = None
    for ancestor in log.lineage:
        if shared is not None:
            shared = min(shared, ancestor.head)
        elif ancestor.epoch == epoch:
            shared = ancestor.head
    return shared
