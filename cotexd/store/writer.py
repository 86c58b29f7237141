"""The writer: one thread, group commit.

What is the truth here: a job is done when its transaction has committed, and not before. So the thread takes all that
waits (no timer: a lone job waits for nobody, but the thread is woken only for ENOUGH jobs, or when the loop has been
through all that was ready, so that it does not run off with the first of fifty), opens one transaction, runs each job
in a savepoint, commits once, and then, in ONE callback on the event loop, hands the batch to the hub and resolves the
futures. The order of these callbacks is the order of commits, and publishing does not depend on whether anybody still
waits for an answer: a handler that was cancelled has lost its answer, never its event.

What can fail: a job (its savepoint is rolled back, its neighbours don't notice); the transaction (the disk is full,
the connection is gone, the commit fails: every job of the batch fails as Unavailable, and nothing is published);
the queue (full: Unavailable at once). A commit whose answer was lost may have happened: its jobs fail, and the hub
finds the events by itself, since it never trusts a publication to be complete.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Generic, TypeVar

import peewee

from cotexd import metrics
from cotexd.errors import CotexError, Unavailable
from cotexd.store import dialect as dialects
from cotexd.store import moving
from cotexd.store.dialect import Dialect
from cotexd.store.models import bound
from cotexd.store.transaction import Actor, Published, Tx, acting

ENOUGH = 32
"""jobs for which the thread is woken at once: it packs them while the loop goes on with the rest"""
MAX_BATCH = 257
"""jobs in one transaction: the first, and up to 256 that wait behind it"""
MAX_QUEUED = 4096
"""jobs; more are refused at once, which GitHub shows as a failed delivery that can be repaired"""

FAILING_FOR = 7.0
"""seconds for which a write that could not be done counts; a server writes its row more often than that"""

_COMMITTED, _FAILED = map(metrics.COMMITS.labels, ("committed", "failed"))

R = TypeVar("R")
Publish = Callable[[Sequence[Published]], None]
Begin = Callable[[peewee.Database], Tx]


@dataclass(slots=True, eq=False)
class Job(Generic[R]):
    """One call of an operation: `run`, or `many` of one item, where neighbours of the same kind go into one call."""

    future: "asyncio.Future[R]"
    run: Callable[[Tx], R] | None = None
    many: "Callable[[Tx, list[Any]], list[R | CotexError]] | None" = None
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
        self._jobs: deque[Job[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._ready = threading.Event()
        self._waking = False
        """whether the thread will be woken at the end of the loop's turn"""
        self._closed = False
        self._failure: Unavailable | None = None
        self._failed_at = 0.0
        self._thread = threading.Thread(target=self._work, name="cotexd-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Any]) -> None:
        """On the loop.

        :raises Unavailable: the queue is full, or closed
        """
        if self._closed:
            raise Unavailable("The server is shutting down.")
        if len(self._jobs) >= MAX_QUEUED:
            metrics.QUEUE_FULL.inc()
            raise Unavailable("The server has more to write than it can: try again soon.")
        self._jobs.append(job)
        if len(self._jobs) == ENOUGH:
            self._ready.set()
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)

    @property
    def queued(self) -> int:
        return len(self._jobs)

    @property
    def failure(self) -> Unavailable | None:
        """Why something could not be written a moment ago: the disk is full, the database is away or has moved."""
        return self._failure if time.monotonic() - self._failed_at < FAILING_FOR else None

    async def close(self) -> None:
        """Finish what was submitted; refuse the rest."""
        self._closed = True
        self._ready.set()
        await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        self._waking = False
        self._ready.set()

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
                self._note_failure(batch)
                self._loop.call_soon_threadsafe(partial(self._deliver, published, batch))
            database.close()

    def _note_failure(self, batch: list[Job[Any]]) -> None:
        for job in batch:
            if isinstance(job.error, Unavailable):
                self._failed_at, self._failure = time.monotonic(), job.error

    def _take(self) -> list[Job[Any]] | None:
        """What waits, MAX_BATCH at most; None once that is nothing and nothing will come."""
        while True:
            self._ready.wait()
            self._ready.clear()
            closed = self._closed
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_BATCH))]
            if closed or self._jobs:
                self._ready.set()
            if batch or closed:
                return batch or None

    def _commit(self, database: peewee.Database, batch: list[Job[Any]]) -> Sequence[Published]:
        self._dialect.begin_write(database)
        moving.refuse(database)
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
        many: Callable[[Tx, list[Any]], list[Any | CotexError]],
        jobs: list[Job[Any]],
    ) -> bool:
        """Run neighbours as one; False if one of them has to be found that spoils it for all."""
        before = tx.mark()
        try:
            with database.savepoint():
                results = many(tx, [job.item for job in jobs])
        except Exception:  # noqa: BLE001  # found below, when each runs alone
            self._check_alive(database)
            tx.back_to(before)
            return False
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, CotexError):
                job.error = result
            else:
                job.result = result
        return True

    def _run_alone(self, tx: Tx, database: peewee.Database, job: Job[Any]) -> None:
        before = tx.mark()
        tx.actor = job.actor
        try:
            with dialects.unavailable(), database.savepoint():
                job.result = _result_of(job, tx)
        except Exception as error:  # noqa: BLE001  # the job's own: its future gets it
            self._check_alive(database)
            tx.back_to(before)
            job.error = error

    def _check_alive(self, database: peewee.Database) -> None:
        """SQLite rolls the whole transaction back when the disk is full; later statements would then autocommit."""
        if not self._dialect.in_transaction(database):
            raise Unavailable("The database gave the transaction up: is its disk full?")

    def _deliver(self, published: Sequence[Published], batch: list[Job[Any]]) -> None:
        """On the loop: the hub first, then those who wait."""
        try:
            if published:
                self._publish(published)
        finally:  # whatever becomes of it, this is committed, and its writers wait
            for job in batch:
                if job.future.done():
                    continue  # cancelled: nobody waits for this answer
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)


def _result_of(job: Job[R], tx: Tx) -> R:
    """:raises CotexError: what it is refused for"""
    if job.run is not None:
        return job.run(tx)
    assert job.many is not None
    (result,) = job.many(tx, [job.item])
    if isinstance(result, CotexError):
        raise result
    return result


def _lost(error: BaseException) -> CotexError:
    failure = Unavailable(
        "The database failed in an unexpected way: what was being written may be there or not."
    )
    failure.__cause__ = error
    return failure
