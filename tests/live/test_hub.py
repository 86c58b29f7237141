import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from actors import WAIT, Bare, Client, join, leave, legacy, logged, receive
from conftest import Server, database_away, eventually, holding, inside
from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode

from cotexd.domain.event import Frame
from cotexd.live import session as lives
from cotexd.live.hub import Hub
from cotexd.operations import accounts
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Published
from cotexd.store.models import Device
from cotexd.store.writer import MAX_QUEUED


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


@pytest.fixture
def hub(server: Server) -> Hub:
    return inside().hub


def later(hub: Hub, seconds: float) -> None:
    """Let every socket's clock be so far ahead for one look."""
    for socket in hub._all():
        socket.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


def kept(server: Server) -> dict[str, int]:
    """What each device has acknowledged."""
    return server.store.look(
        lambda _: {row.name: row.acked for row in Device.select().where(Device.kind == "device")}
    )


async def acknowledge(socket: ClientConnection, seq: int) -> None:
    await socket.send(json.dumps({"type": "client_event", "event": "ack", "seq": seq}))


async def code_of(socket: ClientConnection) -> int | None:
    """The code with which the server closes."""
    await asyncio.wait_for(socket.wait_closed(), WAIT)
    return socket.close_code


# Handing out.


async def test_an_event_reaches_every_socket_of_everybody_who_may_see_it_and_nobody_else(
    server: Server, ada: Account, hello: Tracked
):
    eve, mallory = server.user("eve"), server.user("mallory")
    other = server.track(mallory, "octo/other")
    server.store.run(join, eve.id, hello.id)
    clients = [server.client(user) for user in (ada, ada, eve, mallory)]
    async with (
        clients[0].connected() as one,
        clients[1].connected() as two,
        clients[2].connected() as three,
        clients[3].connected() as four,
        legacy(server.url, server.token(ada)) as old,
    ):
        for client, socket in zip(clients, (one, two, three, four), strict=True):
            await client.until_live(socket)
        await server.github.deliver(hello)
        await server.github.deliver(other)
        for client, socket in zip(clients, (one, two, three, four), strict=True):
            await client.until_applied(socket, 1)
        assert (await receive(old))["seq"] == 1
    assert [client.seqs for client in clients] == [[1], [1], [1], [2]]
    assert [client.applied[0]["user_id"] for client in clients] == [ada.id, ada.id, eve.id, mallory.id]


async def test_who_joins_gets_what_comes_from_then_on_and_who_leaves_nothing_more(
    server: Server, ada: Account, hello: Tracked
):
    eve = server.user("eve")
    own = server.track(eve, "octo/own")
    client = server.client(eve)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(hello)
        server.store.run(join, eve.id, hello.id)
        await server.github.deliver(hello)
        server.store.run(leave, eve.id, hello.id)
        await server.github.deliver(hello)
        await server.github.deliver(own)
        await client.until_applied(socket, 2)
    assert client.seqs == [2, 4]
    assert [message["prev"] for message in client.applied] == [0, 2]


async def test_what_another_process_wrote_comes_in_its_place(server: Server, ada: Account, hello: Tracked):
    clients = [server.client(ada) for _ in range(2)]
    async with clients[0].connected() as one, clients[1].connected() as two:
        for client, socket in zip(clients, (one, two), strict=True):
            await client.until_live(socket)
        for number in range(12):
            await asyncio.to_thread(logged, server.store, hello, number % 3)
            await server.github.deliver(hello)
        count = 12 + sum(number % 3 for number in range(12))
        for client, socket in zip(clients, (one, two), strict=True):
            await client.until_applied(socket, count)
    assert [client.seqs for client in clients] == 2 * [list(range(1, count + 1))]


