"""Is it there, does it turn, is it ready."""

from datetime import UTC, datetime

from sanic import HTTPResponse

from cotexd import __version__
from cotexd.errors import Unavailable
from cotexd.operations import events
from cotexd.web.context import App, WebRequest, answer


def mount(app: App) -> None:
    async def health(_: WebRequest) -> HTTPResponse:
        return answer({"status": "ok", "timestamp": datetime.now(UTC), "version": __version__})

    async def alive(_: WebRequest) -> HTTPResponse:
        return answer({"status": "ok"})

    async def ready(_: WebRequest) -> HTTPResponse:
        if app.ctx.draining:
            raise Unavailable("The server is shutting down.")
        await app.ctx.store.read(events.log)
        return answer({"status": "ready"})

    app.add_route(health, "/health", methods=["GET", "HEAD"], name="health")
    app.add_route(alive, "/livez", methods=["GET", "HEAD"], name="livez")
    app.add_route(ready, "/readyz", methods=["GET", "HEAD"], name="readyz")
