"""A session as server-sent events (HTML Living Standard, 9.2): the same messages, one way.

`id` is the cursor that a client has with the message, which it sends back as Last-Event-ID. Nothing can be said on
such a connection, so nothing is expected: it is known to be dead when its transport is, or moves no byte.
"""

import re
from collections.abc import Sequence

from cotexd.live.connection import Connection
from cotexd.live.news import Send
from cotexd.live.session import Ping

CONTENT_TYPE = "text/event-stream; charset=utf-8"
_KINDS = tuple((b'{"type":"%b"' % kind, kind) for kind in (b"github_event", b"system_event", b"error"))
# A message is one line: JSON has no raw line feeds. But some clients end a line at these too.
_ESCAPED = {b"\xc2\x85": rb"\u0085", b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029"}
_BREAKS = re.compile(b"|".join(_ESCAPED))


class Stream(Connection):
    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Whatever a client says after its request, nobody asked."""

    def eof_received(self) -> None:
        """The client has hung up: the transport closes when this returns, and nothing more is written to it."""
        self._abort_soon()

    def _encode(self, messages: Sequence[Send | Ping]) -> bytes:
        return b"".join([self._event(each) for each in messages if isinstance(each, Send)])

    def _event(self, send: Send) -> bytes:
        kind = next(kind for beginning, kind in _KINDS if send.message.startswith(beginning))
        message = _BREAKS.sub(lambda found: _ESCAPED[found[0]], send.message)
        cursor = b"" if send.seq is None else b"id: %b.%d\n" % (self.session.epoch.encode(), send.seq)
        return b"%bevent: %b\ndata: %b\n\n" % (cursor, kind, message)

    def _say_goodbye(self, code: int, reason: str) -> None:  # noqa: ARG002  # it has no codes: the next request is told
        if self._transport is not None:
            self._transport.close()
