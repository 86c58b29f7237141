import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest

from cotexd.domain.tokens import Claims
from cotexd.errors import Forbidden, Unauthorized
from cotexd.operations import accounts, audit, identities, removal, sessions, tiers
from cotexd.operations.accounts import Account
from cotexd.operations.identities import Caller, Provisioning
from cotexd.store import Store

OWN = "https://cotex.example.com/auth/v1"
SUPABASE, OTHER = "https://x.supabase.example/auth/v1", "https://id.example.com"
UUID = "6f1c1f6e-0b5b-4f0e-9b58-3a9c1d2e4f5a"
OURS = Provisioning(email_domains=("example.com",))


def claims(subject: str = "sub-1", iss: str = SUPABASE, **more: Any) -> Claims:
    return Claims(iss, subject, "session-1", 4e9, 0.0, 0.0, **more)


def come(store: Store, given: Claims, policy: Provisioning = Provisioning()) -> Caller:  # noqa: B008  # frozen
    """As the server does it: who is known comes in, who is not is made."""
    found = store.look(identities.authenticate, given, OWN)
    return found or store.run(identities.provision, given, policy)


def everybody(store: Store) -> list[str]:
    return [each.name for each in store.look(accounts.all_of_them)]


# Who somebody is.


def test_the_first_token_makes_the_user_and_the_next_finds_them(store: Store):
    assert store.look(identities.authenticate, claims(), OWN) is None
    made = come(store, claims())
    assert store.look(identities.authenticate, claims(), OWN) == made
    assert (made.session, made.expires_at, made.scopes) == ("session-1", 4e9, None)
    assert everybody(store) == [made.name]


def test_one_subject_of_two_issuers_is_two_users(store: Store):
    assert come(store, claims("sub-1", SUPABASE)).id != come(store, claims("sub-1", OTHER)).id


@pytest.mark.parametrize("verified", [True, False])
def test_one_address_at_two_issuers_is_two_users(store: Store, verified: bool):
    more: dict[str, Any] = {"email": "grace@example.com", "email_verified": verified}
    first, second = come(store, claims("a", SUPABASE, **more)), come(store, claims("b", OTHER, **more))
    assert first.id != second.id
    assert come(store, claims("a", SUPABASE)).id == first.id


def test_the_address_of_an_account_here_leads_nobody_from_outside_to_it(store: Store, ada: Account):
    store.run(sessions.set_password, "ada", "hash")
    stranger = come(store, claims(email="ada@example.com", email_verified=True))
    assert stranger.id != ada.id
    assert store.look(sessions.password_of, "ada@example.com")[0] == ada.id


def test_whose_address_changes_stays_who_they_are(store: Store):
    first = come(store, claims(email="grace@example.com", email_verified=True))
    assert come(store, claims(email="hopper@elsewhere.example")).id == first.id


def test_the_same_first_token_twice_at_once_makes_one_user(store: Store):
    first, second = (store.run(identities.provision, claims(), Provisioning()) for _ in range(2))
    assert first.id == second.id
    assert len(everybody(store)) == 1


async def test_many_first_requests_at_once_make_one_user(store: Store):
    store.start(lambda batch: None, lambda: None)
    made = [store.write(identities.provision, claims(), Provisioning()) for _ in range(20)]
    assert len({each.id for each in await asyncio.gather(*made)}) == 1
    await store.stop()


# What they are called.


@pytest.mark.parametrize("subject", ["ada", UUID, "auth0|5f7c8ec7c33c6c004bbafe82"])
def test_a_name_is_made_of_nothing_that_the_person_can_choose(store: Store, subject: str):
    found = come(store, claims(subject, email="ada@elsewhere.example", email_verified=True))
    assert found.name.startswith("user-")
    assert "ada" not in found.name.removeprefix("user-" + found.id.replace("-", "")[:8])
    assert found.name.removeprefix("user-") in found.id.replace("-", "")


def test_a_name_that_is_taken_is_not_taken_over(store: Store):
    squatter = store.run(accounts.create, f"user-{UUID[:8]}")
    found = come(store, claims(UUID))
    assert found.id != squatter.id
    assert found.name == f"user-{UUID.replace('-', '')[:12]}"


def test_an_address_that_nobody_verified_is_not_shown_as_theirs(store: Store):
    come(store, claims("a", email="ceo@example.com"))
    come(store, claims("b", email="grace@example.com", email_verified=True))
    assert sorted(each.email for each in store.look(accounts.all_of_them)) == ["", "grace@example.com"]


# Their id.


