from datetime import timedelta

import pytest
from actors import incoming, logged

from cotexd.domain.tokens import Claims
from cotexd.errors import BadSignature, NotFound, Unauthorized
from cotexd.operations import (
    accounts,
    audit,
    events,
    identities,
    members,
    notices,
    removal,
    repositories,
    sessions,
    tokens,
    upkeep,
)
from cotexd.operations.accounts import Account
from cotexd.operations.identities import Caller, Provisioning
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import Device, Identity, Membership, Password, ScriptToken, Session

OUTSIDE = Claims("https://x.example/auth/v1", "sub-1", "", 4e9, 0.0, 0.0)


@pytest.fixture
def eve(store: Store, hello: Tracked) -> Account:
    """Shared octo/hello, and tracking a repository of her own that is shared with ada."""
    user = store.run(accounts.create, "eve", email="eve@example.com")
    own = store.run(repositories.add, user.id, "eve/own")
    store.run(members.share, hello.user_id, hello.id, "eve")
    store.run(members.share, user.id, own.id, "ada")
    return user


def test_a_removed_user_is_not_there_and_their_name_is_free_again(store: Store, eve: Account):
    removed = store.run(removal.remove_user, "eve")
    assert removed.name == "eve"
    for name in ("eve", eve.id, f"removed:{eve.id}"):
        with pytest.raises(NotFound):
            store.look(accounts.find, name)
    assert [each.name for each in store.look(accounts.all_of_them)] == ["ada"]
    assert store.run(accounts.create, "eve").id != eve.id


def test_the_next_of_the_same_name_has_nothing_of_the_one_before(store: Store, eve: Account):
    store.run(sessions.set_password, "eve", "hash")
    store.run(removal.remove_user, "eve")
    again = store.run(accounts.create, "eve", email="eve@example.com")
    assert store.look(repositories.all_of, again.id) == store.look(tokens.listing, again.id) == []
    assert store.look(sessions.password_of, "eve@example.com") == ("", "")
    assert store.run(sessions.set_password, "eve", "hash").email == "eve@example.com"


def test_their_repositories_go_with_them_and_those_of_others_stay(store: Store, hello: Tracked, eve: Account):
    own = store.look(repositories.find, "eve/own")
    store.run(removal.remove_user, "eve")
    assert [each.repo_name for each in store.look(repositories.all_of, hello.user_id)] == ["octo/hello"]
    assert [each.name for each in store.look(members.listing, hello.user_id, hello.id)] == ["ada"]
    refused, accepted = store.run(events.accept_many, [incoming(own), incoming(hello)])
    assert isinstance(refused, BadSignature)
    assert accepted.seq == 1


def test_nothing_more_is_sent_to_them(store: Store, hello: Tracked, eve: Account):
    store.run(removal.remove_user, "eve")
    logged(store, hello)
    (published,) = store.look(events.published_after, 0)[0]
    assert published.audience == (hello.user_id,)


def test_what_they_stored_is_purged(store: Store, eve: Account):
    own = store.look(repositories.find, "eve/own")
    logged(store, own, 3)
    store.run(removal.remove_user, "eve")
    assert store.run(upkeep.purge_removed) == 3


def test_no_way_in_is_left(store: Store, eve: Account):
    store.run(sessions.set_password, "eve", "hash")
    store.run(sessions.begin, eve.id, "hash", "own")
    store.run(tokens.issue, "eve", label="ci")
    caller = Caller(eve.id, "eve", None, "", 4e9)
    store.look(identities.still_good, caller)
    store.run(removal.remove_user, "eve")
    with pytest.raises(Unauthorized):
        store.look(identities.still_good, caller)

    def left(_: Tx) -> list[int]:
        good = [
            Session.select().where(Session.user_id == eve.id, Session.ended_at.is_null()),
            ScriptToken.select().where(ScriptToken.user_id == eve.id, ScriptToken.revoked_at.is_null()),
            Membership.select().where(Membership.user_id == eve.id, Membership.until_seq.is_null()),
        ]
        mine = [table.select().where(table.user_id == eve.id) for table in (Password, Identity, Device)]
        return [each.count() for each in (*good, *mine)]

    assert store.look(left) == [0] * 6


def test_who_they_were_outside_is_forgotten(store: Store, eve: Account):
    known = store.run(identities.provision, OUTSIDE, Provisioning())
    store.run(removal.remove_user, known.id)
    assert store.look(identities.authenticate, OUTSIDE, "own") is None


def test_servers_are_told_to_close_their_connections(store: Store, eve: Account):
    before = store.look(notices.last_id)
    store.run(removal.remove_user, "eve")
    assert (eve.id, "disabled") in {(each.user_id, each.kind) for each in store.look(notices.after, before)}


def test_the_removal_is_in_the_audit_trail_under_the_name_that_they_had(store: Store, eve: Account):
    store.run(removal.remove_user, "eve")
    entries = store.look(audit.listing, limit=10)
    assert [(each.action, each.target) for each in entries][:1] == [("user.remove", "eve")]
    assert ("repo.remove", "eve/own") in {(each.action, each.target) for each in entries}


def test_whoever_is_not_there_is_not_removed(store: Store, eve: Account):
    with pytest.raises(NotFound):
        store.run(removal.remove_user, "nobody")
    store.run(removal.remove_user, "eve")
    with pytest.raises(NotFound):
        store.run(removal.remove_user, eve.id)


def test_a_user_with_nothing_is_removed_as_well(store: Store, ada: Account, clock):
    clock.forward(timedelta(days=1))
    store.run(removal.remove_user, "ada")
    assert store.look(accounts.all_of_them) == []
