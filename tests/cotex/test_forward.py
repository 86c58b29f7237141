import json
import signal
import socket
from pathlib import Path

import pytest
from receiver import Receiver

from cotexd.domain.github import SIGNATURE_1, SIGNATURE_256, sign
from cotexd.operations.repositories import Tracked

TO = ("forward", "--json", "--to")


def send(cotex, *more: str) -> int:
    done = cotex("event", "send", "--repo", "octo/hello", "--json", *more)
    assert done.code == 0, done.err
    return done.json["seq"]


@pytest.fixture
def address(cotex) -> dict[str, str]:
    """A port that stays the same when a server is started again, for a server's environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"COTEX_PORT": str(probe.getsockname()[1])}


def test_a_delivery_arrives_byte_for_byte_with_github_s_headers_and_a_valid_signature(
    cotex, octo: Tracked, tmp_path: Path
):
    cotex.serve()
    payload = b'{ "ref": "refs/heads/main",  "commits": [], "note": "\\u00e9" }'
    (tmp_path / "push.json").write_bytes(payload)
    with Receiver() as receiver:
        forward = cotex.start(*TO, receiver.url, "--count", "1")
        forward.err.until("Forwarding")
        send(cotex, str(tmp_path / "push.json"))
        done = forward.done()
    assert done.code == 0
    (got,) = receiver.got
    assert (got.path, got.body) == ("/hook", payload)
    assert got.headers[SIGNATURE_256] == sign(payload, octo.webhook_secret).decode()
    assert got.headers[SIGNATURE_1] == sign(payload, octo.webhook_secret, "sha1").decode()
    assert (got.headers["x-github-event"], got.headers["content-type"]) == ("push", "application/json")
    told = json.loads(done.out)
    assert got.headers["x-github-delivery"] == told["delivery_id"]
    assert (told["status"], told["attempts"], told["repo_name"]) == (204, 1, "octo/hello")


def test_what_is_not_taken_is_tried_again_and_those_after_it_wait(cotex, octo: Tracked):
    cotex.serve()
    with Receiver(503, 429, 500) as receiver:
        forward = cotex.start(*TO, receiver.url, "--count", "2")
        forward.err.until("Forwarding")
        seqs = [send(cotex), send(cotex)]
        done = forward.done()
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(each["seq"], each["attempts"]) for each in told] == [(seqs[0], 4), (seqs[1], 1)]
    assert [each.headers["x-github-delivery"] for each in receiver.got] == [
        each["delivery_id"] for each in told
    ]
    assert done.err.count("is tried again") == 1


def test_an_answer_that_refuses_for_good_is_shown_and_passed_over(cotex, octo: Tracked):
    cotex.serve()
    with Receiver(422) as receiver:
        forward = cotex.start("forward", "--to", receiver.url, "--count", "2")
        forward.err.until("Forwarding")
        send(cotex), send(cotex)
        out = forward.done().out.splitlines()
    assert ["→ 422" in out[0], "→ 204" in out[1]] == [True, True]


def test_started_again_it_forwards_what_came_meanwhile_and_nothing_twice(
    cotex, octo: Tracked, address: dict[str, str]
):
    server = cotex.serve(**address)
    with Receiver() as receiver:
        forward = cotex.start(*TO, receiver.url)
        forward.err.until("Forwarding")
        first = send(cotex)
        assert json.loads(forward.out.until("seq"))["seq"] == first
        assert forward.end(signal.SIGINT).code == 130
        missed = [send(cotex), send(cotex)]
        server.end(signal.SIGKILL)
        cotex.serve(**address)
        done = cotex(*TO, receiver.url, "--count", "2")
    assert [json.loads(line)["seq"] for line in done.out.splitlines()] == missed
    assert len(receiver.got) == 3


def test_for_a_member_it_signs_with_the_secret_in_a_file_and_refuses_without_one(
    cotex, octo: Tracked, tmp_path: Path
):
    cotex("user", "add", "bob")
    cotex("repo", "share", "octo/hello", "--with", "bob")
    cotex.serve()
    file = tmp_path / "secret"
    file.write_text("ours\n")
    with Receiver() as receiver:
        signed = cotex.start(*TO, receiver.url, "--user", "bob", "--secret-file", str(file), "--count", "1")
        unsigned = cotex.start(*TO, receiver.url + "2", "--user", "bob")
        signed.err.until("Forwarding"), unsigned.err.until("Forwarding")
        send(cotex)
        assert signed.done().code == 0
        refused = unsigned.done()
    assert (refused.code, "--secret-file" in refused.err) == (5, True)
    (got,) = receiver.got
    assert got.headers[SIGNATURE_256] == sign(got.body, "ours").decode()


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_a_file_that_holds_no_secret_is_refused(cotex, octo: Tracked, tmp_path: Path, content: bytes | None):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    done = cotex(*TO, "http://127.0.0.1:1", "--secret-file", str(file))
    assert (done.code, str(file) in done.err) == (2, True)


def test_an_address_that_takes_no_webhooks_is_refused_at_once(cotex, octo: Tracked):
    done = cotex(*TO, "ws://127.0.0.1:1/hook")
    assert (done.code, "takes no webhooks" in done.err) == (2, True)


def test_one_token_is_made_however_much_is_forwarded(cotex, octo: Tracked):
    server = cotex.serve()
    with Receiver() as receiver:
        websocket = server.url.replace("http", "ws", 1)
        forward = cotex.start(*TO, receiver.url, "--server", websocket, "--count", "3")
        forward.err.until("Forwarding")
        for _ in range(3):
            send(cotex)
        assert forward.done().code == 0
    made = [each["label"] for each in cotex("user", "tokens", "ada", "--json").json]
    assert made.count("cotex forward") == 1
