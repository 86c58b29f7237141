import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from cotexd.domain import tokens as domain
from cotexd.domain.tokens import Claims, Issuer, Keys
from cotexd.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from cotexd.operations import accounts, audit, identities, notices, removal, sessions, signing, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.sessions import BadGrant, Granted
from cotexd.store import Store, Tx
from cotexd.store.models import RefreshToken, Session

ISS = "https://cotex.example.com/auth/v1"
OWN = Issuer(ISS, domain.SESSION_AUDIENCE, ("ES256",))
HASH = "the hash of a password"
SECOND = timedelta(seconds=1)


@pytest.fixture
def ada(store: Store, ada: Account) -> Account:
    """Now with a password."""
    return store.run(sessions.set_password, ada.id, HASH)


def begin(store: Store, user: Account) -> Granted:
    return store.run(sessions.begin, user.id, HASH, ISS)


def refresh(store: Store, refresh_token: str) -> Granted:
    found = store.run(sessions.refresh, refresh_token, ISS)
    if isinstance(found, BadGrant):
        raise found
    return found


def refusal(store: Store, refresh_token: str) -> str:
    """Why a refresh token is not good."""
    with pytest.raises(BadGrant) as caught:
        refresh(store, refresh_token)
    return caught.value.grant_code


def claims_of(store: Store, granted: Granted) -> Claims:
    keys = Keys(public=domain.read_jwks({"keys": store.look(signing.published)}))
    return domain.verify(granted.access_token, domain.peek(granted.access_token), OWN, keys)


def comes_in(store: Store, granted: Granted) -> bool:
    """Whether the access token still signs anybody in."""
    try:
        return store.look(identities.authenticate, claims_of(store, granted), ISS) is not None
    except Unauthorized:
        return False


# Signing in.


def test_whoever_signs_in_has_a_token_for_an_hour_that_says_who_they_are(store: Store, ada: Account, clock):
    granted = begin(store, ada)
    claims = claims_of(store, granted)
    assert (claims.subject, claims.email, claims.anonymous) == (ada.id, "ada@example.com", False)
    assert claims.expires_at == granted.expires_at.timestamp() == (clock() + timedelta(hours=1)).timestamp()
    caller = store.look(identities.authenticate, claims, ISS)
    assert (caller.id, caller.name, caller.scopes, caller.session) == (ada.id, "ada", None, claims.session)


def test_every_signing_in_is_a_session_of_its_own(store: Store, ada: Account):
    first, second = begin(store, ada), begin(store, ada)
    assert claims_of(store, first).session != claims_of(store, second).session
    assert first.refresh_token != second.refresh_token


def test_one_signs_in_by_address_or_by_name_and_nobody_else_is_found(store: Store, ada: Account):
    for login in ("ada@example.com", " Ada@Example.COM ", "ada"):
        assert store.look(sessions.password_of, login) == (ada.id, HASH)
    store.run(accounts.create, "eve", email="eve@example.com")
    for login in ("eve", "eve@example.com", "nobody", "", ada.id):
        assert store.look(sessions.password_of, login) == ("", "")


def test_a_disabled_user_does_not_sign_in(store: Store, ada: Account):
    store.run(accounts.disable, "ada")
    with pytest.raises(Forbidden, match="disabled"):
        begin(store, ada)


def test_a_password_that_was_changed_while_it_was_compared_signs_nobody_in(store: Store, ada: Account):
    store.run(sessions.set_password, "ada", "another hash")
    with pytest.raises(Unauthorized, match="changed"):
        begin(store, ada)


def test_a_user_who_was_removed_while_the_password_was_compared_is_not_signed_in(store: Store, ada: Account):
    store.run(removal.remove_user, "ada")
    with pytest.raises(Unauthorized):
        begin(store, ada)


# The password.


def test_a_new_password_ends_all_sessions_and_tells_the_servers(store: Store, ada: Account):
    granted = [begin(store, ada) for _ in range(2)]
    told = store.look(notices.last_id)
    store.run(sessions.set_password, "ada", "another hash")
    assert not any(comes_in(store, each) for each in granted)
    assert {refusal(store, each.refresh_token) for each in granted} == {"session_not_found"}
    assert {(each.kind, each.text) for each in store.look(notices.after, told)} == {
        ("revoked", claims_of(store, each).session) for each in granted
    }


def test_a_new_password_leaves_the_tokens_of_scripts_alone(store: Store, ada: Account):
    store.run(tokens.issue, "ada", label="ci")
    store.run(sessions.set_password, "ada", "another hash")
    assert [each.revoked_at for each in store.look(tokens.listing, ada.id)] == [None]


