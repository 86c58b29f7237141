import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from actors import Bare, Client, join, legacy, logged, push, receive
from conftest import Serve, Server, eventually, holding, inside
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.domain import tokens as forms
from cotexd.live import session as lives
from cotexd.live.session import BAD_MESSAGE, FORBIDDEN, VERSION
from cotexd.operations import accounts, events, repositories, tokens, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Device, Event
from cotexd.web.limits import UPGRADES

# What does not depend on the database is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}
CLIENTS = ("v2", "legacy")


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def eve(server: Server) -> Account:
    return server.user("eve")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


async def upgrade(server: Server, token: str = "", query: str = "?v=2", **headers: str) -> httpx.Response:
    """Ask for a WebSocket and be refused."""
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    sent = {**HANDSHAKE, **bearer, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = await server.get(f"/ws{query}", headers=sent)
    assert len(inside().hub) == 0
    return answer


async def code_of(socket: ClientConnection) -> int:
    """The code with which the server closes; what comes before is passed over."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await receive(socket)
    assert socket.close_code is not None
    return socket.close_code


async def seq_of(source: ClientConnection | Bare) -> int:
    """The seq of the next event; notices may come at any time, and are passed over."""
    while True:
        message = json.loads(await source.receive()) if isinstance(source, Bare) else await receive(source)
        if message["type"] == "github_event":
            return message["seq"]


def kept(server: Server, kind: str) -> dict[str, int]:
    """The cursors that the server keeps, by name."""
    rows = server.store.look(lambda _: list(Device.select().where(Device.kind == kind)))
    return {row.name: row.cursor for row in rows}


def epoch(server: Server) -> str:
    return server.store.look(events.log).epoch


# Before the upgrade.


def expired(server: Server, ada: Account) -> str:
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    return forms.issue(server.store.run(tokens.signing_key), ada.id, long_ago, timedelta(hours=1), "some-id")


def revoked(server: Server, ada: Account) -> str:
    token = server.token(ada)
    server.store.run(tokens.revoke, "ada")
    return token


BAD_TOKENS: dict[str, Callable[[Server, Account], dict[str, str]]] = {
    "none": lambda server, ada: {},
    "garbage": lambda server, ada: {"token": "garbage"},
    "expired": lambda server, ada: {"token": expired(server, ada)},
    "revoked": lambda server, ada: {"token": revoked(server, ada)},
    "in the query": lambda server, ada: {"query": f"?v=2&token={server.token(ada)}"},
    "bad, as a subprotocol": lambda server, ada: {"sec_websocket_protocol": "cotex.v2, cotex.bearer.a.b.c"},
    "no token among the subprotocols": lambda server, ada: {"sec_websocket_protocol": "cotex.v2"},
}


@on_sqlite
@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_without_a_good_token_there_is_no_upgrade(server: Server, ada: Account, kind: str):
    answer = await upgrade(server, **BAD_TOKENS[kind](server, ada))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@on_sqlite
async def test_a_disabled_user_and_a_token_for_other_things_are_forbidden(server: Server, ada: Account):
    other = server.store.run(tokens.issue, "ada", scopes=frozenset({scope.REPOS_READ})).token
    answer = await upgrade(server, other)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    token = server.token(ada)
    server.store.run(accounts.disable, "ada")
    answer = await upgrade(server, token)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@on_sqlite
async def test_a_page_connects_only_from_an_origin_on_the_list(servers: Serve, settings: Settings):
    allowed = ("https://app.example.com", "cotex://app")
    server = await servers(replace(settings, allowed_origins=allowed))
    token = server.token(server.user("ada"))
    for origin in ("https://evil.example.com", "http://app.example.com", "null", "", "cotex://other"):
        answer = await upgrade(server, token, origin=origin)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), origin
    for origin in (*allowed, server.url, None):
        more = {} if origin is None else {"origin": origin}
        async with legacy(server.url, token, **more) as socket:
            await socket.ping()


@on_sqlite
async def test_a_page_signs_in_by_a_subprotocol_which_is_not_said_back(servers: Serve, settings: Settings):
    server = await servers(replace(settings, allowed_origins=("https://app.example.com",)))
    ada = server.user("ada")
    repo, address = server.track(ada), server.url.replace("http", "ws") + "/ws"
    bearer = f"cotex.bearer.{server.token(ada)}"
    for offered, query in (
        (["cotex.v2", bearer], "?v=2"),
        ([bearer, "cotex.v2"], "?v=2"),
        # The query alone decides which client this is.
        (["cotex.v2", bearer], ""),
    ):
        async with connect(
            address + query, subprotocols=offered, origin="https://app.example.com", proxy=None
        ) as socket:
            assert socket.response is not None
            assert socket.subprotocol == "cotex.v2"
            assert bearer not in str(socket.response.headers)
            first = await receive(socket) if query else {}
            assert first.get("event") == ("hello" if query else None)
            await server.github.deliver(repo)
            assert await seq_of(socket) > 0


@on_sqlite
@pytest.mark.parametrize(
    ("query", "code"),
    [
        (f"?v=2&repos={','.join(['x'] * 101)}", "invalid"),
        (f"?v=2&events={'x' * 201}", "invalid"),
        ("?v=2&cursor=1", "invalid_cursor"),
        ("?v=2&cursor=e0.-1", "invalid_cursor"),
        ("?v=2&cursor=e0.99999999999999999999", "invalid_cursor"),
        ("?v=2&cursor=%00", "invalid_cursor"),
        (f"?v=2&device={'x' * 101}", "invalid"),
        ("?v=2&device=a%0ab", "invalid"),
        ("?v=2&device=%00", "invalid"),
    ],
)
async def test_what_can_be_no_cursor_and_no_device_is_refused(
    server: Server, ada: Account, query: str, code: str
):
    answer = await upgrade(server, server.token(ada), query)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@on_sqlite
async def test_what_is_no_handshake_is_refused(server: Server, ada: Account):
    for wrong in (
        {"sec_websocket_version": "8"},
        {"sec_websocket_key": "short"},
        {"sec_websocket_key": ""},
        {"connection": "close"},
        {"upgrade": "h2c"},
    ):
        answer = await upgrade(server, server.token(ada), **wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), wrong


@on_sqlite
async def test_a_server_that_drains_lets_nobody_in_for_now(server: Server, ada: Account):
    inside().draining = True
    answer = await upgrade(server, server.token(ada))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


@on_sqlite
async def test_upgrades_have_a_limit_of_their_own_which_is_higher(servers: Serve, settings: Settings):
    server = await servers(replace(settings, rate_limit=1))
    ada = server.user("ada")
    token = server.token(ada)
    assert (await server.get("/api/repos", ada)).status_code == 200
    assert (await server.get("/api/repos", ada)).status_code == 429
    for _ in range(UPGRADES):
        async with legacy(server.url, token):
            pass
    answer = await server.get("/ws", headers={**HANDSHAKE, "authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["retry-after"]) > 0


# The change of hands.


@on_sqlite
@pytest.mark.parametrize("kind", CLIENTS)
async def test_what_is_sent_together_with_the_handshake_is_not_lost(server: Server, ada: Account, kind: str):
    early = Frame(Opcode.PING, b"early").serialize(mask=True)
    query = "?v=2" if kind == "v2" else ""
    async with Bare(server.url, server.token(ada), query).connected(more=early) as bare:
        assert await bare.receive(Opcode.PONG) == b"early"


@on_sqlite
async def test_half_a_frame_with_the_handshake_is_completed_by_what_follows(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 3)
    ack = Frame(Opcode.TEXT, b'{"type":"client_event","event":"ack","seq":2}').serialize(mask=True)
    query = f"?v=2&device=laptop&cursor={epoch(server)}.2"
    async with Bare(server.url, server.token(ada), query).connected(more=ack[:7]) as bare:
        bare.writer.write(ack[7:])
        await eventually(lambda: kept(server, "device") == {"laptop": 2})


@on_sqlite
async def test_more_than_a_buffer_of_bytes_with_the_handshake_does_not_stop_the_reading(
    server: Server, ada: Account
):
    pong = Frame(Opcode.TEXT, b'{"type":"client_event","event":"pong"}').serialize(mask=True)
    early = 5000 * pong + Frame(Opcode.PING, b"last").serialize(mask=True)
    bare = Bare(server.url, server.token(ada), "?v=2")
    async with AsyncExitStack() as stack:
        async with holding(inside().store):
            connecting = asyncio.ensure_future(stack.enter_async_context(bare.connected(more=early)))
            await eventually(lambda: inside().store.queued > 0)
        await connecting
        assert await bare.receive(Opcode.PONG) == b"last"


async def test_a_device_of_characters_that_a_database_cannot_hold_is_refused(server: Server, ada: Account):
    for name in ("%00", "a%00b"):
        answer = await upgrade(server, server.token(ada), f"?v=2&device={name}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@on_sqlite
async def test_the_http_server_lets_go_of_a_connection_that_was_upgraded(server: Server, ada: Account):
    def serving_http() -> int:
        coroutines = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
        return sum("connection_task" in name for name in coroutines)

    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await eventually(lambda: serving_http() == 0)
        await server.github.deliver(server.track(ada))
        await client.until_applied(socket, 1)
        assert len(inside().hub) == 1
    await eventually(lambda: len(inside().hub) == 0)


async def test_who_leaves_during_the_upgrade_leaves_nothing_behind(server: Server, ada: Account):
    leaving, client = server.client(ada, device="laptop"), server.client(ada)
    async with holding(inside().store):
        gone = asyncio.ensure_future(connect_and_wait(leaving))
        await eventually(lambda: inside().store.queued == 1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    async with client.connected() as socket:
        await client.until_live(socket)
        await eventually(lambda: len(inside().hub) == 1)


async def connect_and_wait(client: Client) -> None:
    async with client.connected() as socket:
        await socket.wait_closed()


# Hello, live, versions.


async def test_a_new_client_is_greeted_and_is_live_at_the_head(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 3)
    before = datetime.now(UTC)
    client = server.client(ada)
    async with client.connected() as socket:
        first, second = await client.take(socket), await client.until_live(socket)
    assert (first["type"], first["event"]) == ("system_event", "hello")
    payload = first["payload"]
    expires = datetime.fromisoformat(payload.pop("token_exp"))
    assert payload == {
        "v": 2,
        "epoch": epoch(server),
        "head": 3,
        "floor": 0,
        "resume": "new",
        "from": 3,
        "ping": 25,
        "window": 0,
    }
    assert abs(expires - before - timedelta(hours=1)) < timedelta(minutes=1)
    assert (second["type"], second["event"], second["payload"]) == ("system_event", "live", {"seq": 3})
    assert datetime.fromisoformat(first["timestamp"]).utcoffset() == timedelta(0)


@on_sqlite
@pytest.mark.parametrize("version", ["3", "0", "x", "22"])
async def test_a_version_that_the_server_does_not_speak_is_closed(server: Server, ada: Account, version: str):
    client = server.client(ada, v=version)
    async with client.connected() as socket:
        assert (await client.take(socket))["payload"]["v"] == 2
        assert await code_of(socket) == VERSION


@on_sqlite
async def test_v2_alone_decides_and_everybody_else_is_a_legacy_client(
    server: Server, ada: Account, hello: Tracked
):
    await server.github.deliver(hello)
    for query in ("", "?v=1", "?v=", f"?device=laptop&cursor={epoch(server)}.1", "?v=1&device=laptop"):
        async with Bare(server.url, server.token(ada), query).connected() as bare:
            assert await seq_of(bare) == 1
    assert kept(server, "device") == {}


# Going on.


async def test_a_client_goes_on_after_its_cursor_in_order_and_then_live(
    server: Server, ada: Account, eve: Account, hello: Tracked
):
    other = server.track(eve, "octo/other")
    for _ in range(60):
        logged(server.store, hello, 4)
        logged(server.store, other)
    mine = [seq for seq in range(1, 301) if seq % 5]
    client = server.client(ada)
    client.cursor = f"{epoch(server)}.7"
    async with client.connected() as socket:
        await client.take(socket)
        assert (client.hello["resume"], client.hello["from"], client.hello["head"]) == ("ok", 7, 300)
        live = await client.until_live(socket)
        assert live["payload"] == {"seq": 299}
        await server.github.deliver(hello)
        await client.until_applied(socket, len(mine) - 5)
    assert client.seqs == [*(seq for seq in mine if seq > 7), 301]
    prevs = [message["prev"] for message in client.applied]
    assert prevs == [7, *client.seqs[:-1]]


async def test_a_client_that_catches_up_while_more_is_coming_gets_each_event_once_in_order(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 150)
    client = server.client(ada)
    client.cursor = f"{epoch(server)}.0"

    async def deliver() -> None:
        for number in range(30):
            await server.github.deliver(hello, push(number))

    async with client.connected() as socket:
        senders = [asyncio.ensure_future(deliver()) for _ in range(4)]
        await client.until_applied(socket, 270)
        await asyncio.gather(*senders)
    assert client.seqs == list(range(1, 271))
    assert len([each for each in client.received if each["type"] == "github_event"]) == 270


async def test_a_device_goes_on_after_what_it_has_acknowledged(server: Server, ada: Account, hello: Tracked):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
        logged(server.store, hello, 4)
        await client.until_applied(socket, 4)
        await socket.send(json.dumps({"type": "client_event", "event": "ack", "seq": 3}))
        await eventually(lambda: kept(server, "device") == {"laptop": 3})
    again = server.client(ada, device="laptop")
    async with again.connected() as socket:
        await again.until_live(socket)
    assert (again.hello["resume"], again.hello["from"], again.seqs) == ("ok", 3, [4])
    phone = server.client(ada, device="phone")
    async with phone.connected() as socket:
        await phone.until_live(socket)
    assert (phone.hello["resume"], phone.seqs) == ("new", [])


async def test_a_device_that_drops_before_its_first_ack_has_lost_nothing(
    server: Server, ada: Account, hello: Tracked
):
    async with Bare(server.url, server.token(ada), "?v=2&device=laptop").connected() as bare:
        assert b'"hello"' in await bare.receive()
    logged(server.store, hello, 2)
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
    assert (client.hello["resume"], client.seqs) == ("ok", [1, 2])


async def test_a_cursor_goes_before_what_the_device_has_acknowledged(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
    logged(server.store, hello, 3)
    client.cursor = f"{epoch(server)}.2"
    async with client.connected() as socket:
        await client.until_live(socket)
    assert client.seqs == [3]


def purged(server: Server, upto: int) -> None:
    """Let the events up to a seq grow older than the retention, and purge."""
    retention = server.appliance.settings.retention
    old = datetime.now(UTC) - retention - timedelta(hours=1)
    server.store.run(lambda _: Event.update(created_at=old).where(Event.seq <= upto).execute())
    server.store.run(upkeep.purge, retention)
    assert server.store.look(events.log).floor == upto


async def test_what_is_gone_is_announced_with_its_number(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 10)
    purged(server, 6)
    client = server.client(ada)
    client.cursor = asked = f"{epoch(server)}.2"
    async with client.connected() as socket:
        await client.until_live(socket)
    assert (client.hello["resume"], client.hello["from"], client.hello["floor"]) == ("gap", 6, 6)
    assert client.gaps == [{"reason": "expired", "asked": asked, "floor": 6, "missed": 4}]
    assert client.seqs == [7, 8, 9, 10]


async def test_a_gap_is_not_announced_where_nothing_of_this_users_is_gone(
    server: Server, ada: Account, eve: Account, hello: Tracked
):
    logged(server.store, server.track(eve, "octo/other"), 6)
    logged(server.store, hello, 2)
    purged(server, 6)
    client = server.client(ada)
    client.cursor = f"{epoch(server)}.2"
    async with client.connected() as socket:
        await client.until_live(socket)
    assert (client.hello["resume"], client.gaps, client.seqs) == ("ok", [], [7, 8])


@on_sqlite
async def test_a_cursor_beyond_the_head_or_of_another_log_is_a_gap_that_nobody_can_count(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 2)
    for cursor, reason, after in (
        (f"{epoch(server)}.9", "ahead", 2),
        (f"{'f' * len(epoch(server))}.1", "epoch", 0),
    ):
        client = server.client(ada, cursor=cursor)
        async with client.connected() as socket:
            await client.until_live(socket)
        assert client.gaps == [{"reason": reason, "asked": cursor, "floor": 0, "missed": None}]
        assert (client.hello["from"], client.seqs) == (after, list(range(after + 1, 3)))


# Legacy clients.


async def test_what_a_legacy_client_was_sent_has_the_form_that_it_knows(
    server: Server, ada: Account, hello: Tracked
):
    async with legacy(server.url, server.token(ada)) as socket:
        await server.github.deliver(hello, guid="the-guid")
        while (message := await receive(socket))["type"] != "github_event":
            pass
        server.store.run(repositories.add, ada.id, "octo/new")
        while (told := await receive(socket))["payload"] != "Repository octo/new was successfully added":
            pass
    assert set(message) >= {
        *("type", "user_id", "target_user_id", "repo_name", "event", "payload", "timestamp")
    }
    assert (message["user_id"], message["target_user_id"]) == (ada.id, ada.id)
    assert message["payload"]["id"] == "the-guid"
    assert datetime.fromisoformat(told.pop("timestamp")).utcoffset() == timedelta(0)
    assert set(told) == {"type", "payload"}
    assert told["type"] == "system_event"


async def test_what_a_legacy_clients_library_has_echoed_is_not_sent_again(
    server: Server, ada: Account, hello: Tracked
):
    token = server.token(ada)
    logged(server.store, hello, 2)
    async with legacy(server.url, token) as socket:
        assert [await seq_of(socket) for _ in range(2)] == [1, 2]
        await eventually(lambda: set(kept(server, "session").values()) == {2})
        await server.github.deliver(hello)
        assert await seq_of(socket) == 3
        await eventually(lambda: set(kept(server, "session").values()) == {3})
    assert kept(server, "shared") == {"": 3}
    await server.github.deliver(hello)
    for again in (token, server.token(ada)):
        async with legacy(server.url, again) as socket:
            assert await seq_of(socket) == 4


async def test_a_legacy_client_that_never_echoes_is_sent_everything_again(
    server: Server, ada: Account, hello: Tracked
):
    token = server.token(ada)
    logged(server.store, hello, 2)
    for _ in range(2):
        async with Bare(server.url, token).connected() as bare:
            assert [await seq_of(bare) for _ in range(2)] == [1, 2]
            proof = await bare.receive(Opcode.PING)
            assert proof.split(b".")[0] == b"2"
            for forged in (b"2.99", b"9999.1", b"", b"2", proof + b"0", b"\xff" * 125):
                bare.send(Opcode.PONG, forged)
            bare.send(Opcode.PING, b"after")
            assert await bare.receive(Opcode.PONG) == b"after"
    assert set(kept(server, "session").values()) == {0}


# What a client may say.


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_client_event_that_names_another_user_reaches_nobody(
    server: Server, ada: Account, eve: Account, hello: Tracked, kind: str
):
    server.store.run(join, eve.id, hello.id)
    theirs = server.client(eve)
    query = "?v=2" if kind == "v2" else ""
    async with (
        theirs.connected() as socket,
        legacy(server.url, server.token(eve)) as older,
        Bare(server.url, server.token(ada), query).connected() as bare,
    ):
        await theirs.until_live(socket)
        for event in ("github_event", "notice", "ack", ""):
            said: dict[str, Any] = {
                "type": "client_event",
                "event": event,
                "seq": 0,
                "payload": {"text": "hello eve"},
                "user_id": ada.id,
                "target_user_id": eve.id,
            }
            bare.send(Opcode.TEXT, json.dumps(said).encode())
        bare.send(Opcode.PING, b"said")
        assert await bare.receive(Opcode.PONG) == b"said"
        await server.github.deliver(hello)
        await theirs.until_applied(socket, 1)
        assert await seq_of(older) == 1
    assert [message.get("event") for message in theirs.received] == ["hello", "live", "push"]


@on_sqlite
@pytest.mark.parametrize(
    "message",
    [
        *("", "hello", "[]", "null", "{}", '{"type":"github_event"}', '{"type":"client_event"', "[" * 60_000),
        '{"type":"client_event","event":5}',
        '{"type":"client_event","event":"ack"}',
        '{"type":"client_event","event":"ack","seq":-1}',
        '{"type":"client_event","event":"ack","seq":"1"}',
        b'{"type":"client_event","event":"pong"}',
        b"\xff\xfe",
    ],
    ids=lambda message: repr(message[:50]),
)
async def test_a_bad_message_closes(server: Server, ada: Account, message: str | bytes):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await socket.send(message)
        assert await code_of(socket) == BAD_MESSAGE


async def test_what_cannot_be_done_is_told_and_closes_nothing(server: Server, ada: Account, hello: Tracked):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
        for said in ({"event": "ack", "seq": 7}, {"event": "ack", "seq": 10**30}, {"event": "dance"}):
            await socket.send(json.dumps({"type": "client_event", **said}))
            told = await client.until(socket, lambda message: message["type"] == "error")
            assert told["user_id"] == ada.id
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
    assert kept(server, "device") == {"laptop": 0}


# Why a connection ends.


def test_the_codes_are_those_that_clients_know():
    """Below 4500 a client comes back, from there on it does not."""
    assert (lives.TOKEN, lives.NO_PONG, lives.STALLED, lives.TOO_MANY) == (4001, 4002, 4003, 4004)
    assert (FORBIDDEN, BAD_MESSAGE, VERSION, lives.RESTARTING) == (4500, 4501, 4502, 1012)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_whose_token_has_ended_is_closed_when_its_grace_is_over_and_not_before(
    server: Server, ada: Account, hello: Tracked, kind: str
):
    def later(seconds: float) -> None:
        for each in inside().hub._all():
            each.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))

    coming = legacy(server.url, server.token(ada)) if kind == "legacy" else server.client(ada).connected()
    async with coming as socket:
        await eventually(lambda: len(inside().hub) == 1)
        # A token ends with a whole second.
        later(3600 + lives.TOKEN_GRACE - 5)
        await server.github.deliver(hello)
        assert await seq_of(socket) == 1
        later(3600 + lives.TOKEN_GRACE + 1)
        assert await code_of(socket) == lives.TOKEN


async def test_a_connection_that_is_closed_says_why_in_words(server: Server, ada: Account):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        server.store.run(accounts.disable, "ada")
        assert await code_of(socket) == FORBIDDEN
        assert socket.close_reason == "the user is disabled"


# Who is shut out.


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_user_who_is_disabled_is_closed_and_nobody_else(
    server: Server, ada: Account, eve: Account, kind: str
):
    theirs = server.client(eve)
    mine = legacy(server.url, server.token(ada)) if kind == "legacy" else server.client(ada).connected()
    async with theirs.connected() as other, mine as socket:
        await theirs.until_live(other)
        server.store.run(accounts.disable, "ada")
        assert await code_of(socket) == FORBIDDEN
        await server.github.deliver(server.track(eve))
        await theirs.until_applied(other, 1)


async def test_a_token_that_is_revoked_closes_what_was_opened_with_it(server: Server, ada: Account):
    doomed = server.store.run(tokens.issue, "ada", label="doomed").token
    address = server.url.replace("http", "ws") + "/ws?v=2"
    client = server.client(ada)
    async with (
        client.connected() as kept_open,
        connect(address, subprotocols=["cotex.v2", f"cotex.bearer.{doomed}"], proxy=None) as socket,
    ):
        await client.until_live(kept_open)
        server.store.run(tokens.revoke, "ada", "doomed")
        assert await code_of(socket) == FORBIDDEN
        await server.github.deliver(server.track(ada))
        await client.until_applied(kept_open, 1)
