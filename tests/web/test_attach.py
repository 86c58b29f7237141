"""What a v2 client may ask for when it comes, and say while it is there: limits, selections, resume, auth, drain."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from actors import Client, legacy, logged, push, receive
from conftest import Serve, Server, eventually, holding, inside
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.live.session import BAD_MESSAGE, FORBIDDEN, RESTARTING, TOKEN, TOKEN_GRACE
from cotexd.operations import accounts, events, tokens, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Event

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


def epoch(server: Server) -> str:
    return server.store.look(events.log).epoch


async def say(socket: ClientConnection, event: str, **fields: object) -> None:
    await socket.send(json.dumps({"type": "client_event", "event": event, **fields}))


def named(event: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("event") == event


async def refusal(client: Client, socket: ClientConnection) -> str:
    """What the server says of what it does not do."""
    told = await client.until(socket, lambda message: message["type"] == "error")
    return str(told["payload"])


async def code_of(socket: ClientConnection) -> int | None:
    """The code with which the server closes; what comes before is passed over."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await receive(socket)
    return socket.close_code


def later(seconds: float) -> None:
    """Let every connection know that time has passed."""
    for each in inside().hub._all():
        each.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


# How many may be connected.


async def turned_away(client: Client) -> tuple[int, str, int]:
    with pytest.raises(InvalidStatus) as caught:
        async with client.connected():
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body)["code"], int(response.headers["retry-after"])


@on_sqlite
async def test_a_user_with_as_many_connections_as_they_may_have_is_turned_away_until_one_ends(
    servers: Serve, settings: Settings
):
    server = await servers(replace(settings, max_connections_per_user=2))
    ada, eve = server.user("ada"), server.user("eve")
    client, token = server.client(ada), server.token(ada)
    async with client.connected() as first:
        await client.until_live(first)
        async with legacy(server.url, token):
            status, code, seconds = await turned_away(server.client(ada))
            assert (status, code) == (503, "too_many_connections")
            assert seconds > 0
            with pytest.raises(InvalidStatus):
                async with legacy(server.url, token):
                    pass
            theirs = server.client(eve)
            async with theirs.connected() as socket:
                await theirs.until_live(socket)
        await eventually(lambda: len(inside().hub) == 1)
        again = server.client(ada)
        async with again.connected() as socket:
            await again.until_live(socket)


@on_sqlite
async def test_a_server_with_as_many_connections_as_it_takes_turns_everybody_away(
    servers: Serve, settings: Settings
):
    server = await servers(replace(settings, max_connections=2))
    ada, eve = server.user("ada"), server.user("eve")
    one, two = server.client(ada), server.client(eve)
    async with one.connected() as first, two.connected() as second:
        await one.until_live(first)
        await two.until_live(second)
        for user in (ada, eve, server.user("carl")):
            assert (await turned_away(server.client(user)))[:2] == (503, "too_many_connections")
        # It is no deliveries, and no requests, that are too many.
        await server.github.deliver(server.track(ada))
        await one.until_applied(first, 1)
    await eventually(lambda: len(inside().hub) == 0)
    async with one.connected() as first:
        await one.until_live(first)


@on_sqlite
async def test_of_many_who_come_at_once_no_more_are_let_in_than_there_is_room_for(
    servers: Serve, settings: Settings
):
    server = await servers(replace(settings, max_connections_per_user=3))
    ada = server.user("ada")
    clients = [server.client(ada) for _ in range(10)]
    async with AsyncExitStack() as stack:
        coming = [asyncio.ensure_future(stack.enter_async_context(each.connected())) for each in clients]
        done = await asyncio.gather(*coming, return_exceptions=True)
        refused = [each for each in done if isinstance(each, InvalidStatus)]
        assert len(refused) == 7
        assert {each.response.status_code for each in refused} == {503}
        assert len(inside().hub) == 3
    await eventually(lambda: len(inside().hub) == 0)


@on_sqlite
async def test_who_is_refused_or_leaves_while_coming_keeps_no_place(servers: Serve, settings: Settings):
    server = await servers(replace(settings, max_connections_per_user=1))
    ada = server.user("ada")
    for query in ({"cursor": "none"}, {"device": "x" * 101}):
        with pytest.raises(InvalidStatus):
            async with server.client(ada, **query).connected():
                pass
    client = server.client(ada)
    async with holding(inside().store):
        leaving = asyncio.ensure_future(connect_and_wait(client))
        await eventually(lambda: inside().store.queued == 1)
        assert (await turned_away(client))[1] == "too_many_connections"
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

    async def let_in() -> bool:
        try:
            async with client.connected() as socket:
                await client.until_live(socket)
        except InvalidStatus:
            return False
        return True

    await eventually(let_in)


async def connect_and_wait(client: Client) -> None:
    async with client.connected() as socket:
        await socket.wait_closed()


