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
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cotexd.domain.event import Frame
from cotexd.live import wire
from cotexd.operations.cursors import Keeper, Start

BOUND = 64 * 1024
"""bytes that may wait in a transport; one frame may be longer, where nothing waits"""
PONG_WITHIN = 20.0
"""seconds without any sign of life after a ping, counted while nothing waits in the transport"""
STALLED_AFTER = 30.0
"""seconds in which something waits and no byte moves"""
TOKEN_GRACE = 25.0
"""seconds that a connection outlives its token"""
MAX_PROOFS = 64
"""pings of ours whose echo a legacy client owes; more are not sent, a later one proves as much"""

TOKEN, NO_PONG, STALLED, TOO_MANY = 4001, 4002, 4003, 4004
FORBIDDEN, BAD_MESSAGE, VERSION = 4500, 4501, 4502
RESTARTING = 1012


@dataclass(frozen=True, slots=True)
class Send:
    """Write this text message."""

    message: bytes


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
class Close:
    code: int
    reason: str


Effect = Send | Ping | Wait | Read | Keep | Close


class Session:
    """Times are seconds of one monotonic clock, `moment` is that of the calendar, for what people read."""

    __slots__ = (
        "_addressed",
        "_expires",
        "_greeting",
        "_keeper",
        "_moved",
        "_owes_proof",
        "_pinged",
        "_proofs",
        "_proven",
        "_reading",
        "_silence",
        "_stall",
        "_ticked",
        "live",
        "scanned",
        "sent",
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
        now: float,
        moment: datetime,
    ) -> None:
        """:param addressed: wire.addressed_to(user_id), shared by all sessions of the user
        :param token_session: what its token belongs to; when that is revoked, so is this
        """
        self.user_id = user_id
        self.token_session = token_session
        self.v2 = v2
        self.live = False
        self.scanned = start.after
        """everything of this user's up to here was sent, or is no longer there"""
        self.sent = start.after
        """the last seq that was written: `prev` of the next"""
        self.serial = 0
        """counts pings, so that no two outstanding ones are alike"""
        self._addressed = addressed
        self._keeper = start.keeper
        self._expires = now + (token_exp - moment).total_seconds() + TOKEN_GRACE
        self._proofs: deque[tuple[bytes, int]] = deque()
        self._proven = start.after
        self._owes_proof = False
        self._reading = False
        self._pinged = now
        self._ticked = now
        self._silence: float | None = None
        self._stall = 0.0
        self._moved = 0
        self._greeting: list[Effect] = []
        if v2:
            self._greeting.append(Send(wire.hello(start, token_exp, moment)))
            if start.gap is not None:
                self._greeting.append(Send(wire.gap(start.gap, moment)))

    def begin(self) -> list[Effect]:
        greeting, self._greeting = self._greeting, []
        return [*greeting, *self.drained()]

    def backlog(
        self,
        frames: Sequence[Frame],
        upto: int,
        head: int,
        *,
        published: int,
        waiting: int,
        moment: datetime,
    ) -> list[Effect]:
        """Take a part of the backlog, which was asked for with Read.

        :param upto: `frames` is all there is up to here
        :param head: of the log, when it was read
        :param published: up to where the hub has handed out events by now
        :param waiting: bytes in the transport
        """
        self._reading = False
        messages: list[Effect] = []
        size, whole = waiting, True
        for frame in frames:
            message = wire.github_event(self._addressed, frame, self.sent)
            if size and size + len(message) > BOUND:
                whole = False
                break
            messages.append(Send(message))
            size += len(message)
            self.scanned = self.sent = frame.seq
        effects = messages + self._proof() if messages else []
        if whole:
            self.scanned = max(self.scanned, upto)
        if whole and upto == head and head >= published:
            self.live = True
            if self.v2:
                effects.append(Send(wire.live(self.sent, moment)))
        else:
            effects.append(Wait())
        return effects

    def publish(self, frames: Sequence[Frame], waiting: int) -> list[bytes]:
        """Messages to write now, for events that were just committed.

        :param waiting: bytes in the transport; when they grow too many, the session is no longer `live`, and wants
          `drained` to be called when nothing waits
        """
        if not self.live:
            return []
        messages: list[bytes] = []
        for frame in frames:
            if frame.seq <= self.scanned:
                continue
            message = wire.github_event(self._addressed, frame, self.sent)
            if waiting and waiting + len(message) > BOUND:
                self.live = False
                break
            waiting += len(message)
            messages.append(message)
            self.scanned = self.sent = frame.seq
        if messages:
            self._owes_proof = not self.v2
        return messages

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
        if event.event == "ack":
            return self._acknowledged(event.acknowledged, moment)
        if event.event == "pong":
            return []
        return [self._refuse(f"There is no client event {event.event[:50]!r}.", moment)]

    def ponged(self, payload: bytes) -> list[Effect]:
        """The client's library echoed a ping. Only one that this socket was sent proves anything."""
        self._silence = None
        seq = next((seq for proof, seq in self._proofs if proof == payload), None)
        if seq is None:
            return []
        while self._proofs.popleft()[0] != payload:
            pass
        if self._keeper is None or seq <= self._proven:
            return []
        self._proven = seq
        return [Keep(self._keeper, seq)]

    def told(self, text: str, moment: datetime) -> list[Effect]:
        """Something happened to this user's account."""
        return [Send(wire.notice(text, moment) if self.v2 else wire.told(text, moment))]

    def tick(self, now: float, moment: datetime, *, waiting: int, moved: int) -> list[Effect]:
        """To be called about twice a second.

        :param waiting: bytes in the transport
        :param moved: bytes that have ever left it
        """
        passed, self._ticked = now - self._ticked, now
        if now > self._expires:
            return [Close(TOKEN, "the token has expired")]
        self._stall = self._stall + passed if waiting and moved == self._moved else 0.0
        self._moved = moved
        if self._stall > STALLED_AFTER:
            return [Close(STALLED, "no byte has moved")]
        if self._silence is not None and not waiting:
            self._silence += passed
            if self._silence > PONG_WITHIN:
                return [Close(NO_PONG, "no sign of life")]
        if now - self._pinged >= wire.PING_EVERY:
            self._pinged = now
            return self._keep_alive(moment, waiting)
        return self._proof() if self._owes_proof and not waiting else []

    def _keep_alive(self, moment: datetime, waiting: int) -> list[Effect]:
        if self._silence is None:
            self._silence = 0.0
        if waiting:
            return []  # it would only wait behind the rest
        if not self.v2:
            return self._proof()
        self.serial += 1
        return [Send(wire.ping(self.sent, moment)), Ping(b"%d" % self.serial)]

    def _proof(self) -> list[Effect]:
        self._owes_proof = False
        if self.v2 or len(self._proofs) >= MAX_PROOFS:
            return []
        self.serial += 1
        payload = b"%d.%d" % (self.sent, self.serial)
        self._proofs.append((payload, self.sent))
        return [Ping(payload)]

    def _acknowledged(self, seq: int | None, moment: datetime) -> list[Effect]:
        if seq is None or seq < 0:
            return [Close(BAD_MESSAGE, "an ack has a seq")]
        if seq > self.sent:
            return [self._refuse(f"Acknowledged {seq}, but only {self.sent} was sent.", moment)]
        return [Keep(self._keeper, seq)] if self._keeper else []

    def _refuse(self, text: str, moment: datetime) -> Send:
        return Send(wire.error(self.user_id, text, moment))
