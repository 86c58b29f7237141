"""What the machine does to a server while it works: it refuses what it can't keep, loses nothing, and recovers."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from actors import Client, GitHub
from conftest import eventually
from machine import Machine
from process import Process, follow

from cotexd.operations import accounts, check, history, repositories, tokens
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

HOUR = timedelta(hours=1)


class Scene:
    """A server on a machine that a test has in its hands, somebody who sends, and a client who follows."""

    def __init__(self, database: str, folder: Path, http: httpx.AsyncClient) -> None:
        self.machine = Machine(folder)
        self.store = Store(database, folder / "data")
        ada = self.store.run(accounts.create, "ada")
        self.repo: Tracked = self.store.run(repositories.add, ada.id, "octo/hello")
        token = self.store.run(tokens.issue, ada.id, timedelta(hours=12)).token
        self.process = Process(folder / "data", database, **self.machine.environment)
        self.client = Client(self.process.url, token)
        self._http = http
        self._github = GitHub(self.process.url, http)

    async def deliver(self, count: int = 1, *, answered: int = 200) -> None:
        for _ in range(count):
            assert (await self._github.deliver(self.repo)).status_code == answered

    async def ready(self) -> httpx.Response:
        return await self._http.get(f"{self.process.url}/readyz")

    async def turns(self, job: str) -> int:
        """How often the schedule has done it."""
        text = (await self._http.get(f"{self.process.url}/metrics")).text
        found = re.search(
            rf'^cotexd_scheduled_runs_total{{outcome="done",work="{job}"}} (\S+)$', text, re.MULTILINE
        )
        return int(float(found[1])) if found else 0

    async def has_all(self) -> None:
        """The client has every event that is in the log, each once and in order, and the log is whole."""
        log = [each.seq for each in self.store.look(history.listing, repo_id=self.repo.id, limit=1000)]
        await eventually(lambda: len(self.client.seqs) >= len(log))
        assert self.client.seqs == sorted(log) == list(range(1, len(log) + 1))
        assert not self.client.gaps
        assert self.store.look(check.check).good


@pytest.fixture
async def scene(database: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        made = Scene(database, tmp_path, http)
        await made.process.start(http)
        follower = asyncio.create_task(follow(made.client))
        await eventually(lambda: bool(made.client.hello))
        try:
            yield made
        finally:
            follower.cancel()
            assert await made.process.terminate() == 0
            made.store.close()


async def test_a_clock_that_jumps_an_hour_and_back_disturbs_nobody(scene: Scene):
    await scene.deliver(3)
    for off in (HOUR, timedelta(0), -HOUR):
        scene.machine.set_clock(off)
        await scene.deliver(3)
        await scene.has_all()
        assert (await scene.ready()).status_code == 200


async def test_what_is_done_at_intervals_goes_on_after_the_clock_was_set_back(scene: Scene):
    await eventually(lambda: turned(scene, "levels", 2))
    scene.machine.set_clock(-HOUR)
    before = await scene.turns("levels")
    await eventually(lambda: turned(scene, "levels", before + 3))


async def turned(scene: Scene, job: str, times: int) -> bool:
    return await scene.turns(job) >= times


@pytest.mark.parametrize("database", [""], ids=["sqlite"])
async def test_a_disk_that_becomes_read_only_is_said_and_nothing_is_lost(scene: Scene):
    await scene.deliver(3)
    scene.machine.set_disk(read_only=True)
    await scene.deliver(2, answered=503)
    answer = await scene.ready()
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "disk I/O error" in answer.json()["detail"]
    scene.machine.set_disk(read_only=False)
    await scene.deliver(3)
    await eventually(lambda: is_ready(scene))
    await scene.has_all()
    assert len(scene.client.seqs) == 6


async def is_ready(scene: Scene) -> bool:
    return (await scene.ready()).status_code == 200
