import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from actors import incoming, join, leave, logged, push
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotexd.domain import packing
from cotexd.domain.cursor import Ancestor
from cotexd.domain.filter import Filter
from cotexd.errors import BadSignature, CotexError, Failed, RepoPaused
from cotexd.operations import accounts, events, history, members, repositories, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.events import MAX_BACKLOG, MAX_BACKLOG_BYTES, Accepted, Incoming
from cotexd.operations.repositories import Tracked
from cotexd.store import Published, Store, Tx
from cotexd.store.models import Lineage


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


@pytest.fixture
def docs(store: Store, eve: Account) -> Tracked:
    return store.run(repositories.add, eve.id, "octo/docs")


def accept(store: Store, *given: Incoming) -> list[Accepted | CotexError]:
    return store.run(events.accept_many, list(given))


def accept_and_publish(tx: Tx, given: list[Incoming]) -> tuple[list[Published], int | None]:
    events.accept_many(tx, given)
    return tx.published, tx.head


def follow(store: Store, user_id: str, after: int = 0) -> list[int]:
    """All of a user's backlog, part by part."""
    found: list[int] = []
    while True:
        part = store.look(events.backlog, user_id, after)
        found += [frame.seq for frame in part.frames]
        after = part.upto
        if after >= part.head:
            return found


def test_the_seqs_of_a_batch_are_dense_and_in_its_order(store: Store, hello: Tracked, docs: Tracked):
    assert logged(store, hello, 2) == [1, 2]
    answers = accept(store, incoming(docs), incoming(hello), incoming(docs))
    assert [each.seq for each in answers] == [3, 4, 5]
    assert store.look(events.log).head == 5


def test_what_is_refused_takes_no_seq(store: Store, hello: Tracked, docs: Tracked):
    store.run(repositories.pause, docs.user_id, docs.id)
    gone = msgspec.structs.replace(hello, id="gone")
    answers = accept(
        store,
        incoming(docs),
        incoming(hello, guid="g"),
        incoming(gone),
        incoming(hello, guid="g"),
        incoming(hello),
    )
    assert [getattr(each, "seq", each.__class__) for each in answers] == [RepoPaused, 1, BadSignature, 1, 2]


def test_a_transaction_that_fails_takes_no_seq(store: Store, hello: Tracked):
    def accept_and_fail(tx: Tx) -> None:
        events.accept_many(tx, [incoming(hello)])
        raise Failed("no")

    with pytest.raises(Failed):
        store.run(accept_and_fail)
    assert logged(store, hello) == [1]


def test_whoever_follows_the_log_while_many_write_misses_nothing(
    store: Store, hello: Tracked, database: str, tmp_path: Path
):
    writing = threading.Event()

    def write(_: int) -> None:
        own = Store(database, tmp_path / "data")
        writing.set()
        for _ in range(10):
            logged(own, hello, 2)
        own.close()

    seen: list[int] = []
    after = 0
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(write, number) for number in range(4)]
        writing.wait()
        while after < 80:
            alive = any(not each.done() for each in done)
            found, after = store.look(events.published_after, after)
            seen += [each.frame.seq for each in found]
            assert alive or found or after == 80, "the log ended too early"
    assert seen == list(range(1, 81))


def test_a_redelivery_is_answered_with_the_first_event(store: Store, hello: Tracked):
    (first,) = accept(store, incoming(hello, guid="g"))
    (again,) = accept(store, incoming(hello, push(2), guid="g"))
    assert again == msgspec.structs.replace(first, duplicate=True)
    assert store.look(events.log).head == 1


def test_one_delivery_twice_in_a_batch_is_one_event(store: Store, hello: Tracked):
    answers = accept(store, incoming(hello, guid="g"), incoming(hello, guid="g"))
    assert [(each.seq, each.duplicate) for each in answers] == [(1, False), (1, True)]
    assert answers[0].event_id == answers[1].event_id


def test_one_guid_at_two_repositories_is_two_events(store: Store, hello: Tracked, docs: Tracked):
    answers = accept(store, incoming(hello, guid="g"), incoming(docs, guid="g"))
    assert [(each.seq, each.duplicate) for each in answers] == [(1, False), (2, False)]


def test_a_redelivery_after_the_purge_is_still_a_duplicate(store: Store, hello: Tracked, clock):
    (first,) = accept(store, incoming(hello, guid="g"))
    clock.forward(timedelta(days=20))
    assert store.run(upkeep.purge, timedelta(days=14)) == 1
    assert accept(store, incoming(hello, guid="g")) == [msgspec.structs.replace(first, duplicate=True)]


def test_a_paused_repository_refuses_new_events_and_knows_the_old_ones(store: Store, hello: Tracked):
    (first,) = accept(store, incoming(hello, guid="g"))
    store.run(repositories.pause, hello.user_id, hello.id)
    new, old = accept(store, incoming(hello), incoming(hello, guid="g"))
    assert isinstance(new, RepoPaused)
    assert old == msgspec.structs.replace(first, duplicate=True)


