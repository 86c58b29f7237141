"""The processes of a run: each is started here, ended by its own pid, and watched from outside.

CPU time and memory are what the kernel says of the process, so that nothing in it has to measure itself. On loopback
the kernel's share of a send() is the sender's, up to putting the data into the receiver's buffer.
"""

import os
import queue
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # of the development tools only

STOP_WITHIN = 15.0
"""seconds until a process that was asked to end is killed"""


class Broken(Exception):
    """Something did not do what a figure needs; its sentence says what."""


class Child:
    """A process, from `with` to the end of the block. What it says on either stream can be waited for."""

    def __init__(self, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        self._name = " ".join(str(part) for part in command[:3])
        self._said: queue.Queue[str | None] = queue.Queue()
        self._last: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._seen = psutil.Process(self._process.pid)
        threading.Thread(target=self._hear, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def line(self, pattern: str, within: float) -> re.Match[str]:
        """The next line that `pattern` is found in.

        :raises Broken: it did not come in so many seconds, or the process ended
        """
        while True:
            try:
                said = self._said.get(timeout=within)
            except queue.Empty:
                raise Broken(f"{self._name} did not say {pattern} within {within:g} s.") from None
            if said is None:
                raise Broken("\n  ".join([f"{self._name} ended. It said last:", *self._last]))
            self._last.append(said)
            if found := re.search(pattern, said):
                return found

    def tell(self, text: bytes) -> None:
        """Put something into its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def cpu(self) -> float:
        """Seconds of CPU that it has used, in user and in kernel mode."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def resident(self) -> int:
        """Bytes of it that are in memory."""
        return int(self._seen.memory_info().rss)

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._said.put(line.decode(errors="replace").rstrip("\n"))
        self._said.put(None)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What a child gets: nothing of the shell's settings for Python or cotexd, and compiled modules in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COTEX_"))}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "pycache"), "PYTHONUNBUFFERED": "1", **more}


def installed(command: str) -> Path:
    """The command that the virtual environment of this Python has.

    :raises Broken: it is not installed there
    """
    path = Path(sys.executable).parent / command
    if not path.exists():
        raise Broken(
            f"There is no {command} beside {sys.executable}: install the project, or use `make bench`."
        )
    return path
