import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from actors import WAIT, Bare, Client, join, leave, legacy, logged, receive
from conftest import Server, database_away, deliveries_waiting, eventually, holding, inside
from lines import Line, begun, names, running, seqs, socket, sse, stream
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode

from cotexd.domain import scope
from cotexd.domain.event import Frame
from cotexd.domain.scope import Scopes
from cotexd.errors import Invalid
from cotexd.live import hub as hubs
from cotexd.live import session as lives
from cotexd.live.connection import About
from cotexd.live.hub import READS_AT_ONCE, Hub, TooManyConnections
from cotexd.live.poll import Poll
from cotexd.operations import accounts, events, notices, repositories, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.identities import Caller
from cotexd.operations.repositories import Tracked
from cotexd.store import Published, Store, Tx
from cotexd.store.models import Device, Event, LogState
from cotexd.store.writer import MAX_QUEUED

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""for what does not depend on the database"""


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


@pytest.fixture
def hub(server: Server) -> Hub:
    return inside().hub


@pytest.fixture
async def alone(store: Store) -> AsyncIterator[Hub]:
    """A hub without a server around it, whose connections a test makes by hand."""
    async with running(store) as opened:
        yield opened


@pytest.fixture
def user(store: Store) -> Account:
    """A user of that hub."""
    return store.run(accounts.create, "ada")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[tuple[str, int]]]:
    """Of whom, and after what, each read of the backlog was."""
    found: list[Sequence[tuple[str, int]]] = []
    read = events.backlogs

    def noted(tx: Tx, wanted: Sequence[tuple[str, int]]) -> list[events.Backlog]:
        found.append(wanted)
        return read(tx, wanted)

    monkeypatch.setattr(events, "backlogs", noted)
    return found


def later(hub: Hub, seconds: float) -> None:
    """Let every socket's clock be so far ahead for one look."""
    for each in hub._all():
        each.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


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


def set_back(tx: Tx, head: int) -> None:
    Event.delete().where(Event.seq > head).execute()
    LogState.update(head=head).execute()