def test_a_password_needs_an_address_of_the_accounts_own(store: Store, ada: Account):
    store.run(accounts.create, "eve")
    with pytest.raises(Invalid, match="no e-mail address"):
        store.run(sessions.set_password, "eve", HASH)
    with pytest.raises(Conflict, match="Another account"):
        store.run(sessions.set_password, "eve", HASH, "ADA@example.com")
    with pytest.raises(Invalid, match="not an e-mail address"):
        store.run(sessions.set_password, "eve", HASH, "eve at home")
    assert store.run(sessions.set_password, "eve", HASH, "eve@example.com").email == "eve@example.com"


def test_a_new_address_is_signed_in_with_and_the_old_one_is_free(store: Store, ada: Account):
    store.run(sessions.set_password, "ada", HASH, "ada@new.example.com")
    assert store.look(sessions.password_of, "ada@example.com") == ("", "")
    assert store.look(sessions.password_of, "ada@new.example.com") == (ada.id, HASH)
    store.run(accounts.create, "eve")
    store.run(sessions.set_password, "eve", HASH, "ada@example.com")


def test_nobody_who_is_not_here_has_a_password(store: Store):
    with pytest.raises(NotFound):
        store.run(sessions.set_password, "nobody", HASH, "x@example.com")


# Refreshing.


def test_a_refresh_goes_on_with_the_same_session(store: Store, ada: Account, clock):
    first = begin(store, ada)
    clock.forward(timedelta(minutes=50))
    second = refresh(store, first.refresh_token)
    assert claims_of(store, second).session == claims_of(store, first).session
    assert second.expires_at == clock() + timedelta(hours=1)
    assert second.refresh_token != first.refresh_token
    assert refresh(store, second.refresh_token).account.id == ada.id


@pytest.mark.parametrize("token", ["", "x", "\ud800", "x" * 100_000, "ü\0"])
def test_a_refresh_token_that_nobody_gave_out_is_refused(store: Store, ada: Account, token: str):
    assert refusal(store, token) == "refresh_token_not_found"


def test_whose_answer_was_lost_gets_the_same_successor_for_ten_seconds(store: Store, ada: Account, clock):
    first = begin(store, ada)
    second = refresh(store, first.refresh_token)
    clock.forward(sessions.REUSE)
    assert refresh(store, first.refresh_token).refresh_token == second.refresh_token
    assert refresh(store, second.refresh_token).refresh_token != second.refresh_token


def test_a_used_token_that_comes_later_ends_its_family(store: Store, ada: Account, clock):
    first, other = begin(store, ada), begin(store, ada)
    second = refresh(store, first.refresh_token)
    told = store.look(notices.last_id)
    clock.forward(sessions.REUSE + SECOND)
    assert refusal(store, first.refresh_token) == "refresh_token_already_used"
    assert refusal(store, second.refresh_token) == "session_not_found"
    assert not comes_in(store, second)
    assert comes_in(store, other)
    session = claims_of(store, first).session
    assert [(each.kind, each.text) for each in store.look(notices.after, told)] == [("revoked", session)]


def test_a_token_from_far_back_ends_its_family_however_often_it_was_rotated(
    store: Store, ada: Account, clock
):
    first = latest = begin(store, ada)
    for _ in range(5):
        clock.forward(timedelta(minutes=30))
        latest = refresh(store, latest.refresh_token)
    assert refusal(store, first.refresh_token) == "refresh_token_already_used"
    assert not comes_in(store, latest)


def test_asking_again_does_not_make_the_ten_seconds_longer(store: Store, ada: Account, clock):
    first = begin(store, ada)
    refresh(store, first.refresh_token)
    for _ in range(2):
        clock.forward(timedelta(seconds=5))
        refresh(store, first.refresh_token)
    clock.forward(SECOND)
    assert refusal(store, first.refresh_token) == "refresh_token_already_used"


async def test_refreshes_at_once_get_one_successor(store: Store, ada: Account):
    first = begin(store, ada)
    store.start(lambda batch: None, lambda: None)
    write = [store.write(sessions.refresh, first.refresh_token, ISS) for _ in range(20)]
    found = await asyncio.gather(*write)
    await store.stop()
    assert len({each.refresh_token for each in found}) == 1


