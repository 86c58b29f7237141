"""A server as a process of its own, and a client who follows it through its deaths."""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import httpx
from actors import Client
from conftest import eventually
from websockets.exceptions import ConnectionClosed, InvalidHandshake


class Process:
    """`cotexd` as a process of its own, on a port that stays the same."""

    def __init__(self, data: Path, database: str, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            "COTEX_DATA_DIR": str(data),
            "COTEX_DATABASE": database,
            "COTEX_PORT": str(self.port),
            "COTEX_LOG_LEVEL": "error",
            **environment,
        }
        self._running: asyncio.subprocess.Process | None = None

    async def start(self, http: httpx.AsyncClient) -> None:
        self._running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cotexd", env=self._environment
        )

        async def ready() -> bool:
            assert self._running is not None
            assert self._running.returncode is None, "the server did not start"
            try:
                return (await http.get(f"{self.url}/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(ready)

    async def kill(self) -> None:
        assert self._running is not None
        self._running.kill()
        await self._running.wait()

    async def terminate(self) -> int:
        assert self._running is not None
        self._running.terminate()
        return await self._running.wait()


async def follow(client: Client) -> None:
    """Connect again and again; the client's rule, and what it asserts, is in Client."""
    while True:
        with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake):
            async with client.connected() as connection:
                while True:
                    await client.take(connection)
        await asyncio.sleep(0.02)
