"""The history over REST and at the command line: stored events, newest first."""

from datetime import datetime, timedelta
from typing import cast

import msgspec
import peewee

from cotexd.domain import github, packing
from cotexd.domain.event import Summary, SummaryJson
from cotexd.errors import NotFound
from cotexd.operations import repositories
from cotexd.operations.visibility import ranges_of, seek
from cotexd.store import Tx
from cotexd.store.models import Device, Event, LogState, Repository

RETENTION = timedelta(days=14)
"""how long payloads and summaries are kept, unless told"""
MAX_PAGE = 100
MAX_PAGE_BYTES = 32 * 1024 * 1024
"""of payloads in a page; a page with less than it was asked for has a next one"""

_FIELDS = [
    Event.seq,
    Event.id,
    Event.repo_id,
    Event.delivery_id,
    Event.event_type,
    Event.branch,
    Event.created_at,
    Event.sent_at,
    Event.summary,
    Event.payload,
]


class Stored(msgspec.Struct, frozen=True):
    """An event in the history."""

    id: str
    repo_id: str
    repo_name: str
    event_type: str
    created_at: datetime
    """when it was received; where it was repaired, when GitHub first tried to deliver it"""
    delivery_id: str
    """GitHub's GUID"""
    seq: int
    """its place in the log"""
    summary: SummaryJson
    is_delivered: bool
    """a client of the user has acknowledged it"""
    expires_at: datetime
    repaired: bool
    """GitHub had to be asked for it, since its delivery had not arrived"""
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """GitHub's own JSON, where it was asked for"""


class Delivered(msgspec.Struct, frozen=True):
    """A delivery as GitHub made it."""

    event_type: str
    delivery_id: str
    payload: bytes
    signature_256: str
    signature_1: str


class Page(msgspec.Struct, frozen=True):
    """A part of the history, newest first."""

    events: tuple[Stored, ...]
    before: int | None
    """where the next page begins; null if there is none. A page may hold fewer events than it was asked for."""


class Listed(msgspec.Struct, frozen=True):
    """An event in the host's own list."""

    id: str
    seq: int
    delivery_id: str
    event_type: str
    repo_id: str
    repo_name: str
    branch: str
    headline: str
    created_at: datetime
    repaired: bool


class Detailed(Listed, frozen=True):
    verified: str
    summary: msgspec.Raw | None
    payload: msgspec.Raw | None


def page(
    tx: Tx,
    user_id: str,
    *,
    limit: int,
    before: int | None = None,
    repo_id: str | None = None,
    event_type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    undelivered: bool = False,
    payloads: bool = True,
    retention: timedelta = RETENTION,
) -> Page:
    """The newest events that a user may see and whose seq is below `before`, newest first.

    :param undelivered: only those that no client of the user has acknowledged
    :raises NotFound: the user sees no repository `repo_id`
    """
    ranges = ranges_of(user_id)
    if repo_id is not None:
        ranges = [each for each in ranges if each.repo_id == repo_id]
        if not ranges:
            raise NotFound("There is no such repository.")
    state = LogState.get_by_id(1)
    delivered = delivered_upto(user_id)
    seqs = seek(
        tx,
        ranges,
        after=max(state.floor, delivered) if undelivered else state.floor,
        upto=state.head if before is None else min(state.head, before - 1),
        limit=limit + 1,
        newest_first=True,
        event_type=event_type,
        since=since,
        until=until,
    )
    rows = (
        Event.select(*(_FIELDS if payloads else _FIELDS[:-1]))
        .where(Event.seq.in_(seqs[:limit]), Event.payload.is_null(False))
        .order_by(Event.seq.desc())
    )
    found: list[Stored] = []
    size = 0
    for row in rows.iterator():
        mine = next(each for each in ranges if each.holds(row.repo_id, row.seq))
        if not mine.wants(row):
            continue
        stored = _stored(row, mine.repo_name, delivered, retention, payload=payloads)
        size += len(bytes(stored.payload)) if isinstance(stored.payload, msgspec.Raw) else 0
        if found and size > MAX_PAGE_BYTES:
            return Page(tuple(found), found[-1].seq)
        found.append(stored)
    return Page(tuple(found), seqs[limit - 1] if len(seqs) > limit else None)


