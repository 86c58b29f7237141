"""The server under torture: a process on a port that stays the same, and what can be done to a process."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from pathlib import Path

from .faulty import SWITCH, Faults
from .line import Line

ROOT = Path(__file__).parents[2]
START_WITHIN = 60.0
STOP_WITHIN = 30.0
"""seconds"""
ERRORS = 100


class Broken(Exception):
    """The run cannot go on; its sentence says why."""


class Server:
    def __init__(self, folder: Path, database: str) -> None:
        """:param folder: for the data, and the switch of faults"""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.data = folder / "data"
        self.database = database
        self.said: deque[str] = deque(maxlen=200)
        self.errors: list[str] = []
        """the first lines of the log that say so"""
        self._switch = folder / "faults"
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("COTEX_")},
            SWITCH: str(self._switch),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "cli"))),
            "PYTHONUNBUFFERED": "1",
            "COTEX_DATA_DIR": str(self.data),
            "COTEX_DATABASE": database,
            "COTEX_PORT": str(self.port),
            "COTEX_DRAIN_SECONDS": "1",
            "COTEX_RATE_LIMIT": "1000000",
            "COTEX_LOG_LEVEL": "warning",
            "COTEX_LOG_FORMAT": "json",
        }
        self.fault(Faults())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def fault(self, faults: Faults) -> None:
        new = self._switch.with_suffix(".new")
        new.write_text(str(faults))
        new.replace(self._switch)

    async def start(self) -> None:
        """:raises Broken: it does not"""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.torture.faulty"),
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._hearing = asyncio.create_task(self._hear(self._process))
        line = Line(self.port)
        try:
            async with asyncio.timeout(START_WITHIN):
                while not await self._ready(line):
                    if self._process.returncode is not None:
                        raise Broken("\n  ".join(["The server did not start. It said:", *self.said]))
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Broken("\n  ".join(["The server did not get ready. It said:", *self.said])) from None
        finally:
            line.cut()

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Ask it to stop; its exit code.

        :raises Broken: it does not stop
        """
        code = await self._end(signal.SIGTERM)
        if code is None:
            await self.kill()
            raise Broken(f"The server did not stop within {STOP_WITHIN:g} s of SIGTERM.")
        return code

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def proceed(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    async def _end(self, number: int) -> int | None:
        """None if it lives on."""
        assert self._process is not None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
        try:
            code = await asyncio.wait_for(self._process.wait(), STOP_WITHIN)
        except TimeoutError:
            return None
        if self._hearing is not None:
            await self._hearing
        return code

    async def _ready(self, line: Line) -> bool:
        try:
            return (await line.request("GET", "/readyz", {})).status == 200
        except (OSError, EOFError, TimeoutError):
            return False

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while said := await process.stdout.readline():
            text = said.decode(errors="replace").rstrip()
            if '"request_failed"' not in text:  # each refusal is one, and they are counted where they are met
                self.said.append(text)
            if len(self.errors) < ERRORS and ("Traceback" in text or '"level": "error"' in text):
                self.errors.append(text)
