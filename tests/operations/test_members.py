import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from actors import incoming, logged, push
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotexd.domain.cursor import Cursor
from cotexd.domain.event import Summary, Touched
from cotexd.domain.filter import EVERYTHING, Filter
from cotexd.errors import Conflict, Invalid, NotFound, OverLimit
from cotexd.operations import accounts, cursors, events, history, members, notices, repositories, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.events import Accepted, Incoming
from cotexd.operations.repositories import Tracked
from cotexd.store import Published, Store, Tx
from cotexd.store.models import Event, Membership, User

RETENTION = timedelta(days=14)
PUSHES = Filter(events=("push",))
DOCS = Filter(paths=("docs/*",))


@pytest.fixture
def bob(store: Store) -> Account:
    return store.run(accounts.create, "bob")


@pytest.fixture
def shared(store: Store, hello: Tracked, bob: Account) -> Tracked:
    """octo/hello, which ada shares with bob."""
    store.run(members.share, hello.user_id, hello.id, "bob")
    return hello


def delivery(repo: Tracked, *paths: str, branch: str = "main", event: str = "push", **more: Any) -> Incoming:
    """As the webhook makes it ready: a push that touches `paths`, or another event."""
    commit = {"id": "c", "added": list(paths), "modified": [], "removed": []}
    payload = push(1, f"refs/heads/{branch}", commits=[commit]) if event == "push" else {"action": "created"}
    made = incoming(repo, payload, event=event, **more)
    touched = msgspec.json.decode(made.summary, type=Touched).paths
    return msgspec.structs.replace(made, paths=touched)


def deliver(store: Store, *given: Incoming) -> list[Accepted]:
    return [each for each in store.run(events.accept_many, list(given)) if isinstance(each, Accepted)]


def told(store: Store, *given: Incoming) -> list[set[str]]:
    """Who is pushed each of these, live."""

    def accept(tx: Tx) -> list[Published]:
        events.accept_many(tx, list(given))
        return tx.published

    return [set(each.audience) for each in store.run(accept)]


def replayed(store: Store, user: Account | str, after: int = 0) -> list[int]:
    user_id = user if isinstance(user, str) else user.id
    return [frame.seq for frame in store.look(events.backlog, user_id, after).frames]


def paged(store: Store, user: Account, limit: int, **more: Any) -> list[list[int]]:
    """The history, page by page."""
    pages, before = [], None
    while True:
        page = store.look(history.page, user.id, limit=limit, before=before, **more)
        pages.append([each.seq for each in page.events])
        if (before := page.before) is None:
            return pages


def missed(store: Store, user: Account, after: int) -> int | str | None:
    """What a client whose cursor stands at `after` is told that it missed."""
    epoch = store.look(events.log).epoch
    start = store.run(cursors.attach, user.id, device="", cursor=Cursor(epoch, after))
    return "nothing" if start.gap is None else start.gap.missed


# Sharing.


def test_a_repository_is_seen_by_those_whom_it_is_shared_with_as_members(
    store: Store, shared: Tracked, ada: Account, bob: Account, clock
):
    tracked = store.look(repositories.get, bob.id, shared.id)
    assert (tracked.role, tracked.user_id, tracked.webhook_secret) == ("member", ada.id, "")
    for user in (ada, bob):
        assert [
            (each.name, each.role, each.since, each.filter)
            for each in store.look(members.listing, user.id, shared.id)
        ] == [("ada", "owner", clock(), EVERYTHING), ("bob", "member", clock(), EVERYTHING)]


def test_a_user_is_named_by_name_or_by_id_and_told_of_it(store: Store, hello: Tracked, bob: Account):
    before = store.look(notices.last_id)
    assert store.run(members.share, hello.user_id, hello.id, bob.id).name == "bob"
    assert [(each.user_id, each.kind, each.text) for each in store.look(notices.after, before)] == [
        (bob.id, "told", "Repository octo/hello was shared with you")
    ]


def test_the_owners_tier_pays(store: Store, hello: Tracked, bob: Account):
    store.run(repositories.add, bob.id, "bob/one")
    store.run(repositories.add, bob.id, "bob/two")
    store.run(members.share, hello.user_id, hello.id, "bob")
    assert store.look(accounts.find, "bob").repo_count == 2
    with pytest.raises(OverLimit):
        store.run(repositories.add, bob.id, "bob/three")


