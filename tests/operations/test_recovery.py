from datetime import timedelta

import pytest
from actors import logged
from conftest import Clock

from cotexd.domain.filter import Filter
from cotexd.operations import events, hooks, recovery, repositories, secrets, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.events import Incoming
from cotexd.operations.recovery import ASK_AGAIN, Missing
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Event, Webhook

LATER = timedelta(minutes=5)


@pytest.fixture
def lost(clock: Clock) -> Missing:
    return Missing("guid-lost", "push", clock() - timedelta(hours=1), 7)


def guid_of(store: Store, seq: int) -> str:
    return store.look(lambda _: Event.get_by_id(seq).delivery_id)


def incoming(tracked: Tracked, guid: str, event_type: str = "push") -> Incoming:
    return Incoming(tracked.id, guid, event_type, "main", "sha256", b"{}", b"{}")


def test_a_repository_that_was_never_looked_at_is_due(store: Store, hello: Tracked):
    assert store.look(recovery.due, 10) == [hello.id]


def test_one_that_was_claimed_is_not_due_until_then(store: Store, hello: Tracked, clock: Clock):
    assert store.run(recovery.claim, hello.id, clock() + LATER)
    assert store.look(recovery.due, 10) == []
    clock.forward(LATER)
    assert store.look(recovery.due, 10) == [hello.id]


def test_only_one_server_can_claim_it(store: Store, hello: Tracked, clock: Clock):
    assert [store.run(recovery.claim, hello.id, clock() + LATER) for _ in range(2)] == [True, False]


def test_a_paused_repository_is_due_as_soon_as_it_is_resumed(store: Store, hello: Tracked, clock: Clock):
    store.run(recovery.claim, hello.id, clock() + LATER)
    store.run(repositories.pause, hello.user_id, hello.id)
    clock.forward(LATER)
    assert store.look(recovery.due, 10) == []
    store.run(recovery.fail, hello.id, "paused", clock() + LATER)
    store.run(repositories.resume, hello.user_id, hello.id)
    assert store.look(recovery.due, 10) == [hello.id]


def test_a_removed_repository_is_never_due(store: Store, hello: Tracked):
    store.run(repositories.remove, hello.user_id, hello.id)
    assert store.look(recovery.due, 10) == []


def test_a_start_makes_every_repository_due(store: Store, hello: Tracked, clock: Clock):
    store.run(recovery.claim, hello.id, clock() + LATER)
    store.run(recovery.start_over)
    assert store.look(recovery.due, 10) == [hello.id]


@pytest.mark.parametrize("of_its_own", [False, True])
def test_a_new_token_makes_due_what_it_is_for(store: Store, hello: Tracked, clock: Clock, of_its_own: bool):
    store.run(recovery.claim, hello.id, clock() + LATER)
    store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_1", repo_id=hello.id if of_its_own else "")
    assert store.look(recovery.due, 10) == [hello.id]


def test_without_a_token_for_all_only_those_that_have_their_own_are_due(
    store: Store, ada: Account, hello: Tracked
):
    store.run(repositories.add, ada.id, "octo/docs")
    assert store.look(recovery.due, 10, only_with_token=True) == []
    store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_1", repo_id=hello.id)
    assert store.look(recovery.due, 10, only_with_token=True) == [hello.id]


def test_what_the_log_has_is_not_unknown(store: Store, hello: Tracked):
    (seq,) = logged(store, hello)
    known = guid_of(store, seq)
    assert store.look(recovery.unknown, hello.id, {known, "guid-other"}) == {"guid-other"}


def test_the_same_guid_of_another_tracking_is_unknown(store: Store, hello: Tracked, ada: Account):
    docs = store.run(repositories.add, ada.id, "octo/docs")
    (seq,) = logged(store, hello)
    known = guid_of(store, seq)
    assert store.look(recovery.unknown, docs.id, {known}) == {known}


def test_what_was_filtered_is_not_unknown(store: Store, hello: Tracked):
    store.run(repositories.set_filter, hello.user_id, hello.id, Filter(events=("release",)))
    (accepted,) = store.run(events.accept_many, [incoming(hello, "guid-out")])
    assert isinstance(accepted, events.Accepted)
    assert accepted.filtered
    assert store.look(recovery.unknown, hello.id, {"guid-out"}) == set()


