"""The same events without a WebSocket: server-sent events, and a long poll."""

import random
from http import HTTPStatus

import msgspec
from sanic import HTTPResponse

from cotexd.domain import scope
from cotexd.domain.cursor import CursorText
from cotexd.errors import Invalid, Unavailable
from cotexd.live import wire
from cotexd.live.connection import About
from cotexd.live.poll import Poll
from cotexd.live.stream import CONTENT_TYPE, Stream
from cotexd.operations import events
from cotexd.web import edge
from cotexd.web.attach import asked_by, hand_over, let_in, session_of
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, parameter

MAX_WAIT = 50
"""seconds of a long poll; proxies give up after 60"""
RECONNECT = (500, 3000)
"""milliseconds after which a browser comes back; by chance, so that not all of them do at once"""


class Polled(msgspec.Struct, frozen=True):
    messages: tuple[wire.MessageJson, ...]
    cursor: CursorText
    """the next `after`"""


def mount(app: App) -> None:
    context = app.ctx

    async def stream(request: WebRequest) -> HTTPResponse | None:
        caller = await let_in(request)
        # A browser that comes back has the address of its first time, and a newer cursor in this header.
        asked = asked_by(request, request.headers.get("last-event-id") or parameter(request, "cursor"))
        async with session_of(request, caller, asked, answers=False) as session:
            connection = Stream(session, context.hub, About("stream", asked.device, request.ctx.address))
            hand_over(request, connection, _head(request))
        return None

    # What keeps Sanic from answering, and from timing the request out.
    stream.is_websocket = True  # type: ignore[attr-defined]

    async def poll(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.EVENTS_READ)
        seconds, after = _wait(request), parameter(request, "after")
        # A poll keeps its own cursor: of a device that it named, nothing would ever be acknowledged.
        asked = msgspec.structs.replace(asked_by(request, after), device="")
        if asked.cursor is None:
            log = await context.store.read(events.log)
            return answer(Polled((), f"{log.epoch}.{log.head}"))
        if context.draining:
            raise Unavailable("The server is shutting down.")
        async with session_of(request, caller, asked, answers=False) as session:
            waiting = Poll(session, context.hub, About("poll", address=request.ctx.address))
            context.hub.attach(waiting)
        try:
            messages, cursor = await waiting.messages(seconds, asked.cursor.seq)
        finally:
            context.hub.detach(waiting)
        return answer(Polled(tuple(map(msgspec.Raw, messages)), cursor))

    app.add_route(stream, "/api/events/stream", methods=["GET"], name="stream")
    app.add_route(poll, "/api/events", methods=["GET"], name="poll")


def _head(request: WebRequest) -> bytes:
    """The head of an answer that ends with its connection (RFC 9112, 6.3), and when to come back."""
    response = HTTPResponse(
        status=HTTPStatus.OK,
        headers={"content-type": CONTENT_TYPE, "x-accel-buffering": "no", "connection": "close"},
    )
    edge.dress(request, response)
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in response.headers.items())]
    retry = random.randint(*RECONNECT)  # noqa: S311  # jitter, no secret
    return ("\r\n".join(lines) + f"\r\n\r\nretry: {retry}\n\n").encode("latin-1")


def _wait(request: WebRequest) -> float:
    """:raises Invalid: not a number of seconds"""
    text = parameter(request, "wait") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise Invalid(f"wait is a number of seconds, {MAX_WAIT} at most.")
    return min(int(text), MAX_WAIT)
