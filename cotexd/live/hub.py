"""Who is connected. The hub hands committed events to sockets, and never awaits while it does.

A publication is a hint. The hub knows the last seq that it has handed out (`head`); a batch that doesn't begin at the
next one means that another process wrote, or that the answer to a commit was lost, and the hub reads the log from
there. It also looks whenever the store says that something may have moved. So it is never told a thing that it could
not have found out, and a session that compares with `head` can rely on it.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from cotexd import metrics
from cotexd.domain.cursor import Cursor
from cotexd.domain.event import Frame
from cotexd.errors import CotexError, Unavailable
from cotexd.live import ring, wire
from cotexd.live import session as lives
from cotexd.live import wheel as wheels
from cotexd.live.acks import Acks
from cotexd.live.company import Company
from cotexd.live.connection import CLOSING, PROTOCOLS, Connection
from cotexd.live.news import News
from cotexd.live.presence import Presence
from cotexd.live.ring import Ring
from cotexd.live.session import Keep
from cotexd.live.wheel import Wheel
from cotexd.operations import cursors, events, identities, notices
from cotexd.operations.identities import Caller
from cotexd.store import Published, Store, Tx

RETRY = 1.0
"""seconds until the log is asked again when the database was away"""
READS_AT_ONCE = 64
"""parts of the backlog that are read in one go, when many clients come back together"""
LEAVE_AT_ONCE = 500
"""clients a second that a stopping server sends away, so that they don't all come back in the same moment"""

T = TypeVar("T")
_logger = structlog.get_logger("cotexd.hub")


class TooManyConnections(Unavailable):
    code = "too_many_connections"


