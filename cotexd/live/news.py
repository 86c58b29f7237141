"""What was just committed for one user, encoded once for all connections that are equally far."""

from collections.abc import Sequence

import msgspec

from cotexd.domain.event import Frame
from cotexd.live import wire

KEPT = 16
"""portions that are kept: those who are far apart share nothing, and a crowd of them is not to fill memory"""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Write this text message."""

    message: bytes
    seq: int | None = None
    """where its receiver then is, if it moves it"""


class Portion:
    """Messages that are written in one go."""

    __slots__ = ("framed", "last", "messages", "size")

    def __init__(self, messages: Sequence[Send], last: int) -> None:
        self.messages = messages
        self.size = sum(len(each.message) for each in messages)
        """bytes of the messages"""
        self.last = last
        """the seq of the last one"""
        self.framed: bytes | None = None
        """as WebSocket frames, once a socket has needed them"""


class News:
    """One user's part of a batch.

    Connections differ only in `prev` of the first event; most do not even in that, and share every byte.
    """

    __slots__ = ("_addressed", "_portions", "first", "frames")

    def __init__(self, addressed: bytes, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.first = frames[0].seq
        self._addressed = addressed
        self._portions: dict[int, Portion] = {}

    def after(self, prev: int) -> Portion:
        """All of it, for a connection whose last event was `prev`."""
        portion = self._portions.get(prev)
        if portion is None:
            messages, sent = [], prev
            for frame in self.frames:
                messages.append(Send(wire.github_event(self._addressed, frame, sent), frame.seq))
                sent = frame.seq
            portion = Portion(messages, sent)
            if len(self._portions) < KEPT:
                self._portions[prev] = portion
        return portion
