"""The history over REST: newest first, by pages that cost the same however deep they lie."""

import base64
import binascii
from datetime import datetime
from urllib.parse import urlencode

import msgspec
from sanic import HTTPResponse

from cotexd.domain import github, scope
from cotexd.domain.cursor import MAX_SEQ, CursorText
from cotexd.errors import Invalid, InvalidCursor, NotFound
from cotexd.operations import cursors, history
from cotexd.operations.history import MAX_PAGE, Page, Stored
from cotexd.web import edge
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, body_of, flag, needed, number, parameter

PAGE = 30
RECENT = 5


class Acknowledgement(msgspec.Struct, frozen=True):
    """What the caller has: everything up to the cursor counts as delivered."""

    cursor: CursorText
    device: str = ""
    """left out: all clients that give themselves no name"""


class Acknowledged(msgspec.Struct, frozen=True):
    cursor: str


class Recent(msgspec.Struct, frozen=True):
    """The newest events, newest first."""

    events: tuple[Stored, ...]
    count: int


class RecentIds(msgspec.Struct, frozen=True):
    """The ids of the newest events, newest first."""

    event_ids: tuple[str, ...]
    count: int


def mount(app: App) -> None:
    store, retention = app.ctx.store, app.ctx.retention

    async def page(request: WebRequest) -> HTTPResponse:
        user = await signed_in(request, scope.EVENTS_READ)
        found = await store.read(
            history.page,
            user.id,
            limit=number(request, "limit", PAGE, MAX_PAGE),
            before=_position(parameter(request, "cursor")),
            repo_id=parameter(request, "repo_id"),
            event_type=parameter(request, "event_type"),
            since=_time(request, "since"),
            until=_time(request, "until"),
            undelivered=flag(request, "undelivered"),
            retention=retention,
        )
        return answer(found.events, headers=_link(request, found))

    async def recent(request: WebRequest) -> HTTPResponse:
        user = await signed_in(request, scope.EVENTS_READ)
        whole = flag(request, "include_payload")
        found = await store.read(
            history.page,
            user.id,
            limit=number(request, "limit", RECENT, MAX_PAGE),
            repo_id=parameter(request, "repo_id"),
            payloads=whole,
            retention=retention,
        )
        if whole:
            return answer(Recent(found.events, len(found.events)))
        return answer(RecentIds(tuple(each.id for each in found.events), len(found.events)))

    async def one(request: WebRequest) -> HTTPResponse:
        user = await signed_in(request, scope.EVENTS_READ)
        event_id = parameter(request, "id")
        if event_id is not None:
            return answer(await store.read(history.get, user.id, event_id, retention))
        if not flag(request, "recent"):
            raise Invalid("Say which event: ?id= or ?recent=true.")
        found = await store.read(history.page, user.id, limit=1, retention=retention)
        if not found.events:
            raise NotFound("There is no event yet.")
        return answer(found.events[0])

    async def delivery(request: WebRequest) -> HTTPResponse:
        user = await signed_in(request, scope.EVENTS_READ)
        found = await store.read(history.delivery, user.id, needed(request, "id"))
        headers = {"x-github-event": found.event_type, "x-github-delivery": found.delivery_id}
        if found.signature_256:
            headers |= {github.SIGNATURE_256: found.signature_256, github.SIGNATURE_1: found.signature_1}
        return HTTPResponse(found.payload, headers=headers, content_type="application/json")

    async def acknowledge(request: WebRequest) -> HTTPResponse:
        user = await signed_in(request, scope.EVENTS_READ)
        given = body_of(request, Acknowledgement)
        cursor = await store.write(cursors.acknowledge, user.id, given.cursor, given.device)
        return answer(Acknowledged(str(cursor)))

    app.add_route(page, "/api/github-events", methods=["GET"], name="events")
    app.add_route(recent, "/api/github-events/recent", methods=["GET"], name="recent_events")
    app.add_route(one, "/api/github-events/event", methods=["GET"], name="event")
    app.add_route(delivery, "/api/github-events/delivery", methods=["GET"], name="delivery")
    app.add_route(acknowledge, "/api/github-events/ack", methods=["POST"], name="ack")


def _link(request: WebRequest, page: Page) -> dict[str, str]:
    """RFC 8288, as GitHub's own API has it: absolute, on the host that was asked."""
    if page.before is None:
        return {}
    cursor = base64.urlsafe_b64encode(b"%d" % page.before).decode().rstrip("=")
    query = [(name, value) for name, value in request.get_query_args() if name != "cursor"]
    address = (
        f"{edge.scheme(request)}://{request.host}{request.path}?{urlencode([*query, ('cursor', cursor)])}"
    )
    return {"link": f'<{address}>; rel="next"'}


def _position(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        seq = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        seq = ""
    if not seq.isdigit() or len(seq) > 19 or int(seq) > MAX_SEQ:
        raise InvalidCursor("The cursor is not one that this route gave.", hint="Follow the Link header.")
    return int(seq)


def _time(request: WebRequest, name: str) -> datetime | None:
    text = parameter(request, name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid(f"{name} is a time with its zone, as 2026-11-24T12:00:00Z.")
    return moment
