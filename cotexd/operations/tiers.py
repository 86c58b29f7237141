"""Tiers, who is on which, and what follows: limits, grace, pausing and resuming.

The truth about a user's tier is two facts: what the administrator set (a floor), and what their subscription entitles
to. `settle` derives everything else from them, whenever one of them, a limit or the time has changed: the tier that
holds, since when the user is over the limit, which repositories are paused for it. Nothing is ever deleted.
"""

import re
from datetime import datetime, timedelta

import msgspec
import peewee

from cotexd.domain import tier as domain
from cotexd.domain.tier import Entitlement, Tier
from cotexd.errors import Conflict, Invalid
from cotexd.operations import accounts, audit, notices
from cotexd.store import Tx
from cotexd.store.models import Repository, Setting, TierPrice, User, Webhook
from cotexd.store.models import Tier as TierRow

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_PRICE = re.compile(r"price_[A-Za-z0-9_]{1,200}", re.ASCII)
_INTERVALS = ("month", "year")
_GRACE = "grace"
_BATCH = 500
"""users whose time has come, in one go"""


class Price(msgspec.Struct, frozen=True):
    id: str
    interval: str
    current: bool
    """the one that is sold now; earlier ones still entitle"""


class Described(Tier, frozen=True):
    users: int = 0
    prices: tuple[Price, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What settling a user's tier did."""

    tier: str
    tier_source: domain.Source
    repo_limit: int
    repo_count: int
    over_limit_since: datetime | None
    pauses_at: datetime | None
    """when the grace of a user over the limit ends"""
    paused: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()


def listing(_: Tx) -> list[Described]:
    """All tiers by rank, the smallest first."""
    prices = list(TierPrice.select().order_by(TierPrice.current.desc(), TierPrice.created_at.desc()))
    return [
        Described(
            row.name,
            row.repos,
            row.requests,
            User.select().where(User.tier == row.name, User.removed_at.is_null()).count(),
            tuple(Price(each.id, each.interval, each.current) for each in prices if each.tier == row.name),
        )
        for row in TierRow.select().order_by(TierRow.repos, TierRow.name)
    ]


def show(tx: Tx, name: str) -> Described:
    """:raises NotFound: no such tier"""
    accounts.tier_named(tx, name)
    return next(each for each in listing(tx) if each.name == name)


def add(tx: Tx, name: str, repos: int, requests: int | None = None) -> Described:
    """:raises Invalid: the name or a limit cannot be
    :raises Conflict: there is such a tier already
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f'"{name}" cannot be the name of a tier.',
            hint="Use small letters, digits, hyphens, underscores, 63 at most.",
        )
    _check_limits(repos, requests)
    if TierRow.select().where(TierRow.name == name).exists():
        raise Conflict(f"There is a tier {name} already.", hint=f"Change it: cotex tier edit {name}")
    TierRow.insert(name=name, repos=repos, requests=requests).execute()
    audit.record(tx, "tier.add", name, repos=repos, requests=requests)
    return show(tx, name)


def edit(
    tx: Tx,
    name: str,
    *,
    repos: int | None = None,
    requests: int | None = None,
    price: str | None = None,
    interval: str = "month",
) -> Described:
    """Change a tier; what follows for its users follows at once.

    :param requests: a minute; 0 is "what the configuration says"
    :param price: sold from now on for this interval; the one before goes on to entitle
    :raises NotFound: no such tier
    :raises Invalid: a limit, a price or an interval cannot be
    :raises Conflict: the price is another tier's
    """
    before = accounts.tier_named(tx, name)
    changed = Tier(
        name,
        before.repos if repos is None else repos,
        before.requests if requests is None else requests or None,
    )
    _check_limits(changed.repos, changed.requests)
    TierRow.update(repos=changed.repos, requests=changed.requests).where(TierRow.name == name).execute()
    if price is not None:
        _sell(tx, name, price, interval)
    audit.record(tx, "tier.edit", name, repos=repos, requests=requests, price=price)
    if changed.repos != before.repos:
        for row in User.select(User.id).where(User.removed_at.is_null()):
            settle(tx, row.id)
    return show(tx, name)


def remove(tx: Tx, name: str) -> None:
    """:raises NotFound: no such tier
    :raises Conflict: it is the default, or somebody is on it, or pays for it
    """
    tier = show(tx, name)
    held = (User.admin_tier == name) | (User.paid_tier == name) | (User.tier == name)
    if name == domain.DEFAULT or tier.prices or User.select().where(held).exists():
        raise Conflict(
            f"The tier {name} is in use.",
            hint="Only a tier that no user has, and that no price is for, can be removed.",
        )
    TierRow.delete().where(TierRow.name == name).execute()
    audit.record(tx, "tier.remove", name)


def set_tier(tx: Tx, name_or_id: str, tier: str | None) -> Outcome:
    """Put a user on a tier, below which no subscription can put them; None gives the matter back to Stripe.

    :raises NotFound: no such user, or no such tier
    """
    account = accounts.find(tx, name_or_id)
    if tier is not None:
        accounts.tier_named(tx, tier)
    User.update(admin_tier=tier, updated_at=tx.now).where(User.id == account.id).execute()
    audit.record(tx, "tier.set", account.name, tier=tier or "auto")
    return settle(tx, account.id)


def entitle(tx: Tx, user_id: str, paid: Entitlement) -> Outcome:
    """Take over what a user's subscription entitles to."""
    User.update(paid_tier=paid.tier, paid_until=paid.until).where(User.id == user_id).execute()
    return settle(tx, user_id)


def settle(tx: Tx, user_id: str) -> Outcome:
    """Derive what holds for a user now, and do what follows from it."""
    grace = grace_of(tx)
    row = User.get_by_id(user_id)
    if row.paid_until is not None and row.paid_until <= tx.now:
        row.paid_tier = row.paid_until = None
    tiers = {each.name: each for each in accounts.all_tiers(tx)}
    tier, source = domain.effective(tiers, row.admin_tier, row.paid_tier)
    limit = domain.repo_limit(tier, row.repo_limit)
    if tier.name != row.tier:
        told = f"Your tier is now {tier.name}: up to {limit} {'repository' if limit == 1 else 'repositories'}"
        notices.post(tx, user_id, notices.TOLD, told)
    mine = list(
        Repository.select()
        .where(Repository.user_id == user_id, Repository.removed_at.is_null())
        .order_by(Repository.created_at, Repository.id)
    )
    since, within = _over(tx, row, len(mine) > limit, grace)
    ends = None if since is None or within is not None else since + grace
    User.update(
        tier=tier.name,
        paid_tier=row.paid_tier,
        paid_until=row.paid_until,
        over_since=since,
        within_since=within,
    ).where(User.id == user_id).execute()
    if ends is not None and (row.over_since != since or row.within_since is not None):
        _tell_grace(tx, user_id, tier.name, limit, len(mine), ends)
    over = ends is not None and ends <= tx.now
    paused = [each.name for each in mine[limit:] if over and _limit(tx, each, paused=True)]
    room = mine if ends is None else mine[:limit]
    resumed = [each.name for each in room if _limit(tx, each, paused=False)]
    return Outcome(
        tier.name,
        source,
        limit,
        len(mine),
        since if ends is not None else None,
        ends,
        tuple(paused),
        tuple(resumed),
    )


def settle_due(tx: Tx) -> int:
    """Settle users for whom the time has come: a late payment's grace is over, or that of being over the limit."""
    grace = grace_of(tx)
    over = (User.over_since <= tx.now - grace) & User.within_since.is_null()
    unlimited = Repository.select(Repository.id).where(
        Repository.user_id == User.id, Repository.removed_at.is_null(), Repository.limited_at.is_null()
    )
    limit = peewee.Case(None, [(User.repo_limit.is_null(False), User.repo_limit)], TierRow.repos)
    active = unlimited.select(peewee.fn.COUNT(Repository.id))
    due = (
        User.select(User.id)
        .join(TierRow, on=(TierRow.name == User.tier))
        .where(User.removed_at.is_null(), (User.paid_until <= tx.now) | (over & (active > limit)))
        .limit(_BATCH)
    )
    ids = [row.id for row in due]
    for user_id in ids:
        settle(tx, user_id)
    return len(ids)


def grace_of(_: Tx) -> timedelta:
    """How long a user may be over the limit, and a payment be late."""
    row = Setting.get_or_none(Setting.name == _GRACE)
    return domain.GRACE if row is None else timedelta(seconds=float(row.value))


def set_grace(_: Tx, grace: timedelta) -> None:
    """What the server's configuration says; kept here, so that a command typed beside it says the same."""
    Setting.delete().where(Setting.name == _GRACE).execute()
    Setting.insert(name=_GRACE, value=str(grace.total_seconds())).execute()


def price_of(_: Tx, tier: str, interval: str) -> str | None:
    """The price at which a tier is sold now; None if it is not."""
    row = TierPrice.get_or_none(TierPrice.tier == tier, TierPrice.interval == interval, TierPrice.current)
    return None if row is None else str(row.id)


def by_price(tx: Tx) -> dict[str, Tier]:
    """The tier of every price that is or was sold."""
    tiers = {each.name: each for each in accounts.all_tiers(tx)}
    return {row.id: tiers[row.tier] for row in TierPrice.select()}


def _sell(tx: Tx, tier: str, price: str, interval: str) -> None:
    if not _PRICE.fullmatch(price):
        raise Invalid(f'"{price}" is not the id of a price at Stripe.', hint="It begins with price_.")
    if interval not in _INTERVALS:
        raise Invalid(f'"{interval}" is not an interval.', hint="It is month or year.")
    known = TierPrice.get_or_none(TierPrice.id == price)
    if known is not None and known.tier != tier:
        raise Conflict(
            f"{price} is a price of the tier {known.tier}.", hint="A price is for one tier, and stays so."
        )
    TierPrice.update(current=False).where(TierPrice.tier == tier, TierPrice.interval == interval).execute()
    TierPrice.delete().where(TierPrice.id == price).execute()
    TierPrice.insert(id=price, tier=tier, interval=interval, current=True, created_at=tx.now).execute()


def _check_limits(repos: int, requests: int | None) -> None:
    if not 0 <= repos <= domain.MAX_REPOS:
        raise Invalid(f"A tier allows 0 to {domain.MAX_REPOS} repositories.")
    if requests is not None and not 1 <= requests <= 10**6:
        raise Invalid("A tier allows 1 to 1,000,000 requests a minute.")


def _over(tx: Tx, row: User, over: bool, grace: timedelta) -> tuple[datetime | None, datetime | None]:
    """Since when the user's grace runs, and since when they are within the limit again.

    Falling in and out does not renew it: only who has been within the limit for as long as a grace has a new one.
    """
    since, within = row.over_since, row.within_since
    if over:
        renewed = since is None or (within is not None and within <= tx.now - grace)
        return (tx.now if renewed else since), None
    return since, None if since is None else within or tx.now


def _tell_grace(tx: Tx, user_id: str, tier: str, limit: int, count: int, ends: datetime) -> None:
    if ends > tx.now:
        told = (
            f"You track {count} repositories, and {tier} allows {limit}: "
            f"from {ends:%Y-%m-%d} on the newest {count - limit} are paused"
        )
        notices.post(tx, user_id, notices.TOLD, told)


def _limit(tx: Tx, repo: Repository, *, paused: bool) -> bool:
    """Pause a repository for the limit, or lift that; False if it is so already."""
    if (repo.limited_at is not None) == paused:
        return False
    changed = Repository.update(limited_at=tx.now if paused else None, updated_at=tx.now)
    changed.where(Repository.id == repo.id).execute()
    Webhook.update(look_at=tx.now).where(Webhook.repo_id == repo.id).execute()
    why = "is paused: you track more than your tier allows. GitHub keeps its events for 3 days"
    told = f"Repository {repo.name} {why if paused else 'is within the limit of your tier again'}"
    notices.post(tx, repo.user_id, notices.TOLD, told)
    audit.record(tx, "repo.limit" if paused else "repo.unlimit", repo.name, repo_id=repo.id)
    return True
