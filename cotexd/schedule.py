"""What the clock wakes: a table of intervals and operations. APScheduler lives only here."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from cotexd.errors import Unavailable
from cotexd.operations import nodes, upkeep
from cotexd.operations.nodes import Server
from cotexd.store import Store

UPKEEP_EVERY = timedelta(minutes=1)
BEAT_EVERY = timedelta(seconds=5)
MAX_BATCHES = 1000
"""batches of one kind in one go, then the others have their turn"""

_logger = structlog.get_logger("cotexd.schedule")


class Schedule:
    def __init__(self, store: Store, retention: timedelta, server: Callable[[], Server]) -> None:
        """:param server: says how this server is right now"""
        self._store = store
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 60}
        )
        table: tuple[tuple[timedelta, Callable[[], Awaitable[None]]], ...] = (
            (BEAT_EVERY, lambda: self._beat(server())),
            (UPKEEP_EVERY, lambda: self._purge(retention)),
        )
        for interval, work in table:
            self._scheduler.add_job(_guarded(work), "interval", seconds=interval.total_seconds())

    async def start(self, first: Server) -> None:
        await self._beat(first)
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _beat(self, server: Server) -> None:
        await self._store.write(nodes.beat, server)

    async def _purge(self, retention: timedelta) -> None:
        await self._until_nothing(lambda: self._store.write(upkeep.purge, retention), "purged")
        await self._until_nothing(lambda: self._store.write(upkeep.purge_removed), "purged_removed")
        await self._until_nothing(lambda: self._store.write(upkeep.forget_stubs), "forgot_stubs")
        await self._store.write(upkeep.forget_clients)

    @staticmethod
    async def _until_nothing(batch: Callable[[], Awaitable[int]], what: str) -> None:
        total = 0
        for _ in range(MAX_BATCHES):
            done = await batch()
            if not done:
                break
            total += done
        if total:
            _logger.info(what, events=total)


def _guarded(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await work()
        except Unavailable as error:
            # The next turn does what this one could not.
            _logger.warning("postponed", reason=error.message)

    return run
