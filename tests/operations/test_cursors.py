from datetime import timedelta

import pytest
from actors import join, leave, logged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotexd.domain.cursor import Cursor
from cotexd.domain.filter import Filter
from cotexd.domain.selection import Selection
from cotexd.errors import Conflict, Invalid, InvalidCursor
from cotexd.operations import accounts, cursors, events, members, repositories, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.cursors import MAX_DEVICES, MAX_NAME, Ack, Gap, Keeper, Start
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import Device, Lineage, LogState

DAY = timedelta(days=1)
RETENTION = 14 * DAY


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


def attach(store: Store, user_id: str, device: str = "", cursor: str = "") -> Start:
    given_cursor = Cursor(cursor.split(".", maxsplit=1)[0], int(cursor.split(".")[1])) if cursor else None
    return store.run(cursors.attach, user_id, device=device, cursor=given_cursor)


def at(store: Store, seq: int) -> str:
    return f"{store.look(events.log).epoch}.{seq}"


def ack(store: Store, start: Start, seq: int) -> None:
    assert start.keeper is not None
    store.run(cursors.acknowledge_many, [Ack(start.keeper, seq)])


def kept(_: Tx, user_id: str) -> dict[tuple[str, str], tuple[int, int]]:
    """What is kept for a user's clients: cursor and acked."""
    rows = Device.select().where(Device.user_id == user_id)
    return {(row.kind, row.name): (row.cursor, row.acked) for row in rows}


def purge_all(store: Store, clock) -> None:
    clock.forward(RETENTION + DAY)
    while store.run(upkeep.purge, RETENTION):
        pass


def restore(tx: Tx, epoch: str, head: int) -> None:
    """Go back to `head`, as a restore of a backup does; the epoch until now is remembered."""
    log = events.log(tx)
    Lineage.insert(id=len(log.lineage) + 1, epoch=log.epoch, head=head, created_at=tx.now).execute()
    LogState.update(epoch=epoch, head=head).execute()


# A client of protocol 2.


def test_a_device_never_seen_before_starts_at_the_head(store: Store, hello: Tracked):
    logged(store, hello, 3)
    start = attach(store, hello.user_id, "laptop")
    assert (start.resume, start.after, start.head, start.floor, start.gap) == ("new", 3, 3, 0, None)


def test_a_device_that_drops_before_its_first_acknowledgement_has_lost_nothing(store: Store, hello: Tracked):
    logged(store, hello, 3)
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 2)
    start = attach(store, hello.user_id, "laptop")
    assert (start.resume, start.after) == ("ok", 3)


def test_a_device_goes_on_from_what_it_acknowledged(store: Store, hello: Tracked):
    start = attach(store, hello.user_id, "laptop")
    logged(store, hello, 5)
    ack(store, start, 4)
    again = attach(store, hello.user_id, "laptop")
    assert (again.resume, again.after) == ("ok", 4)


def test_without_a_name_and_a_cursor_it_is_new_every_time_and_nothing_is_kept(store: Store, hello: Tracked):
    before = store.look(kept, hello.user_id)
    for head in (1, 2):
        logged(store, hello)
        start = attach(store, hello.user_id)
        assert (start.resume, start.after, start.keeper) == ("new", head, None)
    assert store.look(kept, hello.user_id) == before


def test_a_cursor_that_is_given_goes_before_the_one_that_is_kept(store: Store, hello: Tracked):
    start = attach(store, hello.user_id, "laptop")
    logged(store, hello, 5)
    ack(store, start, 4)
    again = attach(store, hello.user_id, "laptop", at(store, 1))
    assert (again.resume, again.after) == ("ok", 1)
    assert store.look(kept, hello.user_id)["device", "laptop"] == (4, 4)


def test_each_device_and_each_user_has_a_cursor_of_its_own(store: Store, hello: Tracked, eve: Account):
    mine = attach(store, hello.user_id, "laptop")
    attach(store, hello.user_id, "phone")
    attach(store, eve.id, "laptop")
    logged(store, hello, 2)
    ack(store, mine, 2)
    assert attach(store, hello.user_id, "laptop").after == 2
    assert attach(store, hello.user_id, "phone").after == 0
    assert attach(store, eve.id, "laptop").after == 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["device", "session", "shared"]), st.integers(0, 50)), max_size=12))
