import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from cotexd.domain.event import Frame
from cotexd.errors import CotexError, Invalid, NotFound, Unavailable
from cotexd.store import Published, Store, Tx, writer
from cotexd.store.models import LogState, Setting


class Hub:
    """Notes what is published, and what its readers could have seen by then."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def publish(self, batch: Sequence[Published]) -> None:
        self.batches.append([each.frame.seq for each in batch])


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
async def serving(store: Store, hub: Hub) -> AsyncIterator[Store]:
    store.start(hub.publish, lambda: None)
    yield store
    await store.stop()


def append(tx: Tx) -> int:
    tx.head = int(LogState.get_by_id(1).head) + 1
    LogState.update(head=tx.head).execute()
    tx.published.append(Published(Frame(tx.head, b""), ()))
    return tx.head


def append_and_fail(tx: Tx) -> None:
    append(tx)
    raise NotFound("no")


def append_many(tx: Tx, items: list[int]) -> list[int | CotexError]:
    return [Invalid("odd") if item % 2 else append(tx) for item in items]


def head(_: Tx) -> int:
    return int(LogState.get_by_id(1).head)


async def test_batches_are_published_in_the_order_of_commits(serving: Store, hub: Hub):
    seqs = await asyncio.gather(*(serving.write(append) for _ in range(500)))
    assert sorted(seqs) == list(range(1, 501))
    assert [seq for batch in hub.batches for seq in batch] == list(range(1, 501))


async def test_what_waits_together_is_committed_together(serving: Store, hub: Hub):
    await asyncio.gather(*(serving.write(append) for _ in range(500)))
    assert len(hub.batches) < 250
    assert max(map(len, hub.batches)) <= writer.MAX_BATCH


async def test_a_batch_is_published_before_its_writers_are_answered(serving: Store, hub: Hub):
    seq = await serving.write(append)
    assert hub.batches == [[seq]]


async def test_a_failing_job_does_not_disturb_its_neighbours(serving: Store, hub: Hub):
    jobs = [serving.write(append_and_fail if number == 5 else append) for number in range(20)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [number for number, result in enumerate(results) if isinstance(result, Exception)] == [5]
    assert await serving.read(head) == 19
    assert [seq for batch in hub.batches for seq in batch] == list(range(1, 20))


async def test_a_writer_that_is_cancelled_loses_its_answer_and_never_its_publication(
    serving: Store, hub: Hub
):
    hold, held = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_then_append(tx: Tx) -> int:
        loop.call_soon_threadsafe(held.set)
        hold.wait(20)
        return append(tx)

    first = asyncio.ensure_future(serving.write(wait_then_append))
    await held.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    hold.set()
    await serving.write(append)
    assert first.cancelled()
    assert [seq for batch in hub.batches for seq in batch] == [1, 2]


async def test_items_that_wait_together_go_into_one_call(serving: Store):
    results = await asyncio.gather(
        *(serving.write_many(append_many, number) for number in range(40)), return_exceptions=True
    )
    assert sum(isinstance(result, Invalid) for result in results) == 20
    assert await serving.read(head) == 20


async def test_one_item_that_breaks_the_call_spoils_it_for_nobody_else(serving: Store, hub: Hub):
    def picky(tx: Tx, items: list[int]) -> list[int | CotexError]:
        results: list[int | CotexError] = [append(tx) for _ in items]
        if 3 in items:
            raise ValueError("three")
        return results

    results = await asyncio.gather(*(serving.write_many(picky, n) for n in range(10)), return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [3]
    assert [seq for batch in hub.batches for seq in batch] == list(range(1, 10))


async def test_a_full_queue_is_refused_at_once(serving: Store):
    hold = threading.Event()
    first = asyncio.ensure_future(serving.write(lambda tx: hold.wait(20)))
    waiting = [asyncio.ensure_future(serving.write(append)) for _ in range(writer.MAX_QUEUED + 400)]
    await asyncio.sleep(0)
    refused = [write for write in waiting if write.done()]
    assert refused
    assert all(isinstance(write.exception(), Unavailable) for write in refused)
    hold.set()
    await first
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await serving.read(head) == len(waiting) - len(refused)


async def test_a_transaction_that_is_given_up_fails_its_whole_batch_and_the_writer_lives_on(
    serving: Store, hub: Hub
):
    def give_up(tx: Tx) -> None:
        append(tx)
        tx.database.connection().rollback()
        raise ValueError("the disk is full")

    results = await asyncio.gather(
        *(serving.write(give_up if number == 3 else append) for number in range(6)), return_exceptions=True
    )
    assert any(isinstance(result, Unavailable) for result in results)
    kept = sorted(result for result in results if isinstance(result, int))
    assert kept == list(range(1, len(kept) + 1)) == [seq for batch in hub.batches for seq in batch]
    assert await serving.write(append) == len(kept) + 1


async def test_what_is_committed_is_answered_though_its_publication_fails(store: Store):
    def publish(_: Sequence[Published]) -> None:
        raise ValueError("a mistake of the hub's")

    store.start(publish, lambda: None)
    assert await store.write(append) == 1
    assert await store.read(head) == 1
    await store.stop()


async def test_what_is_taken_back_moves_nothing_that_is_remembered_of_the_log(serving: Store):
    assert await serving.write(append) == 1
    with pytest.raises(NotFound):
        await serving.write(append_and_fail)
    assert serving.files.lineage.read_text().split()[1] == "1"


async def test_a_full_disk_is_said_and_loses_nothing_that_was_there(tmp_path: Path, hub: Hub):
    store = Store("", tmp_path / "data")
    store.start(hub.publish, lambda: None)
    await store.write(append)

    def limit(tx: Tx) -> None:
        pages = tx.database.execute_sql("PRAGMA page_count").fetchone()[0]
        tx.database.execute_sql(f"PRAGMA max_page_count = {pages + 2}")

    def fill(tx: Tx) -> None:
        append(tx)
        Setting.insert(name="big", value="x" * 1_000_000).execute()

    await store.write(limit)
    with pytest.raises(Unavailable):
        await store.write(fill)
    assert await store.read(head) == 1
    assert await store.write(append) == 2
    assert hub.batches == [[1], [2]]
    await store.stop()
