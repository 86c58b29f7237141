import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotexd.domain.cursor import Cursor
from cotexd.domain.event import Frame
from cotexd.domain.selection import EVERYTHING, Selection
from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.live.news import News, Send
from cotexd.live.session import (
    BOUND,
    Authenticate,
    Close,
    Effect,
    Keep,
    Ping,
    Read,
    Resume,
    Session,
    Wait,
)
from cotexd.operations.cursors import Gap, Keeper, Start

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEEPER = Keeper("u", "device", "laptop")


def frame(seq: int, size: int = 10, *, repo: str = "o/r", kind: str = "push") -> Frame:
    body = json.dumps(
        {"repo_name": repo, "event": kind, "payload": "x" * size, "event_id": str(seq), "seq": seq}
    )
    return Frame(seq, body[1:-1].encode(), f"id of {repo}", repo, kind)


def start(after: int = 0, *, gap: Gap | None = None, head: int = 0, epoch: str = "e0") -> Start:
    return Start(epoch, head, 0, after, "gap" if gap else "ok", gap, KEEPER)


def session(
    after: int = 0,
    *,
    v2: bool = True,
    gap: Gap | None = None,
    head: int = 0,
    token: timedelta = HOUR,
    selection: Selection = EVERYTHING,
    answers: bool = True,
) -> Session:
    return Session(
        "u",
        wire.addressed_to("u"),
        start(after, gap=gap, head=head),
        v2=v2,
        token_exp=NOW + token,
        token_session="first",
        selection=selection,
        answers=answers,
        now=0.0,
        moment=NOW,
    )


def sent(effects: Iterable[Effect]) -> list[dict]:
    return [json.loads(effect.message) for effect in effects if isinstance(effect, Send)]


def publish(to: Session, frames: Sequence[Frame], waiting: int) -> list[Send]:
    """What it writes of them."""
    portion = to.publish(News(wire.addressed_to("u"), frames), waiting)
    return [] if portion is None else list(portion.messages)


def names(effects: Iterable[Effect]) -> list[str]:
    return [message.get("event", message["type"]) for message in sent(effects)]


def codes(effects: Iterable[Effect]) -> list[int]:
    return [effect.code for effect in effects if isinstance(effect, Close)]


def live(after: int = 0, **how) -> Session:
    """A session that has caught up with an empty backlog."""
    made = session(after, **how)
    made.begin()
    made.backlog([], after, after, published=after, waiting=0, moment=NOW)
    assert made.live
    return made


def client_event(event: str, **fields: object) -> bytes:
    return json.dumps({"type": "client_event", "event": event, **fields}).encode()


def says(made: Session, event: str, **fields: object) -> list[Effect]:
    """What comes of it when the client says this."""
    return made.received(client_event(event, **fields), text=True, moment=NOW)


# Whatever the order of things.


class Happened(NamedTuple):
    """An event of the log."""

    seq: int
    mine: bool
    size: int
    repo: str
    kind: str

    @property
    def frame(self) -> Frame:
        return frame(self.seq, self.size, repo=self.repo, kind=self.kind)


