import json
import logging
from datetime import timedelta

import msgspec
import pytest
from actors import incoming, join, leave, logged, push

from cotexd.domain import github
from cotexd.errors import Invalid, NotFound
from cotexd.operations import accounts, cursors, events, history, repositories, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.history import MAX_PAGE_BYTES, Page
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

DAY = timedelta(days=1)


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


@pytest.fixture
def docs(store: Store, ada: Account) -> Tracked:
    return store.run(repositories.add, ada.id, "octo/docs")


def page(store: Store, repo: Tracked, limit: int = 100, **how) -> Page:
    return store.look(history.page, repo.user_id, limit=limit, **how)


def seqs(found: Page) -> list[int]:
    return [each.seq for each in found.events]


def test_an_event_in_the_history_is_all_that_github_said_of_it(store: Store, hello: Tracked, clock):
    (accepted,) = store.run(events.accept_many, [incoming(hello, push(7), guid="the-guid")])
    (found,) = page(store, hello).events
    assert (found.id, found.repo_id, found.repo_name) == (accepted.event_id, hello.id, "octo/hello")
    assert (found.event_type, found.delivery_id, found.seq) == ("push", "the-guid", 1)
    assert json.loads(bytes(found.payload)) == push(7)
    assert json.loads(bytes(found.summary))["headline"] == "1 commit pushed to main"
    assert (found.created_at, found.is_delivered) == (clock(), False)
    assert found.expires_at == clock() + history.RETENTION


def test_the_newest_comes_first_and_what_is_older_is_told(store: Store, hello: Tracked):
    logged(store, hello, 3)
    assert (seqs(page(store, hello, 2)), page(store, hello, 2).before) == ([3, 2], 2)
    assert (seqs(page(store, hello, 3)), page(store, hello, 3).before) == ([3, 2, 1], None)
    assert (seqs(page(store, hello, 2, before=2)), page(store, hello, 2, before=2).before) == ([1], None)