def test_whoever_joins_gets_what_comes_from_now_on(store: Store, hello: Tracked, bob: Account):
    logged(store, hello, 2)
    store.run(members.share, hello.user_id, hello.id, "bob")
    assert told(store, delivery(hello)) == [{hello.user_id, bob.id}]
    assert replayed(store, bob) == [3]
    assert paged(store, bob, 10) == [[3]]


def test_whoever_leaves_keeps_what_came_and_gets_nothing_more(store: Store, shared: Tracked, bob: Account):
    logged(store, shared, 2)
    assert store.run(members.unshare, shared.user_id, shared.id, "bob").name == "bob"
    assert told(store, delivery(shared)) == [{shared.user_id}]
    assert replayed(store, bob) == [1, 2]
    with pytest.raises(NotFound):
        store.look(repositories.get, bob.id, shared.id)


def test_a_member_may_leave(store: Store, shared: Tracked, bob: Account):
    store.run(members.unshare, bob.id, shared.id, bob.id)
    assert store.look(repositories.all_of, bob.id) == []
    assert store.look(notices.after, 0)[-1].text == "Repository octo/hello is no longer shared with you"


def test_a_member_sends_nobody_else_away_and_shares_with_nobody(store: Store, shared: Tracked, bob: Account):
    store.run(accounts.create, "eve")
    store.run(members.share, shared.user_id, shared.id, "eve")
    for whom in ("eve", "ada"):
        with pytest.raises(NotFound):
            store.run(members.unshare, bob.id, shared.id, whom)
    with pytest.raises(NotFound):
        store.run(members.share, bob.id, shared.id, "eve")
    assert len(store.look(members.listing, bob.id, shared.id)) == 3


def test_an_owner_does_not_leave(store: Store, shared: Tracked):
    with pytest.raises(NotFound, match="not shared with ada"):
        store.run(members.unshare, shared.user_id, shared.id, "ada")


def test_to_a_stranger_a_repository_is_not_there(store: Store, shared: Tracked):
    eve = store.run(accounts.create, "eve")
    unknown = "6f1c1f6e-0b5b-4f0e-9b58-3a9c1d2e4f5a"
    for act in (
        lambda repo_id: store.look(members.listing, eve.id, repo_id),
        lambda repo_id: store.run(members.share, eve.id, repo_id, "eve"),
        lambda repo_id: store.run(members.unshare, eve.id, repo_id, "bob"),
        lambda repo_id: store.run(members.set_filter, eve.id, repo_id, PUSHES),
    ):
        said = []
        for repo_id in (shared.id, unknown):
            with pytest.raises(NotFound) as caught:
                act(repo_id)
            said.append(str(caught.value).replace(repo_id, "ID"))
        assert said[0] == said[1]


def test_whom_nobody_knows_nothing_is_shared_with(store: Store, shared: Tracked):
    with pytest.raises(NotFound, match="no user"):
        store.run(members.share, shared.user_id, shared.id, "nobody")
    with pytest.raises(NotFound, match="not shared with nobody"):
        store.run(members.unshare, shared.user_id, shared.id, "nobody")


# Nobody meets one repository twice.


@pytest.mark.parametrize("name", ["octo/hello", "Octo/Hello"])
def test_whoever_tracks_it_already_is_not_shared_it(store: Store, hello: Tracked, bob: Account, name: str):
    store.run(repositories.add, bob.id, name)
    with pytest.raises(Conflict, match="sees octo/hello already"):
        store.run(members.share, hello.user_id, hello.id, "bob")


@pytest.mark.parametrize("name", ["octo/hello", "OCTO/HELLO"])
def test_whoever_is_shared_it_does_not_track_it_too(store: Store, shared: Tracked, bob: Account, name: str):
    with pytest.raises(Conflict):
        store.run(repositories.add, bob.id, name)
    store.run(members.unshare, shared.user_id, shared.id, "bob")
    assert store.run(repositories.add, bob.id, name).role == "owner"


def test_it_is_not_shared_twice_nor_by_two_owners_nor_with_its_owner(store: Store, shared: Tracked):
    eve = store.run(accounts.create, "eve")
    hers = store.run(repositories.add, eve.id, "octo/hello")
    for owner_id, repo_id, whom in (
        (shared.user_id, shared.id, "bob"),
        (eve.id, hers.id, "bob"),
        (shared.user_id, shared.id, "ada"),
    ):
        with pytest.raises(Conflict):
            store.run(members.share, owner_id, repo_id, whom)


