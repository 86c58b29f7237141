"""A server that stops sends everybody away who is connected, in whatever way, and is not held up by any of them."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from actors import WAIT, Bare, Client, EventSource, legacy, logged, push, receive
from conftest import Server, eventually, inside, serving
from websockets.exceptions import ConnectionClosed

from cotexd.config import Settings
from cotexd.live.session import RESTARTING
from cotexd.operations import events

FOREVER = timedelta(minutes=5)
"""longer than any test waits for anything"""
LONG = 50
"""seconds that a poll waits; the same"""
LIMITS = [FOREVER, timedelta(0)]


@pytest.fixture
def database() -> str:
    """SQLite: how clients are sent away does not depend on the database."""
    return ""


async def stopped(server: Server) -> None:
    async with asyncio.timeout(WAIT):
        await server.appliance.stop()


async def ended(client: Client, socket: Any) -> int | None:
    try:
        while True:
            await client.take(socket)
    except ConnectionClosed:
        return socket.close_code


async def polled(server: Server, token: str) -> dict[str, Any]:
    after = f"{server.store.look(events.log).epoch}.0"
    answer = await server.get(
        "/api/events",
        params={"after": after, "wait": LONG},
        headers={"authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_every_kind_of_client_is_sent_away_and_none_is_waited_for(settings: Settings, limit: timedelta):
    async with serving(replace(settings, drain=limit)) as server:
        ada = server.user("ada")
        token = server.token(ada)
        client, stream = server.client(ada), EventSource(server.url, token)
        async with client.connected() as socket, legacy(server.url, token) as older, stream.connected():
            waiting = asyncio.ensure_future(polled(server, token))
            await client.until_live(socket)
            await stream.until_live()
            await eventually(lambda: len(inside().hub) == 4)
            hub = inside().hub
            stopping = asyncio.ensure_future(stopped(server))
            assert await ended(client, socket) == RESTARTING
            await stream.ended()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await receive(older)
            assert older.close_code == RESTARTING
            assert (await waiting)["messages"] == []
            await stopping
            assert len(hub) == 0
        told = [message["event"] for message in client.received if message["type"] == "system_event"]
        assert "drain" in told
        assert "drain" in [message.get("event") for message in stream.received]


async def test_what_came_before_the_farewell_arrives_before_it(settings: Settings):
    async with serving(replace(settings, drain=FOREVER)) as server:
        ada = server.user("ada")
        repo, token = server.track(ada), server.token(ada)
        client, stream = server.client(ada), EventSource(server.url, token)
        async with client.connected() as socket, stream.connected():
            await client.until_live(socket)
            await stream.until_live()
            sent = [await server.github.deliver(repo, push(number)) for number in range(20)]
            assert {answer.status_code for answer in sent} == {200}
            await stopped(server)
            await ended(client, socket)
            await stream.ended()
        assert client.seqs == stream.seqs == list(range(1, 21))


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_who_answers_no_farewell_and_who_reads_nothing_hold_it_up_no_longer_than_a_handshake(
    settings: Settings, limit: timedelta
):
    commit = {"id": "0" * 40, "added": [f"{'x' * 60}/{file}" for file in range(300)]}
    async with serving(replace(settings, drain=limit)) as server:
        ada = server.user("ada")
        repo, token = server.track(ada), server.token(ada)
        silent = Bare(server.url, token, "?v=2")
        stuck = EventSource(server.url, token)
        async with silent.connected(), stuck.connected():
            hub = inside().hub
            while all(each.session.live for each in hub._all()):
                seqs = logged(server.store, repo, 20, payload=push(1, commits=[commit]))
                await eventually(lambda upto=seqs[-1]: hub.head == upto)
            await stopped(server)
            assert len(hub) == 0


async def test_who_comes_while_it_stops_is_turned_away_by_name(settings: Settings):
    async with serving(replace(settings, drain=FOREVER)) as server:
        ada = server.user("ada")
        after = f"{server.store.look(events.log).epoch}.0"
        inside().draining = True
        for path in ("/api/events/stream", f"/api/events?after={after}&wait={LONG}", "/ws?v=2"):
            answer = await server.get(path, ada)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), path
            assert int(answer.headers["retry-after"]) > 0
        # What asks and goes is answered until the end.
        assert (await server.get("/api/events", ada)).status_code == 200
        assert (await server.get("/api/repos", ada)).status_code == 200


async def test_everybody_goes_on_after_the_restart_where_they_were(settings: Settings):
    async with serving(settings) as server:
        ada = server.user("ada")
        repo, token = server.track(ada), server.token(ada)
        client, stream = server.client(ada), EventSource(server.url, token)
        async with client.connected() as socket, stream.connected():
            await client.until_live(socket)
            await stream.until_live()
            waiting = asyncio.ensure_future(polled(server, token))
            await eventually(lambda: len(inside().hub) == 3)
            await server.github.deliver(repo)
            polls = await waiting
            await client.until_applied(socket, 1)
            await stream.until_applied(1)
            await stopped(server)
        assert [each["seq"] for each in polls["messages"]] == [1]
    async with serving(settings) as server:
        await server.github.deliver(repo)
        again, later = Client(server.url, token), EventSource(server.url, token)
        again.cursor, later.last_event_id = client.cursor, stream.last_event_id
        async with again.connected() as socket, later.connected():
            await again.until_live(socket)
            await later.until_live()
        answer = await server.get(
            "/api/events", params={"after": polls["cursor"]}, headers={"authorization": f"Bearer {token}"}
        )
        assert [each["seq"] for each in answer.json()["messages"]] == again.seqs == later.seqs == [2]
