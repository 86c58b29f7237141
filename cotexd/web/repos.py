"""Repositories over REST, and who shares them."""

from datetime import timedelta
from typing import Literal

import msgspec
from sanic import HTTPResponse, empty

from cotexd.domain import duration, scope
from cotexd.domain.duration import DurationText
from cotexd.domain.filter import Filter
from cotexd.errors import Invalid
from cotexd.operations import members, repositories
from cotexd.operations.repositories import OVERLAP, RepoName, Tracked
from cotexd.store import Tx
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, bind, body_of, needed, parameter


class NewRepository(msgspec.Struct, frozen=True):
    repo_name: RepoName
    webhook_secret: str = ""
    """made here where it is left out"""


class Added(msgspec.Struct, frozen=True):
    repository: Tracked
    webhook_url: str


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What PATCH may change; all of it, or, where one thing is refused, nothing."""

    status: Literal["active", "paused"] | None = None
    filter: Filter | None = None
    """which deliveries become events, for everybody; the owner's to say"""
    my_filter: Filter | None = None
    """which events the caller wants of them"""
    rotate_secret: bool = False
    webhook_secret: str = ""
    """the new one; made here where it is left out"""
    overlap: DurationText = ""
    """how long the old one stays good: 24h unless told"""


class NewMember(msgspec.Struct, frozen=True):
    user: str
    """a name or an id"""


def mount(app: App) -> None:
    store = app.ctx.store

    async def show(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_READ)
        repo_id = parameter(request, "id")
        if repo_id is not None:
            return answer(await store.read(repositories.get, caller.id, repo_id))
        return answer(await store.read(repositories.all_of, caller.id))

    async def add(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_WRITE)
        new = body_of(request, NewRepository)
        tracked = await store.write(repositories.add, caller.id, new.repo_name, new.webhook_secret)
        return answer(Added(tracked, tracked.webhook_url), 201)

    async def change(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_WRITE)
        repo_id, wanted = needed(request, "id"), body_of(request, Change)
        bind(repo=repo_id)
        overlap = duration.parse(wanted.overlap) if wanted.overlap else OVERLAP
        return answer(await store.write(_change, caller.id, repo_id, wanted, overlap))

    async def remove(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_WRITE)
        named = parameter(request, "id") or parameter(request, "name")
        if named is None:
            raise Invalid("Say which repository: ?id= or ?name=.")
        found = await store.read(repositories.find, named, user_id=caller.id)
        await store.write(repositories.remove, caller.id, found.id)
        return empty()

    async def list_members(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_READ)
        return answer(await store.read(members.listing, caller.id, needed(request, "id")))

    async def share(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_WRITE)
        new = body_of(request, NewMember)
        return answer(await store.write(members.share, caller.id, needed(request, "id"), new.user), 201)

    async def unshare(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.REPOS_WRITE)
        whom = parameter(request, "user") or body_of(request, NewMember).user
        await store.write(members.unshare, caller.id, needed(request, "id"), whom)
        return empty()

    for handler, method, path, name in (
        (show, "GET", "/api/repos", "repos"),
        (add, "POST", "/api/repos", "add_repo"),
        (change, "PATCH", "/api/repos", "change_repo"),
        (remove, "DELETE", "/api/repos", "remove_repo"),
        (list_members, "GET", "/api/repos/members", "members"),
        (share, "POST", "/api/repos/members", "share"),
        (unshare, "DELETE", "/api/repos/members", "unshare"),
    ):
        app.add_route(handler, path, methods=[method], name=name)


def _change(tx: Tx, user_id: str, repo_id: str, wanted: Change, overlap: timedelta) -> Tracked:
    """One transaction, so that a change is made whole or not at all."""
    if wanted.my_filter is not None:
        members.set_filter(tx, user_id, repo_id, wanted.my_filter)
    if wanted.filter is not None:
        repositories.set_filter(tx, user_id, repo_id, wanted.filter)
    if wanted.status is not None:
        act = repositories.pause if wanted.status == "paused" else repositories.resume
        act(tx, user_id, repo_id)
    if wanted.rotate_secret or wanted.webhook_secret:
        repositories.owned(tx, user_id, repo_id)
        return repositories.rotate_secret(tx, repo_id, secret=wanted.webhook_secret, overlap=overlap)
    return repositories.get(tx, user_id, repo_id)