def test_shared_and_tracked_at_once_it_is_met_once(
    store: Store, hello: Tracked, bob: Account, database: str, tmp_path: Path
):
    both = threading.Barrier(2)

    def do(operation: Any, *args: Any) -> bool:
        own = Store(database, tmp_path / "data")
        both.wait()
        try:
            own.run(operation, *args)
        except Conflict:
            return False
        else:
            return True
        finally:
            own.close()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(do, members.share, hello.user_id, hello.id, "bob")
        other = pool.submit(do, repositories.add, bob.id, "octo/hello")
        assert sorted([one.result(), other.result()]) == [False, True]
    assert len(store.look(repositories.all_of, bob.id)) == 1


def test_a_removed_repository_may_be_tracked_by_those_who_shared_it(
    store: Store, shared: Tracked, bob: Account
):
    store.run(repositories.remove, shared.user_id, shared.id)
    assert store.look(repositories.all_of, bob.id) == []
    assert store.run(repositories.add, bob.id, "octo/hello").role == "owner"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_repository_has_only_so_many_members(store: Store, hello: Tracked):
    def fill(tx: Tx) -> None:
        for number in range(members.MAX_MEMBERS):
            user = accounts.insert(tx, f"id-{number}", f"u{number}", "")
            Membership.insert(
                user_id=user.id, repo_id=hello.id, role="member", since_seq=0, created_at=tx.now
            ).execute()

    store.run(fill)
    store.run(accounts.create, "one-more")
    with pytest.raises(Invalid, match="at most 1000"):
        store.run(members.share, hello.user_id, hello.id, "one-more")
    store.run(members.unshare, hello.user_id, hello.id, "u7")
    store.run(members.share, hello.user_id, hello.id, "one-more")


# A member's filter.


def test_a_member_gets_what_they_want_and_the_others_get_all(
    store: Store, shared: Tracked, ada: Account, bob: Account
):
    assert store.run(members.set_filter, bob.id, shared.id, PUSHES).filter == PUSHES
    assert told(store, delivery(shared), delivery(shared, event="star")) == [{ada.id, bob.id}, {ada.id}]
    assert (replayed(store, ada), replayed(store, bob)) == ([1, 2], [1])
    assert (paged(store, ada, 10), paged(store, bob, 10)) == ([[2, 1]], [[1]])


def test_an_owner_may_want_less_than_they_keep(store: Store, shared: Tracked, ada: Account, bob: Account):
    store.run(members.set_filter, ada.id, shared.id, PUSHES)
    assert told(store, delivery(shared, event="star")) == [{bob.id}]
    assert replayed(store, ada) == []


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        (PUSHES, {"main", "docs", "fix"}),
        (Filter(branches=("main", "rel*")), {"main", "docs", "star"}),
        (DOCS, {"docs", "star"}),
        (Filter(("push",), ("main",), ("*.md",)), {"docs"}),
        (Filter(events=("release",)), set()),
    ],
)
def test_live_in_replay_and_in_the_history_a_filter_lets_the_same_pass(
    store: Store, shared: Tracked, bob: Account, wanted: Filter, passing: set[str]
):
    store.run(members.set_filter, bob.id, shared.id, wanted)
    given = {
        "main": delivery(shared, "src/x.py"),
        "docs": delivery(shared, "src/x.py", "docs/x.md"),
        "fix": delivery(shared, "src/x.py", branch="fix"),
        "star": delivery(shared, event="star"),
    }
    live = {name for name, who in zip(given, told(store, *given.values()), strict=True) if bob.id in who}
    seqs = dict(enumerate(given, 1))
    assert live == passing
    assert {seqs[seq] for seq in replayed(store, bob)} == passing
    assert {seqs[seq] for page in paged(store, bob, 2) for seq in page} == passing
    found, _ = store.look(events.published_after, 0)
    assert {seqs[each.frame.seq] for each in found if bob.id in each.audience} == passing


KINDS = st.sampled_from(["push", "star", "release"])
BRANCHES = st.sampled_from(["main", "fix/1", "fix/2"])
PATHS = st.lists(st.sampled_from(["docs/x.md", "src/x.py", "README.md"]), max_size=2, unique=True)
FILTERS = st.builds(
    Filter,
    st.lists(KINDS, max_size=2).map(tuple),
    st.lists(st.sampled_from(["main", "fix/*", "*/1"]), max_size=2).map(tuple),
    st.lists(st.sampled_from(["docs/*", "*.md", "src/?.py"]), max_size=2).map(tuple),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTERS, FILTERS, st.lists(st.tuples(KINDS, BRANCHES, PATHS), max_size=12), st.integers(1, 5))