def test_refreshes_at_once_at_two_servers_get_one_successor(
    store: Store, ada: Account, database: str, tmp_path: Path, clock
):
    first = begin(store, ada)

    def ask(_: int) -> str:
        own = Store(database, tmp_path / "data", "", clock)
        try:
            return refresh(own, first.refresh_token).refresh_token
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        successors = set(pool.map(ask, range(4)))
    assert len(successors) == 1
    assert refresh(store, successors.pop()).account.id == ada.id


def test_whoever_is_disabled_does_not_refresh_and_does_again_when_enabled(store: Store, ada: Account):
    first = begin(store, ada)
    store.run(accounts.disable, "ada")
    assert refusal(store, first.refresh_token) == "user_banned"
    store.run(accounts.enable, "ada")
    assert refresh(store, first.refresh_token).account.id == ada.id


def test_the_refresh_token_of_a_user_who_was_removed_is_refused_as_of_a_session_that_is_over(
    store: Store, ada: Account
):
    first = begin(store, ada)
    store.run(removal.remove_user, "ada")
    assert refusal(store, first.refresh_token) == "session_not_found"


def test_the_database_holds_nothing_that_signs_in(store: Store, ada: Account):
    first = begin(store, ada)
    second = refresh(store, first.refresh_token)

    def at_rest(_: Tx) -> str:
        return str([*RefreshToken.select().tuples(), *Session.select().tuples()])

    for secret in (first.refresh_token, second.refresh_token, first.access_token):
        assert secret not in store.look(at_rest)


def test_a_session_that_is_not_refreshed_is_over_after_a_while(store: Store, ada: Account, clock):
    first = begin(store, ada)
    clock.forward(sessions.IDLE)
    assert comes_in(store, first)
    clock.forward(SECOND)
    assert not comes_in(store, first)
    assert refusal(store, first.refresh_token) == "session_not_found"


def test_what_is_over_is_forgotten_and_what_is_in_use_is_not(store: Store, ada: Account, clock):
    idle, ended, kept = (begin(store, ada) for _ in range(3))
    clock.forward(sessions.IDLE - SECOND)
    kept = refresh(store, kept.refresh_token)
    store.run(sessions.sign_out, ada.id, claims_of(store, ended).session, "local")
    clock.forward(sessions.ACCESS_LIFETIME + SECOND)
    assert store.run(sessions.forget_old) == 2
    assert (
        refusal(store, idle.refresh_token) == refusal(store, ended.refresh_token) == "refresh_token_not_found"
    )
    assert refresh(store, kept.refresh_token).account.id == ada.id


# Signing out.


@pytest.mark.parametrize(
    ("which", "still"), [("local", [False, True]), ("others", [True, False]), ("global", [False, False])]
)
def test_one_signs_out_here_elsewhere_or_everywhere(
    store: Store, ada: Account, which: str, still: list[bool]
):
    eve = store.run(accounts.create, "eve", email="eve@example.com")
    store.run(sessions.set_password, "eve", HASH)
    here, there, hers = begin(store, ada), begin(store, ada), begin(store, eve)
    told = store.look(notices.last_id)
    store.run(sessions.sign_out, ada.id, claims_of(store, here).session, which)
    assert [comes_in(store, here), comes_in(store, there)] == still
    assert comes_in(store, hers)
    gone = {claims_of(store, each).session for each in (here, there) if not comes_in(store, each)}
    assert {each.text for each in store.look(notices.after, told)} == gone
    for each in (here, there):
        if not comes_in(store, each):
            assert refusal(store, each.refresh_token) == "session_not_found"


def test_nobody_signs_another_user_out(store: Store, ada: Account):
    eve = store.run(accounts.create, "eve")
    granted = begin(store, ada)
    for which in ("local", "others", "global"):
        store.run(sessions.sign_out, eve.id, claims_of(store, granted).session, which)
    assert comes_in(store, granted)


def test_to_sign_out_twice_is_to_sign_out(store: Store, ada: Account):
    granted = begin(store, ada)
    session = claims_of(store, granted).session
    for _ in range(2):
        store.run(sessions.sign_out, ada.id, session, "local")
    assert len([each for each in store.look(notices.after, 0) if each.text == session]) == 1


def test_a_theft_is_in_the_audit_trail(store: Store, ada: Account, clock):
    first = begin(store, ada)
    refresh(store, first.refresh_token)
    clock.forward(timedelta(minutes=1))
    refusal(store, first.refresh_token)
    (entry,) = store.look(audit.listing, limit=10, action="session.reused")
    assert entry.target == "ada"
