"""What an attacker tries, each with its answer.

Also attacks, and tested where they belong: pages of other origins and forged addresses in web/test_edge.py, routes
without a token or with another's in web/test_routes.py, guessing of passwords and stolen refresh tokens in
web/test_identity.py, claims that make nobody anybody in web/test_issuers.py, ten thousand half-open connections in
test_half_open.py.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import fakeissuer
import httpx
import jwt
import msgspec
import pytest
from actors import WAIT, legacy, push, receive
from conftest import Serve, Server, hash_of_password, serving, with_password
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fakeissuer import FakeIssuer, Private, public_jwk
from sanic import Sanic

from cotexd import config
from cotexd.config import Settings
from cotexd.domain import signing as pairs
from cotexd.domain.address import Network
from cotexd.errors import Unauthorized
from cotexd.operations import accounts, events, identities, sessions, signing, tokens
from cotexd.web import App, auth
from cotexd.web import github as webhooks
from cotexd.web.limits import MAX_BAD_SIGNATURES, MAX_BAD_TOKENS

# Counted in one minute, however long a test takes.
pytestmark = pytest.mark.usefixtures("minute")
LOOPBACK = config.load({}, {"COTEX_TRUSTED_PROXIES": "127.0.0.0/8"}).trusted_proxies


@pytest.fixture
def database() -> str:
    """SQLite: no attack here gets as far as a database."""
    return ""


def app_of(server: Server) -> App:
    """What runs in it; the server for the forgeries runs beside."""
    (app,) = [each for each in Sanic._app_registry.values() if each.ctx.store.url == server.store.url]
    return app


# Forged tokens.


@dataclass(frozen=True)
class Target:
    """An issuer that the server trusts, as far as an attacker knows it: its address and its public keys."""

    claims: dict[str, Any]
    """of a token that would be good"""
    algorithm: str
    kid: str
    private: Private
    """only for tokens that the issuer signs for other purposes"""
    evil: FakeIssuer
    """the attacker's own issuer"""

    @property
    def public(self) -> dict[str, Any]:
        return public_jwk(self.kid, self.private)

    def signed(self, **changed: Any) -> str:
        """By the issuer itself; a claim that is changed to None is left out."""
        claims = {name: value for name, value in {**self.claims, **changed}.items() if value is not None}
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid})

    def forged(self, key: Private | None = None, **header: Any) -> str:
        """With a key of the attacker's."""
        key = key or self.evil.keys[self.evil.es256]
        algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        named = {name: value for name, value in {"kid": self.kid, **header}.items() if value is not None}
        return jwt.encode(self.claims, key, algorithm, headers=named)

    def bytes_of_key(self, encoding: Encoding, form: PublicFormat) -> bytes:
        return self.private.public_key().public_bytes(encoding, form)


