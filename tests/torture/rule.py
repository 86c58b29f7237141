"""The client's whole rule (docs/protocol.md), written once more: what checks a server shares no code with it."""

from typing import Literal, NamedTuple

Verdict = Literal["apply", "drop", "resume"]


class Cursor(NamedTuple):
    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


def parse(text: str) -> Cursor:
    """:raises ValueError: not `<epoch>.<seq>`"""
    epoch, _, seq = text.partition(".")
    return Cursor(epoch, int(seq))


class Rule:
    """Where a client is. One that begins, or has forgotten, has no cursor."""

    def __init__(self) -> None:
        self.cursor: Cursor | None = None

    def forget(self) -> None:
        self.cursor = None

    def greeted(self, epoch: str, after: int, *, gap: bool) -> None:
        """`hello`: follow it, but for one that would set us back in the same log: what it repeats is dropped."""
        if gap or self.cursor is None or self.cursor.epoch != epoch or after > self.cursor.seq:
            self.cursor = Cursor(epoch, after)

    def meets(self, seq: int, prev: int) -> Verdict:
        """What to do with an event; if it is applied, the cursor is moved with the effect."""
        if self.cursor is None or prev > self.cursor.seq:
            return "resume"
        if seq <= self.cursor.seq:
            return "drop"
        self.cursor = Cursor(self.cursor.epoch, seq)
        return "apply"