class World:
    """A log, a hub, a transport and a client, of which a test decides who goes on next."""

    def __init__(self, limit: int, selection: Selection, wanted: set[tuple[str, str]]) -> None:
        """:param wanted: (repository, type) of what the selection takes, said in another way"""
        self.limit = limit
        self.selection = selection
        self.wanted = wanted
        self.log: list[Happened] = []
        self.pending: list[list[Happened]] = []
        self.head = 0
        self.applied: list[int] = []
        self.ever: set[int] = set()
        self.cursor = 0
        self.had = [0]
        self.connect()

    def connect(self) -> None:
        self.session = session(self.cursor, selection=self.selection)
        self.prev = self.cursor
        self.waiting = 0
        self.question: Read | Resume | None = None
        self.found: Start | tuple[list[Frame], int, int] | None = None
        self.going_to: int | None = self.cursor
        self.do(self.session.begin())

    def selected(self) -> list[int]:
        return [each.seq for each in self.log if each.mine and (each.repo, each.kind) in self.wanted]

    # What the adapter to a socket does.

    def do(self, effects: Sequence[Effect]) -> None:
        wait = False
        for effect in effects:
            match effect:
                case Send(message):
                    self.write(message)
                case Read() | Resume():
                    assert self.question is None and self.found is None, "two questions at once"
                    self.question = effect
                case Wait():
                    wait = True
                case Close():
                    pytest.fail(f"closed: {effect}")
        if wait:
            self.feed()

    def feed(self) -> None:
        if not self.session.live and not self.waiting:
            self.do(self.session.drained())

    def write(self, message: bytes) -> None:
        event = json.loads(message)
        if event["type"] == "github_event":
            within = self.waiting == 0 or self.waiting + len(message) <= BOUND
            assert within, "the transport is over its bound"
        self.waiting += len(message)
        if event["type"] == "github_event":
            self.take(event["seq"], event["prev"])
        elif event["event"] == "hello":
            self.greeted(event["payload"]["from"])
        else:
            assert event["event"] == "live"
            assert event["payload"]["seq"] == self.prev
            assert self.going_to is None, "live before it was greeted"

    # What the client does.

    def take(self, seq: int, prev: int) -> None:
        assert self.going_to is None, "sent between a resume and its greeting"
        assert prev == self.prev, "prev is not what was sent before"
        assert seq in self.selected(), "nobody asked for this"
        assert seq > prev, "out of order, or twice"
        assert not [each for each in self.selected() if prev < each < seq], "a hole"
        self.prev = self.cursor = seq
        self.applied.append(seq)
        self.ever.add(seq)
        self.had.append(seq)

    def greeted(self, after: int) -> None:
        """Its cursor, and all that is stored with it, are what they were there."""
        assert after == self.going_to, "not where it asked to go on last"
        self.going_to = None
        self.prev = self.cursor = after
        self.applied = sorted(seq for seq in self.ever if seq <= after)

    # Who may go on.

    def commit(self, events: list[tuple[bool, int, str, str]]) -> None:
        first = len(self.log) + 1
        fresh = [Happened(first + place, *each) for place, each in enumerate(events)]
        self.log += fresh
        self.pending.append(fresh)

    def publish(self) -> None:
        if self.pending:
            batch = self.pending.pop(0)
            frames = [each.frame for each in batch if each.mine]
            if frames:
                self.do(publish(self.session, frames, self.waiting))
                self.feed()
            self.head = batch[-1].seq

    def look(self) -> None:
        question, self.question = self.question, None
        head = len(self.log)
        if isinstance(question, Resume):
            self.found = start(question.cursor.seq, head=head)
        elif isinstance(question, Read):
            mine = [each.frame for each in self.log if each.seq > question.after and each.mine]
            part = mine[: self.limit]
            self.found = (part, head if len(part) == len(mine) else part[-1].seq, head)

    def answer(self) -> None:
        found, self.found = self.found, None
        if isinstance(found, Start):
            self.do(self.session.resumed(found, NOW))
        elif found is not None:
            frames, upto, head = found
            self.do(
                self.session.backlog(
                    frames, upto, head, published=self.head, waiting=self.waiting, moment=NOW
                )
            )

    def drain(self) -> None:
        if self.waiting:
            self.waiting = 0
            self.feed()

    def resume(self, places: list[int]) -> None:
        for place in places:
            self.going_to = self.had[place % len(self.had)]
            self.do(says(self.session, "resume", cursor=f"e0.{self.going_to}"))

    def ack(self) -> None:
        assert says(self.session, "ack", seq=self.cursor) == [Keep(KEEPER, self.cursor)]

    def reconnect(self) -> None:
        self.connect()


REPOS, KINDS = ("o/r", "o/other"), ("push", "star")
STEPS = st.one_of(
    st.tuples(
        st.just("commit"),
        st.lists(
            st.tuples(
                st.booleans() | st.just(value=True),
                st.sampled_from([1, 500, 40_000, 90_000]),
                st.sampled_from(REPOS),
                st.sampled_from(KINDS),
            ),
            min_size=1,
        ),
    ),
    st.sampled_from([("publish",), ("look",), ("answer",), ("drain",)]),
    st.sampled_from([("reconnect",), ("ack",)]),
    st.tuples(st.just("resume"), st.lists(st.integers(0, 50), min_size=1, max_size=3)),
)
ALL = {(repo, kind) for repo in REPOS for kind in KINDS}
SELECTIONS = [
    (EVERYTHING, ALL),
    (Selection(events=frozenset({"push"})), {("o/r", "push"), ("o/other", "push")}),
    (Selection(repos=frozenset({"o/other"})), {("o/other", "push"), ("o/other", "star")}),
    (Selection(frozenset({"id of o/r"}), frozenset({"star", "never"})), {("o/r", "star")}),
    (Selection(events=frozenset({"never"})), set()),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=12, max_size=40), st.integers(1, 5), st.sampled_from(SELECTIONS))