def get(_: Tx, user_id: str, event_id: str, retention: timedelta = RETENTION) -> Stored:
    """:raises NotFound: there is none that this user may see, or it is older than the retention"""
    row = Event.get_or_none(Event.id == event_id)
    ranges = [each for each in ranges_of(user_id) if row is not None and each.holds(row.repo_id, row.seq)]
    if row is None or not ranges or row.payload is None or not ranges[0].wants(row):
        raise NotFound("There is no such event.")
    return _stored(row, ranges[0].repo_name, delivered_upto(user_id), retention, payload=True)


def delivery(tx: Tx, user_id: str, event_id: str) -> Delivered:
    """What GitHub sent, to be sent again to somewhere else; signed for the repository's owner, who has its secret.

    :raises NotFound: there is none that this user may see, or it is older than the retention
    """
    stored = get(tx, user_id, event_id)
    payload, signatures = bytes(cast("msgspec.Raw", stored.payload)), ("", "")
    # One who is a member no longer still sees what came until then.
    if Repository.get_by_id(stored.repo_id).user_id == user_id:
        secret = repositories.secret_of(tx, stored.repo_id)
        signatures = (github.sign(payload, secret).decode(), github.sign(payload, secret, "sha1").decode())
    return Delivered(stored.event_type, stored.delivery_id, payload, *signatures)


def listing(_: Tx, *, repo_id: str | None, limit: int) -> list[Listed]:
    """The newest events of the whole log or of one repository, for the one who hosts it."""
    query = (
        Event.select(Event, Repository.name)
        .join(Repository, on=(Repository.id == Event.repo_id), attr="repo")
        .where(Repository.removed_at.is_null(), ~Event.filtered)
        .order_by(Event.seq.desc())
        .limit(limit)
    )
    if repo_id is not None:
        query = query.where(Event.repo_id == repo_id)
    return [_listed(row) for row in query]


def details(_: Tx, id_or_delivery: str) -> Detailed:
    """One event by its id, its seq or GitHub's GUID, with its payload, for the one who hosts the appliance.

    :raises NotFound: there is none
    """
    wanted = (Event.id == id_or_delivery) | (Event.delivery_id == id_or_delivery)
    if id_or_delivery.isascii() and id_or_delivery.isdigit() and len(id_or_delivery) < 19:
        wanted |= Event.seq == int(id_or_delivery)
    row = (
        Event.select(Event, Repository.name)
        .join(Repository, on=(Repository.id == Event.repo_id), attr="repo")
        .where(wanted, Repository.removed_at.is_null(), ~Event.filtered)
        .order_by(Event.seq.desc())
        .first()
    )
    if row is None:
        raise NotFound(f"There is no event {id_or_delivery}.", hint="See the newest: cotex event list")
    listed = _listed(row)
    return Detailed(
        **msgspec.structs.asdict(listed),
        verified=row.verified,
        summary=msgspec.Raw(bytes(row.summary)) if row.summary is not None else None,
        payload=msgspec.Raw(_payload(row)) if row.payload is not None else None,
    )


def delivered_upto(user_id: str) -> int:
    """The furthest that any client of the user has acknowledged."""
    furthest = Device.select(peewee.fn.MAX(Device.acked)).where(Device.user_id == user_id).scalar()
    return int(furthest or 0)


def _stored(row: Event, repo_name: str, delivered: int, retention: timedelta, *, payload: bool) -> Stored:
    return Stored(
        id=row.id,
        repo_id=row.repo_id,
        repo_name=repo_name,
        event_type=row.event_type,
        created_at=row.sent_at or row.created_at,
        delivery_id=row.delivery_id,
        seq=row.seq,
        summary=msgspec.Raw(bytes(row.summary or b"")),
        is_delivered=row.seq <= delivered,
        payload=msgspec.Raw(_payload(row)) if payload else msgspec.UNSET,
        expires_at=row.created_at + retention,
        repaired=row.sent_at is not None,
    )


def _listed(row: Event) -> Listed:
    headline = msgspec.json.decode(bytes(row.summary), type=Summary).headline if row.summary else ""
    return Listed(
        id=row.id,
        seq=row.seq,
        delivery_id=row.delivery_id,
        event_type=row.event_type,
        repo_id=row.repo_id,
        repo_name=row.repo.name,
        branch=row.branch,
        headline=headline,
        created_at=row.sent_at or row.created_at,
        repaired=row.sent_at is not None,
    )


def _payload(row: Event) -> bytes:
    return packing.unpack(bytes(row.payload or b""))
