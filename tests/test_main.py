"""`cotexd`: the server and nothing else. What it serves is tested elsewhere; here is how it starts and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from actors import WAIT

from cotexd import __version__, config
from cotexd.__main__ import main

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `cotexd` as a process of its own; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        given = {"COTEX_DATA_DIR": str(tmp_path / "data"), "COTEX_PORT": "0", **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "cotexd", *arguments],
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for each in running:
        each.kill()
        each.communicate()


def url_of(process: "subprocess.Popen[str]") -> str:
    """Where it listens, from the line in which it says that it is ready."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{") and json.loads(line)["event"] == "ready":
            return str(json.loads(line)["url"])
    return pytest.fail("It ended before it was ready.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_without_a_word_on_standard_output(
    start: Start, database: str, number: signal.Signals
):
    process = start(COTEX_DATABASE=database)
    assert httpx.get(f"{url_of(process)}/readyz", trust_env=False).status_code == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert '"stopped"' in err


def test_a_second_signal_does_not_wait_for_the_first(start: Start):
    process = start(COTEX_DRAIN_SECONDS="5m")
    url = url_of(process)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as slow:
        slow.sendall(b"POST /api/webhooks/github/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        httpx.get(f"{url}/livez", trust_env=False)
        process.terminate()
        while process.poll() is None:
            try:
                httpx.get(f"{url}/livez", trust_env=False)
            except httpx.HTTPError:
                break
        process.terminate()
        assert process.wait(WAIT) != 0


def test_its_flags_go_before_the_environment(start: Start, tmp_path: Path):
    process = start(
        "--data-dir", str(tmp_path / "other"), "--port", "0", COTEX_PORT="1", COTEX_DRAIN_SECONDS="1s"
    )
    assert url_of(process).startswith("http://127.0.0.1:")
    assert (tmp_path / "other" / "cotexd.db").exists()
    assert not (tmp_path / "data").exists()


def test_it_logs_json_lines_to_machines(start: Start):
    process = start()
    url_of(process)
    process.terminate()
    _, err = process.communicate(timeout=WAIT)
    for line in err.splitlines():
        assert {"event", "level", "timestamp"} <= json.loads(line).keys()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "70000"], 2, "port must be a number"),
        (["--prot", "1"], 2, "--prot"),
        (["--retention", "soon"], 2, "retention must be a duration"),
        (["--database", "mysql://ada:hunter2@db/x"], 2, "postgresql://"),
        (["--host", "192.0.2.1"], 1, "192.0.2.1"),
        (["--config", "nowhere.toml"], 2, "cannot be read"),
    ],
)
def test_what_it_cannot_start_with_is_refused_in_words(
    start: Start, arguments: list[str], code: int, said: str
):
    process = start(*arguments)
    out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out) == (code, "")
    assert said in err
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_said_with_what_to_do(start: Start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--port", str(taken.getsockname()[1]))
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "COTEX_PORT" in err
    assert "Traceback" not in err


def test_its_help_names_every_option_and_its_variable_but_offers_no_secret_as_a_flag(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for option in config.declared():
        shown_as_flag = option.name == "database" or not option.metadata["secret"]
        assert (f"[{config.variable_of(option)}]" in shown) is shown_as_flag
    assert "--key" not in shown
    assert re.search(r"examples:\n +cotexd\n", shown)


def test_its_version_is_the_package_s(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"cotexd {__version__}\n"
