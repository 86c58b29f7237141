"""The writer: one thread, group commit.

What is the truth here: a job is done when its transaction has committed, and not before. So the thread takes a job,
drains what else is waiting (no timer: a lone job waits for nobody), opens one transaction, runs each job in a
savepoint, commits once, and then, in ONE callback on the event loop, hands the batch to the hub and resolves the
futures. The order of these callbacks is the order of commits, and publishing does not depend on whether anybody
still waits for an answer: a handler that was cancelled has lost its answer, never its event.

What can fail: a job (its savepoint is rolled back, its neighbours don't notice); the transaction (the disk is full,
the connection is gone, the commit fails: every job of the batch fails as Unavailable, and nothing is published);
the queue (full: Unavailable at once). A commit whose answer was lost may have happened: its jobs fail, and the hub
finds the events by itself, since it never trusts a publication to be complete.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Generic, TypeVar

import peewee

from cotexd import metrics
from cotexd.errors import CotexError, Unavailable
from cotexd.store import dialect as dialects
from cotexd.store.dialect import Dialect
from cotexd.store.models import bound
from cotexd.store.transaction import Actor, Published, Tx, acting

MAX_BATCH = 257
"""jobs in one transaction: the first, and up to 256 that wait behind it"""
MAX_QUEUED = 4096
"""jobs; more are refused at once, which GitHub shows as a failed delivery that can be repaired"""

_COMMITTED, _FAILED = map(metrics.COMMITS.labels, ("committed", "failed"))

R = TypeVar("R")
Publish = Callable[[Sequence[Published]], None]
Begin = Callable[[peewee.Database], Tx]


@dataclass(slots=True, eq=False)
class Job(Generic[R]):
    """One call of an operation. With `many`, neighbours of the same kind run as one statement."""

    run: Callable[[Tx], R]
    future: "asyncio.Future[R]"
    many: "Callable[[Tx, list[Any]], list[R]] | None" = None
    item: Any = None
    actor: Actor = field(default_factory=acting)
    result: R | None = None
    error: BaseException | None = None


class Writer:
    def __init__(
        self,
        dialect: Dialect,
        begin: Begin,
        publish: Publish,
        committed: Callable[[Tx], None],
    ) -> None:
        """:param committed: called on the thread after a commit, before its batch is published"""
        self._dialect = dialect
        self._begin = begin
        self._publish = publish
        self._committed = committed
        self._jobs: queue.Queue[Job[Any] | None] = queue.Queue(MAX_QUEUED)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="cotexd-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Any]) -> None:
        """:raises Unavailable: the queue is full, or closed"""
        if self._closed:
            raise Unavailable("The server is shutting down.")
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            metrics.QUEUE_FULL.inc()
            raise Unavailable("The server has more to write than it can: try again soon.") from None

    @property
    def queued(self) -> int:
        return self._jobs.qsize()

    async def close(self) -> None:
        """Finish what was submitted; refuse the rest."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._jobs.put, None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        database = self._dialect.open(read_only=False)
        with bound(database):
            while (batch := self._take()) is not None:
                published: Sequence[Published] = ()
                metrics.COMMIT_JOBS.observe(len(batch))
                # A border: whatever goes wrong, the jobs are told, and the thread lives on.
                try:
                    with dialects.unavailable(), metrics.COMMIT_TIME.time():
                        published = self._commit(database, batch)
                    _COMMITTED.inc()
                except Exception as error:  # noqa: BLE001
                    self._dialect.rollback(database)
                    published = ()
                    _FAILED.inc()
                    failure = error if isinstance(error, CotexError) else _lost(error)
                    for job in batch:
                        job.error = failure
                self._loop.call_soon_threadsafe(partial(self._deliver, published, batch))
            database.close()

    def _take(self) -> list[Job[Any]] | None:
        first = self._jobs.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _commit(self, database: peewee.Database, batch: list[Job[Any]]) -> Sequence[Published]:
        self._dialect.begin_write(database)
        tx = self._begin(database)
        for many, neighbours in groupby(batch, key=lambda job: job.many):
            jobs = list(neighbours)
            if many is None or not self._run_together(tx, database, many, jobs):
                for job in jobs:
                    self._run_alone(tx, database, job)
        self._dialect.before_commit(database)
        database.commit()
        self._committed(tx)
        return tx.published

    def _run_together(
        self,
        tx: Tx,
        database: peewee.Database,
        many: Callable[[Tx, list[Any]], list[Any]],
        jobs: list[Job[Any]],
    ) -> bool:
        """Run neighbours as one; False if one of them has to be found that spoils it for all."""
        before = len(tx.published)
        try:
            with database.savepoint():
                results = many(tx, [job.item for job in jobs])
        except Exception:  # noqa: BLE001  # found below, when each runs alone
            self._check_alive(database)
            del tx.published[before:]
            return False
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, CotexError):
                job.error = result
            else:
                job.result = result
        return True

    def _run_alone(self, tx: Tx, database: peewee.Database, job: Job[Any]) -> None:
        before = len(tx.published)
        tx.actor = job.actor
        try:
            with dialects.unavailable(), database.savepoint():
                job.result = job.run(tx)
        except Exception as error:  # noqa: BLE001  # the job's own: its future gets it
            self._check_alive(database)
            del tx.published[before:]
            job.error = error

    def _check_alive(self, database: peewee.Database) -> None:
        """SQLite rolls the whole transaction back when the disk is full; later statements would then autocommit."""
        if not self._dialect.in_transaction(database):
            raise Unavailable("The database gave the transaction up: is its disk full?")

    def _deliver(self, published: Sequence[Published], batch: list[Job[Any]]) -> None:
        """On the loop: the hub first, then those who wait."""
        if published:
            self._publish(published)
        for job in batch:
            if job.future.done():
                continue  # cancelled: nobody waits for this answer
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


def _lost(error: BaseException) -> CotexError:
    failure = Unavailable("The database failed in an unexpected way; nothing was kept.")
    failure.__cause__ = error
    return failure