def test_whatever_is_wanted_live_replay_history_and_the_count_agree(
    store: Store, of_repo: Filter, of_member: Filter, given: list[tuple[str, str, list[str]]], limit: int
):
    def play(tx: Tx) -> None:
        start = events.log(tx).head
        tag = f"{start}-{User.select().count()}"
        owner, member = (accounts.create(tx, f"{name}-{tag}") for name in ("owner", "member"))
        repo = repositories.add(tx, owner.id, "o/r")
        members.share(tx, owner.id, repo.id, member.id)
        repositories.set_filter(tx, owner.id, repo.id, of_repo)
        members.set_filter(tx, member.id, repo.id, of_member)
        deliveries = [delivery(repo, *paths, branch=branch, event=kind) for kind, branch, paths in given]
        accepted = events.accept_many(tx, deliveries)
        assert [each.frame.seq for each in tx.published] == [each.seq for each in accepted]
        for user in (owner, member):
            live = [each.frame.seq for each in tx.published if user.id in each.audience]
            assert [frame.seq for frame in events.backlog(tx, user.id, start).frames] == live
            pages, before = [], None
            while before is not None or not pages:
                page = history.page(tx, user.id, limit=limit, before=before)
                assert len(page.events) <= limit
                pages += [page]
                before = page.before
            assert [each.seq for page in pages for each in page.events] == live[::-1]
        kept = [each.seq for each in accepted if not each.filtered]
        assert [each.frame.seq for each in tx.published if owner.id in each.audience] == kept

    store.run(play)


def test_a_filter_that_is_changed_holds_for_what_is_replayed_from_then_on(
    store: Store, shared: Tracked, bob: Account
):
    store.run(members.set_filter, bob.id, shared.id, PUSHES)
    deliver(store, delivery(shared), delivery(shared, event="star"))
    store.run(members.set_filter, bob.id, shared.id, EVERYTHING)
    assert replayed(store, bob) == [1, 2]


def test_what_cannot_be_a_filter_is_refused_and_changes_nothing(store: Store, shared: Tracked, bob: Account):
    for operation, user_id in ((members.set_filter, bob.id), (repositories.set_filter, shared.user_id)):
        with pytest.raises(Invalid):
            store.run(operation, user_id, shared.id, Filter(events=("Push!",)))
    assert all(each.filter == EVERYTHING for each in store.look(members.listing, bob.id, shared.id))


def test_whoever_joins_again_begins_without_a_filter(store: Store, shared: Tracked, bob: Account):
    store.run(members.set_filter, bob.id, shared.id, PUSHES)
    store.run(members.unshare, shared.user_id, shared.id, "bob")
    assert store.run(members.share, shared.user_id, shared.id, "bob").filter == EVERYTHING


def test_a_filtered_event_is_not_to_be_had_by_its_id(
    store: Store, shared: Tracked, ada: Account, bob: Account
):
    store.run(members.set_filter, bob.id, shared.id, PUSHES)
    (star,) = deliver(store, delivery(shared, event="star"))
    assert store.look(history.get, ada.id, star.event_id).seq == star.seq
    with pytest.raises(NotFound):
        store.look(history.get, bob.id, star.event_id)


def test_pages_of_which_a_filter_leaves_little_lead_on_to_the_rest(
    store: Store, shared: Tracked, bob: Account
):
    store.run(members.set_filter, bob.id, shared.id, PUSHES)
    kinds = ["push", "star", "star", "star", "push", "star", "star", "push"]
    deliver(store, *(delivery(shared, event=kind) for kind in kinds))
    assert paged(store, bob, 3) == [[8], [5], [1]]
    assert paged(store, bob, 2) == [[8], [5], [], [1]]
    assert paged(store, bob, 3, event_type="star") == [[], []]


def test_a_backlog_of_which_a_filter_leaves_nothing_is_gone_through_part_by_part(
    store: Store, shared: Tracked, bob: Account
):
    store.run(members.set_filter, bob.id, shared.id, PUSHES)
    deliver(store, *(delivery(shared, event="star") for _ in range(events.MAX_BACKLOG + 5)))
    deliver(store, delivery(shared))
    part = store.look(events.backlog, bob.id, 0)
    assert (part.frames, part.upto) == ((), events.MAX_BACKLOG)
    assert replayed(store, bob, part.upto) == [events.MAX_BACKLOG + 6]


# A repository's filter.


