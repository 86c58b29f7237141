from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from actors import logged

from cotexd.errors import Conflict, Invalid, NotFound
from cotexd.operations import accounts, cursors, notices, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import User


def limit(_: Tx, user_id: str, repos: int) -> None:
    User.update(repo_limit=repos).where(User.id == user_id).execute()


def test_a_new_user_is_of_the_smallest_tier_and_tracks_nothing(store: Store, clock):
    ada = store.run(accounts.create, "ada", email="ada@example.com")
    assert (ada.name, ada.email, ada.tier, ada.repo_limit, ada.repo_count) == (
        "ada", "ada@example.com", "free", 2, 0,
    )  # fmt: skip
    assert not ada.disabled
    assert ada.created_at == ada.updated_at == clock()


def test_a_user_is_found_by_name_and_by_id(store: Store, ada: Account):
    assert store.look(accounts.find, "ada") == store.look(accounts.find, ada.id) == ada


def test_a_name_that_is_another_users_id_is_refused(store: Store, ada: Account):
    with pytest.raises(Invalid):
        store.run(accounts.create, ada.id)
    assert store.look(accounts.find, ada.id) == ada


def test_a_user_that_nobody_made_is_not_found(store: Store):
    with pytest.raises(NotFound, match="eve"):
        store.look(accounts.find, "eve")


@pytest.mark.parametrize("name", ["", "-ada", "a b", "ada/x", "ädä", "a" * 64, "ada\n"])
def test_what_cannot_be_a_users_name_is_refused(store: Store, name: str):
    with pytest.raises(Invalid):
        store.run(accounts.create, name)


@pytest.mark.parametrize("email", ["ada", "@example.com", "ada@", "a da@example.com", "a@b@c"])
def test_what_is_no_address_is_refused(store: Store, email: str):
    with pytest.raises(Invalid):
        store.run(accounts.create, "ada", email=email)


def test_a_user_of_an_unknown_tier_is_not_made(store: Store):
    with pytest.raises(NotFound, match="gold"):
        store.run(accounts.create, "ada", tier="gold")
    assert store.look(accounts.all_of_them) == []


def test_twenty_who_add_one_name_at_once_add_one_user(store: Store, database: str, tmp_path: Path):
    def add(_: int) -> bool:
        own = Store(database, tmp_path / "data")
        try:
            own.run(accounts.create, "ada")
        except Conflict:
            return False
        else:
            return True
        finally:
            own.close()

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(add, range(20))) == 1


def test_the_shared_cursor_begins_where_the_log_is_when_the_user_is_made(store: Store, hello: Tracked):
    logged(store, hello, 3)
    eve = store.run(accounts.create, "eve")
    logged(store, hello, 2)
    assert store.run(cursors.attach_legacy, eve.id, "app").after == 3


def test_a_user_is_disabled_and_enabled(store: Store, ada: Account):
    assert store.run(accounts.disable, "ada").disabled
    assert not store.run(accounts.enable, "ada").disabled


@pytest.mark.parametrize(
    "name", ["4e7fbd61-4a0b-4a0e-9d1c-0f9b7c9f2f11", "4E7FBD61-4A0B-4A0E-9D1C-0F9B7C9F2F11"]
)
def test_a_name_that_looks_like_an_id_is_refused(store: Store, name: str):
    with pytest.raises(Invalid, match="id"):
        store.run(accounts.create, name)


def test_servers_are_told_of_a_disabled_user_once(store: Store, ada: Account):
    store.run(accounts.disable, "ada")
    store.run(accounts.disable, "ada")
    assert [(each.user_id, each.kind) for each in store.look(notices.after, 0)] == [(ada.id, "disabled")]


def test_a_users_own_limit_goes_before_their_tiers(store: Store, ada: Account):
    store.run(limit, ada.id, 0)
    assert store.look(accounts.find, "ada").repo_limit == 0


def test_the_limit_counts_what_is_tracked_now(store: Store, ada: Account, hello: Tracked):
    store.run(repositories.add, ada.id, "octo/docs")
    store.run(repositories.remove, ada.id, hello.id)
    assert store.look(accounts.find, "ada").repo_count == 1


def test_users_are_listed_by_name(store: Store):
    for name in ("eve", "ada", "bob"):
        store.run(accounts.create, name)
    assert [each.name for each in store.look(accounts.all_of_them)] == ["ada", "bob", "eve"]