def test_a_cursor_never_goes_back(store: Store, acks: list[tuple[str, int]]):
    def play(tx: Tx) -> None:
        user_id = accounts.create(tx, f"u{Device.select().count()}").id
        LogState.update(head=50).execute()
        cursors.attach(tx, user_id, device="d", cursor=Cursor(events.log(tx).epoch, 0))
        cursors.attach_legacy(tx, user_id, "s")
        names = {"device": "d", "session": "s", "shared": ""}
        before = {key: cursor for key, (cursor, _) in kept(tx, user_id).items()}
        expected = dict.fromkeys(before, 0)
        for kind, seq in acks:
            cursors.acknowledge_many(tx, [Ack(Keeper(user_id, kind, names[kind]), seq)])
            moved = [(kind, names[kind])] + ([("shared", "")] if kind == "session" else [])
            for key in moved:
                expected[key] = max(expected[key], seq)
            assert kept(tx, user_id) == {
                key: (max(before[key], acked), acked) for key, acked in expected.items()
            }

    store.run(play)


@pytest.mark.parametrize("name", ["x" * (MAX_NAME + 1), "line\nbreak", "nul\0", "\ud800"])
def test_what_cannot_be_a_devices_name_is_refused(store: Store, ada: Account, name: str):
    with pytest.raises(Invalid, match="device"):
        attach(store, ada.id, name)
    with pytest.raises(Invalid, match="device"):
        store.run(cursors.acknowledge, ada.id, at(store, 0), name)


def test_a_user_has_so_many_devices_and_no_more(store: Store, ada: Account, eve: Account):
    def attach_all(tx: Tx) -> None:
        for number in range(MAX_DEVICES):
            cursors.attach(tx, ada.id, device=str(number), cursor=None)

    store.run(attach_all)
    with pytest.raises(Conflict, match=str(MAX_DEVICES)):
        attach(store, ada.id, "one more")
    assert attach(store, ada.id, "0").resume == "ok"
    assert attach(store, ada.id).resume == "new"
    assert attach(store, eve.id, "one more").resume == "new"


# Gaps.


def test_a_gap_says_exactly_how_many_of_the_users_events_are_gone(
    store: Store, hello: Tracked, eve: Account, clock
):
    other = store.run(repositories.add, eve.id, "octo/other")
    logged(store, hello, 2)
    logged(store, other, 3)
    logged(store, hello, 2)
    purge_all(store, clock)
    logged(store, hello)
    asked = at(store, 1)
    start = attach(store, hello.user_id, cursor=asked)
    assert (start.resume, start.after, start.floor) == ("gap", 7, 7)
    assert start.gap == Gap("expired", asked, 7, missed=3)


def test_a_device_that_was_away_too_long_is_told_of_the_gap(store: Store, hello: Tracked, clock):
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 4)
    purge_all(store, clock)
    start = attach(store, hello.user_id, "laptop")
    assert (start.resume, start.after) == ("gap", 4)
    assert start.gap == Gap("expired", at(store, 0), 4, missed=4)


def test_where_nothing_of_the_users_is_missing_there_is_no_gap(
    store: Store, hello: Tracked, eve: Account, clock
):
    logged(store, hello, 4)
    purge_all(store, clock)
    start = attach(store, eve.id, cursor=at(store, 1))
    assert (start.resume, start.after, start.gap) == ("ok", 4, None)


def test_only_what_came_while_a_user_was_a_member_is_missed(
    store: Store, hello: Tracked, eve: Account, clock
):
    logged(store, hello, 2)
    store.run(join, eve.id, hello.id)
    logged(store, hello, 3)
    store.run(leave, eve.id, hello.id)
    logged(store, hello, 4)
    purge_all(store, clock)
    start = attach(store, eve.id, cursor=at(store, 0))
    assert start.gap is not None
    assert start.gap.missed == 3


def test_what_was_missed_cannot_be_counted_when_the_stubs_are_gone(store: Store, hello: Tracked, clock):
    logged(store, hello, 2)
    clock.forward(upkeep.STUBS_KEPT + DAY)
    logged(store, hello, 2)
    clock.forward(RETENTION + DAY)
    store.run(upkeep.purge, RETENTION)
    assert store.run(upkeep.forget_stubs) == 2
    uncountable, countable = (attach(store, hello.user_id, cursor=at(store, seq)).gap for seq in (1, 2))
    assert uncountable == Gap("expired", at(store, 1), 4, missed=None)
    assert countable == Gap("expired", at(store, 2), 4, missed=2)