def test_what_the_repository_does_not_want_nobody_gets(
    store: Store, shared: Tracked, ada: Account, bob: Account
):
    assert store.run(repositories.set_filter, ada.id, shared.id, PUSHES).filter == PUSHES
    assert told(store, delivery(shared, event="star"), delivery(shared)) == [set(), {ada.id, bob.id}]
    for user in (ada, bob):
        assert replayed(store, user) == [2]
        assert paged(store, user, 10) == [[2]]


def test_a_filtered_delivery_is_answered_and_nothing_of_it_is_kept(
    store: Store, hello: Tracked, ada: Account
):
    store.run(repositories.set_filter, ada.id, hello.id, PUSHES)
    (answer,) = deliver(store, delivery(hello, event="star"))
    assert (answer.seq, answer.duplicate, answer.filtered) == (1, False, True)

    def at_rest(_: Tx) -> tuple[object, object]:
        row = Event.get_by_id(1)
        return row.summary, row.payload

    assert store.look(at_rest) == (None, None)
    for find in (
        lambda: store.look(history.get, ada.id, answer.event_id),
        lambda: store.look(history.details, answer.event_id),
    ):
        with pytest.raises(NotFound):
            find()
    assert store.look(history.listing, repo_id=hello.id, limit=10) == []


def test_a_filtered_delivery_stays_a_duplicate_even_when_it_would_be_wanted_later(
    store: Store, hello: Tracked, ada: Account
):
    store.run(repositories.set_filter, ada.id, hello.id, PUSHES)
    (first,) = deliver(store, delivery(hello, event="star", guid="g"))
    store.run(repositories.set_filter, ada.id, hello.id, EVERYTHING)
    assert told(store, delivery(hello, event="star", guid="g")) == []
    (again,) = deliver(store, delivery(hello, event="star", guid="g"))
    assert again == msgspec.structs.replace(first, duplicate=True)
    assert replayed(store, ada) == []


def test_one_delivery_twice_in_a_batch_is_filtered_once(store: Store, hello: Tracked, ada: Account):
    store.run(repositories.set_filter, ada.id, hello.id, PUSHES)
    given = [delivery(hello, event="star", guid="g") for _ in range(2)]
    assert [(each.seq, each.duplicate, each.filtered) for each in deliver(store, *given)] == [
        (1, False, True),
        (1, True, True),
    ]


def test_a_member_does_not_say_what_the_repository_keeps(store: Store, shared: Tracked, bob: Account):
    with pytest.raises(NotFound):
        store.run(repositories.set_filter, bob.id, shared.id, PUSHES)


# What was missed.


@pytest.mark.parametrize(
    ("wanted", "told_missed"),
    [
        (EVERYTHING, 4),
        (PUSHES, 3),
        (Filter(branches=("fix",)), 2),
        (Filter(events=("star",)), 1),
        (Filter(events=("release",)), "nothing"),
        (DOCS, None),
        (Filter(("release",), (), ("docs/*",)), "nothing"),
    ],
    ids=repr,
)
def test_what_is_purged_is_counted_as_far_as_a_filter_can_still_be_asked(
    store: Store, shared: Tracked, bob: Account, clock, wanted: Filter, told_missed: object
):
    store.run(members.set_filter, bob.id, shared.id, wanted)
    deliver(
        store,
        delivery(shared, "src/x"),
        delivery(shared, "docs/x"),
        delivery(shared, "src/x", branch="fix"),
        delivery(shared, event="star"),
    )
    clock.forward(RETENTION + timedelta(days=1))
    while store.run(upkeep.purge, RETENTION):
        pass
    assert missed(store, bob, 0) == told_missed


def test_what_the_repository_did_not_want_was_not_missed(store: Store, hello: Tracked, ada: Account, clock):
    store.run(repositories.set_filter, ada.id, hello.id, PUSHES)
    deliver(store, delivery(hello, event="star"), delivery(hello), delivery(hello, event="star"))
    clock.forward(RETENTION + timedelta(days=1))
    while store.run(upkeep.purge, RETENTION):
        pass
    assert missed(store, ada, 0) == 1
    assert missed(store, ada, 2) == "nothing"


def test_a_push_of_more_files_than_a_summary_lists_passes_every_filter_by_path(
    store: Store, shared: Tracked, bob: Account
):
    store.run(members.set_filter, bob.id, shared.id, DOCS)
    big = delivery(shared, *(f"src/{number}" for number in range(400)))
    assert len(msgspec.json.decode(big.summary, type=Summary).files) == 300
    assert bob.id in told(store, big)[0]
    assert replayed(store, bob) == [1]
