"""Which deliveries of GitHub's the log lacks, and when to look for them. `flows.recovery` asks GitHub.

How far a repository is settled moves only past deliveries that are in the log or given up, and a look begins a while
before that; so one that was interrupted, anywhere, is done again by the next, with the same end.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import peewee

from cotexd.operations import hooks, secrets
from cotexd.store import Tx
from cotexd.store.models import Event, MissingDelivery, Repository, SealedSecret, Webhook

ASK_AGAIN = tuple(timedelta(minutes=each) for each in (1, 10, 60, 360, 720, 1440, 1440))
"""how long a delivery that GitHub was asked to send again may take, each time; then it is given up. Together that is
nearly as long as GitHub keeps it."""
KEPT = timedelta(days=30)
"""how long it is remembered what was given up: longer than GitHub could show it"""
MAX_PROBLEM = 500
"""characters"""
_MAX_IN = 500
"""GUIDs in one statement"""


class Missing(msgspec.Struct, frozen=True):
    """A delivery that the log does not have."""

    delivery_id: str
    """GitHub's GUID"""
    event_type: str
    sent_at: datetime
    """when GitHub first tried to deliver it"""
    attempt: int
    """GitHub's id of the last attempt"""


def start_over(tx: Tx) -> None:
    """A server starts: it may have been away for long, so every repository is to be looked at now."""
    Webhook.update(look_at=tx.now).execute()


def due(tx: Tx, limit: int, *, only_with_token: bool = False) -> list[str]:
    """Repositories that are to be looked at, those waiting longest first.

    :param only_with_token: those that have a token of their own: there is no other
    """
    if only_with_token and not _have_tokens():
        return []
    rows = (
        Repository.select(Repository.id)
        .left_outer_join(Webhook, on=(Webhook.repo_id == Repository.id))
        .where(
            Repository.removed_at.is_null(),
            Repository.paused_at.is_null(),
            Repository.limited_at.is_null(),
            Webhook.look_at.is_null() | (Webhook.look_at <= tx.now),
        )
        .order_by(Webhook.look_at)
        .limit(limit)
    )
    if only_with_token:
        rows = rows.where(Repository.id.in_(_have_tokens()))
    return [row.id for row in rows]


def claim(tx: Tx, repo_id: str, until: datetime) -> bool:
    """Take a repository that is due, so that no other server looks at it before `until`; False if one has."""
    hooks.row_of(tx, repo_id)
    mine = Webhook.update(look_at=until).where(Webhook.repo_id == repo_id, Webhook.look_at <= tx.now)
    return bool(mine.execute())


def not_in_log(_: Tx, repo_id: str, delivery_ids: Collection[str]) -> set[str]:
    """Those of these GUIDs that the log does not have; filtered and purged ones it has."""
    return _without(Event, Event.repo_id == repo_id, delivery_ids)


def unknown(tx: Tx, repo_id: str, delivery_ids: Collection[str]) -> set[str]:
    """Those that the log does not have, and that are not given up."""
    mine = (MissingDelivery.repo_id == repo_id) & MissingDelivery.given_up_at.is_null(False)
    return _without(MissingDelivery, mine, not_in_log(tx, repo_id, delivery_ids))


def turn_of(tx: Tx, repo_id: str, missing: Missing) -> Literal["ask", "wait", "over"]:
    """Whether GitHub is to be asked now to send a delivery again.

    `wait` is while the last time may still help; one for which it was asked as often as ASK_AGAIN says is given up.
    """
    row = _row(repo_id, missing.delivery_id)
    if row is None:
        return "ask"
    if row.ask_at > tx.now:
        return "wait"
    if row.asked < len(ASK_AGAIN):
        return "ask"
    give_up(tx, repo_id, missing)
    return "over"


def about_to_ask(tx: Tx, repo_id: str, missing: Missing) -> None:
    """GitHub is about to be asked to send a delivery again: should it come at once, it is known what it is."""
    if _row(repo_id, missing.delivery_id) is None:
        _keep(repo_id, missing, 0, tx.now)


