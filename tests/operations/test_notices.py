from datetime import timedelta

from cotexd.operations import notices
from cotexd.operations.accounts import Account
from cotexd.operations.notices import DISABLED, KEPT, MAX_READ, TOLD
from cotexd.store import Store, Tx


def post_many(tx: Tx, user_id: str, count: int) -> None:
    for number in range(count):
        notices.post(tx, user_id, TOLD, str(number))


def test_what_is_posted_is_read_once_by_each_who_follows(store: Store, ada: Account):
    store.run(notices.post, ada.id, TOLD, "first")
    known = store.look(notices.last_id)
    store.run(notices.post, ada.id, DISABLED, "")
    (news,) = store.look(notices.after, known)
    assert (news.user_id, news.kind, news.text) == (ada.id, DISABLED, "")
    assert store.look(notices.after, news.id) == []


def test_before_the_first_notice_there_is_no_last(store: Store):
    assert store.look(notices.last_id) == 0
    assert store.look(notices.after, 0) == []


def test_many_notices_are_read_in_parts_and_in_order(store: Store, ada: Account):
    store.run(post_many, ada.id, MAX_READ + 1)
    first = store.look(notices.after, 0)
    rest = store.look(notices.after, first[-1].id)
    assert len(first) == MAX_READ
    assert [int(each.text) for each in first + rest] == list(range(MAX_READ + 1))


def test_only_old_notices_are_forgotten(store: Store, ada: Account, clock):
    store.run(notices.post, ada.id, TOLD, "old")
    clock.forward(KEPT)
    store.run(notices.post, ada.id, TOLD, "new")
    assert store.run(notices.forget_old) == 0
    clock.forward(timedelta(seconds=1))
    assert store.run(notices.forget_old) == 1
    assert [each.text for each in store.look(notices.after, 0)] == ["new"]


def test_after_all_are_forgotten_a_new_one_is_still_noticed(store: Store, ada: Account, clock):
    store.run(notices.post, ada.id, TOLD, "old")
    known = store.look(notices.last_id)
    clock.forward(2 * KEPT)
    store.run(notices.forget_old)
    store.run(notices.post, ada.id, TOLD, "new")
    assert [each.text for each in store.look(notices.after, known)] == ["new"]
