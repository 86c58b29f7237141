"""Our own server, seen from outside: through whatever stands before it."""

import base64
import os
import ssl
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from cotexd.errors import Unreachable
from cotexd.gateways import outside

TIMEOUT = 5.0
"""seconds for each step of a request"""
MAX_BYTES = 64 * 1024


class Seen(msgspec.Struct, frozen=True):
    """An answer, as far as it says what stands there."""

    status: int
    version: str
    """of cotexd; "" where it is something else that answers"""
    handshake_came: bool
    """the answer was made to a WebSocket's handshake, which has come through"""
    clock: datetime | None
    """what time it is there"""
    certificate_ends: datetime | None


class _Health(msgspec.Struct, frozen=True):
    version: str
    timestamp: datetime | None = None


_NOBODY = _Health("")


async def health(base: str) -> Seen:
    """Ask for /health under an address of ours.

    :raises Unreachable: there is no answer, or the certificate is not good; says which
    """
    return await _get(f"{base}/health", {})


async def handshake(base: str) -> Seen:
    """Ask for a WebSocket without a token: our server refuses that, and says that it has seen the handshake.

    :raises Unreachable: there is no answer
    """
    key = base64.b64encode(os.urandom(16)).decode()
    return await _get(
        f"{base}/ws",
        {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": key,
        },
    )


async def clock(url: str) -> datetime | None:
    """The time that somebody else's server says it is.

    :raises Unreachable: there is no answer
    """
    return (await _get(url, {})).clock


async def _get(url: str, headers: dict[str, str]) -> Seen:
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(outside.client(configured=True, timeout=TIMEOUT))
            answer = await stack.enter_async_context(client.stream("GET", url, headers=headers))
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    break
            health = _read(body)
            return Seen(
                answer.status_code,
                health.version,
                "sec-websocket-version" in answer.headers,
                health.timestamp or _date(answer.headers.get("date", "")),
                _certificate_ends(answer),
            )
    except httpx.HTTPError as error:
        raise Unreachable(str(error) or type(error).__name__) from error


def _read(body: bytes) -> _Health:
    try:
        return msgspec.json.decode(body, type=_Health)
    except (msgspec.DecodeError, RecursionError):
        return _NOBODY


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None


def _certificate_ends(answer: httpx.Response) -> datetime | None:
    secured = answer.extensions["network_stream"].get_extra_info("ssl_object")
    certificate = secured.getpeercert() if isinstance(secured, ssl.SSLObject | ssl.SSLSocket) else None
    if not certificate:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
