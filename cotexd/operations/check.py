"""Whether what is in the database fits together: what no constraint of the schema says."""

import msgspec
import peewee

from cotexd.operations import nodes
from cotexd.store import Tx
from cotexd.store.models import Device, Event, LogState, Membership, Repository, User


class Checked(msgspec.Struct, frozen=True):
    good: bool
    problems: tuple[str, ...]
    events: int
    """in the log, those whose payload is purged not counted"""
    epoch: str
    head: int


def check(tx: Tx) -> Checked:
    """Look for orphans, cursors ahead of the log, and a log that is not as its own row says."""
    state = LogState.get_by_id(1)
    repositories, users = Repository.select(Repository.id), User.select(User.id)
    last = Event.select(peewee.fn.MAX(Event.seq)).scalar() or 0
    counts = {
        "events lie beyond the log's head": Event.select().where(Event.seq > state.head).count(),
        "events are of no repository": Event.select().where(Event.repo_id.not_in(repositories)).count(),
        "events lack their payload, and are not purged": Event.select()
        .where(Event.seq > state.floor, Event.payload.is_null(), ~Event.filtered)
        .count(),
        "memberships are of nobody, or of no repository": Membership.select()
        .where(Membership.repo_id.not_in(repositories) | Membership.user_id.not_in(users))
        .count(),
        "cursors are ahead of the log": Device.select()
        .where((Device.cursor > state.head) | (Device.acked > state.head))
        .count(),
        "of the log's end is missing": int(
            last == 0 and state.head > state.stub_floor and not _all_removed()
        ),
    }
    problems = [f"{count} {what}" for what, count in counts.items() if count]
    if not state.stub_floor <= state.floor <= state.head:
        problems.append("the log's floor is beyond its head")
    totals = nodes.totals(tx)
    return Checked(not problems, tuple(problems), totals.events, totals.epoch, totals.head)


def _all_removed() -> bool:
    """Whether every repository that had events is gone, with them."""
    return not Repository.select().where(Repository.removed_at.is_null()).exists()


def take_a_write(tx: Tx) -> None:
    """Write, and change nothing."""
    tx.change("UPDATE log_state SET head = head")
