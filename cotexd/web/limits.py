"""Rate limits: sliding windows of a minute, in memory, each class of routes apart from the others.

A limit is told in `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) on every answer, and in
`Retry-After` where it is reached. GitHub's deliveries have none: a limit that the API's users reach must never refuse
one. What is counted there, as for sign-ins and bearer tokens, is failures, so that guessing is slow and nobody who has
the right secret is kept out by those who guess.
"""

import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from cotexd import metrics
from cotexd.errors import TooManyRequests

UPGRADES = 10
"""times a user's rate limit: WebSocket upgrades a minute"""
ADDRESS = 100
"""times a user's rate limit: requests a minute from one address, which may be a whole team's proxy"""
MAX_BAD_TOKENS = 100
"""a minute from one address"""
MAX_BAD_SIGNATURES = 600
"""a minute from one address"""
MAX_SIGN_INS = 60
"""a minute from one address: tokens of /auth/v1 asked for"""
MAX_GUESSES = 10
"""wrong passwords a minute for one account, and five times as many from one address"""
MAX_KEYS = 50_000
"""callers that are counted; when there are more, counting begins anew rather than take more memory and time"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with a limit, for the headers."""

    policy: str
    quota: int
    remaining: int
    reset: int
    """seconds until there is more of it"""

    def headers(self) -> dict[str, str]:
        return {
            "ratelimit-policy": f'"{self.policy}";q={self.quota};w=60',
            "ratelimit": f'"{self.policy}";r={self.remaining};t={self.reset}',
        }


class _Storage(MemoryStorage):
    """The library's, but that nothing is done in another thread: its own starts one for each hundredth of a second in
    which it counts, for which the event loop waits.
    """

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if not self.get(key):
            self.expirations[key] = time.time() + expiry
        self.storage[key] += amount
        return self.storage[key]

    def forget_expired(self) -> None:
        for key in list(self.expirations):
            self.get(key)


class Limits:
    """All counters of this process."""

    def __init__(self, rate_limit: int) -> None:
        """:param rate_limit: requests a minute of one user whose tier says nothing else"""
        self.rate_limit = rate_limit
        self._storage = _Storage()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    def hit(self, policy: str, key: str, quota: int) -> Standing:
        """Count one request.

        :raises TooManyRequests: it is over the quota; it is not counted then
        """
        if not self._count(policy, key, quota):
            raise self._refusal(policy, key, quota)
        return self.standing(policy, key, quota)

    def test(self, policy: str, key: str, quota: int) -> None:
        """Look whether there is room for one more, and count nothing.

        :raises TooManyRequests: there is none
        """
        if not self._limiter.test(RateLimitItemPerMinute(quota), policy, key):
            raise self._refusal(policy, key, quota)

    def forget(self, policy: str, key: str, quota: int) -> None:
        """Count from nothing again."""
        self._limiter.clear(RateLimitItemPerMinute(quota), policy, key)

    def standing(self, policy: str, key: str, quota: int) -> Standing:
        reset_at, remaining = self._limiter.get_window_stats(RateLimitItemPerMinute(quota), policy, key)
        return Standing(policy, quota, remaining, max(0, math.ceil(reset_at - time.time())))

    def _count(self, policy: str, key: str, quota: int) -> bool:
        if len(self._storage.storage) > MAX_KEYS:
            self._storage.forget_expired()
        if len(self._storage.storage) > MAX_KEYS:
            self._storage.reset()
        return self._limiter.hit(RateLimitItemPerMinute(quota), policy, key)

    def _refusal(self, policy: str, key: str, quota: int) -> TooManyRequests:
        metrics.LIMITED.labels(policy).inc()
        standing = self.standing(policy, key, quota)
        return TooManyRequests(
            f"That is more than {quota} a minute.",
            retry_after=max(1, standing.reset),
            headers=standing.headers(),
        )