def test_what_was_purged_is_not_unknown_for_as_long_as_github_could_show_it(
    store: Store, hello: Tracked, clock: Clock
):
    (seq,) = logged(store, hello)
    known = guid_of(store, seq)
    clock.forward(timedelta(days=8))
    assert store.run(upkeep.purge, timedelta(days=1)) == 1
    assert store.look(recovery.unknown, hello.id, {known}) == set()


def test_more_guids_than_one_statement_takes_are_asked_for(store: Store, hello: Tracked):
    many = {f"guid-{number}" for number in range(3 * recovery._MAX_IN + 1)}
    store.run(events.accept_many, [incoming(hello, "guid-700")])
    assert store.look(recovery.unknown, hello.id, many) == many - {"guid-700"}


def test_github_is_asked_again_and_again_but_not_for_ever(
    store: Store, hello: Tracked, lost: Missing, clock: Clock
):
    for pause in ASK_AGAIN:
        assert store.run(recovery.turn_of, hello.id, lost) == "ask"
        store.run(recovery.asked, hello.id, lost)
        assert store.run(recovery.turn_of, hello.id, lost) == "wait"
        clock.forward(pause)
    assert store.run(recovery.turn_of, hello.id, lost) == "over"
    assert store.look(recovery.unknown, hello.id, {lost.delivery_id}) == set()
    assert store.look(hooks.known, hello.id).lost == 1


def test_what_was_given_up_is_remembered_for_longer_than_github_has_it(
    store: Store, hello: Tracked, lost: Missing, clock: Clock
):
    store.run(recovery.give_up, hello.id, lost)
    clock.forward(timedelta(days=8))
    store.run(upkeep.forget_old)
    assert store.look(recovery.unknown, hello.id, {lost.delivery_id}) == set()
    clock.forward(recovery.KEPT)
    store.run(upkeep.forget_old)
    assert store.look(recovery.unknown, hello.id, {lost.delivery_id}) == {lost.delivery_id}


def test_what_was_asked_for_and_comes_is_a_repaired_event(store: Store, hello: Tracked, lost: Missing):
    store.run(recovery.asked, hello.id, lost)
    store.run(events.accept_many, [incoming(hello, lost.delivery_id), incoming(hello, "guid-live")])
    first, second = store.look(lambda _: list(Event.select().order_by(Event.seq)))
    assert (first.sent_at, first.verified) == (lost.sent_at, "sha256")
    assert second.sent_at is None


def test_a_look_that_is_over_says_how_far_all_is_settled(store: Store, hello: Tracked, clock: Clock):
    store.run(recovery.settle, hello.id, clock(), repaired=3)
    store.run(recovery.settle, hello.id, None, repaired=2, problem="one is missing")
    known = store.look(hooks.known, hello.id)
    assert (known.settled_at, known.looked_at, known.repaired) == (clock(), clock(), 5)
    assert known.problem == "one is missing"


def test_what_was_wanted_sooner_meanwhile_is_not_put_off(store: Store, hello: Tracked, clock: Clock):
    store.run(recovery.claim, hello.id, clock() + LATER)
    clock.forward(timedelta(seconds=1))
    store.run(recovery.start_over)
    store.run(recovery.fail, hello.id, "away", clock() + LATER)
    assert store.look(recovery.due, 10) == [hello.id]


def test_what_github_did_not_agree_to_send_is_not_counted(store: Store, hello: Tracked, lost: Missing):
    for _ in range(2 * len(ASK_AGAIN)):
        assert store.run(recovery.turn_of, hello.id, lost) == "ask"
        store.run(recovery.about_to_ask, hello.id, lost)


def test_a_look_that_failed_says_why_and_settles_nothing(store: Store, hello: Tracked, clock: Clock):
    store.run(recovery.claim, hello.id, clock() + LATER)
    store.run(recovery.fail, hello.id, "x" * 10_000, clock() + LATER)
    known = store.look(hooks.known, hello.id)
    assert (known.settled_at, len(known.problem)) == (None, recovery.MAX_PROBLEM)
    assert store.look(recovery.due, 10) == []


def test_who_has_waited_longest_comes_first(store: Store, ada: Account, hello: Tracked, clock: Clock):
    docs = store.run(repositories.add, ada.id, "octo/docs")
    store.run(recovery.claim, docs.id, clock() + LATER)
    clock.forward(timedelta(minutes=1))
    store.run(recovery.claim, hello.id, clock() + LATER)
    clock.forward(2 * LATER)
    assert store.look(recovery.due, 1) == [docs.id]
    assert store.look(lambda _: Webhook.select().count()) == 2