def part(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def assembled(header: object, claims: object, signature: bytes = b"") -> str:
    return b".".join((part(header), part(claims), part(signature))).decode()


def with_hmac(header: Mapping[str, Any], claims: Mapping[str, Any], key: bytes) -> str:
    """HS256 by hand: the library would not sign with what is somebody's public key."""
    signed = part(header) + b"." + part(claims)
    return (signed + b"." + part(hmac.digest(key, signed, hashlib.sha256))).decode()


def confused(target: Target, key: bytes) -> str:
    """HS256 with what everybody knows of an asymmetric key."""
    return with_hmac({"alg": "HS256", "typ": "JWT", "kid": target.kid}, target.claims, key)


def deep(levels: int) -> bytes:
    return b'{"iss":' + b"[" * levels + b"]" * levels + b"}"


NOW = int(time.time())
FORGERIES: dict[str, Callable[[Target], str]] = {
    # What the header may say, and nobody believes.
    "alg none": lambda its: assembled({"alg": "none", "kid": its.kid}, its.claims),
    "alg None": lambda its: assembled({"alg": "None", "kid": its.kid}, its.claims),
    "alg nOnE": lambda its: assembled({"alg": "nOnE"}, its.claims),
    "alg none, two parts": lambda its: assembled({"alg": "none"}, its.claims).rstrip("."),
    "alg none with a signature": lambda its: assembled({"alg": "none"}, its.claims, b"x" * 64),
    "no alg": lambda its: assembled({"kid": its.kid}, its.claims),
    "alg is a list": lambda its: assembled({"alg": ["none"], "kid": its.kid}, its.claims),
    "alg twice": lambda its: assembled(b'{"alg":"%b","alg":"none"}' % its.algorithm.encode(), its.claims),
    "kid is a number": lambda its: assembled({"alg": its.algorithm, "kid": 5}, its.claims, b"x" * 64),
    "kid is a path": lambda its: its.forged(kid="../../../../dev/null"),
    "kid is a query": lambda its: its.forged(kid="' UNION SELECT 'x"),
    "unknown kid": lambda its: its.forged(kid=its.evil.es256),
    "no kid": lambda its: its.forged(kid=None),
    "empty kid": lambda its: its.forged(kid=""),
    "another's key": lambda its: its.forged(),
    "no signature": lambda its: its.signed().rpartition(".")[0] + ".",
    "half a signature": lambda its: its.signed()[:-43],
    "a signature of zeros": lambda its: assembled(
        {"alg": its.algorithm, "kid": its.kid}, its.claims, bytes(64)
    ),
    "another's claims": lambda its: ".".join(
        (
            its.signed().split(".")[0],
            part({**its.claims, "sub": str(uuid.uuid4())}).decode(),
            its.signed().split(".")[2],
        )
    ),
    # A key that is everybody's.
    "HS256 with the PEM": lambda its: confused(
        its, its.bytes_of_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the PEM without its last line": lambda its: confused(
        its, its.bytes_of_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip()
    ),
    "HS256 with the DER": lambda its: confused(
        its, its.bytes_of_key(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the JWK": lambda its: confused(its, json.dumps(its.public).encode()),
    "HS256 with the compact JWK": lambda its: confused(
        its, json.dumps(its.public, separators=(",", ":")).encode()
    ),
    "HS256 with the JWKS": lambda its: confused(its, json.dumps({"keys": [its.public]}).encode()),
    "HS256 with a coordinate": lambda its: confused(
        its, base64.urlsafe_b64decode(its.public.get("x", its.public.get("n")) + "==")
    ),
    "HS256 with the kid": lambda its: confused(its, its.kid.encode()),
    "HS256 with nothing": lambda its: confused(its, b""),
    "HS256 without a kid": lambda its: with_hmac({"alg": "HS256"}, its.claims, b""),
    # A key that it brings along.
    "jwk": lambda its: its.forged(jwk=public_jwk(its.kid, its.evil.keys[its.evil.es256])),
    "jwk under its own kid": lambda its: its.forged(
        kid=its.evil.es256, jwk=public_jwk(its.evil.es256, its.evil.keys[its.evil.es256])
    ),
    "jku": lambda its: its.forged(kid=its.evil.es256, jku=its.evil.url + fakeissuer.JWKS),
    "x5u": lambda its: its.forged(kid=its.evil.es256, x5u=its.evil.url + "/chain.pem"),
    "x5c": lambda its: its.forged(x5c=["MIIB"]),
    "kid is an address": lambda its: its.forged(kid=its.evil.url + fakeissuer.JWKS),
    "iss is the attacker": lambda its: its.evil.token(),
    # What the issuer signed for something else.
    "other aud": lambda its: its.signed(aud="somebody else"),
    "no aud": lambda its: its.signed(aud=None),
    "empty aud": lambda its: its.signed(aud=[]),
    "aud is a list of others": lambda its: its.signed(aud=["a", "b"]),
    "aud is an object": lambda its: its.signed(aud={"authenticated": True}),
    "other iss": lambda its: its.signed(iss="https://somebody.example/auth/v1"),
    "iss with a slash": lambda its: its.signed(iss=its.claims["iss"] + "/"),
    "iss in capitals": lambda its: its.signed(iss=its.claims["iss"].upper()),
    "no iss": lambda its: its.signed(iss=None),
    "expired": lambda its: its.signed(exp=NOW - 40),
    "no exp": lambda its: its.signed(exp=None),
    "exp is nothing": lambda its: its.signed(exp=False),
    "exp is endless": lambda its: its.signed(exp=1e400),
    "exp is not a number": lambda its: its.signed(exp=float("nan")),
    "exp is a word": lambda its: its.signed(exp="never"),
    "exp is a list": lambda its: its.signed(exp=[NOW + 60]),
    "not yet valid": lambda its: its.signed(nbf=NOW + 86400, exp=NOW + 2 * 86400),
    "issued tomorrow": lambda its: its.signed(iat=NOW + 86400, exp=NOW + 2 * 86400),
    "no sub": lambda its: its.signed(sub=None),
    "empty sub": lambda its: its.signed(sub=""),
    "sub is a list": lambda its: assembled_by(its, sub=[its.claims["sub"]]),
    "sub is too long": lambda its: its.signed(sub="x" * 256),
    # What is no token at all.
    "too long": lambda its: its.signed(filler="x" * 8000),
    "deep claims": lambda its: assembled({"alg": its.algorithm, "kid": its.kid}, deep(2000), b"x" * 64),
    "deep header": lambda its: assembled(deep(2000), its.claims, b"x" * 64),
    "claims are a list": lambda its: assembled({"alg": its.algorithm, "kid": its.kid}, [], b"x" * 64),
    "five parts": lambda its: its.signed() + ".x.y",
    "no text": lambda its: assembled(b"\xff\xfe", b"\xff", b"\xff"),
}


def assembled_by(its: Target, **changed: Any) -> str:
    """What the library would refuse to sign, signed by the issuer."""
    head, _, _ = its.signed().partition(".")
    signed = head.encode() + b"." + part({**its.claims, **changed})
    algorithm = jwt.get_algorithm_by_name(its.algorithm)
    return (signed + b"." + part(algorithm.sign(signed, its.private))).decode()


@dataclass(frozen=True)
class Trust:
    """A server that trusts itself and a Supabase, with one user of each."""

    server: Server
    supabase: FakeIssuer
    evil: FakeIssuer
    targets: dict[str, Target]

    async def status(self, token: str, **headers: str) -> httpx.Response:
        # From another address each time, so that it is not the limit that answers.
        address = f"198.51.{uuid.uuid4().bytes[0]}.{uuid.uuid4().bytes[0]}"
        headers = {"authorization": f"Bearer {token}", "x-forwarded-for": address, **headers}
        return await self.server.get("/api/me", headers=headers)


@pytest.fixture(scope="module")
async def trust(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trust]:
    """One for all forgeries: none of them changes anything."""
    async with AsyncExitStack() as stack:
        supabase, evil = [await stack.enter_async_context(fakeissuer.running()) for _ in range(2)]
        settings = Settings(
            port=0,
            data_dir=tmp_path_factory.mktemp("attacks") / "data",
            trusted_proxies=LOOPBACK,
            **supabase.supabase,
        )
        server = await stack.enter_async_context(serving(settings))
        ada = with_password(server)
        granted = server.store.run(sessions.begin, ada.id, hash_of_password(), "cotexd/auth/v1")
        session = jwt.decode(granted.access_token, options={"verify_signature": False})
        own = server.store.run(signing.in_use)
        key = pairs.load(own).key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        rsa = supabase.new_key("RS256")
        targets = {
            "ourselves": Target(session, "ES256", own.kid, key, evil),
            "Supabase, ES256": Target(
                supabase.claims(), "ES256", supabase.es256, supabase.keys[supabase.es256], evil
            ),
            "Supabase, RS256": Target(supabase.claims(), "RS256", rsa, supabase.keys[rsa], evil),
        }
        found = Trust(server, supabase, evil, targets)
        for target in targets.values():
            assert (await found.status(target.signed())).status_code == 200
        yield found


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_lets_nobody_in(trust: Trust, forgery: str):
    before = trust.server.store.look(accounts.all_of_them)
    for name, target in trust.targets.items():
        token = FORGERIES[forgery](target)
        answer = await trust.status(token)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), name
        assert token not in answer.text
    assert trust.evil.fetches == 0
    assert trust.server.store.look(accounts.all_of_them) == before


@pytest.mark.parametrize("forgery", ["alg none", "HS256 with nothing", "HS256 with the kid", "deep claims"])
async def test_nor_does_one_that_looks_like_a_scripts(trust: Trust, forgery: str):
    ada = trust.server.store.look(accounts.find, "ada")
    issued = trust.server.store.run(tokens.issue, ada.id)
    claims = jwt.decode(issued.token, options={"verify_signature": False})
    assert (await trust.status(issued.token)).status_code == 200
    target = replace(trust.targets["ourselves"], claims=claims, algorithm="HS256")
    assert (await trust.status(FORGERIES[forgery](target))).status_code == 401


async def test_our_own_key_of_scripts_signs_in_no_other_way(trust: Trust):
    """Whoever had it: only HS256, and only the tokens that we made and did not revoke."""
    ada = trust.server.store.look(accounts.find, "ada")
    key = trust.server.store.run(tokens.signing_key)
    issued = trust.server.store.run(tokens.issue, ada.id)
    claims = jwt.decode(issued.token, options={"verify_signature": False})
    for token in (
        jwt.encode(claims, key * 2, "HS384"),
        jwt.encode(claims, key * 2, "HS512"),
        jwt.encode({**claims, "jti": str(uuid.uuid4())}, key, "HS256"),
        jwt.encode({**claims, "jti": ""}, key, "HS256"),
        jwt.encode({**claims, "iss": "cotexd/auth/v1", "aud": "authenticated"}, key, "HS256"),
        jwt.encode({**claims, "aud": "authenticated"}, key, "HS256"),
    ):
        assert (await trust.status(token)).status_code == 401


async def test_a_published_kid_on_a_token_of_the_shared_secret_is_refused(trust: Trust):
    for kid in trust.supabase.keys:
        assert (await trust.status(trust.supabase.token("HS256", kid=kid))).status_code == 401
    assert (await trust.status(trust.supabase.token("HS256", kid="legacy"))).status_code == 200


async def test_the_keys_of_a_supabase_project_are_no_users(trust: Trust):
    """Its anon key lies in every app; both are signed with the secret that we trust."""
    for role in ("anon", "service_role"):
        claims = {"iss": "supabase", "ref": "project", "role": role, "iat": NOW, "exp": NOW + 10**8}
        for more in ({}, {"iss": trust.supabase.iss}, {"iss": trust.supabase.iss, "aud": "authenticated"}):
            token = jwt.encode({**claims, **more}, trust.supabase.secret, "HS256")
            assert (await trust.status(token, apikey=token)).status_code == 401


async def test_no_other_secret_is_a_token(trust: Trust):
    ada = trust.server.store.look(accounts.find, "ada")
    repo = trust.server.track(ada)
    granted = trust.server.store.run(sessions.begin, ada.id, hash_of_password(), "cotexd/auth/v1")
    for secret in (repo.webhook_secret, granted.refresh_token, hash_of_password(), ada.id, "ada"):
        assert (await trust.status(secret)).status_code == 401


async def test_a_storm_of_unknown_keys_is_one_fetch_and_not_one_a_token(servers: Serve, settings: Settings):
    async with fakeissuer.running() as supabase:
        server = await servers(replace(settings, trusted_proxies=LOOPBACK, **supabase.supabase))
        found = Trust(server, supabase, supabase, {})
        key = supabase.keys[supabase.es256]

        async def storm(count: int) -> set[int]:
            forged = [supabase.token(kid=uuid.uuid4().hex, key=key) for _ in range(count)]
            return {answer.status_code for answer in await asyncio.gather(*map(found.status, forged))}

        assert await storm(100) == {401}
        # The first load, and the one that the first unknown kid after it is worth.
        assert supabase.fetches <= 2
        assert await storm(100) == {401}
        assert supabase.fetches == 2
        assert (await found.status(supabase.token())).status_code == 200


async def test_a_token_that_is_longer_than_a_head_may_be_is_not_read(server: Server):
    answer = await server.get("/api/me", headers={"authorization": "Bearer " + "a.b." + "x" * 60_000})
    assert answer.status_code in {413, 431}
    assert (await server.get("/health")).status_code == 200


# Somebody else's things.


async def test_what_is_anothers_is_as_if_it_were_not_there(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    server.user("bob")
    repo = server.track(ada)
    event_id = (await server.github.deliver(repo)).json()["event_id"]
    nothing = str(uuid.uuid4())
    for method, path, body in (
        ("GET", "/api/repos?id={repo}", None),
        ("PATCH", "/api/repos?id={repo}", {"status": "paused"}),
        ("PATCH", "/api/repos?id={repo}", {"rotate_secret": True}),
        ("PATCH", "/api/repos?id={repo}", {"my_filter": {"events": ["push"]}}),
        ("DELETE", "/api/repos?id={repo}", None),
        ("GET", "/api/repos/members?id={repo}", None),
        ("POST", "/api/repos/members?id={repo}", {"user": "eve"}),
        ("POST", "/api/repos/members?id={repo}", {"user": "bob"}),
        ("DELETE", "/api/repos/members?id={repo}&user=ada", None),
        ("DELETE", "/api/repos/members?id={repo}&user=eve", None),
        ("GET", "/api/github-events?repo_id={repo}", None),
        ("GET", "/api/github-events/recent?repo_id={repo}&include_payload=true", None),
        ("GET", "/api/github-events/event?id={event}", None),
    ):
        answers = [
            await server.request(method, path.format(repo=its_repo, event=its_event), eve, json=body)
            for its_repo, its_event in ((repo.id, event_id), (nothing, nothing))
        ]
        assert [answer.status_code for answer in answers] == [404, 404], path
        told = [
            {name: value for name, value in answer.json().items() if name != "request_id"}
            for answer in answers
        ]
        assert json.dumps(told[0]).replace(repo.id, nothing).replace(event_id, nothing) == json.dumps(told[1])
    answer = await server.request("DELETE", f"/api/repos?name={repo.repo_name}", eve)
    assert answer.status_code == 404
    assert (await server.get("/api/repos", ada)).json()[0]["status"] == "active"


async def test_an_ack_moves_nobody_elses_device(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    repo = server.track(ada)
    hers = server.client(ada, device="laptop")
    async with hers.connected() as socket:
        await hers.until_live(socket)
    await server.github.deliver(repo)
    cursor = f"{server.store.look(events.log).epoch}.1"
    for device in ("laptop", ""):
        body = {"cursor": cursor, "device": device, "user_id": ada.id}
        answer = await server.request("POST", "/api/github-events/ack", eve, json=body)
        assert answer.status_code == 200
    (event,) = (await server.get("/api/github-events?undelivered=true", ada)).json()
    assert not event["is_delivered"]
    again = server.client(ada, device="laptop")
    async with again.connected() as socket:
        await again.until_live(socket)
    assert again.seqs == [1]


async def test_a_socket_gets_nothing_of_anothers_by_whatever_it_asks_for(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    repo, own = server.track(ada), server.track(eve, "octo/own")
    await server.github.deliver(repo)
    epoch = server.store.look(events.log).epoch
    asked = {
        "cursor": f"{epoch}.0",
        "repos": f"{repo.id},{own.id}",
        "events": "push",
        "device": "laptop",
        "user_id": ada.id,
    }
    client = server.client(eve, **asked)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(repo)
        await server.github.deliver(own)
        await client.until_applied(socket, 1)
    assert client.seqs == [3]


@pytest.mark.parametrize("protocol", ["v2", "legacy"])
async def test_a_client_event_reaches_nobody_whoever_it_names(server: Server, protocol: str):
    bob, eve = server.user("bob"), server.user("eve")
    repo = server.track(bob)
    named = {"user_id": bob.id, "target_user_id": bob.id, "repo_name": repo.repo_name, "timestamp": "now"}
    theirs = server.client(bob)
    speaking = (
        legacy(server.url, server.token(eve)) if protocol == "legacy" else server.client(eve).connected()
    )
    async with (
        theirs.connected() as newer,
        legacy(server.url, server.token(bob)) as older,
        speaking as hers,
    ):
        await theirs.until_live(newer)
        for event in ("ack", "notice", "push", "pong"):
            for payload in ({"seq": 0, "text": "Your account is closed"}, {"seq": 0, **named}):
                message = {"type": "client_event", "event": event, "payload": payload, **named}
                await hers.send(json.dumps(message))
        # Whatever they do has been done when this is answered.
        await (await hers.ping())
        await server.github.deliver(repo, push(1))
        for socket in (newer, older):
            before = []
            while (message := await receive(socket))["type"] != "github_event":
                before.append(message)
            # What else bob may be told is what he did himself.
            assert all("octo/hello was successfully added" in str(each["payload"]) for each in before)


async def test_a_revoked_token_is_out_at_once_with_the_sockets_it_opened(server: Server):
    ada = server.user("ada")
    issued = server.store.run(tokens.issue, "ada", label="ci").token
    kept = server.store.run(tokens.issue, "ada", label="desk").token
    headers = [{"authorization": f"Bearer {token}"} for token in (issued, kept)]
    async with legacy(server.url, issued) as out, legacy(server.url, kept) as stays:
        assert (await server.get("/api/me", headers=headers[0])).status_code == 200
        server.store.run(tokens.revoke, "ada", "ci")
        assert (await server.get("/api/me", headers=headers[0])).status_code == 401
        await out.wait_closed()
        assert out.close_code == 4500
        assert await stays.ping()
    assert (await server.get("/api/me", headers=headers[1])).status_code == 200
    assert (await server.get("/api/repos", ada)).status_code == 200


async def test_a_token_that_is_revoked_while_it_connects_opens_nothing(server: Server):
    """Between the look at the token and the transaction that lets a client in, anything may be committed."""
    server.user("ada")
    issued = server.store.run(tokens.issue, "ada", label="ci").token
    caller = await app_of(server).ctx.authenticator.caller(issued)
    server.store.run(tokens.revoke, "ada", "ci")
    with pytest.raises(Unauthorized):
        server.store.run(identities.still_good, caller)


# Guessing, and hammering.


async def test_guessing_of_tokens_is_slowed_down_and_a_good_one_is_not(server: Server):
    ada = server.user("ada")
    statuses = [
        (await server.get("/api/me", headers={"authorization": f"Bearer guess.{number}.x"})).status_code
        for number in range(MAX_BAD_TOKENS + 10)
    ]
    assert statuses == [401] * MAX_BAD_TOKENS + [429] * 10
    answer = await server.get("/api/me", headers={"authorization": "Bearer guess"})
    assert answer.json()["code"] == "rate_limited"
    assert int(answer.headers["retry-after"]) > 0
    assert (await server.get("/api/me", ada)).status_code == 200


@pytest.mark.parametrize("proxies", [(), LOOPBACK])
async def test_no_forged_address_makes_guessing_quicker(
    servers: Serve, settings: Settings, proxies: tuple[Network, ...]
):
    """With a proxy, the attacker's own header stands before what that adds: the address it sees."""
    server = await servers(replace(settings, trusted_proxies=proxies))
    statuses = []
    for number in range(MAX_BAD_TOKENS + 10):
        forged = f"192.0.2.{number}" if not proxies else f"192.0.2.{number}, 203.0.113.9"
        headers = {"authorization": "Bearer guess", "x-forwarded-for": forged, "x-real-ip": forged}
        statuses.append((await server.get("/api/me", headers=headers)).status_code)
    assert statuses == [401] * MAX_BAD_TOKENS + [429] * 10
    if proxies:
        headers = {"authorization": "Bearer guess", "x-forwarded-for": "203.0.113.10"}
        assert (await server.get("/api/me", headers=headers)).status_code == 401


async def test_guessing_of_webhook_signatures_is_slowed_down_and_github_is_not(server: Server):
    repo = server.track(server.user("ada"))

    async def guess() -> int:
        return (await server.github.deliver(repo, secret="a guess")).status_code

    for _ in range(MAX_BAD_SIGNATURES):
        assert await guess() == 401
    answer = await server.github.deliver(repo, secret="a guess")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    # Nor does it tell which repositories there are.
    nowhere = msgspec.structs.replace(repo, id=str(uuid.uuid4()))
    unknown = await server.github.deliver(nowhere, secret="a guess")
    assert unknown.status_code == 429
    assert (await server.github.deliver(repo)).status_code == 200


async def test_githubs_deliveries_pass_however_hard_the_rest_is_hammered(
    servers: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhooks, "MAX_BAD_SIGNATURES", 20)
    monkeypatch.setattr(auth, "MAX_BAD_TOKENS", 20)
    server = await servers(replace(settings, rate_limit=5))
    ada = with_password(server)
    repo = server.track(ada)
    token = server.token(ada)
    bearer = {"authorization": f"Bearer {token}"}
    wrong = {"email": "nobody@example.com", "refresh_token": "x"}
    hammers: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
        "api": lambda: server.get("/api/me", headers=bearer),
        "tokens": lambda: server.get("/api/me", headers={"authorization": "Bearer x"}),
        "upgrades": lambda: server.get("/ws", headers=bearer),
        "refreshes": lambda: server.request("POST", "/auth/v1/token?grant_type=refresh_token", json=wrong),
        "signatures": lambda: server.github.deliver(repo, secret="a guess"),
    }
    stopping, seen = asyncio.Event(), {name: set[int]() for name in hammers}

    async def hammer(name: str) -> None:
        while not stopping.is_set():
            seen[name].add((await hammers[name]()).status_code)

    async with asyncio.TaskGroup() as group:
        for name in hammers:
            for _ in range(4):
                group.create_task(hammer(name))
        delivered = []
        while not {429} <= seen["api"] & seen["tokens"] & seen["upgrades"] & seen["signatures"]:
            delivered.append((await server.github.deliver(repo)).status_code)
        stopping.set()
    assert set(delivered) == {200}
    # And they still do, while nobody may ask for anything.
    assert {(await server.github.deliver(repo)).status_code for _ in range(20)} == {200}


# Slow, and many.


@asynccontextmanager
async def opened(
    server: Server, first: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which somebody has said something."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(first)
        yield reader, writer
    finally:
        writer.transport.abort()


BODY = b"Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"
HOOK = (
    b"POST /api/webhooks/github/x HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: slow\r\n"
)
SLOW: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "half a line": (b"GET /hea", b""),
    "half a head": (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b""),
    "a head by drops": (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x"),
    "half a body": (b"POST /api/repos HTTP/1.1\r\nHost: x\r\n" + BODY, b""),
    "a body by drops": (b"POST /api/repos HTTP/1.1\r\nHost: x\r\n" + BODY, b"x"),
    "a password by drops": (
        b"POST /auth/v1/token?grant_type=password HTTP/1.1\r\nHost: x\r\n" + BODY,
        b"x",
    ),
    "half a delivery": (HOOK + b"Content-Length: 60000\r\n\r\n{", b""),
    "a delivery by drops": (HOOK + b"Content-Length: 60000\r\n\r\n{", b"x"),
    "a delivery by chunks": (HOOK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a payment by drops": (b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\n" + BODY, b"x"),
    "a body that nobody waits for": (b"GET /nothing HTTP/1.1\r\nHost: x\r\n" + BODY, b"x"),
}


@pytest.fixture
def impatient(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that waits for a second where others wait for many."""
    app_of(server).config.update(REQUEST_TIMEOUT=1, RESPONSE_TIMEOUT=3, KEEP_ALIVE_TIMEOUT=1)
    # Else it would hang up on us as well, in between.
    server.http.headers["connection"] = "close"
    monkeypatch.setattr(webhooks, "BODY_WITHIN", 1.0)
    monkeypatch.setattr(webhooks, "LINGER", 0.2)
    return server


async def test_a_slow_sender_is_cut_off_and_others_are_served_meanwhile(impatient: Server):
    async def send(kind: str) -> str | None:
        """Returns the kind if it is not cut off."""
        first, drop = SLOW[kind]
        async with opened(impatient, first) as (reader, writer):
            try:
                async with asyncio.timeout(WAIT):
                    reading = asyncio.ensure_future(reader.read())
                    while not reading.done():
                        await asyncio.wait([reading], timeout=0.3)
                        writer.write(drop)
                    await reading
            except TimeoutError:
                return kind
            except ConnectionError:
                pass
        return None

    ada = impatient.user("ada")
    repo = impatient.track(ada)
    senders = [asyncio.ensure_future(send(kind)) for kind in SLOW]
    while not all(sender.done() for sender in senders):
        assert (await impatient.get("/api/me", ada)).status_code == 200
        assert (await impatient.github.deliver(repo)).status_code == 200
        await asyncio.wait(senders, timeout=1)
    assert [kind for kind in await asyncio.gather(*senders) if kind] == []
