"""An issuer's public keys, fetched from its JWKS address (RFC 7517) and kept.

They are fetched when they are first needed, again every REFRESH behind the back of whoever asks, and at once when a
token names a key that we don't know: the issuer may have rotated. A storm of tokens with invented keys costs one fetch
every FORCED, not one a token. While the issuer is away, what we have stays good for STALE.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import httpx
import msgspec
import structlog

from cotexd import metrics
from cotexd.domain import tokens
from cotexd.domain.tokens import Issuer, Keys
from cotexd.errors import Unavailable

REFRESH = timedelta(minutes=10).total_seconds()
FORCED = timedelta(minutes=1).total_seconds()
STALE = timedelta(hours=24).total_seconds()
RETRY = 5.0
"""seconds between two attempts while there is nothing to go by"""
TIMEOUT = 5.0
"""seconds for the whole of a fetch"""
MAX_BYTES = 256 * 1024

_logger = structlog.get_logger("cotexd.jwks")


class KeyRing:
    """The keys of one issuer. Its answer is a Keys that never changes: a new fetch makes a new one."""

    def __init__(
        self, issuer: Issuer, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.issuer = issuer
        self._http = http
        self._clock = clock
        self._keys = Keys(issuer.secret.encode())
        self._fetched_at = -STALE
        self._tried_at = -STALE
        self._next_forced = -STALE
        self._fetching: asyncio.Task[bool] | None = None

    async def keys(self, kid: str, algorithm: str) -> Keys:
        """What a token with this kid is to be checked against.

        :raises Unavailable: the issuer's keys can't be had, and this token needs them
        """
        if not self.issuer.jwks_url or (algorithm not in tokens.ASYMMETRIC and self._age() < STALE):
            return self._keys
        if self._age() >= STALE:
            await self._first(algorithm)
        elif kid not in self._keys.public and self._fetching is not None:
            await self._fetch()
        elif kid not in self._keys.public and self._clock() >= self._next_forced:
            self._next_forced = self._clock() + FORCED
            await self._fetch()
        elif self._age() >= REFRESH and self._clock() - self._tried_at >= RETRY:
            self._start()
        return self._keys

    async def _first(self, algorithm: str) -> None:
        if self._fetching is not None or self._clock() - self._tried_at >= RETRY:
            await self._fetch()
        if self._age() < STALE:
            return
        self._keys = Keys(self.issuer.secret.encode())
        if algorithm in tokens.ASYMMETRIC:
            raise Unavailable(
                f"The keys of {self.issuer.iss} cannot be fetched right now.",
                hint="Try again soon. The administrator finds the reason in the server's log.",
            )

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    async def _fetch(self) -> None:
        await asyncio.shield(self._start())

    def _start(self) -> "asyncio.Task[bool]":
        """One fetch at a time: whoever comes meanwhile waits for the same."""
        if self._fetching is None:
            self._tried_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._load())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, _: "asyncio.Task[bool]") -> None:
        self._fetching = None

    async def _load(self) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT):
                document = await self._get()
            public = tokens.read_jwks(document)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            metrics.JWKS_FETCHES.labels("failed").inc()
            _logger.warning("jwks_failed", issuer=self.issuer.iss, reason=str(error) or type(error).__name__)
            return False
        metrics.JWKS_FETCHES.labels("done").inc()
        self._keys = Keys(self.issuer.secret.encode(), public)
        self._fetched_at = self._clock()
        return True

    async def _get(self) -> dict[str, object]:
        async with self._http.stream(
            "GET", self.issuer.jwks_url, headers={"accept": "application/json"}
        ) as answer:
            answer.raise_for_status()
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError(f"the answer is over {MAX_BYTES} bytes")
        try:
            return msgspec.json.decode(body, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("the answer is not a JWK set") from None
