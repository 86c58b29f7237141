"""One client's life, as a pure state machine: messages and the time in, bytes and effects out.

A session has no queue. What it has not sent lies in the log, and it knows how far it has come. So it is either

- *catching up*: it asks for a part of the backlog, gets it together with the log's head as of that read, and writes
  it. When the transport has taken that, it asks for the next part. When what was read reaches the head that the hub
  has published (both looked at in the same step: no event can come between), it becomes
- *live*: it writes what the hub hands over. When the transport's buffer is over its bound, it writes nothing more and
  goes back to catching up, beginning as soon as the transport can write.

Hand-over from backlog to live, slow readers and resuming are therefore one mechanism, and no event can be lost or
sent twice in any of them: each is sent once, in the order of the log, since `scanned` only grows.

How a legacy client acknowledges: the last seq that was written goes into a WebSocket ping, and its library echoes it.
A pong proves that everything written before that ping has arrived.

`resume` sets a connected client back (or on): it is greeted again, and what follows that greeting goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cotexd.domain import cursor as cursors
from cotexd.domain.cursor import Cursor
from cotexd.domain.event import Frame
from cotexd.domain.selection import EVERYTHING, Selection
from cotexd.errors import InvalidCursor
from cotexd.live import wire
from cotexd.live.news import News, Portion, Send
from cotexd.operations.cursors import Keeper, Start

BOUND = 64 * 1024
"""bytes that may wait in a transport; one frame may be longer, where nothing waits"""
PONG_WITHIN = 20.0
"""seconds without any sign of life after a ping, counted while nothing waits in the transport"""
STALLED_AFTER = 30.0
"""seconds in which something waits and no byte moves"""
TOKEN_GRACE = 25.0
"""seconds that a connection outlives its token"""
EXPIRING_WITHIN = 60.0
"""seconds before a token's end, in which a client is told of it"""
MAX_PROOFS = 64
"""pings of ours whose echo a legacy client owes; more are not sent, a later one proves as much"""

TOKEN, NO_PONG, STALLED, TOO_MANY = 4001, 4002, 4003, 4004
FORBIDDEN, BAD_MESSAGE, VERSION = 4500, 4501, 4502
INTERNAL, RESTARTING = 1011, 1012


@dataclass(frozen=True, slots=True)
class Ping:
    """Write a WebSocket ping."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Call `drained` as soon as nothing waits in the transport."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read the backlog after `after` and call `backlog` with it."""

    after: int


@dataclass(frozen=True, slots=True)
class Keep:
    """The client has everything up to `seq`: remember it."""

    keeper: Keeper
    seq: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Find out where a client with `cursor` goes on, and call `resumed`."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Find out whom this token signs in, and call `authenticated` or `unauthenticated`."""

    token: str


@dataclass(frozen=True, slots=True)
class Close:
    code: int
    reason: str


@dataclass(slots=True)
class Place:
    """How far a session has come; sessions that are equally far may share one."""

    sent: int
    """the last seq that was written: `prev` of the next"""
    scanned: int
    """everything of this user's up to here was sent, or is no longer there"""

    def copy(self) -> "Place":
        return Place(self.sent, self.scanned)


Effect = Send | Ping | Wait | Read | Keep | Resume | Authenticate | Close


