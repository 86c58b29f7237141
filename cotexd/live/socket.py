"""A session on a transport: the bytes of RFC 6455 in and out.

What comes in, and the closing handshake, is websockets' sans-I/O protocol. What goes out is written as a header and a
message that was encoded once: no task, no lock and no queue per socket.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from struct import Struct
from typing import Protocol

from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from cotexd import metrics
from cotexd.domain.event import Frame
from cotexd.live import session as lives
from cotexd.live.session import Close, Effect, Keep, Ping, Read, Send, Session, Wait

MAX_MESSAGE = 64 * 1024
"""bytes of a client's message"""
MAX_UNREAD = 4 * lives.BOUND
"""bytes that wait for a client which goes on asking (for pongs, errors) and does not read"""
CLOSING = 2.0
"""seconds for the closing handshake"""

_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")


class Registry(Protocol):
    """What a socket asks of the hub."""

    def read(self, socket: "Socket", after: int) -> None: ...
    def keep(self, effect: Keep) -> None: ...
    def detach(self, socket: "Socket") -> None: ...


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """One unmasked, final frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return _MEDIUM.pack(0x80 | opcode, 126, size) + payload
    return _LONG.pack(0x80 | opcode, 127, size) + payload


class Socket(asyncio.Protocol):
    """One client's connection, after the upgrade."""

    __slots__ = ("_closing", "_hub", "_message", "_protocol", "_text", "_transport", "_written", "session")

    def __init__(self, session: Session, protocol: ServerProtocol, hub: Registry) -> None:
        """:param protocol: in the state OPEN, with max_size MAX_MESSAGE"""
        self.session = session
        self._hub = hub
        self._protocol = protocol
        self._transport: asyncio.WriteTransport | None = None
        self._written = 0
        self._message = bytearray()
        self._text = True
        self._closing: asyncio.TimerHandle | None = None

    def take_over(self, transport: asyncio.WriteTransport, received: bytes) -> None:
        """Begin on a transport whose HTTP part is over.

        :param received: what came after the request's head
        """
        self._transport = transport
        # resume_writing is then called when nothing waits any more, which is when a slow reader is fed on.
        transport.set_write_buffer_limits(high=0)
        self._do(self.session.begin())
        if received:
            self.data_received(received)

    @property
    def waiting(self) -> int:
        """Bytes in the transport that the kernel has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # From the hub.

    def publish(self, frames: Sequence[Frame]) -> None:
        if self._closing is None:
            was_live = self.session.live
            messages = self.session.publish(frames, self.waiting)
            if messages:
                self._write(b"".join([frame(Opcode.TEXT, message) for message in messages]))
            if not self.session.live:
                metrics.FELL_BEHIND.inc(was_live)
                self._feed()

    def backlog(self, frames: Sequence[Frame], upto: int, head: int, published: int) -> None:
        if self._closing is None:
            effects = self.session.backlog(
                frames, upto, head, published=published, waiting=self.waiting, moment=_moment()
            )
            self._do(effects)

    def told(self, text: str) -> None:
        if self._closing is None:
            self._do(self.session.told(text, _moment()))

    def tick(self, now: float, moment: datetime) -> None:
        if self._closing is None:
            waiting = self.waiting
            self._do(self.session.tick(now, moment, waiting=waiting, moved=self._written - waiting))

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; the transport goes when it is answered, or after CLOSING seconds."""
        if self._transport is None or self._closing is not None:
            return
        metrics.CLOSED.labels(str(code)).inc()
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
        self._closing = asyncio.get_running_loop().call_later(CLOSING, self._transport.abort)
        self._flush()

    # From the transport.

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        # Answers first: the library has put the pongs and the closing frame that RFC 6455 asks for.
        self._flush()
        for event in self._protocol.events_received():
            if isinstance(event, Incoming):
                self._incoming(event)
        if self._transport is not None and self.waiting > MAX_UNREAD:
            self._transport.abort()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def resume_writing(self) -> None:
        self._feed()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it ended changes nothing
        if self._closing is not None:
            self._closing.cancel()
        self._transport = None
        self._hub.detach(self)

    def _incoming(self, event: Incoming) -> None:
        if self._closing is not None:
            return
        if event.opcode is Opcode.PONG:
            self._do(self.session.ponged(bytes(event.data)))
        elif event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            if event.opcode is not Opcode.CONT:
                self._text = event.opcode is Opcode.TEXT
            self._message += event.data
            if event.fin:
                message, self._message = bytes(self._message), bytearray()
                self._do(self.session.received(message, text=self._text, moment=_moment()))

    def _do(self, effects: Iterable[Effect]) -> None:
        out: list[bytes] = []
        after: list[Callable[[], None]] = []
        for effect in effects:
            match effect:
                case Send(message):
                    out.append(frame(Opcode.TEXT, message))
                case Ping(payload):
                    out.append(frame(Opcode.PING, payload))
                case Wait():
                    after.append(self._feed)
                case Read(seq):
                    self._hub.read(self, seq)
                case Keep():
                    self._hub.keep(effect)
                case Close(lives.STALLED):
                    # A closing frame would only wait behind the rest.
                    after.append(self._abort)
                case Close(code, reason):
                    self.close(code, reason)
        if out:
            self._write(b"".join(out))
        for step in after:
            step()

    def _feed(self) -> None:
        """Go on with the backlog, if the session is waiting to and the transport has taken everything."""
        if not self.session.live and not self.waiting and self._closing is None:
            self._do(self.session.drained())

    def _write(self, data: bytes) -> None:
        if self._transport is not None and self._protocol.state is State.OPEN:
            self._written += len(data)
            self._transport.write(data)

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._written += len(data)
                self._transport.write(data)
            else:
                self._transport.close()  # the library's sign for the end of what we say
        if self._protocol.state is not State.OPEN and self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(CLOSING, self._transport.abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _moment() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
