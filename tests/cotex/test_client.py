import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest
from actors import push
from hypothesis import given
from hypothesis import strategies as st

from cotex import client
from cotex.client import Follower, Message
from cotexd.errors import BadSignature, CotexError, Forbidden, Invalid, Unauthorized, Unreachable

sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NOWHERE = "http://127.0.0.1:1"


def hello(epoch: str, start: int) -> Message:
    body = msgspec.json.encode({"epoch": epoch, "resume": "ok", "from": start})
    return Message("system_event", "hello", msgspec.Raw(body))


def event(seq: int, prev: int) -> Message:
    return Message("github_event", "push", seq=seq, prev=prev)


def test_an_event_is_applied_once_and_moves_the_cursor():
    follower = Follower()
    assert follower.cursor is None
    assert follower.take(hello("e", 4)) == "apply"
    assert follower.take(event(6, 4)) == "apply"
    assert follower.cursor == "e.6"
    assert follower.take(event(6, 4)) == "drop"
    assert follower.take(event(5, 4)) == "drop"
    assert follower.cursor == "e.6"


def test_a_hole_is_not_passed_over():
    follower = Follower()
    follower.take(hello("e", 4))
    assert follower.take(event(7, 6)) == "resume"
    assert follower.cursor == "e.4"


def test_another_epoch_is_followed():
    follower = Follower()
    follower.take(hello("old", 90))
    follower.take(hello("new", 3))
    assert follower.cursor == "new.3"
    assert follower.take(event(4, 3)) == "apply"


@given(st.sets(st.integers(1, 60), max_size=20), st.data())
def test_whatever_a_connection_drops_repeats_or_cuts_each_event_is_applied_once_in_order(
    seqs: set[int], data: st.DataObject
):
    log, follower, applied = sorted(seqs), Follower(), []

    def connect(faults: bool) -> None:
        start = int(follower.cursor.split(".")[1]) if follower.cursor else 0
        follower.take(hello("e", start))
        prev = start
        for seq in (each for each in log if each > start):
            fault = (
                data.draw(st.sampled_from(["none", "none", "drop", "repeat", "cut"])) if faults else "none"
            )
            if fault == "cut":
                return
            for _ in range({"drop": 0, "repeat": 2}.get(fault, 1)):
                verdict = follower.take(event(seq, prev))
                if verdict == "resume":
                    return
                if verdict == "apply":
                    applied.append(seq)
            prev = seq

    for _ in range(data.draw(st.integers(0, 5))):
        connect(faults=True)
    connect(faults=False)
    assert applied == log


@pytest.mark.parametrize("base", ["https://cotex.example", "https://cotex.example/"])
def test_a_server_s_address_or_the_whole_one_of_its_webhook_leads_to_the_webhook(base: str):
    whole = "https://cotex.example/api/webhooks/github/x"
    assert client.webhook_address(base, "/api/webhooks/github/x") == whole
    assert client.webhook_address(whole, "/api/webhooks/github/other") == whole


ADDRESSES = [
    "",
    "localhost",
    "ftp://localhost",
    "http://",
    "http://[::1",
    "http://localhost:port",
    "http://h:99999",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_no_address_is_refused_in_words(address: str):
    with pytest.raises(Invalid, match="not the address of a server"):
        next(client.follow(address, "token"))
    with pytest.raises(Invalid, match="not the address of a server"):
        client.deliver(
            client.webhook_address(address, "/api/webhooks/github/x"),
            b"{}",
            "s",
            event_type="push",
            delivery_id="1",
        )


@pytest.mark.parametrize(
    ("kind", "guid"), [("pü sh", "1"), ("push\n", "1"), ("push", "é"), ("push", "1\r\nx: y")]
)
@sqlite
async def test_what_can_be_no_header_is_refused_in_words_and_not_taken_for_a_silent_server(
    server, kind: str, guid: str
):
    repo = server.track(server.user("ada"))
    assert isinstance(await refusal(server, repo, event_type=kind, delivery_id=guid), Invalid)


@pytest.mark.parametrize("token", ["é", "a b", "a\r\nx: y", ""])
@sqlite
async def test_what_can_be_no_token_is_refused_in_words_and_not_taken_for_a_silent_server(server, token: str):
    with pytest.raises((Invalid, Unauthorized)):
        await asyncio.to_thread(lambda: next(client.follow(server.url, token)))


def test_where_no_server_answers_the_error_says_where_and_what_to_do():
    for call in (
        lambda: next(client.follow(NOWHERE, "token")),
        lambda: client.deliver(f"{NOWHERE}/x", b"{}", "s", event_type="push", delivery_id="1"),
    ):
        with pytest.raises(Unreachable, match=NOWHERE) as caught:
            call()
        assert "cotex serve" in caught.value.hint


async def refusal(server, repo: Any, payload: bytes = b"{}", **more: Any) -> CotexError:
    given = {"secret": repo.webhook_secret, "event_type": "push", "delivery_id": "1", **more}
    secret = given.pop("secret")
    with pytest.raises(CotexError) as caught:
        await asyncio.to_thread(client.deliver, server.url + repo.webhook_url, payload, secret, **given)
    return caught.value


@sqlite
async def test_a_refusal_comes_back_as_the_error_that_the_server_had(server):
    repo = server.track(server.user("ada"))
    assert isinstance(await refusal(server, repo, secret="another"), BadSignature)
    assert isinstance(await refusal(server, repo, b"[]"), Invalid)
    assert isinstance(await refusal(server, repo, event_type="no event"), Invalid)


def test_what_answers_but_is_no_such_server_is_refused_in_words():
    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{stranger.server_port}"
        with pytest.raises(CotexError):
            client.deliver(f"{address}/x", b"{}", "s", event_type="push", delivery_id="1")
        stranger.shutdown()


@sqlite
async def test_a_token_that_is_none_is_unauthorized_and_a_disabled_user_is_forbidden(server, cotex):
    ada = server.user("ada")
    token = server.token(ada)
    with pytest.raises(Unauthorized):
        await asyncio.to_thread(lambda: next(client.follow(server.url, "nonsense")))
    await cotex.beside("user", "disable", "ada")
    with pytest.raises(Forbidden) as caught:
        await asyncio.to_thread(lambda: next(client.follow(server.url, token)))
    assert "cotex user enable ada" in caught.value.hint


@sqlite
async def test_a_follower_begins_with_hello_and_sees_what_comes(server):
    ada = server.user("ada")
    repo = server.track(ada)
    messages = client.follow(server.url, server.token(ada))

    async def following() -> tuple[Message, str]:
        # That the repository was added may be told late.
        return await asyncio.to_thread(lambda: next(each for each in messages if each[0].event != "notice"))

    assert [(await following())[0].event for _ in range(2)] == ["hello", "live"]
    await server.github.deliver(repo, push(1))
    message, text = await following()
    assert (message.type, message.event, message.seq) == ("github_event", "push", 1)
    assert msgspec.json.decode(text)["payload"]["headline"]
    await asyncio.to_thread(messages.close)