class Hub:
    """All on the event loop; no locks, since nothing here awaits between a look and what it decides."""

    def __init__(
        self,
        store: Store,
        node_id: str = "",
        *,
        max_connections: int = 20_000,
        max_connections_per_user: int = 5_000,
    ) -> None:
        self.head = 0
        """the last seq that was handed out"""
        self._epoch = ""
        self.max_connections = max_connections
        self.max_connections_per_user = max_connections_per_user
        self.sign_in: Callable[[str, str], Awaitable[Caller]] | None = None
        """whom a token signs in that came from an address; web says it"""
        self._store = store
        self._presence = Presence(store, node_id)
        self._ring: Ring | None = None
        self._companies: dict[str, Company] = {}
        """by the user's id; none is empty"""
        self._coming: Counter[str] = Counter()
        self._reads: dict[tuple[str, int], list[Connection]] = {}
        self._wheel = Wheel()
        self.known_notice = 0
        """the last one that was told to those who are attached"""
        self._looked_at = time.time()
        """by the calendar, as notices are kept: a machine that was asleep has to know, too"""
        self._looking = False
        self._look_again = False
        self._acks = Acks(store, lambda: self._start(self._acks.flush(self.head)))
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._empty = asyncio.Event()

    async def open(self) -> None:
        """Begin at the log's head; the store's threads run already."""
        found = await self._store.read(_bearings)
        self._epoch, head, self.known_notice = found
        self.head = max(self.head, head)
        self._presence.open()
        self._ring = ring.opened()
        self._schedule_tick()

    def __len__(self) -> int:
        return len(self._wheel)

    def addressed_to(self, user_id: str) -> bytes:
        """wire.addressed_to, one object for all sockets of a user."""
        company = self._companies.get(user_id)
        return wire.addressed_to(user_id) if company is None else company.addressed

    def observe(self) -> None:
        """Bring the gauges up to date, for whoever reads them now."""
        everybody = self._all()
        metrics.HEAD.set(self.head)
        metrics.USERS.set(len(self._companies))
        metrics.LIVE.set(sum(each.session.live for each in everybody))
        metrics.UNSENT.set(sum(each.waiting for each in everybody))
        found = Counter(each.about.protocol for each in everybody)
        for protocol in PROTOCOLS:
            metrics.SOCKETS.labels(protocol).set(found[protocol])

    @contextlib.contextmanager
    def room_for(self, user_id: str) -> Iterator[None]:
        """Keep a place for one more connection of a user, until it is attached.

        :raises TooManyConnections: there is none
        """
        coming = sum(self._coming.values())
        if len(self) + coming >= self.max_connections:
            raise TooManyConnections(f"This server takes {self.max_connections} connections, and has them.")
        if len(self._companies.get(user_id, ())) + self._coming[user_id] >= self.max_connections_per_user:
            raise TooManyConnections(
                f"One user may have {self.max_connections_per_user} connections, and you have them.",
                hint="Close some, or have COTEX_MAX_CONNECTIONS_PER_USER raised.",
            )
        self._coming[user_id] += 1
        try:
            yield
        finally:
            self._coming[user_id] -= 1
            if not self._coming[user_id]:
                del self._coming[user_id]

    def attach(self, connection: Connection) -> None:
        user_id = connection.session.user_id
        self._empty.clear()
        if user_id not in self._companies:
            self._companies[user_id] = Company(user_id, self._ring)
        self._companies[user_id].add(connection)
        self._wheel.add(connection)
        self._presence.came(connection)

    def detach(self, connection: Connection) -> None:
        user_id = connection.session.user_id
        self._presence.went(connection)
        if (company := self._companies.get(user_id)) is not None:
            company.discard(connection)
            if not company:
                del self._companies[user_id]
        self._wheel.discard(connection)
        if not len(self):
            self._empty.set()

    def part(self, connection: Connection) -> None:
        """Leave it to its session what it is sent, and look at it soon."""
        self._wheel.wake(connection)
        if (company := self._companies.get(connection.session.user_id)) is not None:
            company.part(connection)

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

    def read(self, connection: Connection, after: int) -> None:
        """Read a part of the backlog for a connection, with those of all who ask in the same moment."""
        if self._closed:
            return
        if not self._reads:
            asyncio.get_running_loop().call_soon(self._start_reading)
        self._reads.setdefault((connection.session.user_id, after), []).append(connection)

    def resume(self, connection: Connection, cursor: Cursor) -> None:
        """Find out where a client goes on that asked to."""
        if not self._closed:
            self._start(self._resume(connection, cursor), connection)

    def authenticate(self, connection: Connection, token: str) -> None:
        """Find out whether a client may go on with a fresh token."""
        if not self._closed:
            self._start(self._authenticate(connection, token), connection)

    def keep(self, effect: Keep) -> None:
        self._acks.keep(effect)

    async def drain(self, seconds: float, *, patient: bool = False) -> None:
        """Tell everybody to go, hand out what is still being written, then send them away, a few at a time.

        :param seconds: by then all are on their way
        :param patient: give them time to go by themselves, to another server; who stays is sent away in the second
            half of the time
        """
        everybody = self._all()
        last = 0.8 * seconds
        first, last = (0.5 * seconds, last) if patient else (0.0, min(last, len(everybody) / LEAVE_AT_ONCE))
        leaving = [(each, random.uniform(first, last)) for each in everybody]  # noqa: S311  # jitter, no secret
        for each, after in leaving:
            each.drain(after)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with contextlib.suppress(TimeoutError, Unavailable):
            async with asyncio.timeout_at(deadline):
                await self._store.flush()
        now = loop.time()
        for each, after in leaving:
            loop.call_at(min(now + after, deadline), each.close, lives.RESTARTING, "restarting")
        if everybody:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), last + CLOSING)

    async def close(self) -> None:
        """End what is still connected, and keep what was acknowledged."""
        self._closed = True
        for each in self._all():
            each.close(lives.RESTARTING, "restarting")
        self._acks.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if len(self):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), 2 * CLOSING)
        for task in list(self._tasks):
            task.cancel()
        await self._acks.flush(self.head)
        await self._presence.close()
        if self._ring is not None:
            self._ring.close()

    # Reading the log.

    async def _look(self) -> None:
        try:
            while True:
                self._look_again, before = False, self.head
                epoch, found, upto, news = await self._store.read(_since, self.head, self.known_notice)
                if epoch == self._epoch and upto < before:
                    await self._store.set_back(epoch, before)
                    continue
                if epoch != self._epoch or self._overslept():
                    self._begin_anew(epoch, upto)
                    continue
                # Meanwhile the writer may have published some of these, or more.
                fresh = [each for each in found if each.frame.seq > self.head]
                if fresh:
                    self._hand_out(fresh)
                self.head = max(self.head, upto)
                for each in news:
                    self.known_notice = each.id
                    if (company := self._companies.get(each.user_id)) is not None:
                        company.tell(each)
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

    def _overslept(self) -> bool:
        """It has not looked for so long that notices may have been forgotten before they were told here."""
        before, self._looked_at = self._looked_at, time.time()
        return self._looked_at - before > notices.KEPT.total_seconds() / 2

    def _begin_anew(self, epoch: str, head: int) -> None:
        """Whoever is connected comes back, and finds out anew where they are, and whether they may be."""
        if epoch != self._epoch:
            _logger.warning("new_epoch", why="the database was set back or swapped under a running server")
        self._epoch, self.head = epoch, head
        for each in self._all():
            each.close(lives.RESTARTING, "the log begins anew")

    def _start_reading(self) -> None:
        reads, self._reads = list(self._reads.items()), {}
        if self._closed:
            return
        for start in range(0, len(reads), READS_AT_ONCE):
            wanted = dict(reads[start : start + READS_AT_ONCE])
            self._start(self._read(wanted), *itertools.chain(*wanted.values()))

    async def _read(self, wanted: dict[tuple[str, int], list[Connection]]) -> None:
        parts = await self._patiently(lambda: self._store.read(events.backlogs, tuple(wanted)))
        for part, connections in zip(parts, wanted.values(), strict=True):
            metrics.REPLAYED.inc(len(part.frames) * len(connections))
            for each in connections:
                each.backlog(part, self.head)

    async def _resume(self, connection: Connection, cursor: Cursor) -> None:
        asked = connection.session.user_id, cursor, connection.session.selection
        start = await self._patiently(lambda: self._store.read(cursors.resume, *asked))
        if start.gap is not None:
            metrics.GAPS.labels(start.gap.reason).inc()
        connection.resumed(start)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read what a client waits for, once the database can be read."""
        while True:
            try:
                return await read()
            except Unavailable as error:
                _logger.warning("log_unreadable", error=error.message)
                await asyncio.sleep(RETRY)

    async def _authenticate(self, connection: Connection, token: str) -> None:
        if self.sign_in is None:
            connection.unauthenticated("Nobody can sign in here.")
            return
        try:
            caller = await self.sign_in(token, connection.about.address)
        except CotexError as error:
            connection.unauthenticated(error.message)
            return
        connection.authenticated(caller.id, caller.expiry, caller.session)
        if caller.id != connection.session.user_id:
            return
        try:
            # Had it been revoked a moment ago, the news of it would have met the token before.
            await self._store.read(identities.still_good, caller)
        except Unavailable:
            pass  # whatever happens to it from now on is told
        except CotexError as error:
            connection.close(lives.FORBIDDEN, error.message)

    # Handing out.

    def _hand_out(self, batch: Sequence[Published]) -> None:
        per_user: dict[str, list[Frame]] = {}
        for each in batch:
            for user_id in each.audience:
                if user_id in self._companies:
                    per_user.setdefault(user_id, []).append(each.frame)
        for user_id, frames in per_user.items():
            company = self._companies[user_id]
            metrics.FRAMES.inc(len(frames) * len(company))
            company.publish(News(company.addressed, frames))

    # By the clock.

    def _schedule_tick(self) -> None:
        if not self._closed:
            self._tick_timer = asyncio.get_running_loop().call_later(wheels.TICK, self._tick)

    def _tick(self) -> None:
        self._schedule_tick()
        self._wheel.turn(time.monotonic(), datetime.now(UTC))

    def _all(self) -> list[Connection]:
        return list(self._wheel)

    def _start(self, work: Coroutine[None, None, None], *waiting: Connection) -> None:
        """:param waiting: who waits for it, and would for ever if it failed in a way that nobody foresaw"""

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                _logger.error("hub_failed", exc_info=error)
                for each in waiting:
                    each.close(lives.INTERNAL, "the server made a mistake")

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)


def _bearings(tx: Tx) -> tuple[str, int, int]:
    log = events.log(tx)
    return log.epoch, log.head, notices.last_id(tx)


def _since(tx: Tx, head: int, notice: int) -> tuple[str, list[Published], int, list[notices.News]]:
    found, upto = events.published_after(tx, head)
    return events.log(tx).epoch, found, upto, notices.after(tx, notice)
