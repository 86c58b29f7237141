"""Our own server, seen from outside: through whatever stands before it."""

import base64
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

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
    certificate_ends: datetime | None


class _Health(msgspec.Struct, frozen=True):
    status: str
    version: str


class _Key(msgspec.Struct, frozen=True):
    kid: str


class _Keys(msgspec.Struct, frozen=True):
    keys: tuple[_Key, ...]


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


async def keys(base: str) -> frozenset[str]:
    """The ids of the keys by which the server at `base` signs: what tells one cotexd from another.

    :raises Unreachable: there is no answer
    """
    try:
        found = msgspec.json.decode(await _body(f"{base}/auth/v1/.well-known/jwks.json"), type=_Keys)
    except (msgspec.DecodeError, RecursionError):
        return frozenset()
    return frozenset(each.kid for each in found.keys)


async def _get(url: str, headers: dict[str, str]) -> Seen:
    async with _asked(url, headers) as (answer, body):
        return Seen(
            answer.status_code,
            _version(body),
            "sec-websocket-version" in answer.headers,
            _certificate_ends(answer),
        )


async def _body(url: str) -> bytes:
    async with _asked(url, {}) as (_, body):
        return body


@asynccontextmanager
async def _asked(url: str, headers: dict[str, str]) -> AsyncIterator[tuple[httpx.Response, bytes]]:
    try:
        async with (
            outside.client(configured=True, timeout=TIMEOUT) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    break
            yield answer, body
    except httpx.HTTPError as error:
        raise Unreachable(str(error) or type(error).__name__) from error


def _version(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Health).version
    except (msgspec.DecodeError, RecursionError):
        return ""


def _certificate_ends(answer: httpx.Response) -> datetime | None:
    secured = answer.extensions["network_stream"].get_extra_info("ssl_object")
    certificate = secured.getpeercert() if isinstance(secured, ssl.SSLObject | ssl.SSLSocket) else None
    if not certificate:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
