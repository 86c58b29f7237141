"""The user who asks."""

import msgspec
from sanic import HTTPResponse, empty

from cotexd.domain import scope
from cotexd.operations import accounts, presence
from cotexd.operations.accounts import Account
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, needed


class Me(msgspec.Struct, frozen=True):
    user: Account
    tier: str
    limits: dict[str, int]
    use: dict[str, int]


def mount(app: App) -> None:
    context = app.ctx

    async def me(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.ACCOUNT_READ)
        account = await context.store.read(accounts.find, caller.id)
        requests = caller.requests or context.limits.rate_limit
        limits = {"repos": account.repo_limit, "requests_per_minute": requests}
        return answer(Me(account, account.tier, limits, {"repos": account.repo_count}))

    async def devices(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.ACCOUNT_READ)
        return answer(await context.store.read(presence.devices, caller.id))

    async def forget(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.EVENTS_READ)
        await context.store.write(presence.forget_device, caller.id, needed(request, "device"))
        return empty()

    app.add_route(devices, "/api/me/devices", methods=["GET"], name="devices")
    app.add_route(forget, "/api/me/devices", methods=["DELETE"], name="forget_device")
    app.add_route(me, "/api/me", methods=["GET"], name="me")