def test_a_cursor_at_the_floor_or_at_the_head_is_no_gap(store: Store, hello: Tracked, clock):
    logged(store, hello, 3)
    purge_all(store, clock)
    logged(store, hello, 2)
    for seq in (3, 5):
        start = attach(store, hello.user_id, cursor=at(store, seq))
        assert (start.resume, start.after, start.gap) == ("ok", seq, None)


def test_a_cursor_ahead_of_the_log_goes_on_from_its_head(store: Store, hello: Tracked):
    logged(store, hello, 3)
    start = attach(store, hello.user_id, cursor=at(store, 9))
    assert (start.resume, start.after, start.gap) == ("gap", 3, Gap("ahead", at(store, 9), 0, missed=None))


def test_a_cursor_of_a_log_that_nobody_knows_goes_on_from_the_floor(store: Store, hello: Tracked, clock):
    logged(store, hello, 3)
    purge_all(store, clock)
    logged(store, hello, 2)
    start = attach(store, hello.user_id, cursor="abc.4")
    assert (start.resume, start.after, start.gap) == ("gap", 3, Gap("epoch", "abc.4", 3, missed=None))


def test_after_a_restore_a_cursor_up_to_its_head_goes_on_exactly(store: Store, hello: Tracked):
    logged(store, hello, 5)
    old = store.look(events.log).epoch
    store.run(restore, "b0", 3)
    for seq in (2, 3):
        start = attach(store, hello.user_id, cursor=f"{old}.{seq}")
        assert (start.epoch, start.resume, start.after, start.gap) == ("b0", "ok", seq, None)


def test_after_a_restore_a_cursor_beyond_it_gets_a_gap_from_there(store: Store, hello: Tracked):
    logged(store, hello, 5)
    old = store.look(events.log).epoch
    store.run(restore, "b0", 3)
    start = attach(store, hello.user_id, cursor=f"{old}.5")
    assert (start.resume, start.after, start.gap) == ("gap", 3, Gap("epoch", f"{old}.5", 0, missed=None))


def test_after_two_restores_the_one_that_went_back_further_counts(store: Store, hello: Tracked):
    logged(store, hello, 5)
    old = store.look(events.log).epoch
    store.run(restore, "b0", 4)
    store.run(restore, "c0", 2)
    assert attach(store, hello.user_id, cursor=f"{old}.2").resume == "ok"
    assert attach(store, hello.user_id, cursor=f"{old}.3").after == 2
    assert attach(store, hello.user_id, cursor="b0.3").after == 2


def test_an_old_cursor_below_the_floor_is_counted_as_one_of_this_log(store: Store, hello: Tracked, clock):
    logged(store, hello, 5)
    old = store.look(events.log).epoch
    store.run(restore, "b0", 5)
    purge_all(store, clock)
    start = attach(store, hello.user_id, cursor=f"{old}.1")
    assert start.gap == Gap("expired", f"{old}.1", 5, missed=4)


def test_a_connected_client_is_set_to_a_cursor_by_the_same_rules(store: Store, hello: Tracked, clock):
    logged(store, hello, 3)
    purge_all(store, clock)
    logged(store, hello, 2)
    for asked in (at(store, 1), at(store, 4), at(store, 9), "abc.1"):
        epoch, seq = asked.split(".")
        assert store.look(cursors.resume, hello.user_id, Cursor(epoch, int(seq))) == attach(
            store, hello.user_id, cursor=asked
        )


# A client that selected.

PUSHES = Selection(events=frozenset({"push"}))


@pytest.fixture
def docs(store: Store, ada: Account) -> Tracked:
    return store.run(repositories.add, ada.id, "Octo/Docs")


def mixed(store: Store, hello: Tracked, docs: Tracked) -> None:
    """Two pushes and three stars of octo/hello, four pushes of Octo/Docs."""
    logged(store, hello, 2)
    logged(store, docs, 3)
    logged(store, hello, 3, event="star")
    logged(store, docs, 1)


SELECTED = [
    (Selection(), 9),
    (PUSHES, 6),
    (Selection(events=frozenset({"star", "issues"})), 3),
    (Selection(repos=frozenset({"octo/hello"})), 5),
    (Selection(repos=frozenset({"octo/docs"})), 4),
    (Selection(frozenset({"octo/hello"}), frozenset({"push"})), 2),
    (Selection(frozenset({"octo/hello", "octo/docs"}), frozenset({"push", "star"})), 9),
]