# What a connection asks to be sent.


async def test_a_client_is_sent_what_it_asked_for_and_prev_leaps_over_the_rest(
    server: Server, ada: Account, hello: Tracked
):
    other = server.track(ada, "octo/Other")
    for repo in (hello, other):
        logged(server.store, repo)
        logged(server.store, repo, event="issues")
    for query, expected in (
        ({"repos": "OCTO/other"}, [3, 4]),
        ({"repos": f"nobody/nothing, {hello.id}"}, [1, 2]),
        ({"events": "issues,release"}, [2, 4]),
        ({"events": "push", "repos": "octo/hello,octo/other"}, [1, 3]),
        ({"events": "PUSH"}, []),
        ({"repos": " , ", "events": ""}, [1, 2, 3, 4]),
    ):
        client = server.client(ada, **query)
        client.cursor = f"{epoch(server)}.0"
        async with client.connected() as socket:
            live = await client.until_live(socket)
        assert (client.seqs, client.gaps) == (expected, []), query
        assert [each["prev"] for each in client.applied] == [0, *expected][: len(expected)]
        assert live["payload"]["seq"] == ([0, *expected])[-1]


async def test_live_events_that_were_not_asked_for_pass_unseen(server: Server, ada: Account, hello: Tracked):
    other = server.track(ada, "octo/other")
    some, everything = server.client(ada, repos="octo/other", events="issues"), server.client(ada)
    async with some.connected() as first, everything.connected() as second:
        await some.until_live(first)
        await everything.until_live(second)
        for repo, event in ((other, "issues"), (hello, "issues"), (other, "push"), (other, "issues")):
            await server.github.deliver(repo, event=event)
        await everything.until_applied(second, 4)
        await some.until_applied(first, 2)
    assert (some.seqs, [each["prev"] for each in some.applied]) == ([1, 4], [0, 1])
    assert everything.seqs == [1, 2, 3, 4]


async def test_a_device_that_asked_for_some_acknowledges_and_goes_on(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada, device="board", events="issues")
    async with client.connected() as socket:
        await client.until_live(socket)
        for event in ("issues", "push", "issues"):
            await server.github.deliver(hello, event=event)
        await client.until_applied(socket, 2)
        await say(socket, "ack", seq=1)
        await say(socket, "ack", seq=2)

        async def kept() -> bool:
            (device,) = (await server.get("/api/me/devices", ada)).json()
            return device["cursor"] == f"{epoch(server)}.2"

        await eventually(kept)
    again = server.client(ada, device="board", events="issues")
    async with again.connected() as socket:
        await again.until_live(socket)
    assert again.seqs == [3]


def purged(server: Server, upto: int) -> None:
    """Let the events up to a seq grow older than the retention, and purge."""
    retention = server.appliance.settings.retention
    old = datetime.now(UTC) - retention - timedelta(hours=1)
    server.store.run(lambda _: Event.update(created_at=old).where(Event.seq <= upto).execute())
    server.store.run(upkeep.purge, retention)


async def test_a_gap_counts_only_what_was_asked_for(server: Server, ada: Account, hello: Tracked):
    other = server.track(ada, "octo/other")
    logged(server.store, hello, 3)
    logged(server.store, hello, 2, event="issues")
    logged(server.store, other, 3)
    purged(server, 5)
    for query, missed in (
        ({"events": "issues"}, 2),
        ({"repos": "octo/hello"}, 4),
        ({}, 4),
        ({"repos": "octo/other"}, None),
        ({"events": "release"}, None),
    ):
        client = server.client(ada, **query)
        client.cursor = asked = f"{epoch(server)}.1"
        async with client.connected() as socket:
            await client.until_live(socket)
        expected = (
            [] if missed is None else [{"reason": "expired", "asked": asked, "floor": 5, "missed": missed}]
        )
        assert (client.gaps, client.hello["resume"]) == (expected, "gap" if expected else "ok"), query


@on_sqlite
async def test_a_legacy_client_asks_for_nothing_and_gets_everything(
    server: Server, ada: Account, hello: Tracked
):
    async with legacy(f"{server.url}", server.token(ada)) as socket:
        await server.github.deliver(hello, event="issues")
        while (message := await receive(socket))["type"] != "github_event":
            pass
        assert message["event"] == "issues"


# Resume.


