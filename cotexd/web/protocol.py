"""Sanic by its private names: all of them are used here, and nowhere else. Written for Sanic 25.12, and tested on it.

What Sanic does not do: a request that comes in by drops is cut off, one for nothing is answered, and a transport can
change hands.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

from sanic import Sanic
from sanic.config import Config
from sanic.exceptions import BadURL
from sanic.http import Http
from sanic.http.constants import Stage
from sanic.request import Request
from sanic.server import HttpProtocol

from cotexd.errors import Unavailable
from cotexd.web.context import WebRequest

LINGER = 2.0
"""seconds in which a sender who was too slow can read why it is cut off"""


class Protocol(HttpProtocol):
    """Sanic's, but that its time limits are for a whole request: Sanic begins them anew at every byte."""

    def data_received(self, data: bytes) -> None:
        # Not there before the connection's task has begun, nor after it has ended.
        http: Http | None = getattr(self, "_http", None)
        busy = http is not None and (http.stage is not Stage.IDLE or bool(http.request_body))
        began = self._time
        super().data_received(data)
        if busy:
            self._time = began

    def check_timeouts(self) -> None:
        """When the time of a request is up Sanic answers, and then waits for the rest of its body, for ever."""
        before = self._callback_check_timeouts
        super().check_timeouts()  # type: ignore[no-untyped-call]  # it has no types
        if self._callback_check_timeouts is before:
            self.loop.call_later(LINGER, self._let_go)

    def _let_go(self) -> None:
        if self.transport is not None:
            self.transport.close()


class TolerantRequest(Request[Sanic[Config, SimpleNamespace], SimpleNamespace]):
    """Sanic's, but that a target without a path is a request for nothing, where Sanic's fails on its own error page."""

    def __init__(self, url_bytes: bytes, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(url_bytes, *args, **kwargs)
        except BadURL:
            super().__init__(b"*", *args, **kwargs)

    @property
    def path(self) -> str:
        return (self._parsed_url.path or b"").decode("utf-8", "surrogateescape")


def take_transport(request: WebRequest) -> tuple[asyncio.Transport, bytes]:
    """Take the transport from Sanic, with the bytes that it has read beyond the request.

    :raises Unavailable: the client is gone
    """
    stream = request.stream
    transport = stream.protocol.transport if isinstance(stream, Http) else None
    if not isinstance(stream, Http) or transport is None:
        raise Unavailable("The client is gone.")
    protocol = stream.protocol
    protocol.connections.discard(protocol)
    received = bytes(stream.recv_buffer)
    stream.recv_buffer.clear()
    stream.request_body = None
    stream.upgrade_websocket = True  # no answer of Sanic's is missing
    # It may have been paused, for more than Sanic's own buffer takes.
    transport.resume_reading()
    # Without a transport, Sanic's end of this connection touches nothing.
    protocol.transport = None
    return transport, received
