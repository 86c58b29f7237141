from datetime import timedelta
from pathlib import Path

import pytest
from actors import incoming, join, leave, logged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotexd.domain.cursor import MAX_SEQ
from cotexd.operations import accounts, events, history, repositories, upkeep, visibility
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.models import User


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


def seqs(store: Store, user_id: str) -> list[int]:
    """What a user may see of the whole log."""

    def look(tx: Tx) -> list[int]:
        return visibility.seek(tx, visibility.ranges_of(user_id), after=0, upto=MAX_SEQ, limit=10_000)

    return store.look(look)


def test_whoever_joins_sees_what_comes_after(store: Store, hello: Tracked, eve: Account):
    logged(store, hello, 2)
    store.run(join, eve.id, hello.id)
    logged(store, hello, 2)
    assert seqs(store, eve.id) == [3, 4]
    assert seqs(store, hello.user_id) == [1, 2, 3, 4]


def test_whoever_leaves_keeps_what_came_and_sees_none_after(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    logged(store, hello, 2)
    store.run(leave, eve.id, hello.id)
    logged(store, hello, 2)
    assert seqs(store, eve.id) == [1, 2]


def test_whoever_joins_again_never_sees_what_came_in_between(store: Store, hello: Tracked, eve: Account):
    for change in (join, leave, join):
        store.run(change, eve.id, hello.id)
        logged(store, hello)
    assert seqs(store, eve.id) == [1, 3]


def test_a_removed_repository_is_in_nobodys_range(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    logged(store, hello, 2)
    store.run(repositories.remove, hello.user_id, hello.id)
    assert seqs(store, eve.id) == seqs(store, hello.user_id) == []


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "deliver", "join", "leave", "remove"]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_live_replay_and_history_agree_on_who_sees_what(store: Store, actions: list[tuple[str, int, int]]):
    """Whatever comes and goes in between: who was pushed an event is who finds it later, and nobody else."""

    def play(tx: Tx) -> None:
        start = events.log(tx).head
        tag = f"{start}-{User.select().count()}"
        users = [accounts.create(tx, f"u{number}-{tag}").id for number in range(3)]
        repos = [repositories.add(tx, users[number], f"o/{number}") for number in range(3)]
        removed: set[str] = set()
        members = {(users[number], repos[number].id) for number in range(3)}
        expected: list[tuple[int, str, set[str]]] = []
        for action, who, which in actions:
            user, repo = users[who], repos[which]
            if repo.id in removed:
                continue
            if action == "deliver":
                (accepted,) = events.accept_many(tx, [incoming(repo)])
                audience = {each for each, repo_id in members if repo_id == repo.id}
                expected.append((accepted.seq, repo.id, audience))
            elif action == "join" and (user, repo.id) not in members:
                join(tx, user, repo.id)
                members.add((user, repo.id))
            elif action == "leave" and user != repo.user_id and (user, repo.id) in members:
                leave(tx, user, repo.id)
                members.discard((user, repo.id))
            elif action == "remove":
                repositories.remove(tx, repo.user_id, repo.id)
                removed.add(repo.id)
        assert [(each.frame.seq, set(each.audience)) for each in tx.published] == [
            (seq, audience) for seq, _, audience in expected
        ]
        for user in users:
            mine = [seq for seq, repo_id, audience in expected if user in audience and repo_id not in removed]
            assert [frame.seq for frame in events.backlog(tx, user, start).frames] == mine
            assert [each.seq for each in history.page(tx, user, limit=100).events] == mine[::-1]
            assert visibility.count(tx, user, after=start, upto=MAX_SEQ) == len(mine)

    store.run(play)


def test_the_first_and_the_last_of_several_repositories_are_merged_in_order(
    store: Store, hello: Tracked, eve: Account
):
    docs = store.run(repositories.add, hello.user_id, "octo/docs")
    other = store.run(repositories.add, eve.id, "octo/other")
    store.run(events.accept_many, [incoming(repo) for _ in range(4) for repo in (hello, other, docs)])

    def part(tx: Tx, **how) -> list[int]:
        return visibility.seek(tx, visibility.ranges_of(hello.user_id), limit=3, **how)

    assert store.look(part, after=0, upto=MAX_SEQ) == [1, 3, 4]
    assert store.look(part, after=3, upto=6) == [4, 6]
    assert store.look(part, after=0, upto=10, newest_first=True) == [10, 9, 7]
    assert store.look(part, after=12, upto=MAX_SEQ) == []


def test_more_repositories_than_fit_into_one_statement_are_still_in_order(store: Store, ada: Account):
    def track(tx: Tx, count: int) -> list[Tracked]:
        User.update(repo_limit=count).execute()
        return [repositories.add(tx, ada.id, f"octo/{number}") for number in range(count)]

    repos = store.run(track, 230)
    store.run(events.accept_many, [incoming(repo) for repo in reversed(repos)])
    assert seqs(store, ada.id) == list(range(1, 231))
    newest = store.look(history.page, ada.id, limit=5, event_type="push").events
    assert [each.seq for each in newest] == [230, 229, 228, 227, 226]


def test_without_a_repository_nothing_is_seen(store: Store, hello: Tracked, eve: Account):
    logged(store, hello)
    assert seqs(store, eve.id) == []


def test_what_is_purged_counts_as_long_as_its_stub_is_there(
    store: Store, hello: Tracked, eve: Account, clock
):
    store.run(join, eve.id, hello.id)
    logged(store, hello, 4)
    store.run(leave, eve.id, hello.id)
    logged(store, hello, 2)
    clock.forward(timedelta(days=20))
    store.run(upkeep.purge, timedelta(days=14))
    assert store.look(visibility.count, eve.id, after=1, upto=6) == 3
    assert store.look(visibility.count, hello.user_id, after=1, upto=6) == 5


def test_the_audience_of_an_event_is_those_who_are_members_now(store: Store, hello: Tracked, eve: Account):
    def audiences(tx: Tx) -> dict[str, list[str]]:
        found = visibility.audiences(tx, [hello.id, "unknown"])
        return {repo_id: [user_id for user_id, _ in members] for repo_id, members in found.items()}

    assert store.look(audiences) == {hello.id: [hello.user_id]}
    store.run(join, eve.id, hello.id)
    assert set(store.look(audiences)[hello.id]) == {hello.user_id, eve.id}
    store.run(leave, eve.id, hello.id)
    assert store.look(audiences) == {hello.id: [hello.user_id]}


def test_a_look_into_the_depth_of_the_log_is_as_much_work_as_one_at_its_end(tmp_path: Path, clock):
    store = Store("", tmp_path / "deep", "", clock)
    ada = store.run(accounts.create, "ada")
    repos = [store.run(repositories.add, ada.id, name) for name in ("octo/hello", "octo/docs")]
    store.run(events.accept_many, [incoming(repo) for _ in range(2000) for repo in repos])

    def work(tx: Tx, before: int) -> int:
        """Steps of SQLite's machine."""
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection = tx.database.connection()
        connection.set_progress_handler(step, 1)
        history.page(tx, ada.id, limit=20, before=before)
        events.backlog(tx, ada.id, before)
        connection.set_progress_handler(None, 1)
        return steps

    store.look(work, 2000)  # the first look has SQLite read the schema, which are steps too
    deep, deeper = store.look(work, 3500), store.look(work, 500)
    # The same up to a page of the index; sorting all that is older or younger would be 3,000 rows more.
    assert abs(deep - deeper) < 100, (deep, deeper)
    store.close()
