"""Tiers: what a user may have, and what a subscription says about it. They rank by their limit of repositories.

Source: Stripe's "How subscriptions work" (statuses).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

MAX_NAME = 64
MAX_REPOS = 100_000
GRACE = timedelta(days=7)
"""how long a user may be over the limit, and a payment be late, unless the configuration says otherwise"""

Source = Literal["default", "admin", "stripe"]
LIVE = frozenset({"trialing", "active", "past_due", "unpaid", "paused"})
"""statuses of a subscription that is there: whoever has one changes it in the portal, and makes no second"""


class Tier(msgspec.Struct, frozen=True):
    """A named set of limits."""

    name: str
    repos: int
    """repositories that a user of this tier may track"""
    requests: int | None = None
    """to the API, a minute; None is what the configuration says"""


class Subscription(msgspec.Struct, frozen=True):
    """A subscription as Stripe tells it."""

    id: str
    status: str
    prices: tuple[str, ...]
    period_start: datetime
    period_end: datetime
    had_trial: bool = False
    cancel_at_period_end: bool = False


class Entitlement(msgspec.Struct, frozen=True):
    """What a customer has paid for. `until` is None where no end is known; Stripe will tell."""

    tier: str | None
    until: datetime | None = None


NOTHING = Entitlement(None)
SEEDS = (Tier("free", repos=2), Tier("pro", repos=10))
DEFAULT = "free"


def repo_limit(tier: Tier, own_limit: int | None) -> int:
    """A user's own limit goes before their tier's."""
    return tier.repos if own_limit is None else own_limit


def rank(tier: Tier) -> tuple[int, str]:
    return (tier.repos, tier.name)


def effective(tiers: Mapping[str, Tier], admin: str | None, paid: str | None) -> tuple[Tier, Source]:
    """The tier that holds: the administrator's is a floor, above which a subscription may raise."""
    floor = tiers[admin or DEFAULT]
    if paid is not None and paid in tiers and rank(tiers[paid]) > rank(floor):
        return tiers[paid], "stripe"
    return floor, "default" if admin is None else "admin"


def entitlement(
    subscriptions: Iterable[Subscription], prices: Mapping[str, Tier], now: datetime, grace: timedelta
) -> Entitlement:
    """What the best of a customer's subscriptions entitles to.

    A late payment keeps its tier for `grace` from the start of the period that it is for, and not a day longer.

    :param prices: the tier of each price that we sell or have sold; others entitle to nothing
    """
    found = [NOTHING]
    for each in subscriptions:
        until = each.period_start + grace if each.status == "past_due" else None
        if each.status not in {"active", "trialing", "past_due"} or (until is not None and until <= now):
            continue
        found += [Entitlement(prices[price].name, until) for price in each.prices if price in prices]
    ranks = {tier.name: rank(tier) for tier in prices.values()}
    return max(
        found, key=lambda each: (ranks.get(each.tier or "", (-1, "")), each.until is None, each.until or now)
    )