class Session:
    """Times are seconds of one monotonic clock, `moment` is that of the calendar, for what people read."""

    __slots__ = (
        "_addressed",
        "_answers",
        "_asked",
        "_authenticating",
        "_due",
        "_expires",
        "_expiry",
        "_furthest",
        "_greeting",
        "_keeper",
        "_moved",
        "_pinged",
        "_proofs",
        "_proven",
        "_reading",
        "_resume_to",
        "_silence",
        "_stall",
        "_ticked",
        "_told_expiry",
        "epoch",
        "live",
        "place",
        "selection",
        "serial",
        "token_session",
        "user_id",
        "v2",
    )

    def __init__(
        self,
        user_id: str,
        addressed: bytes,
        start: Start,
        *,
        v2: bool,
        token_exp: datetime,
        token_session: str = "",
        selection: Selection = EVERYTHING,
        answers: bool = True,
        now: float,
        moment: datetime,
    ) -> None:
        """:param addressed: wire.addressed_to(user_id), shared by all sessions of the user
        :param token_session: what its token belongs to; when that is revoked, so is this
        :param selection: what it asked to be sent; only v2 clients may
        :param answers: it can say something on this connection, so that silence is a sign
        """
        self.user_id = user_id
        self.token_session = token_session
        self.v2 = v2
        self.selection = selection
        self.epoch = start.epoch
        self.live = False
        self.place = Place(start.after, start.after)
        self._furthest = start.after
        """the last seq that was written before a resume set it back"""
        self.serial = 0
        """counts pings, so that no two outstanding ones are alike"""
        self._addressed = addressed
        self._keeper = start.keeper
        self._answers = answers
        self._authenticating = False
        self._proofs: list[tuple[bytes, int]] = []
        self._proven = start.after
        self._asked = start.after
        """the last seq of which a proof was asked, or would have been if fewer were outstanding"""
        self._reading = False
        self._resume_to: Cursor | None = None
        self._pinged = now
        self._ticked = now
        self._silence: float | None = None
        self._stall = 0.0
        self._moved: int | None = None
        """bytes that had left the transport at the last look, if something waited then"""
        self._due = 0.0
        self._told_expiry = False
        self._trust_until(token_exp, now, moment)
        self._greeting = self._greet(start, moment) if v2 else ()

    @property
    def sent(self) -> int:
        """The last seq that was written."""
        return self.place.sent

    @property
    def scanned(self) -> int:
        """Everything of this user's up to here was sent, or is no longer there."""
        return self.place.scanned

    def begin(self) -> list[Effect]:
        greeting, self._greeting = self._greeting, ()
        return [*greeting, *self.drained()]

    def resumed(self, start: Start, moment: datetime) -> list[Effect]:
        """The answer to Resume."""
        if self._resume_to is not None:
            cursor, self._resume_to = self._resume_to, None
            return [Resume(cursor)]
        self._reading = False
        self._furthest = max(self._furthest, self.sent)
        self.epoch, self.place = start.epoch, Place(start.after, start.after)
        return [*self._greet(start, moment), *self.drained()]

    def backlog(
        self,
        frames: Sequence[Frame],
        upto: int,
        head: int,
        *,
        floor: int = 0,
        published: int,
        waiting: int,
        moment: datetime,
    ) -> list[Effect]:
        """Take a part of the backlog, which was asked for with Read.

        :param upto: `frames` is all there is up to here
        :param head: of the log, when it was read
        :param floor: what was before it had been purged by then
        :param published: up to where the hub has handed out events by now
        :param waiting: bytes in the transport
        """
        if self._resume_to is not None:
            cursor, self._resume_to = self._resume_to, None
            return [Resume(cursor)]
        if self.v2 and self.scanned < floor:
            # It is so slow that the retention has overtaken it: it is greeted again, with what it has missed.
            return [Resume(Cursor(self.epoch, self.sent))]
        self._reading = False
        messages: list[Effect] = []
        place, size, whole = self.place, waiting, True
        for frame in frames:
            if not self.selection.takes(frame):
                place.scanned = frame.seq
                continue
            message = wire.github_event(self._addressed, frame, place.sent)
            if size and size + len(message) > BOUND:
                whole = False
                break
            messages.append(Send(message, frame.seq))
            size += len(message)
            place.scanned = place.sent = frame.seq
        effects = messages + self._proof() if messages else []
        if whole:
            place.scanned = max(place.scanned, upto)
        if whole and upto == head and head >= published:
            self.live = True
            if self.v2:
                effects.append(Send(wire.live(place.sent, moment)))
        else:
            effects.append(Wait())
        return effects

    def publish(self, news: News, waiting: int) -> Portion | None:
        """What to write now of events that were just committed.

        :param waiting: bytes in the transport; when they grow too many, the session is no longer `live`, and wants
          `drained` to be called when nothing waits
        """
        if not self.live:
            return None
        place = self.place
        if self.selection is EVERYTHING and place.scanned < news.first:
            portion = news.after(place.sent)
            if waiting + portion.size <= BOUND:
                place.scanned = place.sent = portion.last
                return portion
        return self._part_of(news, waiting)

    def drained(self) -> list[Effect]:
        """Nothing waits in the transport any more."""
        if self.live or self._reading:
            return []
        self._reading = True
        return [Read(self.scanned)]

    def received(self, message: bytes, *, text: bool, moment: datetime) -> list[Effect]:
        """A whole message came. It goes nowhere but here: a client event never reaches another user."""
        self._silence = None
        if not self.v2:
            return []
        try:
            if not text:
                raise ValueError("binary")  # noqa: TRY301  # one way out for all that is no message
            event = wire.client_event(message)
        except ValueError:
            return [Close(BAD_MESSAGE, "not a client_event in JSON")]
        match event.event:
            case "pong":
                return []
            case "ack":
                return self._acknowledged(event.fields.seq, moment)
            case "resume":
                return self._asked_to_resume(event.fields.cursor)
            case "auth":
                return self._asked_to_authenticate(event.fields.token, moment)
        return [self._refuse(f"There is no client event {event.event[:50]!r}.", moment)]

    def ponged(self, payload: bytes) -> list[Effect]:
        """The client's library echoed a ping. Only one that this socket was sent proves anything."""
        self._silence = None
        seq = next((seq for proof, seq in self._proofs if proof == payload), None)
        if seq is None:
            return []
        while self._proofs.pop(0)[0] != payload:
            pass
        if self._keeper is None or seq <= self._proven:
            return []
        self._proven = seq
        return [Keep(self._keeper, seq)]

    def told(self, text: str, moment: datetime) -> list[Effect]:
        """Something happened to this user's account."""
        return [Send(wire.notice(text, moment) if self.v2 else wire.told(text, moment))]

    def authenticated(
        self, user_id: str, token_exp: datetime, token_session: str, *, now: float, moment: datetime
    ) -> list[Effect]:
        """The token of an Authenticate is good: the connection goes on with it, if it is the same user's."""
        self._authenticating = False
        if user_id != self.user_id:
            return [self._refuse("The token is another user's; the connection stays with its own.", moment)]
        self.token_session = token_session
        self._trust_until(token_exp, now, moment)
        return [Send(wire.auth_ok(token_exp, moment))]

    def unauthenticated(self, why: str, moment: datetime) -> list[Effect]:
        """It is not; the connection goes on with the one that it has."""
        self._authenticating = False
        return [self._refuse(why, moment)]

    def drain(self, after_ms: int, moment: datetime) -> list[Effect]:
        """The server will close this connection in `after_ms`, to be back soon."""
        return [Send(wire.drain(after_ms, moment))] if self.v2 else []

    def rests(self, now: float) -> bool:
        """A tick would do nothing yet, unless something waits in the transport.

        A legacy client never rests: an event may come at any time without its session being asked, and is to be proven
        within half a second.
        """
        return self.v2 and now < self._due

    def wake(self) -> None:
        """Something waits in the transport: it is to be looked at."""
        self._due = 0.0

    def tick(self, now: float, moment: datetime, *, waiting: int, moved: int) -> list[Effect]:
        """To be called about twice a second, while it does not rest.

        :param waiting: bytes in the transport
        :param moved: bytes that have ever left it
        """
        effects = self._look(now, moment, waiting, moved)
        self._due = now if waiting else self._next_look(now)
        return effects

    def _look(self, now: float, moment: datetime, waiting: int, moved: int) -> list[Effect]:
        passed, self._ticked = now - self._ticked, now
        if now > self._expires:
            return [Close(TOKEN, "the token has expired")]
        if self.v2 and not self._told_expiry and now > self._expires - TOKEN_GRACE - EXPIRING_WITHIN:
            self._told_expiry = True
            return [Send(wire.token_expiring(self._expiry, moment))]
        self._stall = self._stall + passed if waiting and moved == self._moved else 0.0
        self._moved = moved if waiting else None
        if self._stall > STALLED_AFTER:
            return [Close(STALLED, "no byte has moved")]
        if self._silence is not None and not waiting:
            self._silence += passed
            if self._silence > PONG_WITHIN:
                return [Close(NO_PONG, "no sign of life")]
        # While something waits, a ping would only wait behind it; and nobody is to miss one that was never sent.
        if now - self._pinged >= wire.PING_EVERY and not waiting:
            self._pinged = now
            return self._keep_alive(moment)
        return self._proof() if not self.v2 and self._asked != self.sent and not waiting else []

    def _next_look(self, now: float) -> float:
        """When there is something to do, if nothing happens before."""
        due = min(self._expires, self._pinged + wire.PING_EVERY)
        if self.v2 and not self._told_expiry:
            due = min(due, self._expires - TOKEN_GRACE - EXPIRING_WITHIN)
        if self._silence is not None:
            due = min(due, now + PONG_WITHIN - self._silence)
        return due

    def _part_of(self, news: News, waiting: int) -> Portion:
        """What it takes of the news, as far as there is room."""
        messages: list[Send] = []
        place = self.place
        for frame in news.frames:
            if frame.seq <= place.scanned:
                continue
            if not self.selection.takes(frame):
                place.scanned = frame.seq
                continue
            message = wire.github_event(self._addressed, frame, place.sent)
            if waiting and waiting + len(message) > BOUND:
                self.live = False
                break
            waiting += len(message)
            messages.append(Send(message, frame.seq))
            place.scanned = place.sent = frame.seq
        return Portion(messages, place.sent)

    def _keep_alive(self, moment: datetime) -> list[Effect]:
        if self._silence is None and self._answers:
            self._silence = 0.0
        if not self.v2:
            return self._proof()
        self.serial += 1
        return [Send(wire.ping(self.sent, moment)), Ping(b"%d" % self.serial)]

    def _proof(self) -> list[Effect]:
        self._asked = self.sent
        if self.v2 or len(self._proofs) >= MAX_PROOFS:
            return []
        self.serial += 1
        payload = b"%d.%d" % (self.sent, self.serial)
        self._proofs.append((payload, self.sent))
        return [Ping(payload)]

    def _acknowledged(self, seq: int | None, moment: datetime) -> list[Effect]:
        if seq is None or seq < 0:
            return [Close(BAD_MESSAGE, "an ack has a seq")]
        if seq > (most := max(self.sent, self._furthest)):
            return [self._refuse(f"Acknowledged {seq}, but only {most} was sent.", moment)]
        return [Keep(self._keeper, seq)] if self._keeper else []

    def _asked_to_resume(self, text: str) -> list[Effect]:
        try:
            cursor = cursors.parse(text)
        except InvalidCursor:
            return [Close(BAD_MESSAGE, "a resume has a cursor")]
        self.live = False
        if self._reading:
            # What is being read is for where the client no longer is.
            self._resume_to = cursor
            return []
        self._reading = True
        return [Resume(cursor)]

    def _asked_to_authenticate(self, token: str, moment: datetime) -> list[Effect]:
        if not token:
            return [Close(BAD_MESSAGE, "an auth has a token")]
        if self._authenticating:
            return [self._refuse("The token before this one is still being looked at.", moment)]
        self._authenticating = True
        return [Authenticate(token)]

    def _trust_until(self, token_exp: datetime, now: float, moment: datetime) -> None:
        self._expiry = token_exp
        self._expires = now + (token_exp - moment).total_seconds() + TOKEN_GRACE
        self._told_expiry = False
        self._due = 0.0

    def _greet(self, start: Start, moment: datetime) -> Sequence[Effect]:
        hello = wire.hello(start, self._expiry, moment)
        if start.gap is None:
            return [Send(hello, start.after)]
        # Who breaks off between the two goes on from where it was, and is told of the gap again.
        return [Send(hello), Send(wire.gap(start.gap, moment), start.after)]

    def _refuse(self, text: str, moment: datetime) -> Send:
        return Send(wire.error(self.user_id, text, moment))
