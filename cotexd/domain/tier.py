"""Tiers: what a user may have."""

import msgspec

MAX_NAME = 64


class Tier(msgspec.Struct, frozen=True):
    """A named set of limits. Tiers rank by `repos`."""

    name: str
    repos: int
    """repositories that a user of this tier may track"""
    requests: int | None = None
    """to the API, a minute; None is what the configuration says"""


SEEDS = (Tier("free", repos=2), Tier("pro", repos=10))
DEFAULT = "free"


def repo_limit(tier: Tier, own_limit: int | None) -> int:
    """A user's own limit goes before their tier's."""
    return tier.repos if own_limit is None else own_limit
