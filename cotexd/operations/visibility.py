"""Who may see which events: the one place that says so.

A user sees a repository's events within the ranges of their memberships: after the seq at which they joined, up to
the one at which they left; of these, those that their filter lets pass. A removed repository is in nobody's range.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from cotexd.domain import filter as filters
from cotexd.domain import selection as selections
from cotexd.domain.cursor import MAX_SEQ
from cotexd.domain.event import Touched
from cotexd.domain.filter import EVERYTHING, Filter
from cotexd.domain.selection import Selection
from cotexd.store import Tx
from cotexd.store.models import Event, Membership, Repository

_MOMENT = "COALESCE(sent_at, created_at)"
_MAX_TERMS = 100
"""SELECTs in one compound; SQLite allows 500"""


class Range(msgspec.Struct, frozen=True):
    """Events of one repository in (since, until]."""

    repo_id: str
    repo_name: str
    since: int
    until: int
    filter: Filter = EVERYTHING

    def holds(self, repo_id: str, seq: int) -> bool:
        return repo_id == self.repo_id and self.since < seq <= self.until

    def wants(self, row: Event) -> bool:
        """Whether the member's filter lets a stored event pass."""
        return wants(self.filter, row)


def wants(wanted: Filter, row: Event) -> bool:
    """Whether a filter lets a stored event pass; one whose summary is purged by its type and branch alone."""
    if wanted.wants_all:
        return True
    touched = (
        msgspec.json.decode(bytes(row.summary), type=Touched).paths if wanted.paths and row.summary else None
    )
    return wanted.passes(row.event_type, row.branch, touched)


def ranges_of(user_id: str) -> list[Range]:
    """What a user may see."""
    rows = (
        Membership.select(Membership, Repository.id, Repository.name)
        .join(Repository, on=(Repository.id == Membership.repo_id), attr="repo")
        .where(Membership.user_id == user_id, Repository.removed_at.is_null())
    )
    return [
        Range(
            row.repo_id,
            row.repo.name,
            row.since_seq,
            MAX_SEQ if row.until_seq is None else row.until_seq,
            filters.decode(row.wants),
        )
        for row in rows
    ]


def audiences(tx: Tx, repo_ids: Collection[str]) -> dict[str, list[tuple[str, Filter]]]:
    """Who sees a new event of each repository: its members of this moment, each with what they want of it."""
    found: dict[str, list[tuple[str, Filter]]] = {}
    rows = tx.rows(
        "SELECT repo_id, user_id, wants FROM membership WHERE until_seq IS NULL AND repo_id IN ?",
        frozenset(repo_ids),
    )
    for repo_id, user_id, wanted in rows:
        found.setdefault(repo_id, []).append((user_id, filters.decode(wanted)))
    return found


def seek(
    tx: Tx,
    ranges: Sequence[Range],
    *,
    after: int,
    upto: int,
    limit: int,
    newest_first: bool = False,
    event_type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[int]:
    """The first (or last) `limit` seqs in (after, upto] that lie in the ranges, in order.

    One seek on the index (repo_id, seq) a range, merged: what it costs doesn't grow with the depth of the log, as
    that of `repo_id IN (…) ORDER BY seq` does.
    """
    order = "DESC" if newest_first else "ASC"
    conditions, filters = "", []
    for column, operator, value in (
        ("event_type", "=", event_type),
        (_MOMENT, ">=", None if since is None else Event.created_at.db_value(since)),
        (_MOMENT, "<=", None if until is None else Event.created_at.db_value(until)),
    ):
        if value is not None:
            conditions += f" AND {column} {operator} ?"
            filters.append(value)
    term = (
        f"SELECT seq FROM (SELECT seq FROM event WHERE repo_id = ? AND seq > ? AND seq <= ?"  # noqa: S608
        f"{conditions} ORDER BY seq {order} LIMIT {limit:d}) AS one"
    )
    seqs: list[int] = []
    for some in _groups(ranges):
        bounds = [(max(after, each.since), min(upto, each.until)) for each in some]
        parameters = [
            value
            for each, (low, high) in zip(some, bounds, strict=True)
            for value in (each.repo_id, low, high, *filters)
        ]
        query = f"{' UNION ALL '.join([term] * len(some))} ORDER BY seq {order} LIMIT {limit:d}"
        seqs.extend(seq for (seq,) in tx.rows(query, *parameters))
    return sorted(seqs, reverse=newest_first)[:limit]


def count(
    _: Tx, user_id: str, *, after: int, upto: int, selection: Selection = selections.EVERYTHING
) -> int | None:
    """How many events of this user's, of those selected, lie in (after, upto], purged ones too.

    None where a filter by path would have to decide about events whose paths are gone.
    """
    total = 0
    for each in ranges_of(user_id):
        if not selection.takes_repo(each.repo_id, each.repo_name):
            continue
        there = Event.select(Event.event_type, Event.branch).where(
            Event.repo_id == each.repo_id,
            Event.seq > max(after, each.since),
            Event.seq <= min(upto, each.until),
            ~Event.filtered,
        )
        if selection.events:
            there = there.where(Event.event_type.in_(selection.events))
        if each.filter.wants_all:
            total += there.count()
            continue
        kept = sum(each.filter.passes_stub(row.event_type, row.branch) for row in there.iterator())
        if kept and each.filter.paths:
            return None
        total += kept
    return total


def _groups(ranges: Sequence[Range]) -> list[Sequence[Range]]:
    return [ranges[start : start + _MAX_TERMS] for start in range(0, len(ranges), _MAX_TERMS)]