@pytest.mark.parametrize(("selection", "missed"), SELECTED)
def test_of_what_is_gone_only_what_was_selected_is_missed(
    store: Store, hello: Tracked, docs: Tracked, clock, selection: Selection, missed: int
):
    mixed(store, hello, docs)
    purge_all(store, clock)
    asked = Cursor(store.look(events.log).epoch, 0)
    started = store.run(cursors.attach, hello.user_id, device="", cursor=asked, selection=selection)
    assert started.gap == Gap("expired", str(asked), 9, missed=missed)
    assert store.look(cursors.resume, hello.user_id, asked, selection) == started


def test_a_repository_is_selected_by_its_id_too(store: Store, hello: Tracked, docs: Tracked, clock):
    mixed(store, hello, docs)
    purge_all(store, clock)
    asked = Cursor(store.look(events.log).epoch, 0)
    gap = store.look(cursors.resume, hello.user_id, asked, Selection(repos=frozenset({docs.id}))).gap
    assert gap is not None
    assert gap.missed == 4


@pytest.mark.parametrize(
    "selection",
    [
        Selection(events=frozenset({"issues"})),
        Selection(repos=frozenset({"octo/other"})),
        Selection(frozenset({"octo/docs"}), frozenset({"star"})),
    ],
    ids=["another type", "another repository", "none of these of that one"],
)
def test_where_nothing_that_was_selected_is_gone_there_is_no_gap(
    store: Store, hello: Tracked, docs: Tracked, clock, selection: Selection
):
    mixed(store, hello, docs)
    purge_all(store, clock)
    asked = Cursor(store.look(events.log).epoch, 0)
    started = store.run(cursors.attach, hello.user_id, device="", cursor=asked, selection=selection)
    assert (started.resume, started.after, started.gap) == ("ok", 9, None)
    assert store.look(cursors.resume, hello.user_id, asked, selection) == started


def test_a_selection_counts_no_more_than_the_user_may_see(
    store: Store, hello: Tracked, docs: Tracked, eve: Account, clock
):
    store.run(join, eve.id, docs.id)
    mixed(store, hello, docs)
    purge_all(store, clock)
    asked = Cursor(store.look(events.log).epoch, 0)
    both = Selection(repos=frozenset({"octo/hello", "octo/docs"}))
    gap = store.look(cursors.resume, eve.id, asked, both).gap
    assert gap is not None
    assert gap.missed == 4


def test_a_filter_by_path_of_what_was_not_selected_makes_nothing_uncountable(
    store: Store, hello: Tracked, docs: Tracked, clock
):
    store.run(members.set_filter, hello.user_id, hello.id, Filter(paths=("docs/*",)))
    mixed(store, hello, docs)
    purge_all(store, clock)
    asked = Cursor(store.look(events.log).epoch, 0)
    for selection, missed in ((Selection(repos=frozenset({"octo/docs"})), 4), (PUSHES, None)):
        gap = store.look(cursors.resume, hello.user_id, asked, selection).gap
        assert gap is not None
        assert gap.missed == missed


def test_a_device_keeps_one_cursor_whatever_it_selects(store: Store, hello: Tracked):
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 4)
    for selection in (PUSHES, Selection()):
        started = store.run(cursors.attach, hello.user_id, device="laptop", cursor=None, selection=selection)
        assert (started.resume, started.after) == ("ok", 0)


# Resuming on a connection.


def test_who_resumes_keeps_nothing_and_moves_nothing_that_is_kept(store: Store, hello: Tracked):
    started = attach(store, hello.user_id, "laptop")
    logged(store, hello, 5)
    ack(store, started, 4)
    before = store.look(kept, hello.user_id)
    for seq in (0, 2, 5):
        again = store.look(cursors.resume, hello.user_id, Cursor(started.epoch, seq))
        assert (again.resume, again.after, again.head, again.keeper) == ("ok", seq, 5, None)
    assert store.look(kept, hello.user_id) == before


def test_who_resumes_ahead_of_the_log_or_in_another_is_told_so(store: Store, hello: Tracked):
    logged(store, hello, 3)
    epoch = store.look(events.log).epoch
    ahead = store.look(cursors.resume, hello.user_id, Cursor(epoch, 9), PUSHES)
    assert (ahead.after, ahead.gap) == (3, Gap("ahead", f"{epoch}.9", 0, missed=None))
    elsewhere = store.look(cursors.resume, hello.user_id, Cursor("abc", 2), PUSHES)
    assert (elsewhere.after, elsewhere.gap) == (0, Gap("epoch", "abc.2", 0, missed=None))


