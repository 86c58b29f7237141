"""The upgrade to a WebSocket: who, from where, then the transport changes hands.

Sanic's own WebSocket is not used: it keeps five tasks and 25 KiB a connection. The transport is taken from its HTTP
protocol and given to live.socket, by names of Sanic that are private, which is why its version is pinned and a test
watches over them.
"""

import asyncio
import time
from datetime import UTC, datetime

from sanic import HTTPResponse
from sanic.http import Http
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cotexd.domain.cursor import Cursor, parse
from cotexd.errors import Invalid, Unavailable
from cotexd.live import session as lives
from cotexd.live.session import Session
from cotexd.live.socket import MAX_MESSAGE, Socket
from cotexd.operations import accounts, cursors
from cotexd.operations.cursors import Start
from cotexd.store import Tx
from cotexd.web.auth import SUBPROTOCOL, Identity, signed_in, subprotocols
from cotexd.web.context import App, WebRequest, parameter

SWITCHING_PROTOCOLS = 101


def mount(app: App) -> None:
    context = app.ctx

    async def upgrade(request: WebRequest) -> HTTPResponse | None:
        if context.draining:
            raise Unavailable("The server is shutting down.")
        identity = await signed_in(request)
        protocol, handshake = _handshake(request)
        version = parameter(request, "v")
        v2 = version not in {None, "1"}
        start = await context.store.write(_attach, identity, _asked(request) if v2 else None)
        session = Session(
            identity.account.id,
            context.hub.addressed_to(identity.account.id),
            start,
            v2=v2,
            token_exp=identity.expires_at,
            now=time.monotonic(),
            moment=datetime.now(UTC),
        )
        socket = Socket(session, protocol, context.hub)
        transport, received = _take_transport(request)
        transport.set_protocol(socket)
        transport.write(handshake)
        context.hub.attach(socket)
        socket.take_over(transport, received)
        if v2 and version != "2":
            socket.close(lives.VERSION, "this server speaks version 2")
        return None

    # What keeps Sanic from answering, and from timing the request out.
    upgrade.is_websocket = True  # type: ignore[attr-defined]
    app.add_route(upgrade, "/ws", methods=["GET"], name="ws")


def _asked(request: WebRequest) -> tuple[str, Cursor | None]:
    """:raises InvalidCursor: the cursor is not one"""
    text = parameter(request, "cursor")
    return parameter(request, "device") or "", None if text is None else parse(text)


def _attach(tx: Tx, identity: Identity, asked: tuple[str, Cursor | None] | None) -> Start:
    # Again, in the transaction: who was disabled since is not let in, who is from now on is told of it.
    accounts.authenticate(tx, identity.account.id)
    if asked is None:
        return cursors.attach_legacy(tx, identity.account.id, identity.session)
    return cursors.attach(tx, identity.account.id, device=asked[0], cursor=asked[1])


def _handshake(request: WebRequest) -> tuple[ServerProtocol, bytes]:
    """:raises Invalid: not a WebSocket handshake (RFC 6455, 4.2.1)"""
    offered = SUBPROTOCOL in subprotocols(request)
    protocol = ServerProtocol(
        max_size=MAX_MESSAGE,
        select_subprotocol=lambda _, __: Subprotocol(SUBPROTOCOL) if offered else None,
    )
    # Sanic has read the request's head; the library reads it again, and is then where the client is.
    protocol.receive_data(request.head + b"\r\n\r\n")
    for event in protocol.events_received():
        if isinstance(event, HandshakeRequest):
            response = protocol.accept(event)
            if response.status_code == SWITCHING_PROTOCOLS:
                protocol.send_response(response)
                return protocol, b"".join(protocol.data_to_send())
    raise Invalid("This address is for WebSockets.", hint="Connect with a WebSocket client.")


def _take_transport(request: WebRequest) -> tuple[asyncio.Transport, bytes]:
    """Take the transport from Sanic's protocol, with the bytes that it has read beyond the request."""
    stream = request.stream
    transport = stream.protocol.transport if isinstance(stream, Http) else None
    if not isinstance(stream, Http) or transport is None:
        raise Unavailable("The client is gone.")
    protocol = stream.protocol
    protocol.connections.discard(protocol)
    received = bytes(stream.recv_buffer)
    stream.recv_buffer.clear()
    # Without a transport, Sanic's end of this connection touches nothing.
    protocol.transport = None
    return transport, received