async def test_a_log_that_is_set_back_under_it_sends_everybody_away_and_they_hear_of_the_gap(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        for _ in range(10):
            assert (await server.github.deliver(hello)).status_code == 200
        await client.until_applied(socket, 10)
        server.store.run(set_back, 5)
        with pytest.raises(ConnectionClosed):
            await client.until(socket, lambda _: False)
        assert socket.close_code == 1012
    answers = [(await server.github.deliver(hello)).json() for _ in range(3)]
    assert [each["seq"] for each in answers] == [6, 7, 8]
    async with client.connected() as socket:
        await client.until_live(socket)
        assert (await server.github.deliver(hello)).json()["seq"] == 9
        await client.until_applied(socket, 14)
    assert client.seqs[10:] == [6, 7, 8, 9]
    (gap,) = client.gaps
    assert (gap["reason"], client.hello["epoch"] == server.store.look(events.log).epoch) == ("epoch", True)


async def test_a_hub_that_could_not_look_for_long_has_everybody_come_back(
    server: Server, ada: Account, hub: Hub
):
    """Notices are kept for an hour: it may have missed that somebody was disabled."""
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        hub._looked_at -= notices.KEPT.total_seconds()
        hub.moved()
        with pytest.raises(ConnectionClosed):
            await client.until(socket, lambda _: False)
        assert socket.close_code == 1012


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
    assert hub._companies == {}


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
            await eventually(lambda: bool(hub._acks) and hub._acks._timer is None)
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
        later(hub, 3600 + 15.0)
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


# A place for everybody, and no more.


def at_line(hub: Hub, store: Store, user: Account, **how) -> Line:
    """One more connection of a user's, which is taken."""
    with hub.room_for(user.id):
        return Line().begin(hub, stream(hub, begun(hub, store, user.id, **how)))


def refused(hub: Hub, user: Account) -> str:
    """The sentence with which one more connection is refused."""
    with pytest.raises(TooManyConnections) as error, hub.room_for(user.id):
        pytest.fail("there was room")
    return error.value.message


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


@ON_SQLITE
async def test_a_server_takes_so_many_connections_and_no_more(
    store: Store, alone: Hub, user: Account, eve: Account
):
    alone.max_connections = 3
    lines = [at_line(alone, store, each) for each in (user, user, eve)]
    for each in (user, eve):
        assert "3 connections" in refused(alone, each)
    lines[0].vanish()
    at_line(alone, store, eve)
    assert len(alone) == 3


@ON_SQLITE
async def test_a_user_has_so_many_connections_and_takes_no_place_of_anothers(
    store: Store, alone: Hub, user: Account, eve: Account
):
    alone.max_connections_per_user = 2
    lines = [at_line(alone, store, user) for _ in range(2)]
    assert "2 connections" in refused(alone, user)
    at_line(alone, store, eve)
    lines[1].vanish()
    at_line(alone, store, user)


@ON_SQLITE
async def test_a_place_is_kept_for_who_is_coming_and_given_up_if_they_do_not(
    store: Store, alone: Hub, user: Account, eve: Account
):
    alone.max_connections, alone.max_connections_per_user = 3, 2
    with contextlib.suppress(Invalid), alone.room_for(user.id), alone.room_for(user.id):
        assert "2 connections" in refused(alone, user)
        with alone.room_for(eve.id):
            assert "3 connections" in refused(alone, eve)
        raise Invalid("what it asked for can't be read")
    assert not alone._coming
    for _ in range(2):
        at_line(alone, store, user)
    assert refused(alone, user)


@ON_SQLITE
async def test_who_was_refused_took_no_place(store: Store, alone: Hub, user: Account):
    alone.max_connections = 1
    line = at_line(alone, store, user)
    for _ in range(5):
        refused(alone, user)
    line.vanish()
    assert not alone._coming
    at_line(alone, store, user)


@ON_SQLITE
async def test_new_limits_are_for_who_comes_then(store: Store, alone: Hub, user: Account):
    lines = [at_line(alone, store, user) for _ in range(3)]
    alone.max_connections = 2
    refused(alone, user)
    assert not any(line.ended for line in lines)
    alone.max_connections = 4
    at_line(alone, store, user)


async def test_who_has_no_place_is_told_before_the_upgrade_when_to_come_back(
    server: Server, ada: Account, hub: Hub
):
    hub.max_connections = 1
    client, other = server.client(ada), server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        with pytest.raises(InvalidStatus) as error:
            async with other.connected():
                pytest.fail("there was room")
        assert error.value.response.status_code == 503
        assert json.loads(error.value.response.body)["code"] == "too_many_connections"
        assert int(error.value.response.headers["retry-after"]) > 0
    await eventually(lambda: len(hub) == 0)
    async with other.connected() as socket:
        await other.until_live(socket)


# Many who come back at once.


@ON_SQLITE
async def test_a_thousand_connections_of_a_user_from_one_place_are_one_read(
    store: Store, user: Account, asked: list
):
    logged(store, store.run(repositories.add, user.id, "octo/hello"), 3)
    async with running(store) as hub:
        lines = [Line().begin(hub, socket(hub, begun(hub, store, user.id, after=0))) for _ in range(1000)]
        await eventually(lambda: all("live" in names(line) for line in lines))
        assert asked == [((user.id, 0),)]
        assert {tuple(seqs(line)) for line in lines} == {(1, 2, 3)}


@ON_SQLITE
async def test_who_come_back_from_many_places_are_read_a_bounded_number_at_a_time(
    store: Store, user: Account, asked: list
):
    count = READS_AT_ONCE + 10
    logged(store, store.run(repositories.add, user.id, "octo/hello"), count)
    async with running(store) as hub:
        lines = [
            Line().begin(hub, socket(hub, begun(hub, store, user.id, after=after))) for after in range(count)
        ]
        await eventually(lambda: all("live" in names(line) for line in lines))
        assert sorted(len(each) for each in asked) == [10, READS_AT_ONCE]
        assert [seqs(line) for line in lines] == [list(range(after + 1, count + 1)) for after in range(count)]


@ON_SQLITE
async def test_of_many_who_come_back_each_gets_their_own(
    store: Store, alone: Hub, user: Account, eve: Account
):
    mine, theirs = (
        store.run(repositories.add, user.id, "octo/a"),
        store.run(repositories.add, eve.id, "octo/b"),
    )
    for repo in (mine, theirs, mine):
        logged(store, repo)
    lines = [
        Line().begin(alone, socket(alone, begun(alone, store, each.id, after=after)))
        for each in (user, eve)
        for after in (0, 1, 0)
    ]
    await eventually(lambda: all("live" in names(line) for line in lines))
    assert [seqs(line) for line in lines] == [[1, 3], [3], [1, 3], [2], [2], [2]]


# Resuming.


async def resume(socket: ClientConnection, cursor: str) -> None:
    await socket.send(json.dumps({"type": "client_event", "event": "resume", "cursor": cursor}))


async def test_who_resumes_gets_everything_again_from_there_and_then_what_is_new(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        for _ in range(3):
            await server.github.deliver(hello)
        await client.until_applied(socket, 3)
        await resume(socket, f"{client.hello['epoch']}.1")
        await client.until_applied(socket, 5)
        await client.until_live(socket)
        await server.github.deliver(hello)
        await client.until_applied(socket, 6)
    assert client.hello["from"] == 1
    assert client.hello["resume"] == "ok"
    assert client.seqs == [1, 2, 3, 2, 3, 4]


async def test_who_resumes_where_no_log_is_is_told_of_the_gap(server: Server, ada: Account, hello: Tracked):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        for cursor, reason, place in ((f"{client.hello['epoch']}.99", "ahead", 1), ("abc.1", "epoch", 0)):
            await resume(socket, cursor)
            await client.until(socket, lambda message: message.get("event") == "live")
            assert (client.hello["resume"], client.hello["from"]) == ("gap", place)
            assert client.gaps[-1] == {"reason": reason, "asked": cursor, "floor": 0, "missed": None}


@pytest.mark.parametrize("database", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
async def test_who_resumes_while_the_database_is_away_is_answered_when_it_is_back(
    server: Server, database: str, ada: Account, hello: Tracked
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        async with database_away(database):
            await resume(socket, f"{client.hello['epoch']}.0")
            await (await socket.ping())
        await client.until(socket, lambda message: message.get("event") == "hello")
        await client.until_live(socket)
    assert client.seqs == [1, 1]


# A fresh token.


def labelled(server: Server, user: Account, label: str, scopes: Scopes = None) -> str:
    """A token that can be revoked by its label; it is good for longer than others."""
    issued = server.store.run(tokens.issue, user.id, timedelta(hours=5), label=label, scopes=scopes)
    return issued.token


async def say_token(client: Client, socket: ClientConnection, token: str) -> dict:
    """Send a token; what the server says to it."""
    await socket.send(json.dumps({"type": "client_event", "event": "auth", "token": token}))
    return await client.until(
        socket, lambda message: message["type"] == "error" or message.get("event") == "auth_ok"
    )


async def test_a_connection_goes_on_with_a_fresh_token_and_no_longer_ends_with_the_first(
    server: Server, ada: Account, hub: Hub
):
    client = Client(server.url, labelled(server, ada, "first"), v="2")
    async with client.connected() as socket:
        await client.until_live(socket)
        fresh = labelled(server, ada, "fresh")
        told = await say_token(client, socket, fresh)
        assert told["payload"]["token_exp"] >= client.hello["token_exp"]
        known = hub.known_notice
        server.store.run(tokens.revoke, "ada", "first")
        await eventually(lambda: hub.known_notice > known)
        await (await socket.ping())
        server.store.run(tokens.revoke, "ada", "fresh")
        assert await code_of(socket) == lives.FORBIDDEN


async def test_a_connection_lives_as_long_as_the_fresh_token(server: Server, ada: Account, hub: Hub):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await say_token(client, socket, labelled(server, ada, "fresh"))
        later(hub, 3600 + 40.0)
        await client.until(socket, lambda message: message.get("event") == "ping")
        later(hub, 5 * 3600 + 40.0)
        assert await code_of(socket) == lives.TOKEN


async def test_a_token_that_is_no_good_leaves_the_connection_as_it_is(
    server: Server, ada: Account, hello: Tracked
):
    client, eve = server.client(ada), server.user("eve")
    revoked = labelled(server, ada, "revoked")
    server.store.run(tokens.revoke, "ada", "revoked")
    async with client.connected() as socket:
        await client.until_live(socket)
        for token in (revoked, server.token(eve), "no token", server.token(ada) + "x"):
            told = await say_token(client, socket, token)
            assert (told["type"], told["user_id"]) == ("error", ada.id)
        assert (await say_token(client, socket, server.token(ada)))["event"] == "auth_ok"
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)


async def test_a_token_that_may_not_read_events_is_not_taken(server: Server, ada: Account):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        told = await say_token(client, socket, labelled(server, ada, "other", frozenset({scope.REPOS_READ})))
        assert (told["type"], scope.EVENTS_READ in told["payload"]) == ("error", True)
        await (await socket.ping())


async def test_a_token_that_is_revoked_while_it_is_looked_at_ends_the_connection(
    server: Server, ada: Account, hub: Hub
):
    fresh = labelled(server, ada, "fresh")
    sign_in, known = hub.sign_in, hub.known_notice

    async def slowly(token: str, address: str) -> Caller:
        assert sign_in is not None
        caller = await sign_in(token, address)
        await asyncio.to_thread(server.store.run, tokens.revoke, "ada", "fresh")
        # The news comes while the connection still has the token before.
        await eventually(lambda: hub.known_notice > known)
        return caller

    hub.sign_in = slowly
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        assert (await say_token(client, socket, fresh))["event"] == "auth_ok"
        assert await code_of(socket) == lives.FORBIDDEN


async def test_where_nobody_says_who_a_token_signs_in_it_is_refused(server: Server, ada: Account, hub: Hub):
    hub.sign_in = None
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        assert (await say_token(client, socket, server.token(ada)))["type"] == "error"
        await (await socket.ping())


# Going.


async def test_who_is_there_when_a_server_goes_is_told_gets_what_is_being_written_and_is_sent_away(
    server: Server, ada: Account, hello: Tracked, hub: Hub
):
    client = server.client(ada)
    async with client.connected() as socket, legacy(server.url, server.token(ada)) as old:
        await client.until_live(socket)
        store = inside().store
        async with holding(store):
            delivering = asyncio.create_task(server.github.deliver(hello))
            await eventually(lambda: deliveries_waiting(store) > 0)
            going = asyncio.create_task(hub.drain(WAIT))
            told = await client.until(socket, lambda message: message.get("event") == "drain")
            assert 0 <= told["payload"]["after_ms"] < WAIT * 1000
            assert not client.applied
        await client.until_applied(socket, 1)
        while (message := await receive(old))["type"] != "github_event":
            pass  # that the repository is tracked, where this hub had not told that before it came
        assert message["seq"] == 1
        assert await code_of(socket) == await code_of(old) == lives.RESTARTING
        await going
        assert (await delivering).status_code == 200
    assert len(hub) == 0


@ON_SQLITE
async def test_who_are_many_are_sent_away_one_after_the_other_as_each_was_told(
    store: Store, alone: Hub, user: Account, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hubs, "LEAVE_AT_ONCE", 500)
    lines = [at_line(alone, store, user) for _ in range(300)]
    await eventually(lambda: all(each.session.live for each in alone._all()))
    going = asyncio.create_task(alone.drain(WAIT))
    await eventually(lambda: any(line.ended for line in lines))
    here = [after_ms(line) for line in lines if not line.ended]
    gone = [after_ms(line) for line in lines if line.ended]
    assert here, "all of them in the same moment"
    assert max(gone) <= min(here) + 1
    assert len({*here, *gone}) > 100
    assert max(here) <= 600
    await going
    assert len(alone) == 0


def after_ms(line: Line) -> int:
    """What a client was told of how long it still has."""
    (told,) = (
        each
        for each in map(json.loads, (event["data"] for event in sse(line)))
        if each.get("event") == "drain"
    )
    found: int = told["payload"]["after_ms"]
    return found


@ON_SQLITE
async def test_a_write_that_does_not_end_holds_nobody_longer_than_the_time_that_there_is(
    store: Store, alone: Hub, user: Account
):
    lines = [at_line(alone, store, user) for _ in range(3)]
    async with holding(store):
        await alone.drain(0.2)
        assert all(line.ended for line in lines)
        assert len(alone) == 0


@ON_SQLITE
async def test_where_nobody_is_a_server_goes_at_once_and_what_is_written_is_waited_for(
    store: Store, alone: Hub, user: Account
):
    async with holding(store):
        writing = asyncio.ensure_future(store.write(lambda _: None))
        going = asyncio.create_task(alone.drain(WAIT))
        await asyncio.sleep(0)
        assert not going.done()
    await going
    assert writing.done()


@ON_SQLITE
async def test_who_waits_for_an_event_is_answered_when_a_server_goes(store: Store, alone: Hub, user: Account):
    poll = Poll(begun(alone, store, user.id, after=0), alone, About("poll"))
    alone.attach(poll)
    waiting = asyncio.create_task(poll.messages(WAIT, poll.session.scanned))
    await eventually(lambda: poll.session.live)
    waiting.add_done_callback(lambda _: alone.detach(poll))
    await alone.drain(0.2)
    messages, cursor = await waiting
    assert (messages, cursor) == ([], f"{poll.session.epoch}.0")


async def test_who_is_disabled_in_the_moment_in_which_they_come_in_is_not_let_in(
    server: Server, ada: Account, hub: Hub
):
    """Its place is committed; before this server knows, the user is disabled, and everybody who is there is told."""
    writer = inside().store._writer
    assert writer is not None
    committed, held, go_on = writer._committed, threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        committed(tx)
        held.set()
        go_on.wait(WAIT)

    async def connect() -> None:
        async with server.client(ada).connected():
            pass

    writer._committed = hold
    coming = asyncio.create_task(connect())
    await asyncio.to_thread(held.wait, WAIT)
    known = hub.known_notice
    await asyncio.to_thread(server.store.run, accounts.disable, "ada")
    await eventually(lambda: hub.known_notice > known)
    go_on.set()
    with pytest.raises(InvalidStatus) as refused:
        await coming
    assert refused.value.response.status_code == 403
