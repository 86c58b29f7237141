"""The life of one delivery: when it came, how it was verified, and who has acknowledged it when."""

from datetime import datetime

import msgspec
import peewee

from cotexd.errors import NotFound
from cotexd.operations import nodes
from cotexd.store import Tx
from cotexd.store.models import Acknowledgement, Device, Event, Membership, MissingDelivery, Repository, User


class Seen(msgspec.Struct, frozen=True):
    """A client of somebody who may see the event."""

    user: str
    device: str
    """its name; of a legacy client, its token's"""
    kind: str
    """device or legacy"""
    acknowledged_at: datetime | None
    """to the minute where it acknowledges all the time; null if it has not yet"""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    delivery_id: str
    repo_id: str
    repo_name: str
    event_type: str
    event_id: str | None = None
    seq: int | None = None
    sent: datetime | None = None
    """where it was repaired: when GitHub first tried to deliver it"""
    received: datetime | None = None
    verified: str | None = None
    """sha256 or sha1: by its signature; api: GitHub's API showed it"""
    committed: datetime | None = None
    published: bool | None = None
    """it was handed to the clients that were connected; null where no server runs that could say so"""
    filtered: bool = False
    """the repository's filter keeps it out: nobody gets it"""
    purged: bool = False
    """its payload is older than the retention"""
    requested: int = 0
    """how often GitHub was asked to send it again"""
    given_up: datetime | None = None
    devices: tuple[Seen, ...] = ()


def trace(tx: Tx, delivery_id: str, *, repo_id: str | None = None) -> Trace:
    """:param repo_id: of which repository; without it the newest, since several trackings share a GUID
    :raises NotFound: there is none, and none was looked for
    """
    asked = _asked(delivery_id, repo_id)
    row = (
        Event.select(Event, Repository.name)
        .join(Repository, on=(Repository.id == Event.repo_id), attr="repo")
        .where(Event.delivery_id == delivery_id, Repository.removed_at.is_null(), _of(Event, repo_id))
        .order_by(Event.seq.desc())
        .first()
    )
    found: Event | MissingDelivery | None = row or asked
    if found is None:
        raise NotFound(
            f"There is no delivery {delivery_id}.",
            hint="What GitHub says: cotex webhook deliveries REPO. To fetch what is missing: cotex webhook repair",
        )
    about = Trace(
        delivery_id=delivery_id,
        repo_id=found.repo_id,
        repo_name=Repository.get_by_id(found.repo_id).name,
        event_type=found.event_type,
        requested=0 if asked is None else asked.asked,
        given_up=None if asked is None else asked.given_up_at,
    )
    if row is None:
        return about
    heads = [each.head for each in nodes.running(tx)]
    return msgspec.structs.replace(
        about,
        event_id=row.id,
        seq=row.seq,
        sent=row.sent_at,
        received=row.created_at,
        verified=row.verified,
        committed=row.created_at,
        published=max(heads) >= row.seq and not row.filtered if heads else None,
        filtered=row.filtered,
        purged=row.payload is None and not row.filtered,
        devices=() if row.filtered else _seen_by(row),
    )


def _asked(delivery_id: str, repo_id: str | None) -> MissingDelivery | None:
    row: MissingDelivery | None = MissingDelivery.get_or_none(
        MissingDelivery.delivery_id == delivery_id, _of(MissingDelivery, repo_id)
    )
    return row


def _of(table: type[Event | MissingDelivery], repo_id: str | None) -> peewee.Expression:
    mine: peewee.Expression = table.repo_id.is_null(False) if repo_id is None else table.repo_id == repo_id
    return mine


def _seen_by(row: Event) -> tuple[Seen, ...]:
    members = (
        Membership.select(Membership.user_id)
        .where(
            Membership.repo_id == row.repo_id,
            Membership.since_seq < row.seq,
            Membership.until_seq.is_null() | (Membership.until_seq >= row.seq),
        )
        .distinct()
    )
    devices = (
        Device.select(Device, User.name)
        .join(User, on=(User.id == Device.user_id), attr="user")
        .where(Device.user_id.in_(members), Device.kind != "shared")
        .order_by(User.name, Device.name)
    )
    return tuple(
        Seen(
            device.user.name,
            device.name,
            "legacy" if device.kind == "session" else "device",
            _acknowledged_at(device, row) if device.acked >= row.seq else None,
        )
        for device in devices
    )


def _acknowledged_at(device: Device, row: Event) -> datetime:
    first: datetime | None = (
        Acknowledgement.select(peewee.fn.MIN(Acknowledgement.at))
        .where(
            Acknowledgement.minute >= int(row.created_at.timestamp() // 60),
            Acknowledgement.user_id == device.user_id,
            Acknowledgement.kind == device.kind,
            Acknowledgement.name == device.name,
            Acknowledgement.seq >= row.seq,
        )
        .scalar()
    )
    return first or device.seen_at
