"""`cotexd`: the server and nothing else. What it serves is tested elsewhere; here is how it starts and ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from actors import WAIT, Bare, Client, EventSource, legacy
from conftest import eventually
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cotexd import __version__, config
from cotexd.__main__ import main
from cotexd.live.session import RESTARTING
from cotexd.operations import accounts, tokens
from cotexd.store import Store

Start = Callable[..., "subprocess.Popen[str]"]
KILLED_AFTER = 10.0
"""seconds that Docker leaves a container to end by itself"""


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


def line_of(process: "subprocess.Popen[str]", event: str) -> dict[str, Any]:
    """The next line of its log that tells of this."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{") and (told := json.loads(line))["event"] == event:
            return dict(told)
    return pytest.fail(f"It ended before this: {event}.")


def url_of(process: "subprocess.Popen[str]") -> str:
    """Where it listens, from the line in which it says that it is ready."""
    return str(line_of(process, "ready")["url"])


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


def allows(url: str, origin: str) -> bool:
    answer = httpx.get(f"{url}/livez", headers={"origin": origin}, trust_env=False)
    assert answer.status_code == 200
    return "access-control-allow-origin" in answer.headers


def test_sighup_reads_its_settings_again_and_refuses_bad_ones_whole(start: Start, tmp_path: Path):
    file = tmp_path / "cotex.toml"
    file.write_text('allowed_origins = ["https://one.example.com"]')
    process = start("--config", str(file), COTEX_RETENTION="7d")
    url = url_of(process)
    assert allows(url, "https://one.example.com")
    file.write_text('allowed_origins = ["https://two.example.com"]\npublic_url = "https://x.example.com"')
    process.send_signal(signal.SIGHUP)
    told = line_of(process, "reloaded")
    assert (told["changed"], told["needs_restart"]) == (["allowed_origins"], ["public_url"])
    assert allows(url, "https://two.example.com")
    assert not allows(url, "https://one.example.com")
    good = 'allowed_origins = ["https://three.example.com"]\n'
    for bad, said in (
        (good + 'rate_limit = "many"', "rate_limit"),
        (good + "rate_limt = 5", "rate_limt"),
        (good + "[", "not TOML"),
        (None, "cannot be read"),
    ):
        if bad is None:
            file.unlink()
        else:
            file.write_text(bad)
        process.send_signal(signal.SIGHUP)
        refused = line_of(process, "reload_refused")
        assert refused["level"] == "warning"
        assert said in refused["reason"]
        assert allows(url, "https://two.example.com")
        assert not allows(url, "https://three.example.com")
    file.write_text(good)
    process.send_signal(signal.SIGHUP)
    assert line_of(process, "reloaded")["changed"] == ["allowed_origins"]
    assert allows(url, "https://three.example.com")
    process.terminate()
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_sighup_while_it_starts_ends_nothing(start: Start):
    process = start()
    line_of(process, "store_open")
    for _ in range(5):
        process.send_signal(signal.SIGHUP)
    assert httpx.get(f"{url_of(process)}/livez", trust_env=False).status_code == 200
    process.terminate()
    process.communicate(timeout=WAIT)
    assert process.returncode == 0


def test_what_a_flag_and_the_environment_say_stays_said_at_a_reload(start: Start, tmp_path: Path):
    file = tmp_path / "cotex.toml"
    file.write_text("")
    process = start(
        "--config", str(file), "--max-connections", "7", COTEX_ALLOWED_ORIGINS="https://one.example.com"
    )
    url = url_of(process)
    file.write_text('max_connections = 9\nallowed_origins = ["https://two.example.com"]\nrate_limit = 42')
    process.send_signal(signal.SIGHUP)
    assert line_of(process, "reloaded")["changed"] == ["rate_limit"]
    assert allows(url, "https://one.example.com")


@pytest.fixture
def token(tmp_path: Path) -> str:
    """Of ada, in the data folder that the process will have."""
    store = Store("", tmp_path / "data", "")
    try:
        store.run(accounts.create, "ada")
        return store.run(tokens.issue, "ada").token
    finally:
        store.close()


async def test_sigterm_with_clients_of_every_kind_ends_with_0_before_anybody_kills_it(
    start: Start, token: str
):
    process = start()
    url = await asyncio.to_thread(url_of, process)
    client, stream = Client(url, token), EventSource(url, token)
    silent = Bare(url, token, "?v=2")
    async with (
        httpx.AsyncClient(timeout=WAIT, trust_env=False) as http,
        client.connected() as socket_,
        legacy(url, token) as older,
        stream.connected(),
        silent.connected(),
    ):
        await client.until_live(socket_)
        await stream.until_live()
        asking = {"after": client.cursor or "", "wait": "50"}
        bearer = {"authorization": f"Bearer {token}"}
        waiting = asyncio.ensure_future(http.get(f"{url}/api/events", params=asking, headers=bearer))

        async def all_there() -> bool:
            shown = (await http.get(f"{url}/metrics")).text
            return 'cotexd_sockets{protocol="poll"} 1.0' in shown

        await eventually(all_there)
        process.terminate()
        _, err = await asyncio.to_thread(process.communicate, timeout=KILLED_AFTER)
        assert (process.returncode, "Traceback" in err) == (0, False)
        assert (await waiting).json()["messages"] == []
        await stream.ended()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.take(socket_)
        await older.wait_closed()
        assert socket_.close_code == older.close_code == RESTARTING


async def test_while_clients_are_given_time_to_go_nobody_new_comes_in_and_who_is_there_is_served(
    start: Start, token: str
):
    process = start(COTEX_DRAIN_SECONDS="300")
    url = await asyncio.to_thread(url_of, process)
    client = Client(url, token)
    async with client.connected() as socket_, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        process.terminate()
        told = await client.until(socket_, lambda message: message.get("event") == "drain")
        assert 150_000 <= told["payload"]["after_ms"] <= 240_000
        assert (await http.get("/readyz")).status_code == 503
        with pytest.raises(InvalidStatus) as caught:
            async with Client(url, token).connected():
                pass
        assert caught.value.response.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) > 0
        assert (await http.get("/livez")).status_code == 200
        assert process.poll() is None
    # The last one has gone by itself: there is nobody to wait for.
    await asyncio.to_thread(process.communicate, timeout=WAIT)
    assert process.returncode == 0


async def test_a_second_sigterm_ends_it_though_it_is_still_waiting(start: Start, token: str):
    process = start(COTEX_DRAIN_SECONDS="300")
    url = await asyncio.to_thread(url_of, process)
    port = int(url.rpartition(":")[2])
    client = Client(url, token)
    async with client.connected() as socket_:
        _, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(b"POST /api/webhooks/github/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        process.terminate()
        await client.until(socket_, lambda message: message.get("event") == "drain")
        assert process.poll() is None
        process.terminate()
        await asyncio.to_thread(process.communicate, timeout=WAIT)
        assert process.returncode == -signal.SIGTERM
        slow.close()


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
