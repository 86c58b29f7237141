import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotexd.domain.event import Frame
from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.live.session import BOUND, Close, Effect, Keep, Ping, Read, Send, Session, Wait
from cotexd.operations.cursors import Gap, Keeper, Start

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEEPER = Keeper("u", "device", "laptop")


def frame(seq: int, size: int = 10) -> Frame:
    body = json.dumps(
        {"repo_name": "o/r", "event": "push", "payload": "x" * size, "event_id": str(seq), "seq": seq}
    )
    return Frame(seq, body[1:-1].encode())


def session(after: int = 0, *, v2: bool = True, gap: Gap | None = None, head: int = 0) -> Session:
    start = Start("e0", head, 0, after, "gap" if gap else "ok", gap, KEEPER)
    expires = NOW + timedelta(hours=1)
    return Session("u", wire.addressed_to("u"), start, v2=v2, token_exp=expires, now=0.0, moment=NOW)


def sent(effects: Iterable[Effect]) -> list[dict]:
    return [json.loads(effect.message) for effect in effects if isinstance(effect, Send)]


def names(effects: Iterable[Effect]) -> list[str]:
    return [message.get("event", message["type"]) for message in sent(effects)]


def live(after: int = 0, *, v2: bool = True) -> Session:
    """A session that has caught up with an empty backlog."""
    made = session(after, v2=v2)
    made.begin()
    made.backlog([], after, after, published=after, waiting=0, moment=NOW)
    assert made.live
    return made


class World:
    """A log, a hub, a transport and a client, of which a test decides who goes on next."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.log: list[tuple[int, bool, int]] = []  # seq, is it this user's, size
        self.pending: list[list[int]] = []
        self.head = 0
        self.applied: list[int] = []
        self.cursor = 0
        self.connect()

    def connect(self) -> None:
        self.session = session(self.cursor)
        self.prev = self.cursor
        self.waiting = 0
        self.asked: int | None = None
        self.found: tuple[list[Frame], int, int] | None = None
        self.do(self.session.begin())

    # What the adapter to a socket does.

    def do(self, effects: list[Effect]) -> None:
        wait = False
        for effect in effects:
            match effect:
                case Send(message):
                    self.write(message)
                case Read(after):
                    assert self.asked is None and self.found is None, "two reads at once"
                    self.asked = after
                case Wait():
                    wait = True
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
            assert event["prev"] == self.prev, "prev is not what was sent before"
            assert event["seq"] > self.prev, "out of order, or twice"
            self.prev = event["seq"]
            self.applied.append(event["seq"])
            self.cursor = event["seq"]

    # Who may go on.

    def commit(self, events: list[tuple[bool, int]]) -> None:
        first = len(self.log) + 1
        self.log += [(first + place, mine, size) for place, (mine, size) in enumerate(events)]
        self.pending.append([seq for seq, _, _ in self.log[first - 1 :]])

    def publish(self) -> None:
        if self.pending:
            batch = self.pending.pop(0)
            frames = [frame(seq, size) for seq, mine, size in self.log if seq in batch and mine]
            if frames:
                for send in self.session.publish(frames, self.waiting):
                    self.write(send.message)
                self.feed()
            self.head = batch[-1]

    def read(self) -> None:
        if self.asked is not None:
            after, self.asked = self.asked, None
            mine = [frame(seq, size) for seq, is_mine, size in self.log if seq > after and is_mine]
            part, head = mine[: self.limit], len(self.log)
            self.found = (part, head if len(part) == len(mine) else part[-1].seq, head)

    def answer(self) -> None:
        if self.found is not None:
            (frames, upto, head), self.found = self.found, None
            self.do(
                self.session.backlog(
                    frames, upto, head, published=self.head, waiting=self.waiting, moment=NOW
                )
            )

    def drain(self) -> None:
        if self.waiting:
            self.waiting = 0
            self.feed()

    def reconnect(self) -> None:
        self.connect()


STEPS = st.one_of(
    st.tuples(
        st.just("commit"),
        st.lists(st.tuples(st.booleans(), st.sampled_from([1, 500, 40_000, 90_000])), min_size=1),
    ),
    st.sampled_from([("publish",), ("read",), ("answer",), ("drain",)]),
    st.just(("reconnect",)),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(STEPS, max_size=60), st.integers(1, 5))
def test_whatever_the_order_of_things_every_event_arrives_once_and_in_order(steps: list, limit: int):
    world = World(limit)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    # At last, everything that can go on does.
    for _ in range(1000):
        if world.session.live and not world.pending and not world.waiting:
            break
        for go_on in (world.publish, world.read, world.answer, world.drain):
            go_on()
    assert world.session.live
    assert world.applied == [seq for seq, mine, _ in world.log if mine]


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
    pings = [effect for tick in range(1, 40) for effect in made.tick(25.0 * tick, NOW, waiting=1, moved=tick)]
    assert len(pings) == len({ping.payload for ping in pings if isinstance(ping, Ping)})


def test_a_live_event_is_proven_within_a_second():
    made = live(v2=False)
    assert made.publish([frame(1)], 0)
    assert made.tick(0.5, NOW, waiting=0, moved=0) == [Ping(b"1.1")]
    assert made.tick(1.0, NOW, waiting=0, moved=0) == []


def test_an_event_that_was_read_is_not_written_again():
    made = session()
    made.begin()
    made.backlog([frame(1), frame(2)], 2, 2, published=1, waiting=0, moment=NOW)
    assert made.publish([frame(2), frame(3)], 0) == [
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
    assert made.publish([frame(1)], BOUND) == []
    assert not made.live
    assert made.publish([frame(2)], 0) == []
    assert made.drained() == [Read(0)]


def test_one_frame_that_is_longer_than_the_bound_goes_into_an_empty_transport():
    made = live()
    assert len(made.publish([frame(1, 3 * BOUND)], 0)) == 1
    assert made.live


def test_an_ack_keeps_the_cursor():
    made = live(3)
    made.publish([frame(4)], 0)
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
    assert [effect.code for effect in effects if isinstance(effect, Close)] == [lives.BAD_MESSAGE]


def test_a_binary_message_of_a_v2_client_closes():
    effects = live().received(b'{"type":"client_event","event":"pong"}', text=False, moment=NOW)
    assert [effect.code for effect in effects if isinstance(effect, Close)] == [lives.BAD_MESSAGE]


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
