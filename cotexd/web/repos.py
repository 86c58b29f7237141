"""Repositories over REST."""

import msgspec
from sanic import HTTPResponse, empty

from cotexd.errors import Invalid
from cotexd.operations import repositories
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, body_of, parameter


class NewRepository(msgspec.Struct, frozen=True):
    repo_name: str
    webhook_secret: str = ""


def mount(app: App) -> None:
    store = app.ctx.store

    async def show(request: WebRequest) -> HTTPResponse:
        user = (await signed_in(request)).account
        repo_id = parameter(request, "id")
        if repo_id is not None:
            return answer(await store.read(repositories.get, user.id, repo_id))
        return answer(await store.read(repositories.all_of, user.id))

    async def add(request: WebRequest) -> HTTPResponse:
        user = (await signed_in(request)).account
        new = body_of(request, NewRepository)
        tracked = await store.write(repositories.add, user.id, new.repo_name, new.webhook_secret)
        return answer({"repository": tracked, "webhook_url": tracked.webhook_url}, 201)

    async def remove(request: WebRequest) -> HTTPResponse:
        user = (await signed_in(request)).account
        named = parameter(request, "id") or parameter(request, "name")
        if named is None:
            raise Invalid("Say which repository: ?id= or ?name=.")
        found = await store.read(repositories.find, named, user_id=user.id)
        await store.write(repositories.remove, user.id, found.id)
        return empty()

    app.add_route(show, "/api/repos", methods=["GET"], name="repos")
    app.add_route(add, "/api/repos", methods=["POST"], name="add_repo")
    app.add_route(remove, "/api/repos", methods=["DELETE"], name="remove_repo")