def test_a_repository_that_was_removed_since_answers_as_one_that_never_was(store: Store, hello: Tracked):
    store.run(repositories.remove, hello.user_id, hello.id)
    removed, unknown = accept(store, incoming(hello), incoming(msgspec.structs.replace(hello, id="x")))
    assert isinstance(removed, BadSignature)
    assert str(removed) == str(unknown)
    assert store.look(events.log).head == 0


def test_what_is_published_is_what_was_accepted_with_those_who_may_see_it(
    store: Store, hello: Tracked, docs: Tracked, eve: Account
):
    store.run(join, eve.id, hello.id)
    published, head = store.run(
        accept_and_publish, [incoming(hello), incoming(docs), incoming(hello, event="star")]
    )
    assert [(each.frame.seq, set(each.audience)) for each in published] == [
        (1, {hello.user_id, eve.id}),
        (2, {eve.id}),
        (3, {hello.user_id, eve.id}),
    ]
    assert head == 3


def test_where_nothing_is_new_nothing_is_published(store: Store, hello: Tracked):
    accept(store, incoming(hello, guid="g"))
    assert store.run(accept_and_publish, [incoming(hello, guid="g")]) == ([], None)


def test_whoever_left_before_an_event_is_not_in_its_audience(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    store.run(leave, eve.id, hello.id)
    published, _ = store.run(accept_and_publish, [incoming(hello)])
    assert published[0].audience == (hello.user_id,)


def test_one_who_was_not_told_finds_the_same_frames_and_audiences_in_the_log(
    store: Store, hello: Tracked, docs: Tracked, eve: Account
):
    told, _ = store.run(accept_and_publish, [incoming(hello), incoming(docs)])
    store.run(join, eve.id, hello.id)
    told += store.run(accept_and_publish, [incoming(hello)])[0]
    store.run(leave, eve.id, hello.id)
    told += store.run(accept_and_publish, [incoming(hello)])[0]
    found, upto = store.look(events.published_after, 0)
    assert [each.frame for each in found] == [each.frame for each in told]
    assert [set(each.audience) for each in found] == [set(each.audience) for each in told]
    assert upto == 4


def test_much_that_was_not_told_is_found_in_parts(store: Store, hello: Tracked):
    logged(store, hello, MAX_BACKLOG + 1)
    found, upto = store.look(events.published_after, 0)
    assert (len(found), upto) == (MAX_BACKLOG, MAX_BACKLOG)
    found, upto = store.look(events.published_after, upto)
    assert ([each.frame.seq for each in found], upto) == ([MAX_BACKLOG + 1], MAX_BACKLOG + 1)
    assert store.look(events.published_after, upto) == ([], upto)


def test_a_frame_names_the_repository_as_it_is_tracked(store: Store, ada: Account):
    repo = store.run(repositories.add, ada.id, "Octo/Hello")
    logged(store, repo, payload=push(1, repository={"full_name": "evil/name"}))
    (frame,) = store.look(events.backlog, ada.id, 0).frames
    message = msgspec.json.decode(b"{" + frame.tail + b"}")
    assert (message["repo_name"], message["payload"]["repo"]) == ("Octo/Hello", "Octo/Hello")


def test_the_backlog_comes_in_parts_whole_and_in_order(store: Store, hello: Tracked, docs: Tracked):
    given = [incoming(repo) for _ in range(MAX_BACKLOG + 5) for repo in (hello, docs)]
    accept(store, *given)
    part = store.look(events.backlog, hello.user_id, 0)
    assert len(part.frames) == MAX_BACKLOG
    assert part.upto == part.frames[-1].seq < part.head == len(given)
    assert follow(store, hello.user_id) == list(range(1, len(given), 2))


def test_a_part_of_the_backlog_is_bounded_by_its_size_and_never_empty(store: Store, hello: Tracked):
    big = msgspec.structs.replace(incoming(hello), summary=b'"%s"' % (b"x" * MAX_BACKLOG_BYTES))
    accept(store, *(msgspec.structs.replace(big, delivery_id=str(number)) for number in range(3)))
    part = store.look(events.backlog, hello.user_id, 0)
    assert (len(part.frames), part.upto, part.head) == (1, 1, 3)
    assert follow(store, hello.user_id) == [1, 2, 3]


def test_a_backlog_without_anything_of_the_users_reaches_the_head(
    store: Store, hello: Tracked, docs: Tracked, eve: Account
):
    logged(store, hello, MAX_BACKLOG + 5)
    assert store.look(events.backlog, eve.id, 0) == events.Backlog((), MAX_BACKLOG + 5, MAX_BACKLOG + 5)


def test_the_backlog_leaves_out_what_is_purged(store: Store, hello: Tracked, clock):
    logged(store, hello, 2)
    clock.forward(timedelta(days=20))
    logged(store, hello)
    store.run(upkeep.purge, timedelta(days=14))
    assert follow(store, hello.user_id) == [3]


def test_a_payload_is_kept_byte_for_byte(store: Store, hello: Tracked):
    body = '{"ref": "refs/heads/main",  "odd":"\\u00e9 é", "n": 1.0e5}'.encode()
    for payload, packed in ((body, False), (packing.pack(body), True)):
        given = msgspec.structs.replace(incoming(hello), payload=payload, packed=packed)
        first, second = accept(store, given, incoming(hello))
        assert bytes(store.look(history.get, hello.user_id, first.event_id).payload) == body
        assert (
            bytes(store.look(history.get, hello.user_id, second.event_id).payload) == incoming(hello).payload
        )


def test_a_repository_knows_when_its_last_event_came(store: Store, hello: Tracked, clock):
    clock.forward(timedelta(minutes=5))
    accept(store, incoming(hello, guid="g"))
    came = clock()
    clock.forward(timedelta(minutes=5))
    accept(store, incoming(hello, guid="g"))
    assert store.look(repositories.find, "octo/hello").last_event_at == came


def test_the_log_knows_its_lineage_oldest_first(store: Store):
    def restored_twice(tx: Tx) -> None:
        for number, (epoch, head) in enumerate([("aa", 7), ("bb", 3)], 1):
            Lineage.insert(id=number, epoch=epoch, head=head, created_at=tx.now).execute()

    store.run(restored_twice)
    log = store.look(events.log)
    assert log.lineage == (Ancestor("aa", 7), Ancestor("bb", 3))
    assert (log.head, log.floor) == (0, 0)
    assert log.epoch


# Many parts of the backlog in one go.


def test_many_backlogs_in_one_read_are_those_that_each_would_get_alone(
    store: Store, hello: Tracked, docs: Tracked, eve: Account
):
    accept(store, *(incoming(repo) for _ in range(MAX_BACKLOG) for repo in (hello, docs)))
    store.run(join, eve.id, hello.id)
    logged(store, hello, 3)
    head = 2 * MAX_BACKLOG + 3
    asked = [
        (user_id, after)
        for user_id in (hello.user_id, eve.id, "nobody")
        for after in (0, 7, 0, head - 2, head, head + 9)
    ]
    found = store.look(events.backlogs, asked)
    assert found == [store.look(events.backlog, *each) for each in asked]
    assert {each.head for each in found} == {head}


def test_who_asks_for_the_same_gets_the_same_object(store: Store, hello: Tracked):
    logged(store, hello, 2)
    one, other, again = store.look(
        events.backlogs, [(hello.user_id, 0), (hello.user_id, 1), (hello.user_id, 0)]
    )
    assert one is again
    assert [frame.seq for frame in other.frames] == [2]


def test_nobody_who_asks_gets_nothing(store: Store):
    assert store.look(events.backlogs, []) == []


def test_the_backlog_of_one_is_not_that_of_another_who_asked_with_them(
    store: Store, hello: Tracked, docs: Tracked, eve: Account
):
    accept(store, incoming(hello), incoming(docs), incoming(hello))
    mine, theirs = store.look(events.backlogs, [(hello.user_id, 0), (eve.id, 0)])
    assert [frame.seq for frame in mine.frames] == [1, 3]
    assert [frame.seq for frame in theirs.frames] == [2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    happened=st.lists(st.sampled_from(["hello", "docs", "star", "join", "leave", "narrow"]), max_size=25),
    places=st.lists(st.tuples(st.sampled_from(["ada", "eve"]), st.integers(0, 30)), max_size=8),
)
def test_whatever_happened_many_backlogs_are_those_that_each_would_get_alone(
    store: Store, happened: list[str], places: list[tuple[str, int]]
):
    def play(tx: Tx) -> None:
        tag = uuid.uuid4().hex
        users = {name: accounts.create(tx, f"{name}-{tag}").id for name in ("ada", "eve")}
        repos = {
            "hello": repositories.add(tx, users["ada"], f"{tag}/hello"),
            "docs": repositories.add(tx, users["eve"], f"{tag}/docs"),
        }
        first, shared = events.log(tx).head, False
        for what in happened:
            if what == "join" and not shared:
                join(tx, users["eve"], repos["hello"].id)
                shared = True
            elif what == "leave" and shared:
                leave(tx, users["eve"], repos["hello"].id)
                shared = False
            elif what == "narrow":
                members.set_filter(tx, users["ada"], repos["hello"].id, Filter(events=("push",)))
            elif what in {"hello", "docs", "star"}:
                events.accept_many(
                    tx,
                    [
                        incoming(
                            repos["docs" if what == "docs" else "hello"],
                            event="star" if what == "star" else "push",
                        )
                    ],
                )
        asked = [(users[name], first + after) for name, after in places]
        alone = [events.backlogs(tx, [each])[0] for each in asked]
        assert events.backlogs(tx, asked) == alone
        for (_, after), part in zip(asked, alone, strict=True):
            got = [frame.seq for frame in part.frames]
            assert got == sorted(set(got))
            assert all(after < seq <= part.upto <= part.head for seq in got)

    store.run(play)
