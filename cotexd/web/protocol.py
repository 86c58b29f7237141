"""Sanic by its private names: all of them are used here, and nowhere else. Written for Sanic 25.12, and tested on it.

What Sanic does not do: a request that comes in by drops is cut off, one for nothing is answered, and a transport can
change hands.
"""

import asyncio
from functools import partial
from time import monotonic
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

MAX_WAITING = 64 * 1024
"""bytes that a client may send before it has its answer; then it is not read any more"""
LINGER = 2.0
"""seconds in which a sender who was too slow can read why it is cut off"""


class Protocol(HttpProtocol):
    """Sanic's, but for this.

    Its time limits are for a whole request: Sanic begins them anew at every byte. And what a request on an idle
    connection is may be decided before Sanic sees it: while `App.ctx.shortcut` has one, Sanic's end of the connection
    waits for the next, and `_waiting` holds what came meanwhile.
    """

    __slots__ = ("_waiting",)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._waiting: bytearray | None = None

    def data_received(self, data: bytes) -> None:
        if self._waiting is not None:
            self._waiting += data
            if len(self._waiting) > MAX_WAITING and self.transport is not None:
                self.transport.pause_reading()
        elif self._takes_the_shortcut(data):
            self._waiting = bytearray()
            self._time = (
                monotonic()
            )  # Sanic would close a connection that has long been idle, in the middle of it
        else:
            self._hand_on(data)

    def abort(self) -> None:
        """Sanic's forgets the transport as well, over which a task trips that is about to read from it."""
        if self.transport is not None:
            self.transport.abort()

    def close_if_idle(self) -> bool:
        return self._waiting is None and super().close_if_idle()

    def _takes_the_shortcut(self, data: bytes) -> bool:
        http: Http | None = getattr(self, "_http", None)
        shortcut = self.app.ctx.shortcut
        return (
            shortcut is not None
            and http is not None
            and http.stage is Stage.IDLE
            and http.keep_alive
            and not http.request_body
            and not self.recv_buffer
            and self._can_write.is_set()
            and shortcut(data, partial(self._told, data))
        )

    def _told(self, data: bytes, answer: bytes | None) -> None:
        """The shortcut has an answer to `data`, or wants Sanic to find one."""
        waiting, self._waiting = bytes(self._waiting or b""), None
        if self.transport is None or self.transport.is_closing():
            return
        if len(waiting) > MAX_WAITING:
            self.transport.resume_reading()
        if answer is None:
            self._hand_on(data + waiting)
            return
        self.transport.write(answer)
        self._time = monotonic()
        if waiting:
            self.data_received(waiting)

    def _hand_on(self, data: bytes) -> None:
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
    # One that is closing may have told its protocol of it already, which then is no longer the one that has to know.
    if not isinstance(stream, Http) or transport is None or transport.is_closing():
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