async def test_a_client_resumes_without_reconnecting_and_goes_on_live(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
        logged(server.store, hello, 6)
        await client.until_applied(socket, 6)
        await say(socket, "resume", cursor=f"{epoch(server)}.2")
        greeting = await client.until(socket, named("hello"))
        assert {name: greeting["payload"][name] for name in ("resume", "from", "head", "v")} == {
            "resume": "ok",
            "from": 2,
            "head": 6,
            "v": 2,
        }
        assert (await client.until_live(socket))["payload"] == {"seq": 6}
        await server.github.deliver(hello)
        await client.until_applied(socket, 11)
        # Forward as well: what is passed over is not sent.
        logged(server.store, hello)
        await client.until_applied(socket, 12)
        await say(socket, "resume", cursor=f"{epoch(server)}.8")
        await client.until_live(socket)
        await server.github.deliver(hello)
        await client.until_applied(socket, 13)
    assert client.seqs == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 8, 9]
    assert [each["prev"] for each in client.applied] == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7, 8]


async def test_a_resume_may_hear_of_a_gap(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 5)
    purged(server, 3)
    client = server.client(ada)
    foreign = f"{'f' * len(epoch(server))}.4"
    async with client.connected() as socket:
        await client.until_live(socket)
        for asked, reason, start, missed in (
            (f"{epoch(server)}.1", "expired", 3, 2),
            (foreign, "epoch", 3, None),
            (f"{epoch(server)}.99", "ahead", 5, None),
        ):
            client.gaps.clear()
            await say(socket, "resume", cursor=asked)
            await client.until(socket, named("hello"))
            assert (client.hello["resume"], client.hello["from"]) == ("gap", start)
            await client.until_live(socket)
            assert client.gaps == [{"reason": reason, "asked": asked, "floor": 3, "missed": missed}]
        await server.github.deliver(hello)
        await client.until(socket, lambda message: message.get("seq") == 6)
    assert client.seqs == [4, 5, 4, 5, 6]


async def test_a_client_that_resumes_again_and_again_while_events_come_misses_none(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 200)
    client = server.client(ada)
    client.cursor = f"{epoch(server)}.0"

    async def deliver() -> None:
        for number in range(25):
            await server.github.deliver(hello, push(number))

    async with client.connected() as socket:
        senders = [asyncio.ensure_future(deliver()) for _ in range(2)]
        for turn in range(30):
            await client.take(socket)
            # Some come while the backlog is being read, some two at once.
            for _ in range(1 + turn % 2):
                await say(socket, "resume", cursor=f"{epoch(server)}.{turn}")
        await say(socket, "resume", cursor=f"{epoch(server)}.30")
        await client.until(
            socket, lambda message: named("hello")(message) and message["payload"]["from"] == 30
        )
        # The rule is asked of each message; what follows the last greeting is whole.
        client.applied.clear()
        await client.until(socket, lambda message: message.get("seq") == 250)
        await asyncio.gather(*senders)
    assert client.seqs == list(range(31, 251))


@on_sqlite
async def test_a_resume_keeps_what_the_connection_asked_for_and_who_keeps_its_cursor(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada, device="board", events="issues")
    async with client.connected() as socket:
        await client.until_live(socket)
        for event in ("issues", "push", "issues"):
            await server.github.deliver(hello, event=event)
        await client.until_applied(socket, 2)
        await say(socket, "resume", cursor=f"{epoch(server)}.1")
        await client.until_live(socket)
        assert client.seqs == [1, 3, 3]
        await say(socket, "ack", seq=3)

        async def kept() -> bool:
            (device,) = (await server.get("/api/me/devices", ada)).json()
            return device["cursor"] == f"{epoch(server)}.3"

        await eventually(kept)


@on_sqlite
async def test_fields_of_a_client_event_may_also_lie_in_its_payload(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 3)
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await say(socket, "resume", payload={"cursor": f"{epoch(server)}.1"})
        await client.until_applied(socket, 2)
        await say(socket, "auth", payload={"token": server.token(ada)})
        await client.until(socket, named("auth_ok"))
    assert client.seqs == [2, 3]