def test_whatever_the_order_of_things_every_selected_event_arrives_once_and_in_order(
    steps: list, limit: int, selected: tuple[Selection, set[tuple[str, str]]]
):
    world = World(limit, *selected)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    # At last, everything that can go on does.
    for _ in range(1000):
        if world.session.live and not (world.pending or world.waiting or world.question or world.found):
            break
        for go_on in (world.publish, world.look, world.answer, world.drain):
            go_on()
    assert world.session.live
    assert world.going_to is None, "it asked to go on elsewhere, and was not greeted there"
    assert world.applied == world.selected()


# Greeting, catching up, being live.


def test_a_v2_client_is_greeted_first_and_told_when_it_is_live():
    made = session(5, head=7)
    effects = made.begin()
    assert names(effects) == ["hello"]
    assert sent(effects)[0]["payload"] == {
        "v": 2,
        "epoch": "e0",
        "head": 7,
        "floor": 0,
        "resume": "ok",
        "from": 5,
        "ping": 25,
        "token_exp": "2026-11-24T13:00:00Z",
        "window": 0,
    }
    assert effects[-1] == Read(5)
    effects = made.backlog([frame(6), frame(7)], 7, 7, published=7, waiting=0, moment=NOW)
    assert names(effects) == ["push", "push", "live"]
    assert [message.get("prev") for message in sent(effects)] == [5, 6, None]


def test_a_gap_is_told_before_any_event():
    effects = session(10, gap=Gap("expired", "e0.3", 10, 4)).begin()
    assert names(effects) == ["hello", "gap"]
    assert sent(effects)[1]["payload"] == {"reason": "expired", "asked": "e0.3", "floor": 10, "missed": 4}


def test_a_legacy_client_gets_events_and_a_proof_but_no_messages_that_it_does_not_know():
    made = session(v2=False)
    assert made.begin() == [Read(0)]
    effects = made.backlog([frame(1), frame(2)], 2, 2, published=2, waiting=0, moment=NOW)
    assert names(effects) == ["push", "push"]
    assert [effect for effect in effects if isinstance(effect, Ping)] == [Ping(b"2.1")]


def test_the_echo_of_a_proof_keeps_the_cursor():
    made = session(v2=False)
    made.begin()
    made.backlog([frame(1), frame(2)], 2, 2, published=2, waiting=0, moment=NOW)
    assert made.ponged(b"2.1") == [Keep(KEEPER, 2)]


@pytest.mark.parametrize("payload", [b"", b"3.1", b"2.2", b"2", b"99999", b"\xff"])
def test_an_echo_that_this_socket_was_not_sent_proves_nothing(payload: bytes):
    made = session(v2=False)
    made.begin()
    made.backlog([frame(1), frame(2)], 2, 2, published=2, waiting=0, moment=NOW)
    assert made.ponged(payload) == []


def test_an_echo_counts_once():
    made = session(v2=False)
    made.begin()
    made.backlog([frame(1)], 1, 1, published=1, waiting=0, moment=NOW)
    assert made.ponged(b"1.1")
    assert made.ponged(b"1.1") == []


def test_an_echo_of_where_it_began_proves_nothing():
    made = live(7, v2=False)
    ping = next(effect for effect in made.tick(25.0, NOW, waiting=0, moved=0) if isinstance(effect, Ping))
    assert made.ponged(ping.payload) == []


def test_no_two_outstanding_proofs_are_alike():
    made = live(7, v2=False)
    pings = []
    for number in range(1, 40):
        pings += [
            each for each in made.tick(25.0 * number, NOW, waiting=0, moved=0) if isinstance(each, Ping)
        ]
        made.ponged(b"a sign of life")
    assert len(pings) == len({ping.payload for ping in pings}) == 39


def test_a_live_event_is_proven_within_a_second():
    made = live(v2=False)
    assert publish(made, [frame(1)], 0)
    assert made.tick(0.5, NOW, waiting=0, moved=0) == [Ping(b"1.1")]
    assert made.tick(1.0, NOW, waiting=0, moved=0) == []


def test_an_event_that_was_read_is_not_written_again():
    made = session()
    made.begin()
    made.backlog([frame(1), frame(2)], 2, 2, published=1, waiting=0, moment=NOW)
    assert publish(made, [frame(2), frame(3)], 0) == [
        Send(wire.github_event(wire.addressed_to("u"), frame(3), 2), 3)
    ]


