"""What the clock wakes: a table of intervals and operations. APScheduler lives only here."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cotexd import metrics, systemd, telemetry
from cotexd.errors import Failed, Unavailable
from cotexd.flows import billing as flows
from cotexd.flows.backups import Backups
from cotexd.flows.billing import Account, BillingDisabled
from cotexd.flows.recovery import Recovery
from cotexd.operations import events, levels, nodes, tiers, upkeep
from cotexd.operations.nodes import Server
from cotexd.store import Store

UPKEEP_EVERY = timedelta(minutes=1)
GRACE_EVERY = timedelta(minutes=1)
REPAIR_EVERY = timedelta(seconds=1)
"""how often it is seen which repositories are due"""
RECONCILE_EVERY = timedelta(hours=1)
BACKUP_EVERY = timedelta(minutes=1)
"""how often it is seen whether a backup is due"""
LEVELS_EVERY = timedelta(seconds=0.5)
BEAT_EVERY = timedelta(seconds=5)
CLOCK_EVERY = 1.0
"""seconds between two looks at whether the clock was set back"""
CLOCK_STEADY = 1.0
"""seconds by which it may go back unnoticed, as clocks do that are kept right"""
MAX_BATCHES = 5000
"""batches of one kind in one go, then the others have their turn"""

_logger = structlog.get_logger("cotexd.schedule")


class Schedule:
    def __init__(
        self,
        store: Store,
        stripe: Account,
        repairs: Recovery,
        backups: Backups,
        retention: timedelta,
        server: Callable[[], Server],
    ) -> None:
        """:param server: says how this server is right now"""
        self._store = store
        self._stripe = stripe
        self._repairs = repairs
        self._clock: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(
            timezone="UTC",
            # One turn, and the one that finds it still going on: APScheduler would warn of that each time.
            job_defaults={"coalesce": True, "max_instances": 2, "misfire_grace_time": 60},
        )
        table: tuple[tuple[str, timedelta, Callable[[], Awaitable[None]]], ...] = (
            ("beat", BEAT_EVERY, lambda: self._beat(server())),
            ("levels", LEVELS_EVERY, self._levels),
            ("grace", GRACE_EVERY, self._settle),
            ("repair", REPAIR_EVERY, repairs.look),
            ("billing", RECONCILE_EVERY, self._reconcile),
            ("backup", BACKUP_EVERY, backups.look),
            ("upkeep", UPKEEP_EVERY, lambda: self._purge(retention)),
            *self._watchdog(),
        )
        for name, interval, work in table:
            self._scheduler.add_job(
                _guarded(name, work), "interval", seconds=interval.total_seconds(), name=name
            )

    async def start(self, first: Server) -> None:
        await self._beat(first)
        await self._repairs.start()
        self._scheduler.start()
        self._clock = asyncio.create_task(self._watch_clock())

    def stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _watch_clock(self) -> None:
        """APScheduler waits for a time of the day: set back by an hour, the clock would keep it idle for that hour."""
        ahead = _calendar_ahead()
        while True:
            await asyncio.sleep(CLOCK_EVERY)
            before, ahead = ahead, _calendar_ahead()
            if before - ahead > CLOCK_STEADY:
                _logger.warning("clock_set_back", seconds=round(before - ahead))
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))

    def _watchdog(self) -> Iterator[tuple[str, timedelta, Callable[[], Awaitable[None]]]]:
        within = systemd.watchdog()
        if within is not None:
            yield "watchdog", timedelta(seconds=within / 3), self._turn

    async def _turn(self) -> None:
        """Tell systemd that the loop turns, and the database's threads: it answers, if only that it cannot.

        One that is away is no reason to start again: whoever is connected would lose that too.
        """
        with contextlib.suppress(Unavailable):
            await self._store.read(events.log)
        systemd.tell("WATCHDOG=1")

    async def _beat(self, server: Server) -> None:
        await self._store.write(nodes.beat, server)

    async def _purge(self, retention: timedelta) -> None:
        await self._until_nothing(lambda: self._store.write(upkeep.purge, retention), "payloads")
        await self._until_nothing(lambda: self._store.write(upkeep.purge_removed), "removed")
        await self._until_nothing(lambda: self._store.write(upkeep.forget_stubs), "stubs")
        await self._store.write(upkeep.forget_old)

    async def _settle(self) -> None:
        await self._store.write(tiers.settle_due)

    async def _reconcile(self) -> None:
        try:
            stripe = await self._stripe.stripe()
        except BillingDisabled:
            return
        found = await flows.reconcile(self._store, stripe)
        for each in found.changed:
            _logger.info("tier_reconciled", user=each.user, before=each.before, after=each.after)

    async def _levels(self) -> None:
        telemetry.levels.override(await self._store.read(levels.current))

    @staticmethod
    async def _until_nothing(batch: Callable[[], Awaitable[int]], what: str) -> None:
        total = 0
        for _ in range(MAX_BATCHES):
            with metrics.PURGE_TIME.time():
                done = await batch()
            if not done:
                break
            total += done
            await asyncio.sleep(upkeep.REST)
        if total:
            metrics.PURGED.labels(what).inc(total)
            _logger.info("purged", what=what, rows=total)


def _calendar_ahead() -> float:
    """Seconds; it changes only when somebody sets the clock."""
    return time.time() - time.monotonic()


def _guarded(name: str, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """`work` with what goes wrong caught, one turn at a time: one that is due during another is left out."""
    alone = asyncio.Lock()

    async def run() -> None:
        if alone.locked():
            return
        try:
            async with alone:
                with metrics.JOB_TIME.labels(name).time():
                    await work()
            metrics.JOBS.labels(name, "done").inc()
        except asyncio.CancelledError:
            return  # the server stops, and nobody waits for it
        except (Unavailable, Failed) as error:
            # The next turn does what this one could not.
            metrics.JOBS.labels(name, "postponed").inc()
            _logger.warning("postponed", work=name, reason=error.message)

    return run
