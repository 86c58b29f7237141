"""The two clients of docs/clients.md, as they stand there: each sees every event once, over its own end too."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from actors import WAIT, push
from conftest import INSTALLING, Server, eventually, inside

from cotexd.operations.accounts import Account

PAGE = (Path(__file__).parents[1] / "docs/clients.md").read_text()
SETTINGS = """
import fs from 'node:fs'
import WebSocket from 'ws'
const settings = {
  url: process.env.COTEX_URL,
  token: process.env.COTEX_TOKEN,
  handle: ({ seq, repo_name, event }) => console.log(seq, repo_name, event),
  kept: () => (fs.existsSync('cursor.txt') ? fs.readFileSync('cursor.txt', 'utf8') : ''),
  keep: (cursor) => {
    fs.writeFileSync('cursor.half', cursor)
    fs.renameSync('cursor.half', 'cursor.txt')
  },
}
"""
pytestmark = pytest.mark.timeout(INSTALLING + 120)


@pytest.fixture
def database() -> str:
    """SQLite: the clients don't know which one it is."""
    return ""


def code(language: str) -> str:
    found = re.findall(rf"^```{language}$(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture(params=["python", "js"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str | Path]:
    if request.param == "python":
        file = tmp_path / "client.py"
        file.write_text(code("python"))
        return [sys.executable, file]
    # Beside its libraries.
    file = request.getfixturevalue("clients") / "documented.mjs"
    file.write_text(SETTINGS + code("js"))
    return ["node", file]


@asynccontextmanager
async def running(
    command: list[str | Path], folder: Path, server: Server, user: Account
) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "COTEX_URL": server.url, "COTEX_TOKEN": server.token(user)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await eventually(lambda: any(each.session.live for each in inside().hub._all()))
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await eventually(lambda: len(inside().hub) == 0)


async def heard(said: asyncio.StreamReader) -> str:
    return (await asyncio.wait_for(said.readline(), WAIT)).decode().strip()


async def test_it_goes_on_after_its_end_and_sees_each_event_once(
    server: Server, command: list[str | Path], tmp_path: Path
):
    ada = server.user("ada")
    repo = server.track(ada)
    async with running(command, tmp_path, server, ada) as said:
        for number in range(3):
            await server.github.deliver(repo, push(number))
        assert [await heard(said) for _ in range(3)] == [f"{seq} octo/hello push" for seq in (1, 2, 3)]
        await eventually(lambda: (tmp_path / "cursor.txt").read_text().endswith(".3"))
    for number in range(3, 5):
        await server.github.deliver(repo, push(number))
    async with running(command, tmp_path, server, ada) as said:
        await server.github.deliver(repo, push(5))
        assert [await heard(said) for _ in range(3)] == [f"{seq} octo/hello push" for seq in (4, 5, 6)]


async def test_it_comes_back_when_its_connection_is_cut(
    server: Server, command: list[str | Path], tmp_path: Path
):
    ada = server.user("ada")
    repo = server.track(ada)
    async with running(command, tmp_path, server, ada) as said:
        await server.github.deliver(repo, push(0))
        assert await heard(said) == "1 octo/hello push"
        for each in inside().hub._all():
            each._abort()
        await server.github.deliver(repo, push(1))
        assert await heard(said) == "2 octo/hello push"
