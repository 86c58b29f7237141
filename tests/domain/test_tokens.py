import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from cotexd.domain import tokens
from cotexd.errors import Unauthorized

KEY = b"k" * 32
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def claims(**changes: object) -> dict[str, object]:
    whole = {
        "iss": tokens.ISSUER,
        "aud": tokens.AUDIENCE,
        "sub": "u",
        "iat": NOW.timestamp(),
        "exp": (NOW + HOUR).timestamp(),
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def test_a_token_is_good_for_its_user_until_it_expires():
    token = tokens.issue(KEY, "u", NOW, HOUR)
    found = tokens.check(token, KEY, NOW + HOUR)
    assert (found.user_id, found.expires_at) == ("u", (NOW + HOUR).timestamp())
    assert found.session


def test_two_tokens_are_two_sessions():
    first, second = (tokens.check(tokens.issue(KEY, "u", NOW, HOUR), KEY, NOW) for _ in range(2))
    assert first.session != second.session


def test_an_expired_token_is_refused():
    with pytest.raises(Unauthorized, match="expired"):
        tokens.check(tokens.issue(KEY, "u", NOW, HOUR), KEY, NOW + HOUR + timedelta(seconds=31))


def test_a_token_from_the_future_is_refused():
    with pytest.raises(Unauthorized, match="future"):
        tokens.check(tokens.issue(KEY, "u", NOW, HOUR), KEY, NOW - timedelta(minutes=1))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "exp"])
def test_a_token_that_lacks_a_claim_is_refused(name: str):
    token = jwt.encode(claims(**{name: None}), KEY, "HS256")
    with pytest.raises(Unauthorized):
        tokens.check(token, KEY, NOW)


@pytest.mark.parametrize(
    "changes",
    [{"iss": "other"}, {"aud": "other"}, {"sub": 5}, {"exp": "soon"}, {"exp": float("inf")}, {"iat": "x"}],
)
def test_a_token_with_a_wrong_claim_is_refused(changes: dict[str, object]):
    token = jwt.encode(claims(**changes), KEY, "HS256")
    with pytest.raises(Unauthorized):
        tokens.check(token, KEY, NOW)


def test_a_token_of_another_key_is_refused():
    with pytest.raises(Unauthorized):
        tokens.check(tokens.issue(b"x" * 32, "u", NOW, HOUR), KEY, NOW)


def test_a_token_without_a_signature_is_refused():
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    for algorithm in ("none", "None", "HS384"):
        with pytest.raises(Unauthorized):
            tokens.check(f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}.", KEY, NOW)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "ü.ü.ü", "." * 100, "x" * 10_000])
def test_what_is_no_token_is_refused(token: str):
    with pytest.raises(Unauthorized):
        tokens.check(token, KEY, NOW)


def test_a_refusal_never_shows_the_token():
    token = tokens.issue(b"x" * 32, "u", NOW, HOUR)
    with pytest.raises(Unauthorized) as caught:
        tokens.check(token, KEY, NOW)
    assert token not in str(caught.value) + caught.value.hint
