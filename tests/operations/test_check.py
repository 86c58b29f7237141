import pytest
from actors import logged

from cotexd.operations import check, cursors, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store


def test_an_empty_database_and_a_full_one_are_whole(store: Store, hello: Tracked):
    assert store.look(check.check).good
    logged(store, hello, 3)
    found = store.look(check.check)
    assert (found.good, found.events, found.head) == (True, 3, 3)


def test_one_whose_repositories_are_all_gone_is_whole(store: Store, hello: Tracked):
    logged(store, hello, 3)
    store.run(repositories.remove, hello.user_id, hello.id)
    assert store.look(check.check).good


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE log_state SET head = 1", "beyond the log's head"),
        ("UPDATE event SET repo_id = 'nobody'", "of no repository"),
        ("UPDATE event SET payload = NULL", "lack their payload"),
        ('UPDATE device SET "cursor" = 99', "ahead of the log"),
        ("UPDATE log_state SET floor = 99", "floor is beyond"),
        ("DELETE FROM event", "end is missing"),
    ],
)
def test_what_does_not_fit_together_is_named(
    store: Store, ada: Account, hello: Tracked, harm: str, said: str
):
    store.run(cursors.attach, ada.id, device="laptop", cursor=None)
    logged(store, hello, 3)
    store.run(lambda tx: tx.change(harm))
    found = store.look(check.check)
    assert not found.good
    assert any(said in each for each in found.problems), found.problems
