"""The upgrade to a WebSocket: who, from where, then the transport changes hands.

Sanic's own WebSocket is not used: it keeps five tasks and 25 KiB a connection. The transport is taken from its HTTP
protocol (web.protocol) and given to live.socket.
"""

from sanic import HTTPResponse
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cotexd.errors import Invalid
from cotexd.live import session as lives
from cotexd.live.connection import About
from cotexd.live.socket import Socket
from cotexd.operations import cursors
from cotexd.web import edge
from cotexd.web.attach import asked_by, hand_over, let_in, session_of
from cotexd.web.auth import SUBPROTOCOL, subprotocols
from cotexd.web.context import App, WebRequest, parameter

SWITCHING_PROTOCOLS = 101


def mount(app: App) -> None:
    async def upgrade(request: WebRequest) -> HTTPResponse | None:
        caller = await let_in(request)
        handshake = _handshake(request)
        version = parameter(request, "v")
        asked = None if version in {None, "1"} else asked_by(request, parameter(request, "cursor"))
        async with session_of(request, caller, asked) as session:
            about = (
                About("legacy", caller.session[: cursors.MAX_NAME], request.ctx.address)
                if asked is None
                else About("v2", asked.device, request.ctx.address)
            )
            socket = Socket(session, app.ctx.hub, about)
            hand_over(request, socket, handshake)
        if asked is not None and version != "2":
            socket.close(lives.VERSION, "this server speaks version 2")
        return None

    # What keeps Sanic from answering, and from timing the request out.
    upgrade.is_websocket = True  # type: ignore[attr-defined]
    app.add_route(upgrade, "/ws", methods=["GET"], name="ws")


def _handshake(request: WebRequest) -> bytes:
    """The answer to a WebSocket handshake.

    :raises Invalid: it is none (RFC 6455, 4.2.1)
    """
    offered = SUBPROTOCOL in subprotocols(request)
    protocol = ServerProtocol(
        select_subprotocol=lambda _, __: Subprotocol(SUBPROTOCOL) if offered else None,
    )
    # Sanic has read the request's head; the library reads it again.
    protocol.receive_data(request.head + b"\r\n\r\n")
    for event in protocol.events_received():
        if isinstance(event, HandshakeRequest):
            response = protocol.accept(event)
            if response.status_code == SWITCHING_PROTOCOLS:
                response.headers["X-Request-ID"] = edge.request_id(request)
                protocol.send_response(response)
                return b"".join(protocol.data_to_send())
    raise Invalid("This address is for WebSockets.", hint="Connect with a WebSocket client.")
