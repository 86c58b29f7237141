import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from actors import WAIT

from cotexd import systemd


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WAIT)
        yield listening


def until(heard: socket.socket, wanted: str) -> list[str]:
    """What it is told, up to this."""
    said: list[str] = []
    while wanted not in said:
        said += heard.recv(4096).decode().split("\n")
    return said


def test_a_server_says_that_it_is_ready_turns_and_stops(heard: socket.socket, tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "cotexd"],
        env={
            **os.environ,
            "COTEX_DATA_DIR": str(tmp_path / "data"),
            "COTEX_PORT": "0",
            "NOTIFY_SOCKET": heard.getsockname(),
            "WATCHDOG_USEC": "600000",
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        said = until(heard, "READY=1")
        assert any(each.startswith("STATUS=Serving http://") for each in said)
        until(heard, "WATCHDOG=1")
        until(heard, "WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        until(heard, "STOPPING=1")
        assert process.wait(WAIT) == 0
    finally:
        process.kill()
        process.wait()


def test_a_server_that_cannot_start_never_says_that_it_is_ready(heard: socket.socket, tmp_path: Path):
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": heard.getsockname(),
        "COTEX_DATA_DIR": str(tmp_path / "data"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "cotexd", "--database", "postgresql://127.0.0.1:1/cotex"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    heard.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            assert b"READY" not in heard.recv(4096)


def test_a_name_in_the_abstract_namespace_is_one(monkeypatch: pytest.MonkeyPatch):
    name = f"cotexd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(WAIT)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.tell("READY=1", "STATUS=here")
        assert listening.recv(100) == b"READY=1\nSTATUS=here"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-there"])
def test_where_nobody_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.tell("READY=1")


@pytest.mark.parametrize(
    ("wanted", "whose", "seconds"),
    [
        ("60000000", "", 60.0),
        ("60000000", "me", 60.0),
        ("60000000", "1", None),
        ("0", "", None),
        ("soon", "", None),
        ("", "", None),
    ],
)
def test_a_watchdog_is_one_of_this_process(
    monkeypatch: pytest.MonkeyPatch, wanted: str, whose: str, seconds: float | None
):
    monkeypatch.setenv("WATCHDOG_USEC", wanted)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if whose == "me" else whose)
    assert systemd.watchdog() == seconds
