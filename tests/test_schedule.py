import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from actors import logged
from conftest import Clock, eventually, holding

from cotexd import metrics, schedule
from cotexd.errors import Unavailable
from cotexd.flows.access import Access
from cotexd.flows.backups import Backups
from cotexd.flows.billing import Account
from cotexd.flows.recovery import Recovery
from cotexd.operations import events, nodes, repositories, upkeep
from cotexd.operations.nodes import Server
from cotexd.operations.repositories import Tracked
from cotexd.schedule import Schedule
from cotexd.store import Store, Tx
from cotexd.store.models import Event

RETENTION = timedelta(days=14)
SERVER = Server("one", "http://127.0.0.1:8080", "1.0", 4711, 0, datetime(2026, 11, 24, tzinfo=UTC))


def scheduled(store: Store, server: Callable[[], Server] = lambda: SERVER) -> Schedule:
    repairs = Recovery(store, Access(store, ""), "", timedelta(minutes=5))
    backups = Backups(store, store.files.folder / "backups", timedelta(0), 7)
    return Schedule(store, Account(store, "", "", ()), repairs, backups, RETENTION, server)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch):
    """What is due every few seconds and minutes is due at once, and again at once."""
    monkeypatch.setattr(schedule, "BEAT_EVERY", timedelta(milliseconds=20))
    monkeypatch.setattr(schedule, "UPKEEP_EVERY", timedelta(milliseconds=20))


@pytest.fixture
async def serving(store: Store) -> AsyncIterator[Store]:
    store.start(lambda batch: None, lambda: None)
    yield store
    await store.stop()


async def test_a_server_is_seen_as_soon_as_its_schedule_runs_and_goes_on_being_seen(
    serving: Store, clock: Clock
):
    running = scheduled(serving)
    await running.start(SERVER)
    assert [each.id for each in await serving.read(nodes.running)] == ["one"]
    clock.forward(10 * nodes.ALIVE)
    await eventually(lambda: [each.seen_at for each in serving.look(nodes.running)] == [clock()])
    running.stop()


async def test_what_is_old_goes_without_anybody_asking(serving: Store, hello: Tracked, clock: Clock):
    def stored(_: Tx) -> int:
        return Event.select().count()

    docs = await serving.write(repositories.add, hello.user_id, "octo/docs")
    logged(serving, docs, 3)
    logged(serving, hello, 2 * upkeep.BATCH + 5)
    await serving.write(repositories.remove, docs.user_id, docs.id)
    clock.forward(RETENTION + timedelta(days=1))
    (last,) = logged(serving, hello)
    running = scheduled(serving)
    await running.start(SERVER)
    await eventually(lambda: serving.look(events.log).floor == last - 1)
    await eventually(lambda: serving.look(stored) == last - 3)
    clock.forward(upkeep.STUBS_KEPT + timedelta(days=1))
    await eventually(lambda: serving.look(stored) == 0)
    running.stop()


async def test_one_turn_does_all_that_is_due(serving: Store, hello: Tracked, clock: Clock):
    logged(serving, hello, 2 * upkeep.BATCH + 5)
    clock.forward(RETENTION + timedelta(days=1))
    await scheduled(serving)._purge(RETENTION)
    assert serving.look(events.log).floor == 2 * upkeep.BATCH + 5


@pytest.mark.parametrize(
    ("failure", "shown"), [(Unavailable("The disk is full."), 0), (ValueError("a bug"), 2)]
)
async def test_a_turn_that_fails_does_not_end_those_after_it(
    serving: Store, clock: Clock, caplog: pytest.LogCaptureFixture, failure: Exception, shown: int
):
    turns = 0

    def server() -> Server:
        nonlocal turns
        turns += 1
        if turns <= 2:
            raise failure
        return SERVER

    running = scheduled(serving, server)
    await running.start(SERVER)
    clock.forward(10 * nodes.ALIVE)
    await eventually(lambda: serving.look(nodes.running) != [])
    running.stop()
    # A bug is shown with its traceback; what the database can't do right now is no bug.
    assert sum(record.exc_info is not None for record in caplog.records) == shown


async def test_what_was_stopped_stays_stopped(serving: Store, clock: Clock):
    turns = 0

    def server() -> Server:
        nonlocal turns
        turns += 1
        return SERVER

    running = scheduled(serving, server)
    await running.start(SERVER)
    await eventually(lambda: turns > 0)
    running.stop()
    running.stop()
    await eventually(lambda: not running._scheduler.running)
    before = turns
    await asyncio.sleep(0.2)  # ten turns, none of which may come
    assert turns == before


async def test_a_turn_that_takes_long_is_alone_and_nobody_is_warned_of_the_others(
    serving: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(schedule, "LEVELS_EVERY", timedelta(milliseconds=20))
    turns = 0

    def server() -> Server:
        nonlocal turns
        turns += 1
        return SERVER

    def looks() -> float:
        """Turns of another job, which only reads."""
        labels = {"work": "levels", "outcome": "done"}
        return metrics.REGISTRY.get_sample_value("cotexd_scheduled_runs_total", labels) or 0

    running = scheduled(serving, server)
    await running.start(SERVER)
    async with holding(serving):
        begun = looks()
        await eventually(lambda: looks() > begun + 3)
        held = turns
        begun = looks()
        await eventually(lambda: looks() > begun + 10)
        assert turns == held
    await eventually(lambda: turns > held + 2)
    running.stop()
    assert "maximum number of running instances" not in caplog.text


def test_a_schedule_that_never_ran_can_be_stopped(store: Store):
    scheduled(store).stop()
