"""Ten thousand half-open connections: as many files on both sides, so the server is a process of its own."""

import asyncio
import itertools
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from actors import WAIT, Client, GitHub
from conftest import eventually

from cotexd.operations import accounts, repositories, tokens
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

HALVES = 10_000
BURST = 500
"""of them that come at once: fewer than the kernel keeps for a server that is busy"""
SPARE = 500
"""files that each side may have for everything else"""
MEMORY = 32 * 1024
"""bytes that each of them may cost the server; it is about a quarter of that"""
LET_GO = 60.0
"""seconds until the test gives up on the last of them; the server's limit is 15, and it looks every 7.5"""

TOO_SLOW = b"HTTP/1.1 408 Request Timeout"
BEGINNINGS = {
    b"": b"",
    b"GET /liv": TOO_SLOW,
    b"GET /ws HTTP/1.1\r\nHost: x\r\n": TOO_SLOW,
    b"POST /api/webhooks/github/x HTTP/1.1\r\nHost: x\r\nX-Slow: ": TOO_SLOW,
}
"""what is said of a request, and the first line of the answer"""

PROGRAM = """
import resource
from sanic import Sanic
from cotexd import appliance, config, telemetry

def ready(url):
    # Who says nothing may else stay for a minute more, as one may who is between two requests.
    (app,) = Sanic._app_registry.values()
    app.config.KEEP_ALIVE_TIMEOUT = app.config.REQUEST_TIMEOUT
    print(url, flush=True)

# No more files than a shell has: the server helps itself to what it needs.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))
telemetry.set_up("error", "json")
appliance.run(lambda: config.load({}), ready)
"""


@dataclass(frozen=True)
class Running:
    """A server, seen from outside."""

    url: str
    process: asyncio.subprocess.Process
    _seen: psutil.Process

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    @property
    def memory(self) -> int:
        """Bytes that are resident."""
        return int(self._seen.memory_info().rss)

    @property
    def files(self) -> int:
        """How many are open; each connection is one."""
        return int(self._seen.num_fds())


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env={**os.environ, "COTEX_DATA_DIR": str(data), "COTEX_PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), WAIT)).decode().strip()
        assert url, "the server did not start"
        yield Running(url, process, psutil.Process(process.pid))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def count() -> Iterator[int]:
    """How many connections to open: HALVES, or what a process may have here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = HALVES + SPARE if hard == resource.RLIM_INFINITY else min(HALVES + SPARE, hard)
    # Should the kernel refuse what it says it allows, then that is an error, and not fewer connections.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield most - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def populated(data: Path) -> tuple[Tracked, str]:
    """A repository of ada's, and a token of hers."""
    store = Store("", data)
    ada = store.run(accounts.create, "ada")
    repo = store.run(repositories.add, ada.id, "octo/hello")
    issued = store.run(tokens.issue, ada.id, timedelta(hours=1))
    store.close()
    return repo, issued.token


@dataclass(frozen=True)
class Half:
    """A connection on which a request is begun, and no more."""

    said: bytes
    wire: socket.socket

    @classmethod
    async def opened(cls, server: Running, said: bytes) -> "Half":
        half = cls(said, socket.socket())
        half.wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(half.wire, server.address)
        half.wire.send(said)
        return half

    async def answer(self) -> bytes:
        """The first line of what the server says until it lets go."""
        answer = b""
        while more := await asyncio.get_running_loop().sock_recv(self.wire, 4096):
            answer += more
        return answer.partition(b"\r\n")[0]


@asynccontextmanager
async def half_open(server: Running, http: httpx.AsyncClient, count: int) -> AsyncIterator[list[Half]]:
    """So many at the same time. Between two bursts somebody honest is answered."""
    halves: list[Half] = []
    beginnings = itertools.islice(itertools.cycle(BEGINNINGS), count)
    try:
        while burst := list(itertools.islice(beginnings, BURST)):
            halves += await asyncio.gather(*(Half.opened(server, said) for said in burst))
            # Stands behind them in the kernel's queue: once that is answered, all of them are in.
            assert (await http.get(f"{server.url}/livez")).status_code == 200
        yield halves
    finally:
        for half in halves:
            half.wire.close()


async def test_ten_thousand_half_open_connections_keep_nobody_out_and_are_all_let_go(
    count: int, tmp_path: Path
):
    repo, token = populated(tmp_path / "data")
    honest = {"authorization": f"Bearer {token}", "connection": "close"}
    async with (
        running(tmp_path / "data") as server,
        httpx.AsyncClient(timeout=WAIT, trust_env=False, headers=honest) as http,
    ):
        client, github = Client(server.url, token), GitHub(server.url, http)
        async with client.connected() as connection:
            await client.until_live(connection)
            most_memory = server.memory + count * MEMORY
            async with half_open(server, http, count) as halves:
                assert (await http.get(f"{server.url}/api/me")).status_code == 200
                assert (await github.deliver(repo)).status_code == 200
                await client.until_applied(connection, 1)
                # Asked last: whoever was answered was answered while all of them were held.
                assert server.files > count
                assert server.memory < most_memory
                async with asyncio.timeout(LET_GO):
                    answers = await asyncio.gather(*(half.answer() for half in halves))
                await eventually(lambda: server.files < SPARE)
            assert {(half.said, answer) for half, answer in zip(halves, answers, strict=True)} == set(
                BEGINNINGS.items()
            )
            assert server.memory < most_memory
            assert (await github.deliver(repo)).status_code == 200
            await client.until_applied(connection, 2)
        server.process.terminate()
        assert await asyncio.wait_for(server.process.wait(), WAIT) == 0
    if count < HALVES:
        # Where CI is set, too: no change to cotexd can give a machine more files.
        pytest.skip(
            f"ONLY {count:,} HALF-OPEN CONNECTIONS WERE TRIED, NOT {HALVES:,}: a process may have no more files here."
        )