def test_it_is_not_live_while_the_hub_is_ahead_of_what_was_read():
    made = session()
    made.begin()
    assert made.backlog([], 5, 5, published=6, waiting=0, moment=NOW) == [Wait()]
    assert not made.live
    assert made.drained() == [Read(5)]


def test_it_does_not_ask_twice_for_the_same_part():
    made = session()
    assert made.begin()[-1] == Read(0)
    assert made.drained() == []


def test_a_full_transport_sends_it_back_to_the_log():
    made = live()
    assert publish(made, [frame(1)], BOUND) == []
    assert not made.live
    assert publish(made, [frame(2)], 0) == []
    assert made.drained() == [Read(0)]


def test_one_frame_that_is_longer_than_the_bound_goes_into_an_empty_transport():
    made = live()
    assert len(publish(made, [frame(1, 3 * BOUND)], 0)) == 1
    assert made.live


def test_an_ack_keeps_the_cursor():
    made = live(3)
    publish(made, [frame(4)], 0)
    ack = json.dumps({"type": "client_event", "event": "ack", "seq": 4}).encode()
    assert made.received(ack, text=True, moment=NOW) == [Keep(KEEPER, 4)]
    ack = json.dumps({"type": "client_event", "event": "ack", "payload": {"seq": 3}}).encode()
    assert made.received(ack, text=True, moment=NOW) == [Keep(KEEPER, 3)]


def test_an_ack_beyond_what_was_sent_is_refused():
    effects = live(3).received(b'{"type":"client_event","event":"ack","seq":4}', text=True, moment=NOW)
    assert [message["type"] for message in sent(effects)] == ["error"]
    assert not any(isinstance(effect, Keep) for effect in effects)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"hello",
        b"[]",
        b'{"type":"github_event"}',
        b'{"type":5}',
        b'{"type":"client_event","event":"ack"}',
        b'{"type":"client_event","event":"ack","seq":-1}',
        b'{"type":"client_event","event":"ack","seq":"1"}',
        b'{"type":"client_event","event":"ack","seq":1.5}',
        b"\xff\xfe",
        b"[" * 60_000,
    ],
)
def test_a_bad_message_of_a_v2_client_closes(message: bytes):
    effects = live().received(message, text=True, moment=NOW)
    assert codes(effects) == [lives.BAD_MESSAGE]


def test_a_binary_message_of_a_v2_client_closes():
    effects = live().received(b'{"type":"client_event","event":"pong"}', text=False, moment=NOW)
    assert codes(effects) == [lives.BAD_MESSAGE]


def test_a_legacy_client_may_say_what_it_likes():
    for message in (b"hello", b'{"type":"client_event","target_user_id":"other"}', b"\xff"):
        assert live(v2=False).received(message, text=True, moment=NOW) == []


def test_it_pings_every_25_seconds():
    made = live()
    assert made.tick(24.9, NOW, waiting=0, moved=0) == []
    effects = made.tick(25.0, NOW, waiting=0, moved=0)
    assert names(effects) == ["ping"]
    assert isinstance(effects[-1], Ping)


def test_a_missing_pong_closes_after_20_seconds():
    made = live()
    made.tick(25.0, NOW, waiting=0, moved=0)
    assert made.tick(45.0, NOW, waiting=0, moved=0) == []
    assert made.tick(45.5, NOW, waiting=0, moved=0) == [Close(lives.NO_PONG, "no sign of life")]


@pytest.mark.parametrize("sign", ["pong", "message"])
def test_any_sign_of_life_counts(sign: str):
    made = live()
    made.tick(25.0, NOW, waiting=0, moved=0)
    made.tick(44.0, NOW, waiting=0, moved=0)
    if sign == "pong":
        made.ponged(b"whatever")
    else:
        made.received(b'{"type":"client_event","event":"pong"}', text=True, moment=NOW)
    assert made.tick(46.0, NOW, waiting=0, moved=0) == []


def test_a_missing_pong_does_not_count_while_something_waits():
    made = live()
    made.tick(25.0, NOW, waiting=0, moved=0)
    for second in range(26, 60):
        assert made.tick(float(second), NOW, waiting=100, moved=second) == [], second


def test_nobody_is_to_answer_a_ping_that_was_not_sent():
    """It falls due while something waits, and goes out as soon as nothing does."""
    made = live()
    assert made.tick(24.5, NOW, waiting=9, moved=0) == []
    assert made.tick(25.0, NOW, waiting=9, moved=1) == []
    assert any(isinstance(each, Ping) for each in made.tick(25.5, NOW, waiting=0, moved=10))
    assert made.tick(45.0, NOW, waiting=0, moved=10) == []
    assert made.tick(46.0, NOW, waiting=0, moved=10) == [Close(lives.NO_PONG, "no sign of life")]


