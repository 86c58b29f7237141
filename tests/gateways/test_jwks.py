import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fakeissuer
import httpx
import pytest
from conftest import eventually
from fakeissuer import JWKS, FakeIssuer

from cotexd.domain import tokens
from cotexd.domain.tokens import Issuer, Keys, UnknownKey
from cotexd.errors import Unauthorized, Unavailable
from cotexd.gateways import jwks, outside
from cotexd.gateways.jwks import KeyRing

MINUTE, HOUR = 60.0, 3600.0


class Clock:
    """Seconds of a monotonic clock that a test sets; it may begin at 0."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with fakeissuer.running() as found:
        yield found


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with outside.client(configured=True, timeout=jwks.TIMEOUT) as client:
        yield client


@pytest.fixture
def ring(issuer: FakeIssuer, http: httpx.AsyncClient, clock: Clock) -> KeyRing:
    return KeyRing(issuer.openid(), http, clock)


async def known(ring: KeyRing, kid: str, algorithm: str = "ES256") -> bool:
    return kid in (await ring.keys(kid, algorithm)).public


# Fetching.


async def test_nothing_is_fetched_before_it_is_needed(ring: KeyRing, issuer: FakeIssuer):
    assert issuer.fetches == 0
    assert await known(ring, issuer.es256)
    assert issuer.fetches == 1


async def test_what_was_fetched_is_kept_for_ten_minutes(ring: KeyRing, issuer: FakeIssuer, clock: Clock):
    first = await ring.keys(issuer.es256, "ES256")
    for _ in range(9):
        clock.forward(MINUTE)
        assert await ring.keys(issuer.es256, "ES256") is first
    assert issuer.fetches == 1


async def test_after_ten_minutes_it_is_fetched_again_and_nobody_waits_for_that(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    first = await ring.keys(issuer.es256, "ES256")
    second = issuer.new_key()
    clock.forward(10 * MINUTE)
    issuer.open.clear()
    for _ in range(3):
        assert await ring.keys(issuer.es256, "ES256") is first
    await eventually(lambda: issuer.fetches == 2)
    issuer.open.set()
    await eventually(lambda: ring_knows(ring, second))
    assert await ring.keys(second, "ES256") is not first
    assert issuer.fetches == 2


def ring_knows(ring: KeyRing, kid: str) -> bool:
    return kid in ring._keys.public


async def test_a_key_that_the_issuer_gave_up_is_given_up_here(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    old, new = issuer.es256, issuer.new_key()
    assert await known(ring, old)
    del issuer.keys[old]
    clock.forward(10 * MINUTE)
    await ring.keys(new, "ES256")
    await eventually(lambda: not ring_knows(ring, old))
    clock.forward(1)
    assert not await known(ring, old)


async def test_the_first_whom_everybody_needs_is_fetched_once(ring: KeyRing, issuer: FakeIssuer):
    issuer.open.clear()
    asked = [asyncio.ensure_future(known(ring, issuer.es256)) for _ in range(50)]
    await eventually(lambda: issuer.fetches == 1)
    issuer.open.set()
    assert all(await asyncio.gather(*asked))
    assert issuer.fetches == 1


async def test_whoever_gives_up_waiting_takes_the_keys_from_nobody(ring: KeyRing, issuer: FakeIssuer):
    issuer.open.clear()
    first, second = (asyncio.ensure_future(known(ring, issuer.es256)) for _ in range(2))
    await eventually(lambda: issuer.fetches == 1)
    first.cancel()
    issuer.open.set()
    assert await second
    assert issuer.fetches == 1


# A key that we don't know.


async def test_an_unknown_key_is_looked_up_at_once_and_then_not_for_a_minute(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    assert await known(ring, issuer.es256)
    second = issuer.new_key()
    assert await known(ring, second)
    assert issuer.fetches == 2
    third = issuer.new_key()
    clock.forward(59)
    assert not await known(ring, third)
    assert issuer.fetches == 2
    clock.forward(1)
    assert await known(ring, third)
    assert issuer.fetches == 3


async def test_the_first_load_is_not_counted_as_a_look_for_an_unknown_key(ring: KeyRing, issuer: FakeIssuer):
    assert not await known(ring, "invented")
    late = issuer.new_key()
    assert await known(ring, late)
    assert issuer.fetches == 2


async def test_a_storm_of_invented_keys_is_one_fetch_a_minute(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    await ring.keys(issuer.es256, "ES256")
    for minute in range(1, 4):
        found = await asyncio.gather(*(known(ring, f"invented-{number}") for number in range(200)))
        assert not any(found)
        for number in range(200):
            assert not await known(ring, f"another-{number}")
        assert issuer.fetches == 1 + minute
        clock.forward(MINUTE)


async def test_in_a_storm_those_who_have_a_good_key_do_not_wait(ring: KeyRing, issuer: FakeIssuer):
    assert await known(ring, issuer.es256)
    issuer.open.clear()
    invented = asyncio.ensure_future(known(ring, "invented"))
    await eventually(lambda: issuer.fetches == 2)
    assert await known(ring, issuer.es256)
    assert not invented.done()
    issuer.open.set()
    assert not await invented


async def test_whoever_comes_with_a_new_key_while_it_is_being_fetched_waits_for_it(
    ring: KeyRing, issuer: FakeIssuer
):
    """After a rotation everybody comes with the new key at once."""
    assert await known(ring, issuer.es256)
    new = issuer.new_key()
    issuer.open.clear()
    first = asyncio.ensure_future(known(ring, new))
    await eventually(lambda: issuer.fetches == 2)
    others = [asyncio.ensure_future(known(ring, new)) for _ in range(10)]
    await asyncio.sleep(0)
    issuer.open.set()
    assert await asyncio.gather(first, *others) == [True] * 11
    assert issuer.fetches == 2


# The issuer is away.


async def test_an_issuer_that_is_away_at_first_is_unavailable_and_soon_tried_again(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    issuer.away = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be fetched"):
            await ring.keys(issuer.es256, "ES256")
    assert issuer.fetches == 1
    issuer.away = False
    clock.forward(jwks.RETRY - 1)
    with pytest.raises(Unavailable):
        await ring.keys(issuer.es256, "ES256")
    clock.forward(1)
    assert await known(ring, issuer.es256)


async def test_an_issuer_that_nobody_answers_for_is_unavailable(http: httpx.AsyncClient, clock: Clock):
    async with answering(b"") as url:
        pass
    for address in (url, "http://[::1", "http://127.0.0.1:0/keys", "http://\0/"):
        with pytest.raises(Unavailable):
            await KeyRing(Issuer("i", "a", ("ES256",), address), http, clock).keys("k", "ES256")


async def test_while_the_issuer_is_away_what_we_have_stays_good_for_a_day(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    assert await known(ring, issuer.es256)
    issuer.away = True
    for _ in range(23):
        clock.forward(HOUR)
        assert await known(ring, issuer.es256)
        await settled(ring)
    clock.forward(HOUR)
    with pytest.raises(Unavailable):
        await ring.keys(issuer.es256, "ES256")
    issuer.away = False
    clock.forward(jwks.RETRY)
    assert await known(ring, issuer.es256)


async def settled(ring: KeyRing) -> None:
    await eventually(lambda: ring._fetching is None)


async def test_an_issuer_that_is_away_is_not_asked_by_every_request(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    assert await known(ring, issuer.es256)
    issuer.away = True
    clock.forward(10 * MINUTE)
    for seconds in range(60):
        assert await known(ring, issuer.es256)
        await settled(ring)
        assert issuer.fetches <= 2 + seconds / jwks.RETRY
        clock.forward(1)


async def test_an_unknown_key_stays_unknown_while_the_issuer_is_away_and_the_known_ones_good(
    ring: KeyRing, issuer: FakeIssuer, clock: Clock
):
    assert await known(ring, issuer.es256)
    issuer.away = True
    assert not await known(ring, "unknown")
    assert await known(ring, issuer.es256)
    token = issuer.token(kid="unknown", key=issuer.keys[issuer.es256])
    with pytest.raises(UnknownKey):
        tokens.verify(token, tokens.peek(token), ring.issuer, await ring.keys("unknown", "ES256"))


# A secret beside the keys.


def with_secret(issuer: FakeIssuer, http: httpx.AsyncClient, clock: Clock, url: str | None = None) -> KeyRing:
    listed = Issuer(
        issuer.iss,
        "authenticated",
        ("ES256", "HS256"),
        issuer.url + JWKS if url is None else url,
        issuer.secret,
    )
    return KeyRing(listed, http, clock)


async def test_without_an_address_only_the_secret_counts_and_nothing_is_fetched(
    issuer: FakeIssuer, http: httpx.AsyncClient, clock: Clock
):
    ring = with_secret(issuer, http, clock, url="")
    found = await ring.keys("", "HS256")
    assert (found.secret, found.public) == (issuer.secret.encode(), {})
    assert await ring.keys("", "HS256") is found
    assert issuer.fetches == 0


async def test_while_the_keys_cannot_be_had_tokens_that_are_signed_with_the_secret_are_still_good(
    issuer: FakeIssuer, http: httpx.AsyncClient, clock: Clock
):
    ring, issuer.away = with_secret(issuer, http, clock), True
    token = issuer.token("HS256")
    for _ in range(3):
        found = await ring.keys("", "HS256")
        assert tokens.verify(token, tokens.peek(token), ring.issuer, found).subject
    with pytest.raises(Unavailable):
        await ring.keys(issuer.es256, "ES256")
    assert issuer.fetches == 1


async def test_a_secret_of_the_configuration_never_signs_under_the_kid_of_a_published_key(
    issuer: FakeIssuer, http: httpx.AsyncClient, clock: Clock
):
    ring = with_secret(issuer, http, clock)
    token = issuer.token("HS256", kid=issuer.es256)
    found = await ring.keys(issuer.es256, "HS256")
    with pytest.raises(Unauthorized):
        tokens.verify(token, tokens.peek(token), ring.issuer, found)


# What it answers.


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[str]:
    """An address that gives these answers, byte for byte, the last one again and again."""
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who asked has seen enough
        finally:
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/keys"


def http_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def document(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


async def answered(http: httpx.AsyncClient, clock: Clock, *answers: bytes) -> Keys:
    """What a ring makes of these answers."""
    async with answering(*answers) as url:
        return await KeyRing(Issuer("i", "a", ("ES256",), url), http, clock).keys("k", "ES256")


def good() -> bytes:
    issuer = FakeIssuer("http://unused")
    return http_answer(document(fakeissuer.public_jwk("k", issuer.keys[issuer.es256])))


async def test_a_good_document_is_taken(http: httpx.AsyncClient, clock: Clock):
    assert list((await answered(http, clock, good())).public) == ["k"]


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b""),
        http_answer(b"not JSON"),
        http_answer(b"\xff\xfe"),
        http_answer(b"[]"),
        http_answer(b"null"),
        http_answer(b"[" * 10_000),
        http_answer(b'{"keys":' * 10_000),
        http_answer(document(), "404 Not Found"),
        http_answer(document(), "500 Oops"),
        http_answer(document(), "200 OK", "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"this is not HTTP\r\n\r\n",
        b"",
    ],
    ids=lambda answer: repr(answer[-25:]),
)
async def test_what_is_no_set_of_keys_is_as_good_as_no_answer(
    http: httpx.AsyncClient, clock: Clock, answer: bytes
):
    with pytest.raises(Unavailable):
        await answered(http, clock, answer)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (jwks.MAX_BYTES + 2),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
)
async def test_a_document_that_is_too_large_is_not_read_to_its_end(
    http: httpx.AsyncClient, clock: Clock, head: bytes
):
    body = document().ljust(jwks.MAX_BYTES + 1)
    with pytest.raises(Unavailable):
        await answered(http, clock, head + body)


async def test_a_document_that_is_small_only_on_its_way_is_too_large(http: httpx.AsyncClient, clock: Clock):
    packed = gzip.compress(document().ljust(100 * jwks.MAX_BYTES))
    assert len(packed) < jwks.MAX_BYTES
    with pytest.raises(Unavailable):
        await answered(http, clock, http_answer(packed, "200 OK", "Content-Encoding: gzip"))


async def test_a_document_just_within_the_bound_is_taken(http: httpx.AsyncClient, clock: Clock):
    body = good().partition(b"\r\n\r\n")[2].ljust(jwks.MAX_BYTES)
    assert list((await answered(http, clock, http_answer(body))).public) == ["k"]


async def test_a_redirect_is_not_followed(
    ring: KeyRing, http: httpx.AsyncClient, issuer: FakeIssuer, clock: Clock
):
    for status in ("301 Moved", "302 Found", "307 Temporary"):
        answer = http_answer(b"", status, f"Location: {issuer.url}{JWKS}")
        with pytest.raises(Unavailable):
            await answered(http, clock, answer)
    assert issuer.fetches == 0


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": "oct", "kid": "k", "k": "a2V5", "alg": "HS256"},
        {"kty": ["EC"], "kid": "k"},
        {"kty": "EC", "kid": "k", "alg": "none"},
        {"kty": "EC", "kid": "k", "crv": 5},
        "a text",
    ],
    ids=repr,
)
async def test_an_entry_that_is_no_key_for_us_takes_nothing_from_the_others(
    http: httpx.AsyncClient, clock: Clock, odd: object
):
    one = json.loads(good().partition(b"\r\n\r\n")[2])["keys"][0]
    found = await answered(http, clock, http_answer(document(odd, {**one, "kid": "other"})))
    assert list(found.public) == ["other"]
    assert found.secret == b""


async def test_a_broken_answer_takes_the_keys_from_nobody_who_has_them(http: httpx.AsyncClient, clock: Clock):
    async with answering(good(), http_answer(b"not JSON")) as url:
        ring = KeyRing(Issuer("i", "a", ("ES256",), url), http, clock)
        assert await known(ring, "k")
        assert not await known(ring, "invented")
        assert await known(ring, "k")
