"""Users: who may come in, and what they may have."""

import re
import uuid
from datetime import datetime

import msgspec

from cotexd.domain import tier as tiers
from cotexd.errors import Conflict, Invalid, NotFound
from cotexd.operations import audit, notices
from cotexd.store import Tx
from cotexd.store.models import Device, LogState, Repository, Tier, User

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")


class Account(msgspec.Struct, frozen=True):
    id: str
    name: str
    email: str
    tier: str
    tier_source: tiers.Source
    repo_limit: int
    repo_count: int
    over_limit_since: datetime | None
    """when the grace began that is given before repositories are paused"""
    disabled: bool
    created_at: datetime
    updated_at: datetime


def create(tx: Tx, name: str, *, email: str = "", tier: str = "") -> Account:
    """Add a user.

    :param tier: the administrator's word, below which no subscription puts them; "" is the default tier

    :raises Invalid: the name or the e-mail address is not in form
    :raises NotFound: no such tier
    :raises Conflict: the name is taken
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f'"{name}" cannot be a user\'s name.',
            hint="Use 1 to 63 letters, digits, dots, hyphens and underscores, and begin with a letter or digit.",
        )
    if email and not EMAIL.fullmatch(email):
        raise Invalid(f'"{email}" is not an e-mail address.')
    if _UUID.fullmatch(name):
        raise Invalid("A user's name cannot look like an id.", hint="Choose one that people can read.")
    if tier:
        tier_named(tx, tier)
    if User.select().where(User.name == name).exists():
        raise Conflict(f"There is a user {name} already.", hint=f"Look at it: cotex user show {name}")
    account = insert(tx, str(uuid.uuid4()), name, email, tier)
    audit.record(tx, "user.add", name, tier=account.tier)
    return account


def insert(tx: Tx, user_id: str, name: str, email: str, tier: str = "") -> Account:
    """The rows of a new user, with the cursor that their legacy clients share, at the head of the log."""
    User.insert(
        id=user_id,
        name=name,
        email=email,
        tier=tier or tiers.DEFAULT,
        admin_tier=tier or None,
        created_at=tx.now,
        updated_at=tx.now,
    ).execute()
    head = LogState.get_by_id(1).head
    Device.insert(
        user_id=user_id, kind="shared", name="", cursor=head, acked=0, created_at=tx.now, seen_at=tx.now
    ).execute()
    return find(tx, user_id)


def find(tx: Tx, name_or_id: str) -> Account:
    """:raises NotFound: nobody has this name or id"""
    named = (User.name == name_or_id) | (User.id == name_or_id)
    row = User.get_or_none(named, User.removed_at.is_null())
    if row is None:
        raise NotFound(f"There is no user {name_or_id}.", hint="See who there is: cotex user list")
    return _account(tx, row)


def all_of_them(tx: Tx) -> list[Account]:
    return [_account(tx, row) for row in User.select().where(User.removed_at.is_null()).order_by(User.name)]


def disable(tx: Tx, name_or_id: str) -> Account:
    """Shut a user out, at once. Nothing of theirs is revoked: enabling brings the same tokens back."""
    account = find(tx, name_or_id)
    if not account.disabled:
        User.update(disabled_at=tx.now, updated_at=tx.now).where(User.id == account.id).execute()
        notices.post(tx, account.id, notices.DISABLED, "")
        audit.record(tx, "user.disable", account.name)
    return find(tx, account.id)


def enable(tx: Tx, name_or_id: str) -> Account:
    account = find(tx, name_or_id)
    if account.disabled:
        User.update(disabled_at=None, updated_at=tx.now).where(User.id == account.id).execute()
        audit.record(tx, "user.enable", account.name)
    return find(tx, account.id)


def tier_named(_: Tx, name: str) -> tiers.Tier:
    """:raises NotFound: no such tier"""
    row = Tier.get_or_none(Tier.name == name)
    if row is None:
        raise NotFound(f"There is no tier {name}.", hint="See which there are: cotex tier list")
    return tiers.Tier(row.name, row.repos, row.requests)


def all_tiers(_: Tx) -> list[tiers.Tier]:
    """By rank, the smallest first."""
    return [
        tiers.Tier(row.name, row.repos, row.requests) for row in Tier.select().order_by(Tier.repos, Tier.name)
    ]


def _account(tx: Tx, row: User) -> Account:
    tier, source = tiers.effective({each.name: each for each in all_tiers(tx)}, row.admin_tier, row.paid_tier)
    count = Repository.select().where(Repository.user_id == row.id, Repository.removed_at.is_null()).count()
    return Account(
        id=row.id,
        name=row.name,
        email=row.email,
        tier=tier.name,
        tier_source=source,
        repo_limit=tiers.repo_limit(tier, row.repo_limit),
        repo_count=count,
        over_limit_since=row.over_since if row.within_since is None else None,
        disabled=row.disabled_at is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
