"""The two documents, made when they are first asked for: /openapi.json and /asyncapi.json."""

import asyncio
import functools

import msgspec
from sanic import HTTPResponse

from cotexd.domain.event import Summary
from cotexd.live import wire
from cotexd.web import asyncapi, openapi
from cotexd.web.context import App, WebRequest
from cotexd.web.identity import Refusal
from cotexd.web.routes import PUSHED, ROUTES
from cotexd.web.schemas import Schema


def mount(app: App) -> None:
    # Beside the event loop: making one takes a tenth of a second, of the first who asks.
    async def http(_: WebRequest) -> HTTPResponse:
        return HTTPResponse(await asyncio.to_thread(_encoded_openapi), content_type=openapi.JSON)

    async def messages(_: WebRequest) -> HTTPResponse:
        return HTTPResponse(await asyncio.to_thread(_encoded_asyncapi), content_type=openapi.JSON)

    app.add_route(http, "/openapi.json", methods=["GET"], name="openapi")
    app.add_route(messages, "/asyncapi.json", methods=["GET"], name="asyncapi")


def openapi_document() -> Schema:
    return openapi.document(ROUTES, Refusal, (Summary, wire.GithubEvent, asyncapi.SYSTEM_MESSAGES["gap"]))


def asyncapi_document() -> Schema:
    websocket, stream, _ = PUSHED
    return asyncapi.document(websocket, stream)


def encoded(document: Schema) -> bytes:
    return msgspec.json.encode(document)


@functools.cache
def _encoded_openapi() -> bytes:
    return encoded(openapi_document())


@functools.cache
def _encoded_asyncapi() -> bytes:
    return encoded(asyncapi_document())