@on_sqlite
@pytest.mark.parametrize(
    "said",
    [
        {"event": "resume"},
        {"event": "resume", "cursor": ""},
        {"event": "resume", "cursor": "5"},
        {"event": "resume", "cursor": 5},
        {"event": "resume", "cursor": "e0.-1"},
        {"event": "resume", "payload": {"cursor": None}},
        {"event": "auth"},
        {"event": "auth", "token": ""},
        {"event": "auth", "token": 5},
        {"event": "auth", "payload": "a.b.c"},
    ],
    ids=repr,
)
async def test_a_resume_or_an_auth_without_what_it_needs_is_a_bad_message(
    server: Server, ada: Account, said: dict[str, object]
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await socket.send(json.dumps({"type": "client_event", **said}))
        assert await code_of(socket) == BAD_MESSAGE


# A fresh token in band.


def in_time(answer: dict[str, Any], lifetime: timedelta) -> bool:
    expires = datetime.fromisoformat(answer["payload"]["token_exp"])
    return abs(expires - datetime.now(UTC) - lifetime) < timedelta(minutes=1)


async def test_a_fresh_token_moves_the_end_of_the_connection(server: Server, ada: Account, hello: Tracked):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        later(3600 - 55.0)
        told = await client.until(socket, named("token_expiring"))
        assert told["payload"] == {"token_exp": client.hello["token_exp"]}
        await say(socket, "auth", token=server.token(ada, timedelta(hours=2)))
        assert in_time(await client.until(socket, named("auth_ok")), timedelta(hours=2))
        later(3600 + TOKEN_GRACE + 5)
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        later(2 * 3600 - 55.0)
        assert in_time(await client.until(socket, named("token_expiring")), timedelta(hours=2))
        later(2 * 3600 + TOKEN_GRACE + 5)
        assert await code_of(socket) == TOKEN


@on_sqlite
async def test_a_token_that_expires_soon_is_told_at_once(server: Server, ada: Account):
    client = Client(server.url, server.token(ada, timedelta(seconds=40)))
    async with client.connected() as socket:
        await client.until(socket, named("token_expiring"))


@on_sqlite
async def test_a_token_that_is_not_good_is_refused_and_the_connection_goes_on_with_its_own(
    server: Server, ada: Account, hello: Tracked
):
    eve = server.user("eve")
    revoked = server.store.run(tokens.issue, "ada", label="doomed").token
    server.store.run(tokens.revoke, "ada", "doomed")
    other = server.store.run(tokens.issue, "ada", scopes=frozenset({scope.REPOS_READ})).token
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        for token, word in (
            ("garbage", "token"),
            (revoked, "revoked"),
            (server.token(eve), "another user"),
            (other, "events:read"),
        ):
            await say(socket, "auth", token=token)
            assert word in await refusal(client, socket)
        assert not [each for each in client.received if each.get("event") == "auth_ok"]
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        later(3600 + TOKEN_GRACE + 5)
        assert await code_of(socket) == TOKEN


@on_sqlite
async def test_after_a_fresh_token_the_old_one_may_be_revoked_and_the_fresh_one_ends_it(
    server: Server, ada: Account, hello: Tracked
):
    first = server.store.run(tokens.issue, "ada", label="first").token
    second = server.store.run(tokens.issue, "ada", label="second").token
    client = Client(server.url, first)
    async with client.connected() as socket:
        await client.until_live(socket)
        await say(socket, "auth", token=second)
        await client.until(socket, named("auth_ok"))
        server.store.run(tokens.revoke, "ada", "first")
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
        server.store.run(tokens.revoke, "ada", "second")
        assert await code_of(socket) == FORBIDDEN


@on_sqlite
async def test_a_second_auth_while_one_is_looked_at_is_refused(server: Server, ada: Account):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        fresh = server.token(ada)
        for _ in range(20):
            await say(socket, "auth", token=fresh)
        answers = []
        while len(answers) < 20:
            message = await client.take(socket)
            if message["type"] == "error" or message.get("event") == "auth_ok":
                answers.append(message)
        assert any(message.get("event") == "auth_ok" for message in answers)


@on_sqlite
async def test_a_user_who_is_disabled_cannot_stay_by_a_fresh_token(server: Server, ada: Account):
    client, fresh = server.client(ada), server.token(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        server.store.run(accounts.disable, "ada")
        with contextlib.suppress(ConnectionClosed):
            await say(socket, "auth", token=fresh)
        assert await code_of(socket) == FORBIDDEN
        assert not [each for each in client.received if each.get("event") == "auth_ok"]


@on_sqlite
async def test_a_legacy_client_says_auth_and_resume_to_nobody(server: Server, ada: Account, hello: Tracked):
    async with legacy(server.url, server.token(ada)) as socket:
        await say(socket, "auth", token="garbage")
        await say(socket, "resume", cursor="garbage")
        await server.github.deliver(hello)
        while (message := await receive(socket))["type"] == "system_event":
            assert isinstance(message["payload"], str)
        assert (message["type"], message["seq"]) == ("github_event", 1)


# Drain.


async def test_a_server_that_stops_says_when_it_closes_and_then_closes_to_be_back(
    server: Server, ada: Account, hello: Tracked
):
    client, token = server.client(ada), server.token(ada)
    async with client.connected() as socket, legacy(server.url, token) as older:
        await client.until_live(socket)
        draining = asyncio.ensure_future(inside().hub.drain(2.0))
        told = await client.until(socket, named("drain"))
        assert told["payload"].keys() == {"after_ms"}
        assert 0 <= told["payload"]["after_ms"] <= 2000
        assert await code_of(socket) == RESTARTING
        # One who does not know the word is closed without it.
        with contextlib.suppress(ConnectionClosed):
            while True:
                assert isinstance((await receive(older))["payload"], str)
        assert older.close_code == RESTARTING
        await draining
    assert len(inside().hub) == 0
