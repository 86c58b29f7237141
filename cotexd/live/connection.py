"""A session on something that takes bytes: what a WebSocket, an event stream and a long poll have in common.

The hub calls it, it asks its session, and does what that says. Nothing here awaits; what has to be looked up is asked
of the registry, which calls back.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol, get_args

from cotexd import metrics
from cotexd.domain.cursor import Cursor
from cotexd.live import session as lives
from cotexd.live.news import News, Portion, Send
from cotexd.live.session import (
    Authenticate,
    Close,
    Effect,
    Keep,
    Ping,
    Read,
    Resume,
    Session,
    Wait,
)
from cotexd.operations.cursors import Start
from cotexd.operations.events import Backlog

Kind = Literal["v2", "legacy", "stream", "poll"]
PROTOCOLS: tuple[Kind, ...] = get_args(Kind)
CLOSING = 2.0
"""seconds for the end of a connection: a handshake, or the last bytes"""


# Randomness for each would be a wait for the other threads each time (CPython's lock is let go for it).
_PROCESS = uuid.uuid4().hex
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class About:
    """What people who look are told of a connection."""

    protocol: Kind
    device: str = ""
    address: str = ""
    id: str = field(default_factory=lambda: f"{_PROCESS}-{next(_numbers)}")
    connected_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Registry(Protocol):
    """What a connection asks of the hub."""

    def read(self, connection: "Connection", after: int) -> None: ...
    def resume(self, connection: "Connection", cursor: Cursor) -> None: ...
    def authenticate(self, connection: "Connection", token: str) -> None: ...
    def keep(self, effect: Keep) -> None: ...
    def part(self, connection: "Connection") -> None: ...
    def detach(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One client's connection. Subclasses say how a message is written, and how it ends."""

    __slots__ = ("_closing", "_hub", "_transport", "_written", "about", "part", "session")

    def __init__(self, session: Session, hub: Registry, about: About) -> None:
        self.session = session
        self.about = about
        self._hub = hub
        self._transport: asyncio.WriteTransport | None = None
        self._written = 0
        self.part = 0
        """of the wheel"""
        self._closing: asyncio.TimerHandle | None = None

    def take_over(self, transport: asyncio.WriteTransport, received: bytes) -> None:
        """Begin on a transport whose HTTP part is over.

        :param received: what came after the request's head
        """
        self._transport = transport
        # pause_writing is then called as soon as something waits, and resume_writing when nothing does any more, which
        # is when a slow reader is fed on. A TLS transport pauses at its limit, any other above it.
        limit = 0 if transport.get_extra_info("sslcontext") is None else 1
        transport.set_write_buffer_limits(high=limit, low=0)
        self._do(self.session.begin())
        if received:
            self.data_received(received)

    @property
    def waiting(self) -> int:
        """Bytes that the other side has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def closing(self) -> bool:
        """It has ended, or is about to: nothing more is asked or written for it."""
        return self._transport is None or self._closing is not None

    def keeps_step(self) -> asyncio.WriteTransport | None:
        """Its transport, if the frames of an event may be written to it with no word to the session; the registry is
        told (`part`) as soon as they may not.
        """
        return None

    # From the hub.

    def publish(self, news: News) -> None:
        if not self.closing:
            portion = self.session.publish(news, self.waiting)
            if portion is None:
                self._feed()
                return
            if portion.messages:
                self._pass_on(portion)
            if not self.session.live:
                metrics.FELL_BEHIND.inc()
                self._feed()

    def backlog(self, part: Backlog, published: int) -> None:
        if not self.closing:
            effects = self.session.backlog(
                part.frames,
                part.upto,
                part.head,
                floor=part.floor,
                published=published,
                waiting=self.waiting,
                moment=moment(),
            )
            self._do(effects)

    def resumed(self, start: Start) -> None:
        if not self.closing:
            self._do(self.session.resumed(start, moment()))

    def authenticated(self, user_id: str, token_exp: datetime, token_session: str) -> None:
        if not self.closing:
            now = time.monotonic()
            self._do(self.session.authenticated(user_id, token_exp, token_session, now=now, moment=moment()))

    def unauthenticated(self, why: str) -> None:
        if not self.closing:
            self._do(self.session.unauthenticated(why, moment()))

    def told(self, text: str) -> None:
        if not self.closing:
            self._do(self.session.told(text, moment()))

    def drain(self, after: float) -> None:
        """Say that the server closes this in `after` seconds."""
        if not self.closing:
            self._do(self.session.drain(round(after * 1000), moment()))

    def tick(self, now: float, moment: datetime) -> None:
        if not self.session.rests(now) and not self.closing:
            waiting = self.waiting
            self._do(self.session.tick(now, moment, waiting=waiting, moved=self._written - waiting))

    def close(self, code: int, reason: str) -> None:
        """Begin to end: what is written still arrives, but not for longer than CLOSING seconds."""
        if self.closing:
            return
        metrics.CLOSED.labels(str(code)).inc()
        self._say_goodbye(code, reason)
        self._abort_soon()

    # From the transport.

    def pause_writing(self) -> None:
        self.session.wake()
        self._hub.part(self)

    def resume_writing(self) -> None:
        self._feed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it ended changes nothing
        if self._closing is not None:
            self._closing.cancel()
        self._transport = None
        self._hub.detach(self)

    # To be said by subclasses.

    def _encode(self, messages: Sequence[Send | Ping]) -> bytes:
        raise NotImplementedError

    def _say_goodbye(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def _do(self, effects: Iterable[Effect]) -> None:
        out: list[Send | Ping] = []
        after: list[Callable[[], None]] = []
        for effect in effects:
            match effect:
                case Send() | Ping():
                    out.append(effect)
                case Wait():
                    after.append(self._feed)
                case Read(seq):
                    self._hub.read(self, seq)
                case Keep():
                    self._hub.keep(effect)
                case Resume(cursor):
                    self._hub.part(self)
                    self._hub.resume(self, cursor)
                case Authenticate(token):
                    self._hub.authenticate(self, token)
                case Close(lives.STALLED):
                    # A closing frame would only wait behind the rest.
                    after.append(self._abort)
                case Close(code, reason):
                    self.close(code, reason)
        if out:
            self._write(out)
        for step in after:
            step()

    def _feed(self) -> None:
        """Go on with the backlog, if the session is waiting to and the transport has taken everything."""
        if not self.session.live and not self.waiting and not self.closing:
            self._do(self.session.drained())

    def _pass_on(self, portion: Portion) -> None:
        self._write(portion.messages)

    def _write(self, messages: Sequence[Send | Ping]) -> None:
        self._write_bytes(self._encode(messages))

    def _write_bytes(self, data: bytes) -> None:
        if self._transport is not None:
            self._written += len(data)
            self._transport.write(data)

    def _abort_soon(self) -> None:
        if self._transport is not None and self._closing is None:
            self._hub.part(self)
            self._closing = asyncio.get_running_loop().call_later(CLOSING, self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def moment() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
