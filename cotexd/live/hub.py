"""Who is connected. The hub hands committed events to sockets, and never awaits while it does.

A publication is a hint. The hub knows the last seq that it has handed out (`head`); a batch that doesn't begin at the
next one means that another process wrote, or that the answer to a commit was lost, and the hub reads the log from
there. It also looks whenever the store says that something may have moved. So it is never told a thing that it could
not have found out, and a session that compares with `head` can rely on it.
"""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime

import structlog

from cotexd import metrics
from cotexd.domain.event import Frame
from cotexd.errors import Unavailable
from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.live.session import Keep
from cotexd.live.socket import CLOSING, Socket
from cotexd.operations import cursors, events, notices
from cotexd.operations.cursors import Keeper
from cotexd.store import Published, Store, Tx

TICK = 0.1
"""seconds; each time, one of SPOKES parts of the sockets is looked at"""
SPOKES = 5
ACKS_EVERY = 0.05
"""seconds for which acknowledgements are collected into one write"""
RETRY = 1.0
"""seconds until the log is asked again when the database was away"""

_logger = structlog.get_logger("cotexd.hub")


class Hub:
    """All on the event loop; no locks, since nothing here awaits between a look and what it decides."""

    def __init__(self, store: Store) -> None:
        self.head = 0
        """the last seq that was handed out"""
        self._store = store
        self._sockets: dict[str, set[Socket]] = {}
        self._addressed: dict[str, bytes] = {}
        self._spokes: list[set[Socket]] = [set() for _ in range(SPOKES)]
        self._turn = 0
        self._known_notice = 0
        self._looking = False
        self._look_again = False
        self._acks: dict[Keeper, int] = {}
        self._ack_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._empty = asyncio.Event()

    async def open(self) -> None:
        """Begin at the log's head; the store's threads run already."""
        found = await self._store.read(_bearings)
        self.head = max(self.head, found[0])
        self._known_notice = found[1]
        self._schedule_tick()

    def __len__(self) -> int:
        return sum(len(spoke) for spoke in self._spokes)

    def addressed_to(self, user_id: str) -> bytes:
        """wire.addressed_to, one object for all sockets of a user."""
        return self._addressed.get(user_id) or wire.addressed_to(user_id)

    def observe(self) -> None:
        """Bring the gauges up to date, for whoever reads them now."""
        everybody = self._all()
        metrics.HEAD.set(self.head)
        metrics.USERS.set(len(self._sockets))
        metrics.LIVE.set(sum(socket.session.live for socket in everybody))
        metrics.UNSENT.set(sum(socket.waiting for socket in everybody))
        newer = sum(socket.session.v2 for socket in everybody)
        metrics.SOCKETS.labels("v2").set(newer)
        metrics.SOCKETS.labels("legacy").set(len(everybody) - newer)

    def attach(self, socket: Socket) -> None:
        user_id = socket.session.user_id
        self._empty.clear()
        self._sockets.setdefault(user_id, set()).add(socket)
        self._addressed.setdefault(user_id, wire.addressed_to(user_id))
        min(self._spokes, key=len).add(socket)

    def detach(self, socket: Socket) -> None:
        user_id = socket.session.user_id
        mine = self._sockets.get(user_id, set())
        mine.discard(socket)
        if not mine:
            self._sockets.pop(user_id, None)
            self._addressed.pop(user_id, None)
        for spoke in self._spokes:
            spoke.discard(socket)
        if not len(self):
            self._empty.set()

    def publish(self, batch: Sequence[Published]) -> None:
        """Hand out a batch that was committed: dense and in order, from its first seq to its last."""
        if batch[0].frame.seq != self.head + 1:
            metrics.HINTS_LOST.inc()
            self.moved()
            return
        with metrics.PUBLISH_TIME.time():
            self._hand_out(batch)
        self.head = batch[-1].frame.seq

    def moved(self) -> None:
        """Another process may have written: look at the log and at the notices."""
        if self._looking:
            self._look_again = True
        elif not self._closed:
            self._looking = True
            self._start(self._look())

    def read(self, socket: Socket, after: int) -> None:
        """Read a part of the backlog for a socket."""
        if not self._closed:
            self._start(self._read(socket, after))

    def keep(self, effect: Keep) -> None:
        """Collect acknowledgements, so that a thousand of them are one write."""
        if effect.seq > self._acks.get(effect.keeper, -1):
            self._acks[effect.keeper] = effect.seq
        if self._ack_timer is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._ack_timer = loop.call_later(ACKS_EVERY, lambda: self._start(self._flush_acks()))

    async def close(self) -> None:
        """Send everybody away, to come back soon, and keep what they have acknowledged."""
        self._closed = True
        for socket in self._all():
            socket.close(lives.RESTARTING, "restarting")
        for timer in (self._tick_timer, self._ack_timer):
            if timer is not None:
                timer.cancel()
        if len(self):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), 2 * CLOSING)
        for task in list(self._tasks):
            task.cancel()
        await self._flush_acks()

    # Reading the log.

    async def _look(self) -> None:
        try:
            while True:
                self._look_again, before = False, self.head
                found, upto, news = await self._store.read(_since, self.head, self._known_notice)
                # Meanwhile the writer may have published some of these, or more.
                fresh = [each for each in found if each.frame.seq > self.head]
                if fresh:
                    self._hand_out(fresh)
                self.head = max(self.head, upto)
                for each in news:
                    self._known_notice = each.id
                    self._tell(each)
                if upto <= before and not news and not self._look_again:
                    return
        except Unavailable as error:
            _logger.warning("log_unreadable", error=error.message)
            await asyncio.sleep(RETRY)
            self._look_again = True
        finally:
            self._looking = False
            if self._look_again:
                self.moved()

    async def _read(self, socket: Socket, after: int) -> None:
        while True:
            try:
                part = await self._store.read(events.backlog, socket.session.user_id, after)
            except Unavailable as error:
                _logger.warning("backlog_unreadable", error=error.message)
                await asyncio.sleep(RETRY)
            else:
                metrics.REPLAYED.inc(len(part.frames))
                socket.backlog(part.frames, part.upto, part.head, self.head)
                return

    # Handing out.

    def _hand_out(self, batch: Sequence[Published]) -> None:
        per_user: dict[str, list[Frame]] = {}
        for each in batch:
            for user_id in each.audience:
                if user_id in self._sockets:
                    per_user.setdefault(user_id, []).append(each.frame)
        for user_id, frames in per_user.items():
            sockets = tuple(self._sockets.get(user_id, ()))
            metrics.FRAMES.inc(len(frames) * len(sockets))
            for socket in sockets:
                socket.publish(frames)

    def _tell(self, news: notices.News) -> None:
        for socket in tuple(self._sockets.get(news.user_id, ())):
            if news.kind == notices.TOLD:
                socket.told(news.text)
            elif news.kind == notices.DISABLED:
                socket.close(lives.FORBIDDEN, "the user is disabled")
            elif socket.session.token_session == news.text:
                socket.close(lives.FORBIDDEN, "the token was revoked")

    # By the clock.

    def _schedule_tick(self) -> None:
        if not self._closed:
            self._tick_timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._schedule_tick()
        self._turn = (self._turn + 1) % SPOKES
        now, moment = time.monotonic(), datetime.now(UTC)
        for socket in tuple(self._spokes[self._turn]):
            socket.tick(now, moment)

    async def _flush_acks(self) -> None:
        self._ack_timer = None
        acks, self._acks = self._acks, {}
        if not acks:
            return
        try:
            await self._store.write(
                cursors.acknowledge_many, [cursors.Ack(keeper, seq) for keeper, seq in acks.items()]
            )
        except Unavailable:
            # Nothing is lost by it: what is not known to have arrived is sent again. Try with the next ones.
            for keeper, seq in acks.items():
                self._acks[keeper] = max(seq, self._acks.get(keeper, -1))
        else:
            metrics.ACKS.inc(len(acks))
            for seq in acks.values():
                metrics.LAG.observe(max(0, self.head - seq))

    def _all(self) -> list[Socket]:
        return [socket for spoke in self._spokes for socket in spoke]

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _bearings(tx: Tx) -> tuple[int, int]:
    return events.log(tx).head, notices.last_id(tx)


def _since(tx: Tx, head: int, notice: int) -> tuple[list[Published], int, list[notices.News]]:
    found, upto = events.published_after(tx, head)
    return found, upto, notices.after(tx, notice)
