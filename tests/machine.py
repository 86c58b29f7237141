"""The machine that a server runs on, as far as it can turn against it: its clock is set, its disk becomes read-only."""

import mmap
import os
import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

_STATE = struct.Struct("@qq")


class Machine:
    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            if os.environ.get("CI"):
                pytest.fail("There is no C compiler, and CI is set.")
            pytest.skip("NO C COMPILER: what a machine does to a server is not tried.")
        library, state = folder / "machine.so", folder / "machine"
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        state.write_bytes(_STATE.pack(0, 0))
        with state.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), _STATE.size)
        self.environment = {"LD_PRELOAD": str(library), "MACHINE": str(state)}
        """of a process that runs on it"""
        self._off, self._read_only = timedelta(0), False

    def set_clock(self, off: timedelta) -> None:
        """:param off: how far it is ahead of the right time"""
        self._off = off
        self._keep()

    def set_disk(self, *, read_only: bool) -> None:
        self._read_only = read_only
        self._keep()

    def _keep(self) -> None:
        self._state[:] = _STATE.pack(int(self._off.total_seconds()), self._read_only)