async def test_more_than_one_read_of_another_process_wrote_comes_whole(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        logged(server.store, hello, 350)
        await client.until_applied(socket, 350)
    assert client.seqs == list(range(1, 351))


async def test_a_publication_that_does_not_begin_at_the_next_seq_is_only_a_hint(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        for seq in (2, 7, 0):
            hub.publish([Published(Frame(seq, b'"never":"there"'), (ada.id,))])
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        await server.github.deliver(hello)
        await client.until_applied(socket, 2)
    assert client.seqs == [1, 2]
    assert hub.head == 2


async def test_the_head_moves_on_when_nobody_is_there(server: Server, hello: Tracked, hub: Hub):
    await server.github.deliver(hello)
    assert hub.head == 1
    logged(server.store, hello, 3)
    await eventually(lambda: hub.head == 4)


@pytest.mark.parametrize("database", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
async def test_a_database_that_goes_away_and_comes_back_costs_no_connection_and_no_event(
    server: Server, database: str, ada: Account, hello: Tracked
):
    async def taken() -> bool:
        return (await server.github.deliver(hello)).status_code == 200

    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        assert await taken()
        async with database_away(database):
            answer = await server.github.deliver(hello)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            await socket.ping()
        await eventually(taken)
        await client.until_applied(socket, 2)
    assert client.seqs == [1, 2]


# Telling.


async def test_a_notice_goes_to_every_client_of_its_user_in_the_form_that_each_knows(
    server: Server, ada: Account
):
    eve = server.user("eve")
    client, stranger = server.client(ada), server.client(eve)
    async with (
        client.connected() as socket,
        stranger.connected() as strange,
        legacy(server.url, server.token(ada)) as old,
    ):
        await client.until_live(socket)
        await stranger.until_live(strange)
        server.track(ada)
        server.track(eve, "octo/other")
        sentence = "Repository octo/hello was successfully added"
        told = await client.until(socket, lambda message: message.get("event") == "notice")
        assert told["payload"] == {"text": sentence}
        told = await receive(old)
        assert (told["type"], told["payload"]) == ("system_event", sentence)
        told = await stranger.until(strange, lambda message: message.get("event") == "notice")
        assert told["payload"] == {"text": sentence.replace("hello", "other")}


async def test_who_is_disabled_is_closed_wherever_they_are_and_others_stay(
    server: Server, ada: Account, hello: Tracked
):
    eve = server.user("eve")
    server.store.run(join, eve.id, hello.id)
    client, other = server.client(ada), server.client(eve)
    async with (
        client.connected() as socket,
        legacy(server.url, server.token(ada)) as old,
        other.connected() as stays,
    ):
        await other.until_live(stays)
        server.store.run(accounts.disable, "ada")
        assert await code_of(socket) == await code_of(old) == lives.FORBIDDEN
        await server.github.deliver(hello)
        await other.until_applied(stays, 1)


# Who is there.


@pytest.mark.parametrize("how", ["closes", "vanishes"])
async def test_who_leaves_leaves_nothing_behind(server: Server, ada: Account, hub: Hub, how: str):
    client, other = server.client(ada), server.client(ada)
    async with client.connected() as socket, other.connected() as second:
        await client.until_live(socket)
        await other.until_live(second)
        assert len(hub) == 2
        if how == "vanishes":
            socket.transport.abort()
    await eventually(lambda: len(hub) == 0)
    assert (hub._connections, hub._addressed) == ({}, {})


async def test_everybody_is_sent_away_to_come_back_and_is_waited_for(server: Server, ada: Account, hub: Hub):
    clients = [server.client(ada) for _ in range(3)]
    async with clients[0].connected() as one, legacy(server.url, server.token(ada)) as old:
        await clients[0].until_live(one)
        closing = asyncio.create_task(hub.close())
        assert await code_of(one) == await code_of(old) == lives.RESTARTING
        await closing
        assert len(hub) == 0


async def test_who_does_not_answer_the_farewell_is_waited_for_and_then_let_go(
    server: Server, ada: Account, hub: Hub
):
    # All had left once before: that is not what is waited for.
    async with Bare(server.url, server.token(ada), "?v=2").connected() as visitor:
        await visitor.receive()
    await eventually(lambda: len(hub) == 0)
    async with Bare(server.url, server.token(ada), "?v=2").connected() as client:
        await client.receive()
        await hub.close()
        assert len(hub) == 0
        assert await client.closed() == lives.RESTARTING


# Keeping.


async def test_of_many_acknowledgements_the_furthest_is_kept(server: Server, ada: Account, hello: Tracked):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
        logged(server.store, hello, 50)
        await client.until_applied(socket, 50)
        for seq in (*range(1, 51), 7):
            await acknowledge(socket, seq)
        await eventually(lambda: kept(server) == {"laptop": 50})
        await acknowledge(socket, 3)
        await acknowledge(socket, 99)
        await client.until(socket, lambda message: message["type"] == "error")
    assert kept(server) == {"laptop": 50}


async def test_many_acknowledgements_wait_together_while_nothing_can_be_written(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        logged(server.store, hello, 30)
        await client.until_applied(socket, 30)
        store = inside().store
        async with holding(store):
            for seq in range(1, 31):
                await acknowledge(socket, seq)
            await acknowledge(socket, 99)
            await client.until(socket, lambda message: message["type"] == "error")
            assert store.queued + len(hub._acks) < 10
        await eventually(lambda: kept(server) == {"laptop": 30})


async def test_what_could_not_be_kept_is_kept_with_the_next(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    one, two = server.client(ada, device="one"), server.client(ada, device="two")
    async with one.connected() as first, two.connected() as second:
        await server.github.deliver(hello)
        await one.until_applied(first, 1)
        await two.until_applied(second, 1)
        store = inside().store
        async with holding(store):
            waiting = [asyncio.ensure_future(store.write(lambda _: None)) for _ in range(MAX_QUEUED + 1)]
            await acknowledge(first, 1)
            await eventually(lambda: bool(hub._acks) and hub._ack_timer is None)
        await asyncio.gather(*waiting, return_exceptions=True)
        await acknowledge(second, 1)
        await eventually(lambda: kept(server) == {"one": 1, "two": 1})


async def test_what_was_acknowledged_before_the_end_is_kept(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        await acknowledge(socket, 1)
        await acknowledge(socket, 99)
        await client.until(socket, lambda message: message["type"] == "error")
        await hub.close()
    assert kept(server) == {"laptop": 1}


# By the clock.


async def test_every_client_is_pinged_with_the_last_seq_that_it_was_sent(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    async with (
        Bare(server.url, server.token(ada), "?v=2").connected() as client,
        Bare(server.url, server.token(ada)).connected() as old,
    ):
        await server.github.deliver(hello)
        await old.receive()
        assert (await old.receive(Opcode.PING)).startswith(b"1.")
        while json.loads(await client.receive()).get("seq") != 1:
            pass
        later(hub, 25.5)
        while (told := json.loads(await client.receive())).get("event") != "ping":
            assert told["event"] == "notice"
        assert told["payload"] == {"seq": 1}
        assert await client.receive(Opcode.PING)
        assert (await old.receive(Opcode.PING)).startswith(b"1.")


async def test_who_gives_no_sign_of_life_after_a_ping_is_closed_and_who_does_is_not(
    server: Server, ada: Account, hub: Hub
):
    living = server.client(ada)
    async with (
        Bare(server.url, server.token(ada), "?v=2").connected() as silent,
        living.connected() as socket,
    ):
        await living.until_live(socket)
        await silent.receive()
        later(hub, 25.5)
        # A pong of its own after the server's ping: everything before it has been heard.
        await living.until(socket, lambda message: message.get("event") == "ping")
        await acknowledge(socket, 99)
        await living.until(socket, lambda message: message["type"] == "error")
        later(hub, 46.0)
        assert await silent.closed() == lives.NO_PONG
        await (await socket.ping())


async def test_who_stays_longer_than_their_token_is_closed(server: Server, ada: Account, hub: Hub):
    client: Client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        later(hub, 3600 + 20.0)
        await (await socket.ping())
        later(hub, 3600 + 26.0)
        assert await code_of(socket) == lives.TOKEN


async def test_the_hub_looks_at_every_socket_by_itself(server: Server, ada: Account, hub: Hub):
    async with (
        Bare(server.url, server.token(ada), "?v=2").connected() as one,
        Bare(server.url, server.token(ada), "?v=2").connected() as two,
    ):
        await one.receive()
        await two.receive()
        for socket in hub._all():
            socket.session._expires = 0.0
        assert await one.closed() == await two.closed() == lives.TOKEN
