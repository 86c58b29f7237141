import signal
import socket
import time

import httpx
import pytest

from cotexd.operations.repositories import Tracked


def test_it_makes_what_is_missing_prints_the_url_and_says_what_to_type_next(cotex):
    server = cotex.serve()
    assert httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200
    assert {path.name for path in cotex.data.iterdir()} >= {"cotexd.db", "cotexd.key"}
    done = server.end()
    assert done.code == 0
    assert done.out == ""
    for next_one in (
        "cotex user add ada",
        "cotex repo add octo/hello --user ada",
        "cotex tail",
        "cotex event send",
    ):
        assert next_one in done.err


def test_it_does_not_tell_what_was_done_already(cotex, octo: Tracked):
    assert "cotex user add" not in cotex.serve().end().err


def test_it_is_private_unless_told(cotex):
    private, told = cotex.serve(), cotex.serve("--host", "0.0.0.0")  # noqa: S104  # to be warned of it
    assert private.url.startswith("http://127.0.0.1:")
    assert "open to the network" not in private.end().err
    assert "open to the network" in told.end().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(cotex, database: str, number: signal.Signals):
    done = cotex.serve().end(number)
    assert done.code == 0
    assert "Traceback" not in done.err
    assert cotex("status", "--json").json["servers"] == []


def test_a_signal_ends_it_with_0_while_a_client_follows(cotex, octo: Tracked):
    server = cotex.serve()
    tail = cotex.start("tail")
    tail.err.until("Following")
    assert server.end().code == 0
    assert tail.process.poll() is None


def test_a_signal_ends_it_with_0_while_somebody_holds_an_idle_connection(cotex):
    server = cotex.serve()
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{server.url}/livez").status_code == 200
        assert server.end().code == 0


def test_a_port_that_is_taken_is_said_with_what_to_do(cotex):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cotex.process("serve", "--port", str(taken.getsockname()[1]))
    assert (done.code, done.out) == (1, "")
    assert "--port" in done.err
    assert "Traceback" not in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("cotex: ")]) == 1


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--port", "70000"], 2),
        (["--host", "not a host"], 2),
        (["--host", "192.0.2.1"], 1),
        (["--database", "x"], 2),
    ],
)
def test_what_it_cannot_run_with_is_refused_in_words(cotex, flags: list[str], code: int):
    done = cotex.process("serve", *flags, COTEX_PORT="0" if "--port" not in flags else "1")
    assert done.code == code
    assert "cotex: " in done.err
    assert "Traceback" not in done.err


def test_its_flags_go_before_the_environment(cotex, tmp_path):
    server = cotex.serve("--data-dir", str(tmp_path / "other"), "--port", "0", COTEX_PORT="1")
    assert (tmp_path / "other" / "cotexd.db").exists()
    assert not cotex.data.exists()
    assert server.end().code == 0


def test_its_log_holds_no_secret(cotex, octo: Tracked):
    server = cotex.serve(COTEX_LOG_LEVEL="debug")
    token = cotex("user", "token", "ada").out.strip()
    headers = {"authorization": f"Bearer {token}", "x-hub-signature-256": "sha256=00"}
    assert httpx.get(f"{server.url}/api/repos", headers=headers, trust_env=False).status_code == 200
    assert httpx.get(f"{server.url}/nowhere", headers=headers, trust_env=False).status_code == 404
    assert cotex("event", "send", "--repo", "octo/hello").code == 0
    done = server.end()
    assert '"/nowhere"' in done.err
    key = (cotex.data / "cotexd.key").read_text().strip()
    assert not [secret for secret in (token, octo.webhook_secret, key) if secret in done.out + done.err]


def test_two_servers_of_one_database_are_both_seen(cotex, octo: Tracked):
    urls = {cotex.serve().url, cotex.serve().url}
    assert {each["url"] for each in cotex("status", "--json").json["servers"]} == urls


def test_what_a_command_changes_is_in_force_in_the_running_server(cotex, database: str):
    server = cotex.serve()
    cotex("user", "add", "ada")
    token = cotex("user", "token", "ada").out.strip()
    with httpx.Client(
        base_url=server.url, headers={"authorization": f"Bearer {token}"}, trust_env=False
    ) as client:
        assert client.get("/api/repos").json() == []
        cotex("repo", "add", "octo/hello")
        until(lambda: [each["repo_name"] for each in client.get("/api/repos").json()] == ["octo/hello"])
        cotex("user", "disable", "ada")
        until(lambda: client.get("/api/repos").status_code == 403)
        cotex("user", "enable", "ada")
        until(lambda: client.get("/api/repos").status_code == 200)


def until(condition) -> None:
    """Wait until what a command changed is in force."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("It did not come into force.")