def test_what_begins_to_wait_has_not_waited_whatever_has_moved_before():
    made = live()
    made.tick(1.0, NOW, waiting=0, moved=-1)
    made.tick(20.0, NOW, waiting=9, moved=-1)
    assert codes(made.tick(40.0, NOW, waiting=9, moved=-1)) == []
    assert codes(made.tick(50.5, NOW, waiting=9, moved=-1)) == [lives.STALLED]


def test_a_reader_of_whom_no_byte_moves_for_30_seconds_is_closed():
    made = live()
    made.tick(1.0, NOW, waiting=100, moved=5)
    assert made.tick(31.0, NOW, waiting=100, moved=5) == []
    assert made.tick(31.5, NOW, waiting=100, moved=5) == [Close(lives.STALLED, "no byte has moved")]


def test_a_slow_reader_is_not_closed():
    made = live()
    for second in range(200):
        assert not any(
            isinstance(e, Close) for e in made.tick(float(second), NOW, waiting=100, moved=second // 20)
        )


def test_it_closes_25_seconds_after_the_token_expired():
    made = live()
    made.received(b'{"type":"client_event","event":"pong"}', text=True, moment=NOW)
    assert not any(isinstance(e, Close) for e in made.tick(3600 + 25.0, NOW, waiting=0, moved=0))
    assert made.tick(3600 + 25.5, NOW, waiting=0, moved=0) == [Close(lives.TOKEN, "the token has expired")]


def test_what_is_told_has_the_form_that_the_client_knows():
    assert sent(live().told("Done", NOW))[0]["payload"] == {"text": "Done"}
    assert sent(live(v2=False).told("Done", NOW))[0]["payload"] == "Done"


# Selecting.


def test_of_the_backlog_only_what_was_selected_is_sent_and_the_rest_is_passed_over():
    made = session(selection=Selection(events=frozenset({"push"})))
    made.begin()
    found = [frame(1), frame(2, kind="star"), frame(3), frame(4, kind="star")]
    effects = made.backlog(found, 4, 9, published=9, waiting=0, moment=NOW)
    assert [(message["seq"], message["prev"]) for message in sent(effects)] == [(1, 0), (3, 1)]
    assert made.drained() == [Read(4)]


def test_of_what_is_new_only_what_was_selected_is_sent_and_prev_knows_nothing_of_the_rest():
    made = live(selection=Selection(repos=frozenset({"o/r"})))
    effects = publish(made, [frame(1, repo="o/other"), frame(2), frame(3, repo="o/other"), frame(4)], 0)
    assert [(message["seq"], message["prev"]) for message in sent(effects)] == [(2, 0), (4, 2)]


def test_what_was_not_selected_does_not_make_a_full_transport_fall_behind():
    made = live(selection=Selection(events=frozenset({"push"})))
    assert publish(made, [frame(1, 3 * BOUND, kind="star")], BOUND) == []
    assert made.live


# Resuming.


def test_who_asks_to_resume_is_greeted_again_and_goes_on_from_there():
    made = live(7)
    (asked,) = says(made, "resume", cursor="e0.3")
    assert isinstance(asked, Resume)
    assert str(asked.cursor) == "e0.3"
    effects = made.resumed(start(3, head=7), NOW)
    assert names(effects) == ["hello"]
    assert sent(effects)[0]["payload"]["from"] == 3
    assert effects[-1] == Read(3)
    effects = made.backlog([frame(5), frame(7)], 7, 7, published=7, waiting=0, moment=NOW)
    assert [(each.get("seq"), each.get("prev")) for each in sent(effects)[:2]] == [(5, 3), (7, 5)]
    assert names(effects)[2:] == ["live"]


def test_a_resume_may_say_its_cursor_in_a_payload():
    assert [str(each.cursor) for each in says(live(7), "resume", payload={"cursor": "e0.3"})] == ["e0.3"]


def test_who_resumes_where_events_are_gone_is_told_of_the_gap():
    made = live(7)
    says(made, "resume", cursor="e0.1")
    effects = made.resumed(start(5, gap=Gap("expired", "e0.1", 5, 2), head=7), NOW)
    assert names(effects) == ["hello", "gap"]
    assert sent(effects)[0]["payload"]["resume"] == "gap"
    assert sent(effects)[1]["payload"] == {"reason": "expired", "asked": "e0.1", "floor": 5, "missed": 2}


def test_a_gap_after_a_resume_moves_where_the_receiver_is():
    made = live(7)
    says(made, "resume", cursor="e0.1")
    effects = made.resumed(start(5, gap=Gap("expired", "e0.1", 5, 2), head=7), NOW)
    assert [each.seq for each in effects if isinstance(each, Send)] == [None, 5]


def test_who_resumes_in_a_log_that_has_a_new_name_is_told_it():
    made = live(7)
    says(made, "resume", cursor="e0.9")
    effects = made.resumed(start(4, gap=Gap("epoch", "e0.9", 4, None), head=4, epoch="e1"), NOW)
    assert sent(effects)[0]["payload"]["epoch"] == made.epoch == "e1"
    made.backlog([], 4, 4, published=4, waiting=0, moment=NOW)
    assert [each["prev"] for each in sent(publish(made, [frame(5)], 0))] == [4]


def test_nothing_is_sent_between_a_resume_and_its_greeting():
    made = live(7)
    says(made, "resume", cursor="e0.3")
    assert publish(made, [frame(8)], 0) == []
    assert made.drained() == []


def test_what_was_being_read_when_it_resumed_is_not_sent():
    made = session(7)
    assert made.begin()[-1] == Read(7)
    assert says(made, "resume", cursor="e0.3") == []
    (asked,) = made.backlog([frame(8)], 8, 8, published=8, waiting=0, moment=NOW)
    assert isinstance(asked, Resume)
    assert names(made.resumed(start(3, head=8), NOW)) == ["hello"]


def test_of_several_resumes_in_a_row_the_last_is_answered():
    made = live(7)
    assert len(says(made, "resume", cursor="e0.3")) == 1
    for seq in (2, 5, 1):
        assert says(made, "resume", cursor=f"e0.{seq}") == []
    (asked,) = made.resumed(start(3, head=7), NOW)
    assert isinstance(asked, Resume)
    assert str(asked.cursor) == "e0.1"
    assert [each["payload"]["from"] for each in sent(made.resumed(start(1, head=7), NOW))] == [1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cursor": ""},
        {"cursor": "3"},
        {"cursor": "e0"},
        {"cursor": "e0.-1"},
        {"cursor": "e0.1.1"},
        {"cursor": "e0.٣"},
        {"cursor": f"e0.{2**63}"},
        {"cursor": 3},
        {"cursor": None},
        {"payload": {"cursor": ["e0.3"]}},
        {"payload": "e0.3"},
        {"seq": 3},
    ],
    ids=str,
)
def test_a_resume_without_a_cursor_closes(fields: dict):
    assert codes(says(live(7), "resume", **fields)) == [lives.BAD_MESSAGE]


