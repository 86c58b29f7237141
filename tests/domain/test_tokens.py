import base64
import contextlib
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import fakeissuer
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import signing, tokens
from cotexd.domain.tokens import Claims, Issuer, Keys, UnknownKey
from cotexd.errors import Unauthorized

KEY = b"k" * 32
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCRIPTS = Issuer(tokens.ISSUER, tokens.AUDIENCE, ("HS256",))
SUPABASE = Issuer("https://x.example/auth/v1", "authenticated", ("ES256", "RS256", "HS256"))
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
PUBLISHED = tokens.read_jwks({"keys": [fakeissuer.public_jwk("one", ELLIPTIC)]})
KEYS = Keys(KEY, PUBLISHED)


def claims(**changes: object) -> dict[str, object]:
    """What Supabase says in a token; one that is changed to None is left out."""
    whole = {
        "iss": SUPABASE.iss,
        "aud": SUPABASE.audience,
        "sub": "u",
        "iat": NOW.timestamp(),
        "exp": (NOW + HOUR).timestamp(),
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def by_secret(header: dict[str, Any] | None = None, **changes: object) -> str:
    return jwt.encode(claims(**changes), KEY, "HS256", headers=header)


def by_key(header: dict[str, Any] | None = None, key: Any = ELLIPTIC, **changes: object) -> str:
    return jwt.encode(claims(**changes), key, "ES256", headers={"kid": "one", **(header or {})})


def check(token: str, issuer: Issuer = SUPABASE, keys: Keys = KEYS, now: datetime = NOW) -> Claims:
    return tokens.in_time(tokens.verify(token, tokens.peek(token), issuer, keys), now)


def script(**more: Any) -> str:
    return tokens.issue(KEY, "u", NOW, HOUR, tokens.new_id(), **more)


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def part(value: object) -> str:
    return encoded(json.dumps(value).encode())


def by_hand(key: bytes = KEY, header: dict[str, Any] | None = None, **changes: object) -> str:
    """A token that no library would make, well signed with HS256."""
    body = f"{part({'alg': 'HS256', **(header or {})})}.{part(claims(**changes))}"
    return f"{body}.{encoded(hmac.digest(key, body.encode(), hashlib.sha256))}"


# Tokens of our own, for scripts.


def test_a_token_is_good_for_its_user_until_it_expires():
    found = check(script(), SCRIPTS, now=NOW + HOUR)
    assert (found.subject, found.expires_at, found.scopes) == ("u", (NOW + HOUR).timestamp(), None)


def test_two_tokens_are_two_sessions():
    first, second = (check(script(), SCRIPTS).session for _ in range(2))
    assert first
    assert first != second


def test_a_token_says_what_it_may_be_used_for():
    wanted = frozenset({"events:read", "repos:write"})
    assert check(script(scopes=wanted), SCRIPTS).scopes == wanted


def test_a_token_of_ours_whose_scopes_nobody_knows_any_more_is_for_nothing():
    token = by_secret(iss=tokens.ISSUER, aud=tokens.AUDIENCE, scope="long:gone")
    assert check(token, SCRIPTS).scopes == frozenset()


def test_scopes_that_an_issuer_outside_names_are_its_own_and_narrow_nothing():
    assert check(by_secret(scope="openid events:read")).scopes is None


# The time.


def test_a_token_is_good_for_half_a_minute_longer_since_clocks_differ():
    check(by_key(), now=NOW + HOUR + timedelta(seconds=30))
    with pytest.raises(Unauthorized, match="expired"):
        check(by_key(), now=NOW + HOUR + timedelta(seconds=31))


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_token_that_is_not_valid_yet_is_refused(name: str):
    token = by_key(**{name: (NOW + timedelta(minutes=1)).timestamp()})
    check(token, now=NOW + timedelta(seconds=30))
    with pytest.raises(Unauthorized, match="not valid yet"):
        check(token, now=NOW + timedelta(seconds=29))


# The form.


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp"])
def test_a_token_that_lacks_a_claim_is_refused(name: str):
    for token in (by_secret(**{name: None}), by_key(**{name: None})):
        with pytest.raises(Unauthorized):
            check(token)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"iss": [SUPABASE.iss]},
        {"aud": "other"},
        {"sub": 5},
        {"sub": ""},
        {"sub": "x" * 256},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": []},
        {"iat": "x"},
        {"nbf": {}},
        {"session_id": 5},
        {"email": ["a@b"]},
        {"email": "x" * 256},
    ],
    ids=lambda changes: repr(changes)[:30],
)
def test_a_token_with_a_wrong_claim_is_refused(changes: dict[str, object]):
    with pytest.raises(Unauthorized):
        check(by_hand(**changes))


