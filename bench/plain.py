"""What ours is compared with: the same framework, as its documentation has it, doing next to nothing.

A process of its own: `python plain.py` says where it listens. The same uvloop, one process, no access log, the limits
of ours; Sanic rewrites its classes (TouchUp), as it does in ours.

    POST /api/webhooks/github/<repo_id>   204; Sanic has read the body, the handler does nothing with it
    GET  /ws                              a WebSocket that waits, as `async for message in ws` does
    POST /send                            sends the body once to each of them, by `await ws.send(...)` in a loop
"""

import socket
import sys
from types import SimpleNamespace

from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config
from sanic.response import empty
from sanic.server.websockets.impl import WebsocketImplProtocol

App = Sanic[Config, SimpleNamespace]
app: App = Sanic("plain", configure_logging=False)
app.config.KEEP_ALIVE_TIMEOUT = 75
sockets: set[WebsocketImplProtocol] = set()


@app.post("/api/webhooks/github/<repo_id:str>")
async def nothing(_: Request, repo_id: str) -> HTTPResponse:  # noqa: ARG001  # the route's
    return empty()


@app.websocket("/ws")  # type: ignore[untyped-decorator]  # Sanic's
async def wait(_: Request, ws: WebsocketImplProtocol) -> None:
    sockets.add(ws)
    try:
        async for _message in ws:
            pass
    finally:
        sockets.discard(ws)


@app.post("/send")
async def send(request: Request) -> HTTPResponse:
    message = request.body.decode()
    for ws in sockets:
        await ws.send(message)
    return empty()


@app.after_server_start
async def ready(_: App) -> None:
    sys.stdout.write(f"ready at http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app.run(sock=listening, backlog=2048, single_process=True, access_log=False, motd=False)
