import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cotexd.domain import signing as pairs
from cotexd.domain import tokens
from cotexd.domain.tokens import Issuer, Keys, UnknownKey
from cotexd.operations import signing
from cotexd.store import Store, Tx
from cotexd.store.models import SigningKey

OWN = Issuer("own", "authenticated", ("ES256",))


def sign(store: Store, now: datetime) -> str:
    claims = {"iss": "own", "aud": "authenticated", "sub": "ada", "exp": now + timedelta(hours=1)}
    return tokens.sign_session(pairs.load(store.run(signing.in_use)), claims)


def check(store: Store, token: str) -> str:
    published = tokens.read_jwks({"keys": store.look(signing.published)})
    return tokens.verify(token, tokens.peek(token), OWN, Keys(public=published)).subject


def by_state(store: Store) -> dict[str, str]:
    return {each.state: each.kid for each in store.look(signing.listing)}


def test_the_first_keys_are_made_when_one_is_needed(store: Store):
    assert store.look(signing.published) == store.look(signing.listing) == []
    used = store.run(signing.in_use)
    assert by_state(store).keys() == {"in use", "standby"}
    assert by_state(store)["in use"] == used.kid == store.run(signing.in_use).kid


def test_what_is_signed_is_checked_with_what_is_published(store: Store, clock):
    assert check(store, sign(store, clock())) == "ada"


def test_the_next_key_is_published_before_it_is_used(store: Store):
    store.run(signing.in_use)
    standby = by_state(store)["standby"]
    assert standby in {key["kid"] for key in store.look(signing.published)}
    store.run(signing.rotate)
    assert store.run(signing.in_use).kid == standby


def test_a_token_outlives_one_rotation_and_not_two(store: Store, clock):
    token = sign(store, clock())
    store.run(signing.rotate)
    assert check(store, token) == "ada"
    store.run(signing.rotate)
    with pytest.raises(UnknownKey):
        check(store, token)


def test_a_rotation_moves_each_key_by_one(store: Store):
    store.run(signing.in_use)
    before = by_state(store)
    after = {each.state: each.kid for each in store.run(signing.rotate)}
    assert (after["previous"], after["in use"]) == (before["in use"], before["standby"])
    assert after["standby"] not in before.values()
    for _ in range(3):
        assert len(store.run(signing.rotate)) == 3


def test_a_rotation_before_any_key_was_needed_makes_them_all(store: Store):
    assert {each.state for each in store.run(signing.rotate)} == {"standby", "in use", "previous"}


def test_the_key_in_use_is_published_first_and_nothing_private_with_it(store: Store):
    store.run(signing.in_use)
    store.run(signing.rotate)
    published = store.look(signing.published)
    assert [key["kid"] for key in published] == [
        by_state(store)[state] for state in ("in use", "standby", "previous")
    ]
    assert all("d" not in key for key in published)


def test_the_keys_lie_in_the_database_sealed(store: Store):
    private = json.loads(store.run(signing.in_use).private)["d"].encode()

    def at_rest(_: Tx) -> bytes:
        return b"".join(bytes(row.private) for row in SigningKey.select())

    assert private not in store.look(at_rest)
    assert b"kty" not in store.look(at_rest)


def test_a_sealed_key_does_not_open_under_another_kid(store: Store):
    store.run(signing.in_use)

    def swap(_: Tx) -> None:
        one, other = SigningKey.select()
        SigningKey.update(private=other.private).where(SigningKey.kid == one.kid).execute()

    store.run(swap)
    with pytest.raises(Exception, match="does not open"):
        store.look(signing.published)


def test_a_key_outlives_the_process_and_another_server_signs_with_the_same(
    store: Store, database: str, tmp_path: Path
):
    kid = store.run(signing.in_use).kid
    other = Store(database, tmp_path / "data")
    assert other.run(signing.in_use).kid == kid
    other.run(signing.rotate)
    assert store.run(signing.in_use).kid == other.run(signing.in_use).kid != kid
    other.close()