def test_one_audience_of_several_is_enough():
    assert check(by_key(aud=["other", "authenticated"])).subject == "u"


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "ü.ü.ü", "\ud800.a.b", "." * 100, "e30.e30.", "W10.W10."]
)
def test_what_is_no_token_is_refused(token: str):
    with pytest.raises(Unauthorized):
        check(token)


def test_a_token_that_is_too_long_is_not_looked_at():
    for token in (by_secret(padding="x" * tokens.MAX_LENGTH), "x" * 10_000_000):
        with pytest.raises(Unauthorized, match="too long"):
            tokens.peek(token)


def test_a_token_that_is_nested_without_end_is_refused():
    with pytest.raises(Unauthorized):
        check(f"{part({'alg': 'HS256'})}.{encoded(b'[' * 5000)}.x")


def test_a_refusal_never_shows_the_token():
    token = jwt.encode(claims(), b"x" * 32, "HS256")
    with pytest.raises(Unauthorized) as caught:
        check(token)
    said = str(caught.value) + caught.value.hint
    assert all(each not in said for each in token.split("."))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5), st.data())
def test_a_signed_token_of_whatever_form_is_good_or_refused(value: object, data: st.DataObject):
    name = data.draw(
        st.sampled_from(["sub", "exp", "iat", "nbf", "aud", "jti", "session_id", "email", "scope"])
    )
    with contextlib.suppress(Unauthorized):
        assert check(by_hand(**{name: value})).subject


# Attacks.


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS384", "HS512", "ES384", "", None, 5, []])
def test_an_algorithm_that_is_not_on_the_issuers_list_is_refused(algorithm: object):
    for signature in ("", "x"):
        with pytest.raises(Unauthorized):
            check(f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}.{signature}")


def test_a_token_that_is_well_signed_in_a_way_that_its_issuer_does_not_use_is_refused():
    with pytest.raises(Unauthorized):
        check(jwt.encode(claims(), b"k" * 64, "HS512"), keys=Keys(b"k" * 64))
    with pytest.raises(Unauthorized):
        check(by_secret(), Issuer(SUPABASE.iss, SUPABASE.audience, ("ES256",)))


def test_an_issuer_without_a_secret_has_no_token_that_is_signed_with_one():
    with pytest.raises(Unauthorized):
        check(by_hand(b""), keys=Keys(b"", PUBLISHED))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_public_key_is_not_taken_for_a_secret(encoding: Encoding):
    """RFC 8725, 2.1: HS256 with what everybody can read."""
    public = ELLIPTIC.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    token = by_hand(public, {"kid": "one"})
    for keys in (KEYS, Keys(b"", PUBLISHED)):
        with pytest.raises(Unauthorized):
            check(token, keys=keys)


def test_a_shared_secret_may_have_a_kid_as_long_as_it_names_no_public_key():
    assert check(by_secret({"kid": "hosted"})).subject == "u"
    with pytest.raises(Unauthorized):
        check(by_secret({"kid": "one"}))


def test_a_secret_that_is_too_short_to_be_one_signs_nothing():
    with pytest.raises(Unauthorized):
        check(by_hand(b"short"), keys=Keys(b"short"))


def test_a_key_that_the_issuer_does_not_publish_is_one_that_may_come():
    with pytest.raises(UnknownKey):
        check(by_key({"kid": "two"}))
    with pytest.raises(UnknownKey):
        check(by_key({"kid": ""}))


def test_a_kid_is_bound_to_the_algorithm_of_its_key():
    private = rsa.generate_private_key(65537, 2048)
    published = tokens.read_jwks({"keys": [fakeissuer.public_jwk("r", private)]})
    token = jwt.encode(claims(), private, "RS256", headers={"kid": "r"})
    assert check(token, keys=Keys(public=published)).subject == "u"
    with pytest.raises(Unauthorized):
        check(by_key({"kid": "r"}), keys=Keys(public=published))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_a_token_brings_along_is_not_read(name: str):
    mine = ec.generate_private_key(ec.SECP256R1())
    brought = fakeissuer.public_jwk("one", mine) if name == "jwk" else "https://evil.example/keys"
    with pytest.raises(Unauthorized):
        check(by_key({name: brought}, mine))
    with pytest.raises(UnknownKey):
        check(by_key({name: brought, "kid": "mine"}, mine))


def test_a_token_of_one_issuer_is_nothing_to_another():
    other = Issuer("https://y.example/auth/v1", SUPABASE.audience, SUPABASE.algorithms)
    with pytest.raises(Unauthorized):
        check(by_key(), other)


def test_a_token_of_another_key_is_refused():
    for token in (
        jwt.encode(claims(), b"x" * 32, "HS256"),
        by_key(key=ec.generate_private_key(ec.SECP256R1())),
    ):
        with pytest.raises(Unauthorized):
            check(token)


