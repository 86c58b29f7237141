from datetime import timedelta

import pytest
from actors import logged
from conftest import Clock

from cotexd.errors import NotFound
from cotexd.operations import accounts, cursors, events, members, nodes, recovery, repositories, trace, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.cursors import Ack, Keeper
from cotexd.operations.events import Incoming
from cotexd.operations.nodes import Server
from cotexd.operations.recovery import Missing
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Event


@pytest.fixture
def guid(store: Store, hello: Tracked) -> str:
    store.run(cursors.attach, hello.user_id, device="laptop", cursor=None)
    (seq,) = logged(store, hello)
    return store.look(lambda _: Event.get_by_id(seq).delivery_id)


@pytest.fixture
def grace(store: Store) -> Account:
    return store.run(accounts.create, "grace")


def acknowledge(store: Store, user_id: str, seq: int, device: str = "laptop") -> None:
    store.run(cursors.acknowledge_many, [Ack(Keeper(user_id, "device", device), seq)])


def test_a_delivery_was_received_verified_and_committed(
    store: Store, hello: Tracked, guid: str, clock: Clock
):
    found = store.look(trace.trace, guid)
    assert (found.repo_name, found.seq, found.verified) == ("octo/hello", 1, "sha256")
    assert found.received == found.committed == clock()
    assert (found.sent, found.filtered, found.purged) == (None, False, False)


def test_it_is_published_where_a_server_has_handed_it_out(store: Store, guid: str, clock: Clock):
    assert store.look(trace.trace, guid).published is None
    for head, published in ((0, False), (1, True)):
        store.run(nodes.beat, Server("one", "http://127.0.0.1:8080", "1.0", 4711, 0, clock(), head))
        assert store.look(trace.trace, guid).published is published


def test_each_device_says_when_it_acknowledged_it(store: Store, hello: Tracked, guid: str, clock: Clock):
    (seen,) = store.look(trace.trace, guid).devices
    assert (seen.user, seen.device, seen.acknowledged_at) == ("ada", "laptop", None)
    clock.forward(timedelta(minutes=3))
    acknowledge(store, hello.user_id, 1)
    then = clock()
    clock.forward(timedelta(hours=3))
    logged(store, hello)
    acknowledge(store, hello.user_id, 2)
    (seen,) = store.look(trace.trace, guid).devices
    assert seen.acknowledged_at == then


def test_when_it_was_acknowledged_is_forgotten_after_a_while_and_then_the_last_is_told(
    store: Store, hello: Tracked, guid: str, clock: Clock
):
    acknowledge(store, hello.user_id, 1)
    clock.forward(cursors.NOTES_KEPT + timedelta(minutes=1))
    logged(store, hello)
    acknowledge(store, hello.user_id, 2)
    last = clock()
    store.run(upkeep.forget_old)
    (seen,) = store.look(trace.trace, guid).devices
    assert seen.acknowledged_at == last


def test_who_may_not_see_it_is_not_waited_for(store: Store, hello: Tracked, guid: str, grace: Account):
    store.run(members.share, hello.user_id, hello.id, "grace")
    store.run(cursors.attach, grace.id, device="phone", cursor=None)
    assert [each.user for each in store.look(trace.trace, guid).devices] == ["ada"]
    (seq,) = logged(store, hello)
    later = store.look(lambda _: Event.get_by_id(seq).delivery_id)
    assert [each.user for each in store.look(trace.trace, later).devices] == ["ada", "grace"]


def test_what_is_purged_is_still_told_of(store: Store, guid: str, clock: Clock):
    clock.forward(timedelta(days=15))
    store.run(upkeep.purge, timedelta(days=14))
    assert store.look(trace.trace, guid).purged


def test_one_that_github_was_asked_for_is_told_of_before_it_is_here(
    store: Store, hello: Tracked, clock: Clock
):
    missing = Missing("guid-lost", "push", clock(), 7)
    store.run(recovery.asked, hello.id, missing)
    found = store.look(trace.trace, "guid-lost")
    assert (found.repo_name, found.requested, found.seq, found.given_up) == ("octo/hello", 1, None, None)
    store.run(recovery.give_up, hello.id, missing)
    assert store.look(trace.trace, "guid-lost").given_up == clock()


def test_of_several_trackings_the_newest_is_told_unless_one_is_named(
    store: Store, hello: Tracked, grace: Account
):
    hers = store.run(repositories.add, grace.id, "octo/hello")
    for tracked in (hello, hers):
        same = Incoming(tracked.id, "guid-both", "push", "main", "sha256", b"{}", b"{}")
        store.run(events.accept_many, [same])
    assert store.look(trace.trace, "guid-both").repo_id == hers.id
    assert store.look(trace.trace, "guid-both", repo_id=hello.id).repo_id == hello.id


def test_an_unknown_delivery_is_not_found(store: Store, guid: str):
    with pytest.raises(NotFound, match="guid-nobody"):
        store.look(trace.trace, "guid-nobody")
