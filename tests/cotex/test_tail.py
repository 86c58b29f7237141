import json
import signal
import socket
from collections.abc import Iterator

import pytest

from cotexd.operations.repositories import Tracked

SEND = ("event", "send", "--repo", "octo/hello")


def send(cotex, *more: str) -> int:
    """Send an event, and say its seq."""
    done = cotex(*SEND, *more, "--json")
    assert done.code == 0, done.err
    return done.json["seq"]


def messages(out: str) -> Iterator[dict]:
    """One JSON message a line."""
    return (json.loads(line) for line in out.splitlines())


@pytest.fixture
def address(cotex) -> dict[str, str]:
    """A port that stays the same when a server is started again, for a server's environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"COTEX_PORT": str(probe.getsockname()[1])}


def test_json_is_one_message_a_line_and_each_is_said_at_once(cotex, database: str):
    cotex("user", "add", "ada")
    cotex("repo", "add", "octo/hello")
    cotex.serve()
    tail = cotex.start("tail", "--json")
    tail.out.until('"live"')
    for number in (1, 2):
        assert send(cotex) == number
        assert json.loads(tail.out.until("github_event"))["seq"] == number
    done = tail.end(signal.SIGINT)
    assert [message.get("event") for message in messages(done.out)] == ["hello", "live", "push", "push"]


def test_a_person_reads_a_sentence_an_event(cotex, octo: Tracked):
    cotex.serve()
    tail = cotex.start("tail", "--count", "1")
    tail.err.until("Following")
    send(cotex)
    done = tail.done()
    assert done.code == 0
    headline = cotex("event", "list", "--json").json[0]["headline"]
    assert len(done.out.splitlines()) == 1
    assert f"octo/hello  {headline}" in done.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_event_is_lost_or_repeated_when_the_server_starts_again(
    cotex, database: str, address: dict[str, str], number: signal.Signals
):
    cotex("user", "add", "ada")
    cotex("repo", "add", "octo/hello")
    server = cotex.serve(**address)
    tail = cotex.start("tail", "--json", "--count", "9")
    tail.out.until('"live"')
    for round_ in range(3):
        for _ in range(3):
            send(cotex)
        if round_ < 2:
            server.end(number)
            server = cotex.serve(**address)
    done = tail.done()
    assert done.code == 0
    events = [message for message in messages(done.out) if message["type"] == "github_event"]
    assert [event["seq"] for event in events] == list(range(1, 10))
    assert not [message for message in messages(done.out) if message.get("event") == "gap"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_waits_out_a_server_that_stays_away_and_can_be_interrupted_meanwhile(
    cotex, octo: Tracked, number: signal.Signals
):
    server = cotex.serve()
    tail = cotex.start("tail")
    tail.err.until("Following")
    server.end(signal.SIGKILL)
    assert tail.end(number).code == 130


def test_only_the_wanted_events_are_shown_and_counted(cotex, octo: Tracked):
    cotex("repo", "add", "octo/docs")
    cotex.serve()
    tail = cotex.start("tail", "--repo", "OCTO/hello", "--event", "issues", "--count", "2", "--json")
    tail.out.until('"live"')
    sent = [
        send(cotex, "--event", "issues"),
        send(cotex),
        cotex("event", "send", "--repo", "octo/docs", "--event", "issues", "--json").json["seq"],
        send(cotex, "--event", "issues"),
    ]
    seen = [message["seq"] for message in messages(tail.done().out) if message["type"] == "github_event"]
    assert seen == [sent[0], sent[3]]


def test_it_sees_what_its_user_may_see_and_no_more(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex("repo", "add", "octo/other", "--user", "grace")
    cotex.serve()
    tail = cotex.start("tail", "--user", "grace", "--count", "1", "--json")
    tail.out.until('"live"')
    send(cotex)
    cotex("event", "send", "--repo", "octo/other")
    seen = [
        message["repo_name"] for message in messages(tail.done().out) if message["type"] == "github_event"
    ]
    assert seen == ["octo/other"]


def test_of_several_users_one_must_be_named(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex.serve()
    done = cotex("tail")
    assert done.code == 4
    assert "--user: ada, grace" in done.err


def test_with_a_server_and_a_token_it_needs_nothing_of_this_machine_but_a_place_for_its_cursor(
    cotex, octo: Tracked, tmp_path
):
    server = cotex.serve()
    environment = {
        "COTEX_SERVER": server.url,
        "COTEX_TOKEN": cotex("user", "token", "ada").out.strip(),
        "COTEX_DATA_DIR": str(tmp_path / "nowhere"),
        "COTEX_DATABASE": "",
    }
    tail = cotex.start("tail", "--count", "1", **environment)
    tail.err.until(f"Following {server.url}")
    send(cotex)
    assert tail.done().code == 0
    assert [each.name for each in (tmp_path / "nowhere").iterdir()] == ["cursors"]


def test_started_again_it_goes_on_where_it_ended_and_with_new_it_does_not(cotex, octo: Tracked):
    cotex.serve()
    first = cotex.start("tail", "--count", "1", "--json")
    first.out.until('"live"')
    seqs = [send(cotex) for _ in range(3)]
    first.done()
    missed = cotex("tail", "--count", "2", "--json")
    assert [m["seq"] for m in messages(missed.out) if m["type"] == "github_event"] == seqs[1:]
    send(cotex)
    newly = cotex.start("tail", "--new", "--count", "1", "--json")
    newly.out.until('"live"')
    last = send(cotex)
    assert [m["seq"] for m in messages(newly.done().out) if m["type"] == "github_event"] == [last]


def test_a_second_one_beside_it_says_that_it_keeps_no_cursor(cotex, octo: Tracked):
    cotex.serve()
    first, second = cotex.start("tail"), None
    first.err.until("Following")
    second = cotex.start("tail", "--count", "1")
    second.err.until("keeps the cursor")
    second.err.until("Following")
    send(cotex)
    assert second.done().code == 0
    assert first.end(signal.SIGINT).code == 130


def test_it_says_once_that_it_was_cut_off_and_once_that_it_caught_up(
    cotex, octo: Tracked, address: dict[str, str]
):
    server = cotex.serve(**address)
    tail = cotex.start("tail", "--count", "2")
    tail.err.until("Following")
    send(cotex)
    server.end(signal.SIGKILL)
    tail.err.until("Disconnected")
    cotex.serve(**address)
    tail.err.until("caught up")
    send(cotex)
    err = tail.done().err
    assert (err.count("Disconnected"), err.count("caught up"), err.count("Following")) == (1, 1, 1)


def test_a_token_that_is_not_good_is_refused_with_5(cotex, octo: Tracked):
    cotex.serve()
    done = cotex("tail", "--token", "nonsense")
    assert (done.code, done.out) == (5, "")
    assert "nonsense" not in done.err


def test_who_is_disabled_meanwhile_is_told_so_and_it_ends_with_5(cotex, octo: Tracked):
    cotex.serve()
    tail = cotex.start("tail")
    tail.err.until("Following")
    cotex("user", "disable", "ada")
    done = tail.done()
    assert done.code == 5
    assert "Traceback" not in done.err


def test_what_github_sends_cannot_command_the_terminal(cotex, octo: Tracked, tmp_path):
    file = tmp_path / "issues.json"
    title = "\x1b]0;owned\x07 \r\n\x9b2J fake line"
    file.write_text(
        json.dumps({"action": "opened", "issue": {"title": title}, "sender": {"login": "\x1b[2J"}})
    )
    cotex.serve()
    tail = cotex.start("tail", "--count", "1")
    tail.err.until("Following")
    assert cotex("event", "send", str(file), "--repo", "octo/hello").code == 0
    done = tail.done()
    assert "owned" in done.out
    assert not set("\x1b\x07\x9b\r") & set(done.out)
    assert len(done.out.splitlines()) == 1


def test_its_own_token_is_shown_nowhere(cotex, octo: Tracked):
    cotex.serve()
    tail = cotex.start("tail", "--json", "--count", "1")
    tail.out.until('"live"')
    send(cotex)
    done = tail.done()
    assert "eyJ" not in done.out + done.err