def test_after_a_resume_what_was_sent_before_it_can_be_acknowledged_and_no_more():
    made = live(7)
    says(made, "resume", cursor="e0.3")
    made.resumed(start(3, head=7), NOW)
    assert names(says(made, "ack", seq=8)) == ["error"]
    assert says(made, "ack", seq=7) == [Keep(KEEPER, 7)]
    made.backlog([frame(5)], 5, 7, published=7, waiting=0, moment=NOW)
    assert says(made, "ack", seq=5) == [Keep(KEEPER, 5)]


# A fresh token.


def fresh(made: Session, user_id: str = "u", lifetime: timedelta = 3 * HOUR) -> list[Effect]:
    """The token that it was sent is found to be good."""
    return made.authenticated(user_id, NOW + lifetime, "second", now=0.0, moment=NOW)


def test_a_fresh_token_of_the_same_user_is_taken_and_the_connection_lives_as_long_as_it():
    made = live()
    assert says(made, "auth", token="t") == [Authenticate("t")]
    effects = fresh(made)
    assert names(effects) == ["auth_ok"]
    assert sent(effects)[0]["payload"] == {"token_exp": "2026-11-24T15:00:00Z"}
    assert made.token_session == "second"
    made.received(client_event("pong"), text=True, moment=NOW)
    assert codes(made.tick(3600 + 26.0, NOW, waiting=0, moved=0)) == []
    assert codes(made.tick(3 * 3600 + 25.5, NOW, waiting=0, moved=0)) == [lives.TOKEN]


def test_a_fresh_token_may_be_said_in_a_payload():
    assert says(live(), "auth", payload={"token": "t"}) == [Authenticate("t")]


def test_a_token_that_ends_sooner_ends_the_connection_sooner():
    made = live()
    says(made, "auth", token="t")
    fresh(made, lifetime=timedelta(minutes=10))
    assert codes(made.tick(600 + 25.5, NOW, waiting=0, moved=0)) == [lives.TOKEN]


