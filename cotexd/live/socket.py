"""A session on a WebSocket: the bytes of RFC 6455 in and out.

What comes in, and the closing handshake, is websockets' sans-I/O protocol. What goes out is written as a header and a
message that was encoded once: no task, no lock and no queue per socket.
"""

import asyncio
from collections.abc import Sequence
from struct import Struct

from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from cotexd.live import session as lives
from cotexd.live.connection import About, Connection, Registry, moment
from cotexd.live.session import Ping, Send, Session

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


class Socket(Connection):
    """One client's WebSocket, after the upgrade."""

    __slots__ = ("_message", "_protocol", "_text")

    def __init__(self, session: Session, hub: Registry, about: About) -> None:
        super().__init__(session, hub, about)
        # A new one: that of the handshake keeps the whole request.
        self._protocol = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE)
        self._message = bytearray()
        self._text = True

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        # Answers first: the library has put the pongs and the closing frame that RFC 6455 asks for.
        self._flush()
        for event in self._protocol.events_received():
            if isinstance(event, Incoming):
                self._incoming(event)
        if self.waiting > MAX_UNREAD:
            self._abort()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def _incoming(self, event: Incoming) -> None:
        if self.closing:
            return
        if event.opcode is Opcode.PONG:
            self._do(self.session.ponged(bytes(event.data)))
        elif event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            if event.opcode is not Opcode.CONT:
                self._text = event.opcode is Opcode.TEXT
            self._message += event.data
            if event.fin:
                message, self._message = bytes(self._message), bytearray()
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

    def _write(self, messages: Sequence[Send | Ping]) -> None:
        if self._protocol.state is State.OPEN:
            super()._write(messages)

    def _say_goodbye(self, code: int, reason: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
        self._flush()

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._write_bytes(data)
            else:
                self._say_no_more(self._transport)
        if self._protocol.state is not State.OPEN:
            self._abort_soon()

    def _say_no_more(self, transport: asyncio.WriteTransport) -> None:
        """The library's sign for the end of what we say.

        Of a client that was cut off, more may be on its way: the kernel answers what nobody reads with a reset, and
        the client would never see the closing frame.
        """
        if self._protocol.close_rcvd is None and transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
