"""An issuer outside, as Supabase is one: it publishes keys on loopback and signs whatever a test wants signed."""

import asyncio
import functools
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from cotexd.domain.tokens import Issuer

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
JWKS = "/auth/v1/.well-known/jwks.json"


class FakeIssuer:
    """`keys` are what it publishes; `away` and `slow` are how it answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.iss = f"{url}/auth/v1"
        self.secret = f"the legacy secret of the project at {url}"
        self.keys: dict[str, Private] = {}
        self.fetches = 0
        self.away = False
        self.open = asyncio.Event()
        """clear it, and whoever asks for the keys waits"""
        self.open.set()
        self.es256 = self.new_key()

    @property
    def supabase(self) -> dict[str, Any]:
        """The settings of a server that trusts it as its Supabase project."""
        return {"supabase_url": self.url, "supabase_jwt_secret": self.secret}

    def openid(self, **more: Any) -> Issuer:
        """What one table [[auth.issuers]] says of it."""
        return Issuer(self.iss, "cotex-app", ("ES256", "RS256"), self.url + JWKS, **more)

    def new_key(self, algorithm: str = "ES256") -> str:
        """Begin to publish another key; returns its kid."""
        kid = uuid.uuid4().hex
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else _rsa()
        return kid

    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(kid, key) for kid, key in self.keys.items()]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What Supabase says in a token; a claim that is changed to None is left out."""
        now = int(time.time())
        claims = {
            "iss": self.iss,
            "aud": "authenticated",
            "sub": str(uuid.uuid4()),
            "iat": now,
            "exp": now + 3600,
            "email": "grace@example.com",
            "phone": "",
            "role": "authenticated",
            "aal": "aal1",
            "session_id": str(uuid.uuid4()),
            "is_anonymous": False,
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"email": "grace@example.com", "email_verified": True},
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        algorithm: str = "ES256",
        *,
        kid: str | None = None,
        key: Private | str | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """:param kid: that the header names: one of its own keys, which signs then; "" is no kid
        :param key: signs instead of its own
        """
        if kid is None:
            kid = "" if algorithm == "HS256" else self.es256
        signing = key or (self.secret if algorithm == "HS256" else self.keys[kid])
        named = {"kid": kid} if kid else {}
        return jwt.encode(self.claims(**claims), signing, algorithm, headers={**named, **(header or {})})

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.fetches += 1
            await self.open.wait()
            if not self.away:
                body = json.dumps(self.jwks()).encode()
                head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close"
                writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who asked is gone
        finally:
            writer.close()


@asynccontextmanager
async def running() -> AsyncIterator[FakeIssuer]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await issuer.answer(reader, writer)

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    issuer = FakeIssuer(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    try:
        yield issuer
    finally:
        issuer.open.set()
        listening.close()
        await listening.wait_closed()


def public_jwk(kid: str, key: Private) -> dict[str, Any]:
    public = key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        return {**ECAlgorithm.to_jwk(public, as_dict=True), "kid": kid, "alg": "ES256", "use": "sig"}
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": kid, "alg": "RS256", "use": "sig"}


@functools.cache
def _rsa() -> rsa.RSAPrivateKey:
    """One for all tests: making it takes long."""
    return rsa.generate_private_key(65537, 2048)