# A legacy client.


def test_a_new_legacy_client_gets_all_since_the_user_was_made(store: Store, hello: Tracked):
    logged(store, hello, 3)
    start = store.run(cursors.attach_legacy, hello.user_id, "app")
    assert (start.resume, start.after, start.head) == ("ok", 0, 3)


def test_a_new_legacy_client_starts_at_the_furthest_that_any_acknowledged(store: Store, hello: Tracked):
    one, two = (store.run(cursors.attach_legacy, hello.user_id, name) for name in ("one", "two"))
    logged(store, hello, 5)
    ack(store, one, 4)
    ack(store, two, 2)
    assert store.run(cursors.attach_legacy, hello.user_id, "three").after == 4


def test_legacy_clients_do_not_take_events_from_one_another(store: Store, hello: Tracked):
    one = store.run(cursors.attach_legacy, hello.user_id, "one")
    store.run(cursors.attach_legacy, hello.user_id, "two")
    logged(store, hello, 5)
    ack(store, one, 5)
    assert store.run(cursors.attach_legacy, hello.user_id, "two").after == 0
    assert store.run(cursors.attach_legacy, hello.user_id, "one").after == 5


def test_a_token_that_names_no_session_shares_the_users_cursor(store: Store, hello: Tracked):
    start = store.run(cursors.attach_legacy, hello.user_id, "")
    logged(store, hello, 3)
    ack(store, start, 2)
    assert store.run(cursors.attach_legacy, hello.user_id, "").after == 2
    assert store.run(cursors.attach_legacy, hello.user_id, "app").after == 2


def test_what_a_device_acknowledged_a_legacy_client_gets_all_the_same(store: Store, hello: Tracked):
    start = attach(store, hello.user_id, "laptop")
    logged(store, hello, 3)
    ack(store, start, 3)
    assert store.run(cursors.attach_legacy, hello.user_id, "app").after == 0


def test_a_legacy_client_hears_of_no_gap_and_goes_on_from_the_floor(store: Store, hello: Tracked, clock):
    logged(store, hello, 3)
    purge_all(store, clock)
    logged(store, hello, 2)
    start = store.run(cursors.attach_legacy, hello.user_id, "app")
    assert (start.resume, start.after, start.gap) == ("ok", 3, None)


# Over REST.


def test_acknowledging_over_rest_moves_the_device(store: Store, hello: Tracked):
    attach(store, hello.user_id, "laptop")
    logged(store, hello, 5)
    store.run(cursors.acknowledge, hello.user_id, at(store, 3), "laptop")
    store.run(cursors.acknowledge, hello.user_id, at(store, 2), "laptop")
    assert attach(store, hello.user_id, "laptop").after == 3
    assert store.run(cursors.attach_legacy, hello.user_id, "app").after == 0


def test_a_device_may_acknowledge_over_rest_before_it_ever_connects(store: Store, hello: Tracked):
    logged(store, hello, 5)
    assert str(store.run(cursors.acknowledge, hello.user_id, at(store, 3), "script")) == at(store, 3)
    start = attach(store, hello.user_id, "script")
    assert (start.resume, start.after) == ("ok", 3)


def test_without_a_device_the_legacy_cursor_moves(store: Store, hello: Tracked):
    logged(store, hello, 5)
    store.run(cursors.acknowledge, hello.user_id, at(store, 3))
    assert store.run(cursors.attach_legacy, hello.user_id, "app").after == 3


def test_an_acknowledgement_beyond_the_head_is_refused(store: Store, hello: Tracked):
    logged(store, hello, 2)
    store.run(cursors.acknowledge, hello.user_id, at(store, 2))
    with pytest.raises(InvalidCursor, match="beyond"):
        store.run(cursors.acknowledge, hello.user_id, at(store, 3))
    assert store.look(kept, hello.user_id) == {("shared", ""): (2, 2)}


def test_an_acknowledgement_of_another_epoch_is_refused(store: Store, hello: Tracked):
    logged(store, hello, 2)
    old = store.look(events.log).epoch
    store.run(restore, "b0", 2)
    for epoch in (old, "abc"):
        with pytest.raises(InvalidCursor, match="epoch"):
            store.run(cursors.acknowledge, hello.user_id, f"{epoch}.1")


def test_what_is_no_cursor_acknowledges_nothing(store: Store, ada: Account):
    with pytest.raises(InvalidCursor):
        store.run(cursors.acknowledge, ada.id, "7")
