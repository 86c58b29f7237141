"""Clients that others wrote, on Node: `ws`, and fetch. They get every event, and need to know nothing of ours."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from actors import WAIT, push
from conftest import INSTALLING, Serve, Server, eventually, inside

from cotexd.config import Settings
from cotexd.live.stream import CONTENT_TYPE
from cotexd.operations.accounts import Account
from cotexd.store.models import Device

PAGE = "https://app.example.com"
WAYS = {"legacy": "", "page": "cotex.v2", "stream": CONTENT_TYPE, "poll": None}
"""what each is told when it begins; None where that is a cursor"""
pytestmark = pytest.mark.timeout(INSTALLING + 120)


@pytest.fixture
def database() -> str:
    """SQLite: the clients don't know which one it is."""
    return ""


class Running:
    """A client as a process."""

    def __init__(self, out: asyncio.StreamReader) -> None:
        self._out = out

    async def told(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self._out.readline(), WAIT)
        return dict(json.loads(line)) if line else pytest.fail("It has ended.")

    async def event(self) -> dict[str, Any]:
        while (message := await self.told()).get("type") != "github_event":
            assert "closed" not in message
        return message

    async def closed(self) -> int | None:
        while "closed" not in (message := await self.told()):
            pass
        return message["closed"]


@asynccontextmanager
async def node(clients: Path, server: Server, user: Account, way: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        "node",
        clients / "events.mjs",
        env={
            "PATH": os.environ["PATH"],
            "COTEX_URL": server.url,
            "COTEX_TOKEN": server.token(user),
            "COTEX_ORIGIN": PAGE,
            "COTEX_WAY": way,
        },
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdout is not None
    try:
        yield Running(process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("way", WAYS)
async def test_every_event_comes_once_in_order_by_every_way(
    servers: Serve, settings: Settings, clients: Path, way: str
):
    server = await servers(replace(settings, allowed_origins=(PAGE,)))
    ada = server.user("ada")
    repo = server.track(ada)
    async with node(clients, server, ada, way) as client:
        told = await client.told()
        assert told["open"] == WAYS[way] or (way == "poll" and told["open"].endswith(".0"))
        # One who has said that it is open may still be coming for its next question.
        await eventually(lambda: len(inside().hub) == 1)
        for number in range(30):
            assert (await server.github.deliver(repo, push(number))).status_code == 200
        events = [await client.event() for _ in range(30)]
    assert [each["seq"] for each in events] == list(range(1, 31))
    assert [each["prev"] for each in events] == list(range(30))
    await eventually(lambda: len(inside().hub) == 0)


async def test_the_pongs_of_its_library_move_a_legacy_clients_cursor(server: Server, clients: Path):
    ada = server.user("ada")
    repo = server.track(ada)

    def kept() -> set[int]:
        rows = server.store.look(lambda _: list(Device.select().where(Device.kind == "session")))
        return {row.cursor for row in rows}

    async with node(clients, server, ada, "legacy") as client:
        await client.told()
        for number in range(3):
            await server.github.deliver(repo, push(number))
        assert [(await client.event())["seq"] for _ in range(3)] == [1, 2, 3]
        await eventually(lambda: kept() == {3})
    await server.github.deliver(repo)
    # Another one goes on where that was.
    async with node(clients, server, ada, "legacy") as client:
        assert (await client.event())["seq"] == 4


@pytest.mark.parametrize(("way", "code"), [("legacy", 1012), ("page", 1012), ("stream", None)])
async def test_a_server_that_stops_is_understood(
    servers: Serve, settings: Settings, clients: Path, way: str, code: int | None
):
    server = await servers(replace(settings, allowed_origins=(PAGE,)))
    async with node(clients, server, server.user("ada"), way) as client:
        await client.told()
        await eventually(lambda: len(inside().hub) == 1)
        await server.appliance.stop()
        assert await client.closed() == code