def test_an_empty_history_is_one_empty_page(store: Store, hello: Tracked, eve: Account):
    assert page(store, hello) == store.look(history.page, eve.id, limit=5) == Page((), before=None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_have_each_event_once_while_others_arrive(
    store: Store, hello: Tracked, docs: Tracked, limit: int
):
    store.run(events.accept_many, [incoming(repo) for _ in range(4) for repo in (hello, docs)])
    seen: list[int] = []
    before = None
    while True:
        found = page(store, hello, limit, before=before)
        seen += seqs(found)
        if found.before is None:
            break
        before = seen[-1]
        logged(store, hello)
    assert seen == [8, 7, 6, 5, 4, 3, 2, 1]


def test_no_page_is_found_by_counting_off_those_before_it(
    store: Store, hello: Tracked, caplog: pytest.LogCaptureFixture
):
    logged(store, hello, 5)
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        page(store, hello, 2, before=4, event_type="push", undelivered=True)
    asked = [record.msg[0] for record in caplog.records if "event" in record.msg[0]]
    assert any("seq <=" in query and "LIMIT 3" in query for query in asked)
    assert not any("OFFSET" in query for query in asked)


def test_a_page_can_be_of_one_repository(store: Store, hello: Tracked, docs: Tracked):
    store.run(events.accept_many, [incoming(repo) for _ in range(3) for repo in (hello, docs)])
    assert seqs(page(store, hello, repo_id=docs.id)) == [6, 4, 2]


def test_a_page_can_be_of_one_type(store: Store, hello: Tracked):
    for kind in ("push", "star", "push"):
        logged(store, hello, event=kind)
    assert seqs(page(store, hello, event_type="star")) == [2]
    assert seqs(page(store, hello, 1, event_type="push")) == [3]
    assert page(store, hello, event_type="fork") == Page((), before=None)


def test_a_page_can_be_of_a_time_whose_ends_belong_to_it(store: Store, hello: Tracked, clock):
    start = clock()
    for _ in range(4):
        logged(store, hello)
        clock.forward(DAY)
    assert seqs(page(store, hello, since=start + DAY, until=start + 2 * DAY)) == [3, 2]
    assert seqs(page(store, hello, since=start + timedelta(microseconds=1))) == [4, 3, 2]
    assert seqs(page(store, hello, until=start)) == [1]


def test_filters_hold_together_on_every_page(store: Store, hello: Tracked, docs: Tracked):
    for _ in range(3):
        for repo, kind in ((hello, "push"), (hello, "star"), (docs, "star")):
            logged(store, repo, event=kind)
    how = {"repo_id": hello.id, "event_type": "star"}
    first = page(store, hello, 2, **how)
    assert (seqs(first), first.before) == ([8, 5], 5)
    last = page(store, hello, 2, before=5, **how)
    assert (seqs(last), last.before) == ([2], None)


def test_looking_delivers_nothing(store: Store, hello: Tracked):
    (accepted,) = store.run(events.accept_many, [incoming(hello)])
    for _ in range(2):
        assert not page(store, hello).events[0].is_delivered
        assert not store.look(history.get, hello.user_id, accepted.event_id).is_delivered


@pytest.mark.parametrize("device", ["", "laptop"])
def test_what_any_client_of_the_user_acknowledged_is_delivered(store: Store, hello: Tracked, device: str):
    logged(store, hello, 3)
    store.run(cursors.attach, hello.user_id, device="idle", cursor=None)
    epoch = store.look(events.log).epoch
    store.run(cursors.acknowledge, hello.user_id, f"{epoch}.2", device)
    assert [each.is_delivered for each in page(store, hello).events] == [False, True, True]
    assert seqs(page(store, hello, undelivered=True)) == [3]


def test_what_one_user_acknowledged_is_not_delivered_to_another(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    logged(store, hello)
    store.run(cursors.acknowledge, eve.id, f"{store.look(events.log).epoch}.1")
    assert not page(store, hello).events[0].is_delivered
    assert store.look(history.page, eve.id, limit=1).events[0].is_delivered


def test_a_payload_is_there_where_it_was_asked_for(store: Store, hello: Tracked):
    logged(store, hello)
    (found,) = page(store, hello, payloads=False).events
    assert found.payload is msgspec.UNSET
    assert "payload" not in json.loads(msgspec.json.encode(found))


def test_a_page_of_huge_payloads_ends_early_and_the_rest_is_on_the_next(store: Store, hello: Tracked):
    huge = b'{"a":"' + b"x" * (MAX_PAGE_BYTES * 2 // 3) + b'"}'
    given = [msgspec.structs.replace(incoming(hello), payload=huge) for _ in range(2)]
    store.run(events.accept_many, given)
    first = page(store, hello)
    assert (seqs(first), first.before) == ([2], 2)
    assert seqs(page(store, hello, before=2)) == [1]
    assert seqs(page(store, hello, payloads=False)) == [2, 1]


def test_what_is_purged_is_not_in_the_history(store: Store, hello: Tracked, clock):
    (old,) = store.run(events.accept_many, [incoming(hello, guid="old")])
    clock.forward(20 * DAY)
    logged(store, hello)
    store.run(upkeep.purge, 14 * DAY)
    found = page(store, hello, 1)
    assert (seqs(found), found.before) == ([2], None)
    with pytest.raises(NotFound):
        store.look(history.get, hello.user_id, old.event_id)


def test_a_repository_that_a_user_does_not_see_is_not_found(store: Store, hello: Tracked, eve: Account):
    for repo_id in (hello.id, "unknown"):
        with pytest.raises(NotFound):
            store.look(history.page, eve.id, limit=5, repo_id=repo_id)


def test_an_event_is_found_by_those_who_may_see_it_alone(store: Store, hello: Tracked, eve: Account):
    (before,) = store.run(events.accept_many, [incoming(hello)])
    store.run(join, eve.id, hello.id)
    (after,) = store.run(events.accept_many, [incoming(hello)])
    store.run(leave, eve.id, hello.id)
    assert store.look(history.get, eve.id, after.event_id).seq == 2
    for event_id in (before.event_id, "unknown"):
        with pytest.raises(NotFound):
            store.look(history.get, eve.id, event_id)


def test_the_events_of_a_removed_repository_are_nowhere(store: Store, hello: Tracked):
    (accepted,) = store.run(events.accept_many, [incoming(hello)])
    store.run(repositories.remove, hello.user_id, hello.id)
    assert page(store, hello).events == ()
    assert store.look(history.listing, repo_id=None, limit=5) == []
    with pytest.raises(NotFound):
        store.look(history.get, hello.user_id, accepted.event_id)
    with pytest.raises(NotFound):
        store.look(history.details, accepted.event_id)


def test_an_event_expires_after_the_retention_of_this_server(store: Store, hello: Tracked, clock):
    (accepted,) = store.run(events.accept_many, [incoming(hello)])
    found = store.look(history.get, hello.user_id, accepted.event_id, DAY)
    assert page(store, hello, retention=DAY).events[0].expires_at == found.expires_at == clock() + DAY


def test_the_host_lists_the_newest_events_of_all(store: Store, hello: Tracked, docs: Tracked):
    logged(store, hello, 2)
    logged(store, docs)
    found = store.look(history.listing, repo_id=None, limit=2)
    assert [(each.seq, each.repo_name, each.branch) for each in found] == [
        (3, "octo/docs", "main"),
        (2, "octo/hello", "main"),
    ]
    assert found[0].headline == "1 commit pushed to main"
    assert [each.seq for each in store.look(history.listing, repo_id=hello.id, limit=5)] == [2, 1]


def test_the_host_finds_an_event_by_its_id_its_seq_and_its_guid(store: Store, hello: Tracked):
    (accepted,) = store.run(events.accept_many, [incoming(hello, push(7), guid="the-guid")])
    for name in (accepted.event_id, "1", "the-guid"):
        found = store.look(history.details, name)
        assert (found.id, found.verified) == (accepted.event_id, "sha256")
        assert json.loads(bytes(found.payload)) == push(7)


@pytest.mark.parametrize("name", ["2", "unknown", "", "9" * 30, "²"])
def test_an_event_that_is_not_there_is_not_found(store: Store, hello: Tracked, name: str):
    logged(store, hello)
    with pytest.raises(NotFound):
        store.look(history.details, name)
    with pytest.raises(NotFound):
        store.look(history.get, hello.user_id, name)


def test_an_id_that_the_database_cannot_hold_is_refused_as_any_other(store: Store, ada: Account):
    with pytest.raises((NotFound, Invalid)):
        store.look(history.get, ada.id, "nul\0")
    with pytest.raises((NotFound, Invalid)):
        store.look(history.details, "nul\0")


def test_the_host_still_sees_of_a_purged_event_that_it_was(store: Store, hello: Tracked, clock):
    logged(store, hello, guid="the-guid")
    clock.forward(20 * DAY)
    store.run(upkeep.purge, 14 * DAY)
    (listed,) = store.look(history.listing, repo_id=None, limit=5)
    found = store.look(history.details, "the-guid")
    assert (listed.seq, listed.headline, listed.branch, found.branch) == (1, "", "main", "main")
    assert (found.summary, found.payload) == (None, None)


# A delivery, to be sent again.


def test_a_delivery_is_as_github_made_it_and_signed_for_the_owner(store: Store, ada: Account, hello: Tracked):
    (accepted,) = store.run(events.accept_many, [incoming(hello, push(7), guid="the-guid")])
    found = store.look(history.delivery, ada.id, accepted.event_id)
    assert (found.event_type, found.delivery_id) == ("push", "the-guid")
    assert found.payload == json.dumps(push(7)).encode()
    assert found.signature_256 == github.sign(found.payload, hello.webhook_secret).decode()
    assert found.signature_1 == github.sign(found.payload, hello.webhook_secret, "sha1").decode()


def test_a_delivery_is_not_signed_for_a_member_and_not_there_for_a_stranger(
    store: Store, ada: Account, eve: Account, hello: Tracked
):
    (before,) = store.run(events.accept_many, [incoming(hello)])
    store.run(join, eve.id, hello.id)
    (after,) = store.run(events.accept_many, [incoming(hello)])
    found = store.look(history.delivery, eve.id, after.event_id)
    assert (found.signature_256, found.signature_1) == ("", "")
    with pytest.raises(NotFound):
        store.look(history.delivery, eve.id, before.event_id)


def test_a_delivery_whose_payload_was_purged_is_not_there(store: Store, ada: Account, hello: Tracked, clock):
    (accepted,) = store.run(events.accept_many, [incoming(hello)])
    clock.forward(15 * DAY)
    store.run(upkeep.purge, 14 * DAY)
    with pytest.raises(NotFound):
        store.look(history.delivery, ada.id, accepted.event_id)