def asked(tx: Tx, repo_id: str, missing: Missing) -> None:
    """GitHub has agreed to send a delivery again."""
    row = _row(repo_id, missing.delivery_id)
    times = 0 if row is None else row.asked
    _keep(repo_id, missing, times + 1, tx.now + ASK_AGAIN[min(times, len(ASK_AGAIN) - 1)])


def give_up(tx: Tx, repo_id: str, missing: Missing) -> None:
    """A delivery can't be had any more."""
    row = _row(repo_id, missing.delivery_id)
    _keep(repo_id, missing, 0 if row is None else row.asked, tx.now, given_up_at=tx.now)
    if row is not None and row.given_up_at is not None:
        return
    hooks.row_of(tx, repo_id)
    Webhook.update(lost=Webhook.lost + 1).where(Webhook.repo_id == repo_id).execute()


def count_repaired(_: Tx, repo_id: str, repaired: int) -> None:
    """What a look got before it ended early."""
    Webhook.update(repaired=Webhook.repaired + repaired).where(Webhook.repo_id == repo_id).execute()


def settle(tx: Tx, repo_id: str, upto: datetime | None, *, repaired: int = 0, problem: str = "") -> None:
    """A look is over.

    :param upto: what GitHub delivered until then is here or given up; None leaves it
    :param problem: why not all of it could be had
    """
    hooks.row_of(tx, repo_id)
    changes: dict[str, object] = {
        "looked_at": tx.now,
        "problem": problem[:MAX_PROBLEM],
        "repaired": Webhook.repaired + repaired,
    }
    if upto is not None:
        changes["settled_at"] = upto
    Webhook.update(**changes).where(Webhook.repo_id == repo_id).execute()


def fail(tx: Tx, repo_id: str, problem: str, look_at: datetime) -> None:
    """A look could not be finished; the next is due at `look_at`, unless somebody wants it sooner by now."""
    hooks.row_of(tx, repo_id)
    mine = Webhook.repo_id == repo_id
    Webhook.update(looked_at=tx.now, problem=problem[:MAX_PROBLEM]).where(mine).execute()
    postpone(tx, repo_id, look_at)


def postpone(tx: Tx, repo_id: str, look_at: datetime) -> None:
    """The look that was claimed is not made; the next is due at `look_at`, unless somebody wants it sooner by now."""
    Webhook.update(look_at=look_at).where(Webhook.repo_id == repo_id, Webhook.look_at > tx.now).execute()


def forget_old(tx: Tx) -> int:
    return int(MissingDelivery.delete().where(MissingDelivery.ask_at < tx.now - KEPT).execute())


def _without(
    table: type[Event | MissingDelivery], mine: peewee.Expression, delivery_ids: Collection[str]
) -> set[str]:
    left, asked = set(delivery_ids), sorted(delivery_ids)
    for start in range(0, len(asked), _MAX_IN):
        some = asked[start : start + _MAX_IN]
        rows = table.select(table.delivery_id).where(mine, table.delivery_id.in_(some))
        left -= {row.delivery_id for row in rows}
    return left


def _keep(
    repo_id: str, missing: Missing, times: int, ask_at: datetime, given_up_at: datetime | None = None
) -> None:
    values = {"asked": times, "ask_at": ask_at, "given_up_at": given_up_at}
    changed = MissingDelivery.update(**values).where(_is(repo_id, missing.delivery_id)).execute()
    if not changed:
        MissingDelivery.insert(
            repo_id=repo_id,
            delivery_id=missing.delivery_id,
            event_type=missing.event_type,
            sent_at=missing.sent_at,
            **values,
        ).execute()


def _row(repo_id: str, delivery_id: str) -> MissingDelivery | None:
    row: MissingDelivery | None = MissingDelivery.get_or_none(_is(repo_id, delivery_id))
    return row


def _is(repo_id: str, delivery_id: str) -> peewee.Expression:
    return (MissingDelivery.delivery_id == delivery_id) & (MissingDelivery.repo_id == repo_id)


def _have_tokens() -> list[str]:
    """Repositories that have a token of their own."""
    prefix = secrets.of_repo(secrets.GITHUB_TOKEN, "")
    rows = SealedSecret.select(SealedSecret.name).where(SealedSecret.name.startswith(prefix))
    return [row.name.removeprefix(prefix) for row in rows]
