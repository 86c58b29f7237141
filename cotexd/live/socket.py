"""A session on a WebSocket: the bytes of RFC 6455 in and out.

What comes in, and the closing handshake, is websockets' sans-I/O protocol. What goes out is written as a header and a
message that was encoded once: no task, no lock and no queue per socket. No parser either, while a socket is in the
middle of nothing, as nearly all are nearly always: an open one that has read whole frames of whole messages keeps
nothing of them, so it is used for the next socket that hears something.
"""

import asyncio
from collections.abc import Sequence
from struct import Struct

from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from cotexd.domain.selection import EVERYTHING
from cotexd.live import session as lives
from cotexd.live.connection import About, Connection, Registry, moment
from cotexd.live.news import Portion, Send
from cotexd.live.session import Ping, Session

MAX_MESSAGE = 64 * 1024
"""bytes of a client's message"""
MAX_UNREAD = 4 * lives.BOUND
"""bytes that wait for a client which goes on asking (for pongs, errors) and does not read"""

_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """One unmasked, final frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return _MEDIUM.pack(0x80 | opcode, 126, size) + payload
    return _LONG.pack(0x80 | opcode, 127, size) + payload


def framed(portion: Portion) -> bytes:
    """Its messages as frames, made once for all sockets that are sent it."""
    if portion.framed is None:
        portion.framed = b"".join([frame(Opcode.TEXT, each.message) for each in portion.messages])
    return portion.framed


_idle: list[ServerProtocol] = []
"""parsers in the middle of nothing: one, as a rule"""


class Socket(Connection):
    """One client's WebSocket, after the upgrade."""

    __slots__ = ("_message", "_protocol", "_text", "_unread")

    def __init__(self, session: Session, hub: Registry, about: About) -> None:
        super().__init__(session, hub, about)
        self._protocol: ServerProtocol | None = None
        """in the middle of a frame, of a message or of the end; None: open, and in the middle of nothing"""
        self._unread = 0
        """bytes that were received and are not of a whole frame"""
        self._message: bytearray | None = None
        self._text = True

    def keeps_step(self) -> asyncio.WriteTransport | None:
        session = self.session
        keeps = session.live and session.selection is EVERYTHING and not self.closing and not self.waiting
        return self._transport if keeps else None

    def data_received(self, data: bytes) -> None:
        protocol = self._parser()
        protocol.receive_data(data)
        self._unread += len(data)
        for event in protocol.events_received():
            if isinstance(event, Incoming):
                self._unread -= _received_size(event)
                self._incoming(event)
        # What came before a closing frame counts, so that is answered last. Pongs are in it, too.
        self._flush(protocol)
        if not self._unread and self._message is None and protocol.state is State.OPEN:
            self._protocol = None
            _idle.append(protocol)
        if self.waiting > MAX_UNREAD:
            self._abort()

    def eof_received(self) -> None:
        protocol = self._parser()
        protocol.receive_eof()
        self._flush(protocol)

    def _parser(self) -> ServerProtocol:
        if self._protocol is None:
            self._protocol = _idle.pop() if _idle else ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE)
        return self._protocol

    def _incoming(self, event: Incoming) -> None:
        # Before anything else: a parser that is in the middle of a message is nobody else's.
        message = None
        if event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            if event.opcode is not Opcode.CONT:
                self._text = event.opcode is Opcode.TEXT
            self._message = (self._message or bytearray()) + event.data
            if event.fin:
                message, self._message = bytes(self._message), None
        if self.closing:
            return
        if event.opcode is Opcode.PONG:
            self._do(self.session.ponged(bytes(event.data)))
        elif message is not None:
            self._do(self.session.received(message, text=self._text, moment=moment()))

    def _encode(self, messages: Sequence[Send | Ping]) -> bytes:
        return b"".join(
            [
                frame(Opcode.TEXT, each.message)
                if isinstance(each, Send)
                else frame(Opcode.PING, each.payload)
                for each in messages
            ]
        )

    def _pass_on(self, portion: Portion) -> None:
        if self._open:
            self._write_bytes(framed(portion))

    def _write(self, messages: Sequence[Send | Ping]) -> None:
        if self._open:
            super()._write(messages)

    @property
    def _open(self) -> bool:
        return self._protocol is None or self._protocol.state is State.OPEN

    def _say_goodbye(self, code: int, reason: str) -> None:
        protocol = self._parser()
        if protocol.state is State.OPEN:
            protocol.send_close(code, reason)
        self._flush(protocol)

    def _flush(self, protocol: ServerProtocol) -> None:
        if self._transport is None:
            return
        for data in protocol.data_to_send():
            if data:
                self._write_bytes(data)
            else:
                self._say_no_more(protocol, self._transport)
        if protocol.state is not State.OPEN:
            self._abort_soon()

    def _say_no_more(self, protocol: ServerProtocol, transport: asyncio.WriteTransport) -> None:
        """The library's sign for the end of what we say.

        Of a client that was cut off, more may be on its way: the kernel answers what nobody reads with a reset, and
        the client would never see the closing frame.
        """
        if protocol.close_rcvd is None and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()


def _received_size(frame: Incoming) -> int:
    """Bytes of a client's frame, masked as all are, if its length was written as RFC 6455 wants it: shortest.

    One that was written longer leaves a rest in the count, and its socket keeps its parser.
    """
    size = len(frame.data)
    return size + (6 if size < 126 else 8 if size < 1 << 16 else 14)
