"""Sharing a repository: members see its events from the moment they join, until they leave. The owner's tier pays."""

from datetime import datetime
from typing import Literal

import msgspec

from cotexd.domain import filter as filters
from cotexd.domain.filter import Filter
from cotexd.errors import Conflict, Invalid, NotFound
from cotexd.operations import accounts, audit, notices, repositories
from cotexd.store import Tx
from cotexd.store.models import Membership, User

MAX_MEMBERS = 1000
"""of one repository"""


class Member(msgspec.Struct, frozen=True):
    user_id: str
    name: str
    role: Literal["owner", "member"]
    since: datetime
    filter: Filter


def listing(tx: Tx, user_id: str, repo_id: str) -> list[Member]:
    """Who sees a repository's events, the owner first.

    :raises NotFound: none that this user sees
    """
    repositories.get(tx, user_id, repo_id)
    rows = (
        Membership.select(Membership, User.name)
        .join(User, on=(User.id == Membership.user_id), attr="user")
        .where(Membership.repo_id == repo_id, Membership.until_seq.is_null())
        .order_by(Membership.role.desc(), User.name)
    )
    return [
        Member(
            row.user_id,
            row.user.name,
            "owner" if row.role == "owner" else "member",
            row.created_at,
            filters.decode(row.wants),
        )
        for row in rows
    ]


def share(tx: Tx, owner_id: str, repo_id: str, with_whom: str) -> Member:
    """Let another user see the events of a repository, from now on.

    :raises NotFound: no such user, or no such repository of this owner
    :raises Conflict: they see it already, by this tracking or by one of their own
    :raises Invalid: it has MAX_MEMBERS
    """
    tracked = repositories.owned(tx, owner_id, repo_id)
    account = accounts.find(tx, with_whom)
    if repositories.sees(account.id, tracked.repo_name):
        raise Conflict(
            f"{account.name} sees {tracked.repo_name} already.",
            hint="Each event would be shown to them twice.",
        )
    if (
        Membership.select().where(Membership.repo_id == repo_id, Membership.until_seq.is_null()).count()
        > MAX_MEMBERS
    ):
        raise Invalid(f"A repository has at most {MAX_MEMBERS} members.")
    Membership.insert(
        user_id=account.id, repo_id=repo_id, role="member", since_seq=repositories.head(), created_at=tx.now
    ).execute()
    notices.post(tx, account.id, notices.TOLD, f"Repository {tracked.repo_name} was shared with you")
    audit.record(tx, "repo.share", tracked.repo_name, user=account.name, repo_id=repo_id)
    return _member(tx, account.id, repo_id)


def unshare(tx: Tx, user_id: str, repo_id: str, whom: str) -> Member:
    """End a membership: nothing that comes from now on reaches them. A member may end their own.

    :param user_id: who asks
    :raises NotFound: no such repository of theirs, or no such member
    """
    member = next((each for each in listing(tx, user_id, repo_id) if whom in {each.user_id, each.name}), None)
    tracked = repositories.get(tx, user_id, repo_id)
    if member is None or member.role == "owner" or (tracked.role != "owner" and member.user_id != user_id):
        raise NotFound(
            f"{tracked.repo_name} is not shared with {whom}.", hint="See who has it: cotex repo show REPO"
        )
    Membership.update(until_seq=repositories.head()).where(
        Membership.repo_id == repo_id, Membership.user_id == member.user_id, Membership.until_seq.is_null()
    ).execute()
    notices.post(
        tx, member.user_id, notices.TOLD, f"Repository {tracked.repo_name} is no longer shared with you"
    )
    audit.record(tx, "repo.unshare", tracked.repo_name, user=member.name, repo_id=repo_id)
    return member


def set_filter(tx: Tx, user_id: str, repo_id: str, wanted: Filter) -> Member:
    """Choose which of a repository's events a user gets; of all others they hear nothing.

    :raises NotFound: none that this user sees
    :raises Invalid: what cannot be a filter
    """
    tracked = repositories.get(tx, user_id, repo_id)
    Membership.update(wants=filters.encode(filters.check(wanted))).where(
        Membership.repo_id == repo_id, Membership.user_id == user_id, Membership.until_seq.is_null()
    ).execute()
    member = _member(tx, user_id, repo_id)
    audit.record(tx, "member.filter", tracked.repo_name, user=member.name, filter=filters.encode(wanted))
    return member


def _member(tx: Tx, user_id: str, repo_id: str) -> Member:
    return next(each for each in listing(tx, user_id, repo_id) if each.user_id == user_id)
