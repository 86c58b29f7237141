from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest

from cotexd.domain import scope
from cotexd.domain import tokens as domain
from cotexd.domain.tokens import Issuer, Keys
from cotexd.errors import Forbidden, Invalid, NotFound, Unauthorized
from cotexd.operations import accounts, identities, notices, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.identities import Caller
from cotexd.store import Store, Tx
from cotexd.store.models import ScriptToken, SealedSecret

SCRIPTS = Issuer(domain.ISSUER, domain.AUDIENCE, ("HS256",))


def caller(store: Store, token: str, now: datetime) -> Caller:
    """Whom a token signs in, as the server finds it out."""
    keys = Keys(store.run(tokens.signing_key))
    claims = domain.in_time(domain.verify(token, domain.peek(token), SCRIPTS, keys), now)
    found = store.look(identities.authenticate, claims, "the own issuer")
    assert found is not None
    return found


def test_a_token_names_its_user_until_it_expires(store: Store, ada: Account, clock):
    issued = store.run(tokens.issue, "ada", timedelta(hours=1))
    found = caller(store, issued.token, clock())
    assert (found.id, issued.user_id, issued.name) == (ada.id, ada.id, "ada")
    assert found.expires_at == issued.expires_at.timestamp() == (clock() + timedelta(hours=1)).timestamp()
    with pytest.raises(Unauthorized):
        caller(store, issued.token, issued.expires_at + domain.LEEWAY + timedelta(seconds=1))


def test_every_token_is_a_session_of_its_own(store: Store, ada: Account, clock):
    made = [store.run(tokens.issue, ada.id).token for _ in range(3)]
    assert len({caller(store, each, clock()).session for each in made}) == 3


def test_a_token_may_be_for_some_things_only(store: Store, ada: Account, clock):
    issued = store.run(tokens.issue, "ada", label="ci", scopes=scope.parse("repos:write,events:read"))
    assert issued.scopes == ["events:read", "repos:write"]
    assert caller(store, issued.token, clock()).scopes == {"events:read", "repos:write"}


def test_tokens_are_listed_without_their_value(store: Store, ada: Account):
    issued = store.run(tokens.issue, "ada", label="ci")
    (listed,) = store.look(tokens.listing, ada.id)
    assert (listed.label, listed.scopes, listed.revoked_at) == ("ci", None, None)
    assert issued.token not in str(listed)


def test_the_database_holds_nothing_that_signs_in(store: Store, ada: Account):
    issued = store.run(tokens.issue, "ada", label="ci")
    jti = jwt.decode(issued.token, options={"verify_signature": False})["jti"]

    def at_rest(_: Tx) -> str:
        return str(list(ScriptToken.select().tuples()))

    assert jti not in store.look(at_rest)
    assert issued.token not in store.look(at_rest)


def test_a_revoked_token_signs_nobody_in_and_the_others_still_do(store: Store, ada: Account, clock):
    gone, kept = (store.run(tokens.issue, "ada", label=label).token for label in ("ci", "laptop"))
    store.run(tokens.revoke, "ada", "ci")
    with pytest.raises(Unauthorized, match="revoked"):
        caller(store, gone, clock())
    assert caller(store, kept, clock()).id == ada.id
    store.run(tokens.revoke, "ada")
    with pytest.raises(Unauthorized, match="revoked"):
        caller(store, kept, clock())


def test_servers_are_told_of_a_revoked_token_which_session_it_was(store: Store, ada: Account, clock):
    session = caller(store, store.run(tokens.issue, "ada", label="ci").token, clock()).session
    store.run(tokens.revoke, "ada", "ci")
    assert [(each.kind, each.text) for each in store.look(notices.after, 0)] == [("revoked", session)]


def test_a_label_that_no_good_token_has_is_not_found(store: Store, ada: Account):
    with pytest.raises(NotFound, match="no token ci"):
        store.run(tokens.revoke, "ada", "ci")


def test_a_label_is_short_and_printable(store: Store, ada: Account):
    for label in ("x" * 65, "line\nbreak"):
        with pytest.raises(Invalid, match="label"):
            store.run(tokens.issue, "ada", label=label)


def test_tokens_that_nobody_can_use_are_forgotten_after_a_month(store: Store, ada: Account, clock):
    store.run(tokens.issue, "ada", timedelta(hours=1), label="short")
    store.run(tokens.issue, "ada", timedelta(days=90), label="long")
    clock.forward(tokens.KEPT + timedelta(hours=2))
    assert store.run(tokens.forget_old) == 1
    assert [each.label for each in store.look(tokens.listing, ada.id)] == ["long"]


def test_the_key_is_made_once_and_outlives_the_process(store: Store, database: str, tmp_path: Path):
    key = store.run(tokens.signing_key)
    other = Store(database, tmp_path / "data")
    assert other.look(tokens.signing_key) == store.run(tokens.signing_key) == key
    assert len(key) == 32
    other.close()


def test_the_key_lies_in_the_database_sealed(store: Store):
    key = store.run(tokens.signing_key)

    def at_rest(_: Tx) -> bytes:
        return bytes(SealedSecret.get().value)

    assert key not in store.look(at_rest)


def test_a_token_of_another_appliance_is_refused(store: Store, ada: Account, clock, tmp_path: Path):
    token = store.run(tokens.issue, "ada").token
    other = Store("", tmp_path / "other")
    with pytest.raises(Unauthorized):
        caller(other, token, clock())
    other.close()


def test_nobody_gets_a_token_for_a_user_that_is_not_here(store: Store):
    with pytest.raises(NotFound):
        store.run(tokens.issue, "eve")


def test_a_disabled_user_gets_no_token_and_the_old_ones_come_back_when_enabled(
    store: Store, ada: Account, clock
):
    before = store.run(tokens.issue, "ada").token
    store.run(accounts.disable, "ada")
    with pytest.raises(Forbidden):
        store.run(tokens.issue, "ada")
    store.run(accounts.enable, "ada")
    assert caller(store, before, clock()).id == ada.id


@pytest.mark.parametrize("seconds", [-1, 0, 0.5, tokens.MAX_LIFETIME.total_seconds() + 1])
def test_a_lifetime_out_of_bounds_is_refused(store: Store, ada: Account, seconds: float):
    with pytest.raises(Invalid, match="good for"):
        store.run(tokens.issue, "ada", timedelta(seconds=seconds))
