"""The upgrade to a WebSocket: who, from where, then the transport changes hands.

Sanic's own WebSocket is not used: it keeps five tasks and 25 KiB a connection. The transport is taken from its HTTP
protocol (web.protocol) and given to live.socket.
"""

import time
from datetime import UTC, datetime

from sanic import HTTPResponse
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cotexd import metrics
from cotexd.domain import scope
from cotexd.domain.cursor import Cursor, parse
from cotexd.errors import Invalid, Unavailable
from cotexd.live import session as lives
from cotexd.live.session import Session
from cotexd.live.socket import MAX_MESSAGE, Socket
from cotexd.operations import cursors, identities
from cotexd.operations.cursors import Start
from cotexd.operations.identities import Caller
from cotexd.store import Tx
from cotexd.web import edge
from cotexd.web.auth import SUBPROTOCOL, signed_in, subprotocols
from cotexd.web.context import App, WebRequest, parameter
from cotexd.web.limits import UPGRADES
from cotexd.web.protocol import take_transport

SWITCHING_PROTOCOLS = 101
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def mount(app: App) -> None:
    context = app.ctx

    async def upgrade(request: WebRequest) -> HTTPResponse | None:
        if context.draining:
            raise Unavailable("The server is shutting down.")
        edge.check_origin(request)
        caller = await signed_in(request, scope.EVENTS_READ, policy="upgrades", times=UPGRADES)
        protocol, handshake = _handshake(request)
        version = parameter(request, "v")
        v2 = version not in {None, "1"}
        start = await context.store.write(_attach, caller, _asked(request) if v2 else None)
        session = Session(
            caller.id,
            context.hub.addressed_to(caller.id),
            start,
            v2=v2,
            token_exp=datetime.fromtimestamp(min(caller.expires_at, _FOREVER), UTC),
            token_session=caller.session,
            now=time.monotonic(),
            moment=datetime.now(UTC),
        )
        socket = Socket(session, protocol, context.hub)
        transport, received = take_transport(request)
        transport.set_protocol(socket)
        transport.write(handshake)
        context.hub.attach(socket)
        metrics.ATTACHED.labels(start.resume).inc()
        if start.gap is not None:
            metrics.GAPS.labels(start.gap.reason).inc()
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


def _attach(tx: Tx, caller: Caller, asked: tuple[str, Cursor | None] | None) -> Start:
    # Again, in the transaction: who was disabled since is not let in, who is from now on is told of it.
    identities.still_good(tx, caller)
    if asked is None:
        return cursors.attach_legacy(tx, caller.id, caller.session)
    return cursors.attach(tx, caller.id, device=asked[0], cursor=asked[1])


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
                response.headers["X-Request-ID"] = edge.request_id(request)
                protocol.send_response(response)
                return protocol, b"".join(protocol.data_to_send())
    raise Invalid("This address is for WebSockets.", hint="Connect with a WebSocket client.")
