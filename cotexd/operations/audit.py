"""Who changed what. Each operation that changes something for good says so here, in the same transaction."""

from datetime import datetime, timedelta

import msgspec

from cotexd.store import Tx
from cotexd.store.models import AuditEntry

KEPT = timedelta(days=365)
MAX_DETAIL = 2000
"""characters"""


class Entry(msgspec.Struct, frozen=True):
    at: datetime
    actor: str
    via: str
    action: str
    target: str
    detail: dict[str, str]


def record(tx: Tx, action: str, target: str, **detail: object) -> None:
    """Note that the transaction's actor did `action` (`repo.share`) to `target`, which people can read."""
    told = {
        name: str(value)[:MAX_DETAIL] for name, value in detail.items() if value is not None and value != ""
    }
    AuditEntry.insert(
        at=tx.now,
        actor=tx.actor.name,
        via=tx.actor.via,
        action=action,
        target=target,
        detail=msgspec.json.encode(told).decode(),
    ).execute()


def listing(_: Tx, *, limit: int, action: str | None = None, actor: str | None = None) -> list[Entry]:
    """The newest entries first.

    :param action: only this one, or, where it ends with a dot, only those that begin with it
    """
    query = AuditEntry.select().order_by(AuditEntry.id.desc()).limit(limit)
    if action is not None:
        whole = AuditEntry.action.startswith(action) if action.endswith(".") else AuditEntry.action == action
        query = query.where(whole)
    if actor is not None:
        query = query.where(AuditEntry.actor == actor)
    return [
        Entry(
            row.at,
            row.actor,
            row.via,
            row.action,
            row.target,
            msgspec.json.decode(row.detail, type=dict[str, str]),
        )
        for row in query
    ]


def forget_old(tx: Tx) -> int:
    return int(AuditEntry.delete().where(AuditEntry.at < tx.now - KEPT).execute())