def test_a_token_that_was_changed_is_refused():
    head, _, signature = by_key().split(".")
    with pytest.raises(Unauthorized):
        check(f"{head}.{part(claims(sub='somebody else'))}.{signature}")


# What it says of its user.


def test_an_address_counts_as_verified_only_where_the_issuer_itself_says_so():
    assert not check(by_key(email="a@b", user_metadata={"email_verified": True})).email_verified
    assert not check(by_key(email="a@b", email_verified="true")).email_verified
    assert not check(by_key(email_verified=True)).email_verified
    assert check(by_key(email="A@B", email_verified=True)).email_verified


def test_an_issuer_may_be_trusted_to_have_verified_every_address():
    trusted = Issuer(SUPABASE.iss, SUPABASE.audience, SUPABASE.algorithms, trust_email=True)
    assert check(by_key(email="a@b"), trusted).email_verified
    assert not check(by_key(), trusted).email_verified


def test_an_anonymous_user_is_known_as_one():
    assert check(by_key(is_anonymous=True)).anonymous
    assert not check(by_key(user_metadata={"is_anonymous": True})).anonymous


def test_a_session_is_what_the_issuer_calls_it_or_the_token_itself():
    assert check(by_key(session_id="s", jti="j")).session == "s"
    assert check(by_key(jti="j")).session == "j"
    assert not check(by_key()).session


# Keys that are published.


def test_the_keys_of_a_set_are_known_by_their_kid_and_their_algorithm():
    private = rsa.generate_private_key(65537, 2048)
    document = {"keys": [fakeissuer.public_jwk("e", ELLIPTIC), fakeissuer.public_jwk("r", private)]}
    for entry in document["keys"]:
        del entry["alg"]
    found = tokens.read_jwks(document)
    assert {kid: key.algorithm_name for kid, key in found.items()} == {"e": "ES256", "r": "RS256"}


ELLIPTIC_JWK = fakeissuer.public_jwk("k", ELLIPTIC)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "kid": "k", "k": "a2V5", "alg": "HS256"},
        {"kty": "oct", "kid": "k", "k": "a2V5", "alg": "ES256"},
        fakeissuer.public_jwk("k", rsa.generate_private_key(65537, 1024)),  # noqa: S505  # too short on purpose
        {**fakeissuer.public_jwk("k", ec.generate_private_key(ec.SECP384R1())), "alg": "ES384"},
        json.loads(signing.new_pair("k").private),
        {**ELLIPTIC_JWK, "use": "enc"},
        {**ELLIPTIC_JWK, "alg": "HS256"},
        {**ELLIPTIC_JWK, "alg": "none"},
        {**ELLIPTIC_JWK, "kid": ""},
        {**ELLIPTIC_JWK, "kid": 5},
        {**ELLIPTIC_JWK, "kty": ["EC"]},
        {**ELLIPTIC_JWK, "alg": ["ES256"]},
        {**ELLIPTIC_JWK, "x": 5},
        {**ELLIPTIC_JWK, "y": ELLIPTIC_JWK["x"]},
        "a text",
        None,
    ],
    ids=[
        "a secret",
        "a secret for ES256",
        "a short RSA key",
        "another curve",
        "a private key",
        "a key to encrypt",
        "a key for HS256",
        "a key for none",
        "no kid",
        "a number as kid",
        "a list as kty",
        "a list as alg",
        "a number as x",
        "a point beside the curve",
        "a text",
        "nothing",
    ],
)
def test_a_key_that_nobody_may_sign_with_is_passed_over_and_its_neighbours_are_taken(entry: object):
    document = {"keys": [entry, fakeissuer.public_jwk("good", ELLIPTIC)]}
    assert list(tokens.read_jwks(document)) == ["good"]


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5
)
NAMES = ["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]


@given(
    st.dictionaries(st.sampled_from(NAMES), ODD), st.sampled_from([ELLIPTIC_JWK, {"kty": "RSA", "kid": "k"}])
)
def test_no_set_of_keys_is_too_odd_to_be_read(odd: dict[str, object], entry: dict[str, Any]):
    document = {"keys": [{**entry, **odd}, fakeissuer.public_jwk("good", ELLIPTIC)]}
    assert "good" in tokens.read_jwks(document)


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"keys": []}])
def test_a_document_without_keys_has_none(document: dict[str, object]):
    assert tokens.read_jwks(document) == {}


# Access tokens of our own.


def test_an_access_token_of_ours_is_checked_with_what_we_publish():
    pair = signing.new_pair("mine")
    token = tokens.sign_session(signing.load(pair), claims(sub="ada"))
    published = tokens.read_jwks({"keys": [signing.public_of(pair)]})
    assert tokens.peek(token) == tokens.Head(SUPABASE.iss, "ES256", "mine")
    assert check(token, keys=Keys(public=published)).subject == "ada"