def test_the_next_greeting_tells_the_end_of_the_fresh_token():
    made = live(7)
    says(made, "auth", token="t")
    fresh(made)
    says(made, "resume", cursor="e0.7")
    assert sent(made.resumed(start(7), NOW))[0]["payload"]["token_exp"] == "2026-11-24T15:00:00Z"


def test_a_token_of_another_user_is_refused_and_the_connection_stays_with_its_own():
    made = live()
    says(made, "auth", token="t")
    effects = fresh(made, "eve")
    assert names(effects) == ["error"]
    assert (sent(effects)[0]["user_id"], made.user_id, made.token_session) == ("u", "u", "first")
    assert "eve" not in json.dumps(sent(effects))
    made.received(client_event("pong"), text=True, moment=NOW)
    assert codes(made.tick(3600 + 25.5, NOW, waiting=0, moved=0)) == [lives.TOKEN]


def test_a_bad_token_is_refused_and_the_connection_goes_on_with_the_one_that_it_has():
    made = live()
    says(made, "auth", token="t")
    effects = made.unauthenticated("The token was revoked.", NOW)
    assert [(each["type"], each["payload"]) for each in sent(effects)] == [
        ("error", "The token was revoked.")
    ]
    assert made.token_session == "first"
    assert names(publish(made, [frame(1)], 0)) == ["push"]
    assert codes(made.tick(3600 + 25.0, NOW, waiting=0, moved=0)) == []
    assert codes(made.tick(3600 + 25.5, NOW, waiting=0, moved=0)) == [lives.TOKEN]


@pytest.mark.parametrize("answer", ["good", "another's", "bad"])
def test_one_token_is_looked_at_after_the_other(answer: str):
    made = live()
    says(made, "auth", token="one")
    refused = says(made, "auth", token="two")
    assert names(refused) == ["error"]
    assert not any(isinstance(each, Authenticate) for each in refused)
    if answer == "bad":
        made.unauthenticated("No.", NOW)
    else:
        fresh(made, "u" if answer == "good" else "eve")
    assert says(made, "auth", token="three") == [Authenticate("three")]


@pytest.mark.parametrize("fields", [{}, {"token": ""}, {"token": None}, {"payload": {"token": 1}}], ids=str)
def test_an_auth_without_a_token_closes(fields: dict):
    assert codes(says(live(), "auth", **fields)) == [lives.BAD_MESSAGE]


def told_of_its_end(made: Session, seconds: Iterable[float]) -> list[float]:
    """When it was told that its token is about to end."""
    found = []
    for second in seconds:
        made.ponged(b"")
        if "token_expiring" in names(made.tick(float(second), NOW, waiting=0, moved=0)):
            found.append(second)
    return found


def test_the_end_of_a_token_is_told_once_and_before_it_comes():
    (when,) = told_of_its_end(live(), range(3600 + 20))
    assert 3600 - 65 < when < 3600 - 55


def test_the_end_of_each_token_is_told():
    made = live()
    assert len(told_of_its_end(made, range(3590))) == 1
    says(made, "auth", token="t")
    made.authenticated("u", NOW + 2 * HOUR, "second", now=3590.0, moment=NOW + timedelta(seconds=3590))
    (when,) = told_of_its_end(made, range(3590, 7200))
    assert 7200 - 65 < when < 7200 - 55


def test_who_comes_with_a_token_that_is_about_to_end_is_told_at_once():
    made = live(token=timedelta(seconds=30))
    effects = made.tick(0.5, NOW, waiting=0, moved=0)
    assert names(effects) == ["token_expiring"]
    assert sent(effects)[0]["payload"] == {"token_exp": "2026-11-24T12:00:30Z"}


def test_a_legacy_client_is_not_told_of_its_tokens_end():
    assert told_of_its_end(live(v2=False), range(3600 + 20)) == []


# Others than WebSockets, and the end.


def test_who_cannot_answer_is_never_closed_for_silence():
    made = live(answers=False, token=1000 * HOUR)
    for second in range(4000):
        assert codes(made.tick(float(second), NOW, waiting=0, moved=second)) == [], second


def test_who_cannot_answer_is_pinged_and_is_closed_when_no_byte_moves():
    made = live(answers=False)
    assert "ping" in names(made.tick(25.0, NOW, waiting=0, moved=0))
    made.tick(26.0, NOW, waiting=9, moved=0)
    assert codes(made.tick(57.0, NOW, waiting=9, moved=0)) == [lives.STALLED]


