import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest
from actors import push
from conftest import eventually, inside
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect as open_socket
from websockets.asyncio.server import ServerConnection, serve

from cotex import client
from cotex.client import Follower, Message
from cotexd.errors import BadSignature, CotexError, Forbidden, Invalid, Unauthorized, Unreachable

sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NOWHERE = "http://127.0.0.1:1"


async def first(server: str, token: str) -> Message:
    async with aclosing(client.follow(server, token)) as messages:
        return await anext(messages)


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
        asyncio.run(first(address, "token"))
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
        await first(server.url, token)


def test_where_no_server_answers_the_error_says_where_and_what_to_do():
    for call in (
        lambda: asyncio.run(first(NOWHERE, "token")),
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
        await first(server.url, "nonsense")
    await cotex.beside("user", "disable", "ada")
    with pytest.raises(Forbidden) as caught:
        await first(server.url, token)
    assert "cotex user enable ada" in caught.value.hint


@sqlite
async def test_a_follower_begins_with_hello_and_sees_what_comes(server):
    ada = server.user("ada")
    repo = server.track(ada)
    async with aclosing(client.follow(server.url, server.token(ada))) as messages:
        # That the repository was added may be told late.
        told = (each async for each in messages if each.event != "notice")
        assert [(await anext(told)).event for _ in range(2)] == ["hello", "live"]
        await server.github.deliver(repo, push(1))
        message = await anext(told)
        assert (message.type, message.event, message.seq) == ("github_event", "push", 1)
        assert msgspec.json.decode(message.text)["payload"]["headline"]
        assert message.cursor.endswith(".1")


@sqlite
async def test_connect_gives_each_event_by_its_names_on_the_wire_and_goes_on_after_a_cursor(server):
    ada = server.user("ada")
    repo = server.track(ada)
    token = server.token(ada)
    epoch = (await server.get("/api/events", ada)).json()["cursor"].split(".")[0]
    for _ in range(3):
        await server.github.deliver(repo, push(1))
    async with aclosing(client.connect(server.url, token, cursor=f"{epoch}.0")) as events:
        one, two = await anext(events), await anext(events)
    assert (one.seq, one["seq"], one.repo_name, one.event) == (1, 1, "octo/hello", "push")
    assert one.payload.headline == "1 commit pushed to main"
    with pytest.raises(KeyError):
        one["nothing"]
    assert two.cursor == f"{epoch}.2"
    async with aclosing(client.connect(server.url, token, cursor=two.cursor)) as events:
        assert (await anext(events)).seq == 3


@sqlite
async def test_a_device_s_event_counts_as_handled_when_the_next_is_asked_for(server):
    ada = server.user("ada")
    repo = server.track(ada)
    connected = partial(client.connect, server.url, server.token(ada), device="script")
    async with aclosing(connected()) as events:
        first_one = asyncio.ensure_future(anext(events))
        await eventually(lambda: bool(inside().hub))
        await until_device(server, ada, "script")
        for _ in range(2):
            await server.github.deliver(repo, push(1))
        assert (await first_one).seq == 1
        assert (await anext(events)).seq == 2
        await eventually_at(server, ada, 1)
    async with aclosing(connected()) as events:
        assert (await anext(events)).seq == 2


async def devices(server, user) -> list[dict[str, Any]]:
    return (await server.get("/api/me/devices", user)).json()


async def until_device(server, user, name: str) -> None:
    async def is_there() -> bool:
        return any(each["device"] == name and each["connected_since"] for each in await devices(server, user))

    await eventually(is_there)


async def eventually_at(server, user, seq: int) -> None:
    async def is_at() -> bool:
        return any(each["cursor"].endswith(f".{seq}") for each in await devices(server, user))

    await eventually(is_at)


@sqlite
async def test_a_hole_is_repaired_on_the_same_connection(server):
    """The server leaves none: here a proxy between drops a message."""
    ada = server.user("ada")
    repo = server.track(ada)
    async with dropping(server.url, drop=2) as (url, connections):
        async with aclosing(client.connect(url, server.token(ada))) as events:
            first_one = asyncio.ensure_future(anext(events))
            await eventually(lambda: len(inside().hub) == 1)
            await eventually(lambda: all(each.session.live for each in inside().hub._all()))
            for _ in range(4):
                await server.github.deliver(repo, push(1))
            seqs = [(await first_one).seq] + [(await anext(events)).seq for _ in range(3)]
        assert seqs == [1, 2, 3, 4]
        assert len(connections) == 1


@sqlite
async def test_only_the_chosen_events_come(server):
    ada = server.user("ada")
    repo, other = server.track(ada), server.track(ada, "octo/other")
    epoch = (await server.get("/api/events", ada)).json()["cursor"].split(".")[0]
    for tracked, kind in ((repo, "push"), (other, "push"), (repo, "issues")):
        await server.github.deliver(tracked, push(1), event=kind)
    chosen = client.connect(
        server.url,
        server.token(ada),
        cursor=f"{epoch}.0",
        repos=["octo/other", "octo/hello"],
        events=["issues"],
    )
    async with aclosing(chosen) as events:
        assert (await anext(events)).seq == 3


@asynccontextmanager
async def dropping(url: str, drop: int) -> AsyncIterator[tuple[str, list[object]]]:
    """A proxy that once lets the event with the seq `drop` fall."""
    connections: list[object] = []
    dropped: list[str] = []

    async def handle(near: ServerConnection) -> None:
        connections.append(near)
        bearer = {"authorization": near.request.headers["authorization"]}
        async with open_socket(
            url.replace("http", "ws", 1) + near.request.path, additional_headers=bearer, proxy=None
        ) as far:

            async def back() -> None:
                async for said in near:
                    await far.send(said)

            returning = asyncio.ensure_future(back())
            try:
                async for text in far:
                    if json.loads(text).get("seq") == drop and not dropped:
                        dropped.append(text)
                    else:
                        await near.send(text)
            finally:
                returning.cancel()

    async with serve(handle, "127.0.0.1", 0) as proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", connections
