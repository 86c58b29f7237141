"""kill -9 under load: what was answered 200 is in the log, and a client gets each event once, in order."""

import asyncio
import random
import uuid
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from actors import Client, GitHub, push
from conftest import eventually
from process import Process, follow

from cotexd.operations import accounts, history, repositories, tokens
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

KILLS = 20
SENDERS = 16
BEFORE_A_KILL = (1, 60)
"""deliveries that are answered 200 between a start and the next kill, at random"""


class Load:
    """Delivers for as long as it is told to, and notes what was answered 200."""

    def __init__(self, github: GitHub, repo: Tracked) -> None:
        self._github = github
        self._repo = repo
        self.answered: dict[str, int] = {}
        self.stopping = False

    async def send(self) -> None:
        guid = str(uuid.uuid4())
        while not self.stopping:
            try:
                answer = await self._github.deliver(self._repo, push(), guid=guid)
            except httpx.HTTPError:
                # As a person who clicks on "Redeliver": nobody knows whether it was kept.
                await asyncio.sleep(0.01)
                continue
            if answer.status_code == 200:
                self.answered[guid] = answer.json()["seq"]
                guid = str(uuid.uuid4())


@pytest.mark.timeout(300)
async def test_what_was_answered_200_survives_every_kill_and_arrives_once_in_order(
    database: str, tmp_path: Path
):
    dice = random.Random(20)
    store = Store(database, tmp_path / "data")
    ada = store.run(accounts.create, "ada")
    repo = store.run(repositories.add, ada.id, "octo/hello")
    token = store.run(tokens.issue, ada.id, timedelta(hours=1)).token
    process = Process(tmp_path / "data", database)
    client = Client(process.url, token)
    by_device = Client(process.url, token, device="laptop")
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        await process.start(http)
        load = Load(GitHub(process.url, http), repo)
        async with client.connected() as first, by_device.connected() as second:
            await client.until_live(first)
            await by_device.until_live(second)
        followers = [asyncio.create_task(follow(each)) for each in (client, by_device)]
        senders = [asyncio.create_task(load.send()) for _ in range(SENDERS)]
        for _ in range(KILLS):
            enough = len(load.answered) + dice.randint(*BEFORE_A_KILL)
            await eventually(lambda wanted=enough: len(load.answered) >= wanted)
            await process.kill()
            await process.start(http)
        load.stopping = True
        await asyncio.gather(*senders)
        log = {
            event.delivery_id: event.seq
            for event in store.look(history.listing, repo_id=repo.id, limit=10**6)
        }
        await eventually(lambda: len(client.applied) >= len(log) and len(by_device.applied) >= len(log))
        for follower in followers:
            assert not follower.done(), follower
            follower.cancel()
        assert await process.terminate() == 0
    store.close()
    assert load.answered.items() <= log.items()
    assert sorted(log.values()) == list(range(1, len(log) + 1))
    for each in (client, by_device):
        assert each.seqs == sorted(log.values())
        assert not each.gaps