def test_a_client_of_version_2_is_told_that_the_server_goes_and_a_legacy_client_is_not():
    effects = live().drain(1500, NOW)
    assert names(effects) == ["drain"]
    assert sent(effects)[0]["payload"] == {"after_ms": 1500}
    assert live(v2=False).drain(1500, NOW) == []


@pytest.mark.parametrize(
    ("message", "moves_to"),
    [("hello", 5), ("event", 6), ("live", None), ("ping", None), ("notice", None), ("drain", None)],
)
def test_a_message_says_where_its_receiver_then_is_if_it_moves_it(message: str, moves_to: int | None):
    made = session(5, head=5)
    greeting = made.begin()
    caught_up = made.backlog([], 5, 5, published=5, waiting=0, moment=NOW)
    effects = {
        "hello": greeting,
        "live": caught_up,
        "event": publish(made, [frame(6)], 0),
        "ping": made.tick(25.0, NOW, waiting=0, moved=0),
        "notice": made.told("Done", NOW),
        "drain": made.drain(0, NOW),
    }[message]
    assert [each.seq for each in effects if isinstance(each, Send)] == [moves_to]


# Whatever a client says.


@pytest.mark.parametrize("event", ["", "hello", "Ack", "resume ", "github_event", "x" * 5000, "\0", "\ud83d"])
def test_a_client_event_that_nobody_knows_is_answered_by_an_error_and_nothing_more(event: str):
    made = live()
    message = client_event(event)
    effects = made.received(message, text=True, moment=NOW)
    if codes(effects):
        assert event == "\ud83d", "half a character is no text"
        return
    assert names(effects) == ["error"]
    assert len(effects) == 1
    assert len(sent(effects)[0]["payload"]) < 250
    assert names(publish(made, [frame(1)], 0)) == ["push"]


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("e0.0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = {"seq": ODD | st.integers(-1, 9), "cursor": ODD, "token": ODD}
SAID = st.fixed_dictionaries(
    {"type": st.just("client_event"), "event": st.sampled_from(["ack", "resume", "auth", "pong"]) | ODD},
    optional={**FIELDS, "payload": ODD | st.fixed_dictionaries({}, optional=FIELDS), "target_user_id": ODD},
).map(lambda fields: json.dumps(fields).encode())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=60) | SAID, st.booleans() | st.just(value=True)), max_size=6))
def test_whatever_a_client_says_ends_its_own_connection_at_most(said: list[tuple[bytes, bool]]):
    made, old = live(), live(v2=False)
    for message, text in said:
        assert old.received(message, text=text, moment=NOW) == []
        for effect in made.received(message, text=text, moment=NOW):
            assert isinstance(effect, Send | Keep | Resume | Authenticate | Close)
            if isinstance(effect, Close):
                assert effect.code == lives.BAD_MESSAGE
    assert names(publish(old, [frame(1)], 0)) == ["push"]


@pytest.mark.parametrize("depth", [400, 900, 990, 1000, 1010, 5000, 30_000])
@pytest.mark.parametrize("opening", [b"[", b'{"seq":'])
def test_a_payload_however_deep_raises_nothing(depth: int, opening: bytes):
    closing = (b"]" if opening == b"[" else b"}") * depth
    for key in (b"payload", b"other"):
        for value in (
            opening * depth + b"1" + closing,
            b'{"other":' + opening * depth + b"1" + closing + b"}",
        ):
            message = b'{"type":"client_event","event":"ack","%b":%b}' % (key, value)
            for effect in live().received(message, text=True, moment=NOW):
                assert isinstance(effect, Send | Keep | Close)


def test_a_client_that_the_retention_has_overtaken_is_greeted_again_from_where_it_is():
    made = live(3)
    made.live = False
    assert made.drained() == [Read(3)]
    effects = made.backlog([], 9, 9, floor=8, published=9, waiting=0, moment=NOW)
    assert effects == [Resume(Cursor("e0", 3))]
    assert made.drained() == []
    gone = Start("e0", 9, 8, 8, "gap", Gap("expired", "e0.3", 8, 5), KEEPER)
    assert names(made.resumed(gone, NOW)) == ["hello", "gap"]


def test_a_legacy_client_that_the_retention_has_overtaken_goes_on():
    made = live(3, v2=False)
    made.live = False
    made.drained()
    made.backlog([], 9, 9, floor=8, published=9, waiting=0, moment=NOW)
    assert made.live