def test_a_uuid_of_the_issuers_stays_the_users_id(store: Store):
    assert come(store, claims(UUID)).id == UUID


def test_a_uuid_that_is_another_users_is_not_taken_over(store: Store, ada: Account):
    first = come(store, claims(UUID, SUPABASE))
    second, third = come(store, claims(UUID, OTHER)), come(store, claims(ada.id, OTHER))
    assert len({first.id, second.id, third.id, ada.id}) == 4
    assert come(store, claims(UUID, OTHER)).id == second.id


@pytest.mark.parametrize(
    "subject", ["sub-1", UUID.upper(), UUID + " ", "{" + UUID + "}", UUID.replace("-", "")]
)
def test_what_is_no_uuid_is_nobodys_id(store: Store, subject: str):
    found = come(store, claims(subject))
    assert found.id != subject
    assert str(uuid.UUID(found.id)) == found.id


# Who may come.


def test_where_nobody_is_made_only_those_who_are_known_come_in(store: Store):
    known = come(store, claims())
    with pytest.raises(Forbidden, match="no account"):
        come(store, claims("sub-2"), Provisioning(allowed=False))
    assert come(store, claims(), Provisioning(allowed=False)).id == known.id
    assert len(everybody(store)) == 1


def test_an_anonymous_user_is_refused_and_leaves_nothing(store: Store):
    with pytest.raises(Forbidden, match="Anonymous"):
        come(store, claims(anonymous=True))
    assert everybody(store) == store.look(audit.listing, limit=10) == []


@pytest.mark.parametrize(
    "who",
    [
        {"email": "grace@example.com"},
        {"email": "grace@evil.example", "email_verified": True},
        {"email": "grace@sub.example.com", "email_verified": True},
        {"email": "example.com@evil.example", "email_verified": True},
        {"email": "", "email_verified": True},
        {},
    ],
    ids=repr,
)
def test_where_domains_are_named_only_their_verified_addresses_come_in(store: Store, who: dict[str, Any]):
    with pytest.raises(Forbidden, match="verified"):
        come(store, claims(**who), OURS)
    assert everybody(store) == []
    assert come(store, claims(email="grace@example.com", email_verified=True), OURS).id


def test_whoever_was_let_in_once_stays_in_when_the_policy_is_narrowed(store: Store):
    known = come(store, claims())
    assert store.run(identities.provision, claims(), OURS).id == known.id


# Whether they still may.


def test_whoever_is_disabled_is_refused_and_comes_back_when_enabled(store: Store):
    known = come(store, claims())
    store.run(accounts.disable, known.id)
    for ask in (
        lambda: store.look(identities.authenticate, claims(), OWN),
        lambda: store.run(identities.provision, claims(), Provisioning()),
        lambda: store.look(identities.still_good, known),
    ):
        with pytest.raises(Forbidden, match="disabled"):
            ask()
    store.run(accounts.enable, known.id)
    assert come(store, claims()) == known


def test_whoever_was_removed_and_comes_again_is_somebody_new(store: Store):
    known = come(store, claims(UUID))
    store.run(removal.remove_user, known.id)
    with pytest.raises(Unauthorized, match="does not exist"):
        store.look(identities.still_good, known)
    again = come(store, claims(UUID))
    assert again.id not in {known.id, UUID}


def test_a_tier_says_how_often_its_users_may_ask(store: Store):
    assert come(store, claims()).requests is None
    store.run(tiers.edit, "free", requests=70)
    assert come(store, claims()).requests == 70


@pytest.mark.parametrize("iss", ["cotexd", OWN])
def test_a_token_of_ours_without_a_session_that_is_kept_is_nobodys(store: Store, ada: Account, iss: str):
    with pytest.raises(Unauthorized, match=r"revoked|ended"):
        store.look(identities.authenticate, claims(ada.id, iss), OWN)


def test_an_issuer_outside_says_nothing_of_our_sessions(store: Store, ada: Account):
    """Whatever session it names, and whosever id it has as its subject."""
    store.run(sessions.set_password, "ada", "hash")
    store.run(sessions.begin, ada.id, "hash", OWN)
    assert store.look(identities.authenticate, claims(ada.id, SUPABASE), OWN) is None


def test_who_was_made_and_from_where_is_in_the_audit_trail(store: Store, clock):
    clock.forward(timedelta(minutes=1))
    made = come(store, claims())
    (entry,) = store.look(audit.listing, limit=10)
    assert (entry.action, entry.target, entry.at) == ("user.provision", made.name, clock())
    assert entry.detail == {"issuer": SUPABASE, "subject": "sub-1"}
