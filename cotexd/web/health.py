"""Is it there, does it turn, is it ready, and how does it do."""

from datetime import UTC, datetime
from typing import Literal

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from sanic import HTTPResponse, raw

from cotexd import __version__, metrics
from cotexd.domain import address
from cotexd.errors import NotFound, Unavailable
from cotexd.operations import events
from cotexd.web.context import App, WebRequest, answer


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok"]
    timestamp: datetime
    version: str


class Alive(msgspec.Struct, frozen=True):
    status: Literal["ok"]


class Ready(msgspec.Struct, frozen=True):
    status: Literal["ready"]


def mount(app: App) -> None:
    async def health(_: WebRequest) -> HTTPResponse:
        return answer(Health("ok", datetime.now(UTC), __version__))

    async def alive(_: WebRequest) -> HTTPResponse:
        return answer(Alive("ok"))

    async def ready(_: WebRequest) -> HTTPResponse:
        if app.ctx.draining:
            raise Unavailable("The server is shutting down.")
        if (failure := app.ctx.store.failure) is not None:
            raise failure
        await app.ctx.store.read(events.log)
        return answer(Ready("ready"))

    async def measured(request: WebRequest) -> HTTPResponse:
        peer, open_to = request.ip, app.ctx.metrics_networks
        # Our peer, and no header: a proxy on this machine would make everybody local.
        through_proxy = "forwarded" in request.headers or "x-forwarded-for" in request.headers
        if not address.is_in(peer, open_to) and (through_proxy or not address.is_loopback(peer)):
            raise NotFound("There is nothing here.")
        app.ctx.hub.observe()
        metrics.WRITER_QUEUE.set(app.ctx.store.queued)
        metrics.DRAINING.set(app.ctx.draining)
        metrics.FLOOR.set((await app.ctx.store.read(events.log)).floor)
        return raw(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    app.add_route(measured, "/metrics", methods=["GET"], name="metrics")
    app.add_route(health, "/health", methods=["GET", "HEAD"], name="health")
    app.add_route(alive, "/livez", methods=["GET", "HEAD"], name="livez")
    app.add_route(ready, "/readyz", methods=["GET", "HEAD"], name="readyz")
