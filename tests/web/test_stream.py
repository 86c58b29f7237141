"""Server-sent events. The long poll is in test_poll.py."""

import asyncio
import json
import shutil
import socket as sockets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from actors import WAIT, EventSource, logged, push
from conftest import Serve, Server, eventually, inside

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.live.session import BOUND, TOKEN_GRACE
from cotexd.live.stream import CONTENT_TYPE
from cotexd.operations import accounts, events, tokens, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Event
from cotexd.web.stream import RECONNECT

# What does not depend on the database is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
STREAM = "/api/events/stream"


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


def source(server: Server, user: Account, **query: str) -> EventSource:
    return EventSource(server.url, server.token(user), **query)


def epoch(server: Server) -> str:
    return server.store.look(events.log).epoch


def later(seconds: float) -> None:
    """Let every connection know that time has passed."""
    for each in inside().hub._all():
        each.tick(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


async def refused(server: Server, user: Account | None, query: str = "", **headers: str) -> tuple[int, str]:
    answer = await server.get(STREAM + query, user, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(inside().hub) == 0
    return answer.status_code, answer.json()["code"]


# The stream.


async def test_a_stream_greets_is_live_and_then_has_every_event_in_order_with_its_cursor(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 2)
    stream, log = source(server, ada), epoch(server)
    async with stream.connected() as response:
        assert (response.status_code, response.headers["content-type"]) == (200, CONTENT_TYPE)
        assert "content-length" not in response.headers
        await stream.until_live()
        answers = [await server.github.deliver(hello, push(number)) for number in range(3)]
        await stream.until_applied(3)
    # Notices may come at any time.
    told = [(message, name) for message, name in stream.everything if message.get("event") != "notice"]
    first, second, *rest = [message for message, _ in told]
    assert (first["type"], first["event"], first["payload"]["resume"]) == ("system_event", "hello", "new")
    assert (first["payload"]["epoch"], first["payload"]["from"]) == (log, 2)
    assert (second["event"], second["payload"]) == ("live", {"seq": 2})
    assert [each["event_id"] for each in rest] == [answer.json()["event_id"] for answer in answers]
    assert [(each["seq"], each["prev"], each["user_id"]) for each in rest] == [
        (3, 2, ada.id),
        (4, 3, ada.id),
        (5, 4, ada.id),
    ]
    assert [name for _, name in told] == [f"{log}.2", None, *(f"{log}.{seq}" for seq in (3, 4, 5))]
    assert RECONNECT[0] <= stream.retry <= RECONNECT[1]


async def test_a_stream_has_the_messages_of_a_websocket(server: Server, ada: Account, hello: Tracked):
    stream, client = source(server, ada), server.client(ada)
    async with stream.connected(), client.connected() as socket:
        await stream.until_live()
        await client.until_live(socket)
        await server.github.deliver(hello)
        await stream.until_applied(1)
        await client.until_applied(socket, 1)
    assert stream.received[-1] == client.applied[0]


@on_sqlite
async def test_a_message_with_line_breaks_in_it_is_one_event(server: Server, ada: Account, hello: Tracked):
    stream = source(server, ada)
    odd = "a\nb\r\nc\rd\u2028e\x85f\x0bg: h"
    async with stream.connected():
        await stream.until_live()
        await server.github.deliver(hello, {"action": "opened", "issue": {"title": odd}}, event="issues")
        await stream.until_applied(1)
    assert stream.received[-1]["payload"]["metadata"]["issue_title"] == odd


@on_sqlite
async def test_a_stream_is_dressed_as_every_answer(server: Server, ada: Account):
    async with source(server, ada).connected(x_request_id="my-id") as response:
        assert response.headers["x-request-id"] == "my-id"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["ratelimit-policy"].startswith('"upgrades";')
        assert response.headers["x-accel-buffering"] == "no"
    async with source(server, ada).connected() as response:
        assert len(response.headers["x-request-id"]) == 32


@on_sqlite
async def test_it_is_pinged_so_that_a_proxy_sees_that_it_lives(server: Server, ada: Account, hello: Tracked):
    stream = source(server, ada)
    async with stream.connected():
        await stream.until_live()
        await server.github.deliver(hello)
        await stream.until_applied(1)
        later(25.5)
        told = await stream.until(lambda message: message.get("event") == "ping")
        assert told["payload"] == {"seq": 1}
        # It can say nothing, so its silence is none.
        later(60.0)
        await server.github.deliver(hello)
        await stream.until_applied(2)
    assert stream.last_event_id == f"{epoch(server)}.2"


# Going on.


async def test_it_goes_on_exactly_after_its_last_event_id_which_goes_before_the_cursor(
    server: Server, ada: Account, hello: Tracked
):
    stream = source(server, ada, cursor=f"{epoch(server)}.0")
    logged(server.store, hello, 3)
    async with stream.connected():
        await stream.until_applied(3)
    logged(server.store, hello, 2)
    async with stream.connected():
        await stream.until_live()
        await server.github.deliver(hello)
        await stream.until_applied(6)
    assert stream.seqs == [1, 2, 3, 4, 5, 6]
    hellos = [each["payload"] for each in stream.received if each.get("event") == "hello"]
    assert [(each["resume"], each["from"]) for each in hellos] == [("ok", 0), ("ok", 3)]


async def test_who_reconnects_again_and_again_gets_each_event_once(
    server: Server, ada: Account, hello: Tracked
):
    stream = source(server, ada, cursor=f"{epoch(server)}.0")

    async def deliver() -> None:
        for number in range(20):
            await server.github.deliver(hello, push(number))

    senders = [asyncio.ensure_future(deliver()) for _ in range(3)]
    while len(stream.seqs) < 60:
        async with stream.connected():
            await stream.until_applied(min(60, len(stream.seqs) + 7))
    await asyncio.gather(*senders)
    assert stream.seqs == list(range(1, 61))


async def test_a_device_goes_on_after_what_it_has_acknowledged_by_rest(
    server: Server, ada: Account, hello: Tracked
):
    stream = source(server, ada, device="board")
    async with stream.connected():
        await stream.until_live()
        logged(server.store, hello, 3)
        await stream.until_applied(3)
        await server.request(
            "POST", "/api/github-events/ack", ada, json={"cursor": f"{epoch(server)}.2", "device": "board"}
        )
    again = source(server, ada, device="board")
    async with again.connected():
        await again.until_live()
    assert (again.received[0]["payload"]["resume"], again.seqs) == ("ok", [3])


async def test_what_is_gone_is_announced_and_the_cursor_after_it_goes_on(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 10)
    retention = server.appliance.settings.retention
    old = datetime.now(UTC) - retention - timedelta(hours=1)
    server.store.run(lambda _: Event.update(created_at=old).where(Event.seq <= 6).execute())
    server.store.run(upkeep.purge, retention)
    asked = f"{epoch(server)}.2"
    stream = source(server, ada, cursor=asked)
    async with stream.connected():
        gap = await stream.until(lambda message: message.get("event") == "gap")
        assert gap["payload"] == {"reason": "expired", "asked": asked, "floor": 6, "missed": 4}
    assert stream.last_event_id == f"{epoch(server)}.6"
    async with stream.connected():
        await stream.until_live()
    assert stream.seqs == [7, 8, 9, 10]
    assert [each.get("event") for each in stream.received].count("gap") == 1


async def test_it_has_only_what_it_asked_for_and_its_prev_says_so(
    server: Server, ada: Account, hello: Tracked
):
    other = server.track(ada, "octo/Other")
    for repo in (hello, other):
        logged(server.store, repo)
        logged(server.store, repo, event="issues")
    wanted = {"repos=OCTO/other": [3, 4], f"repos={hello.id}": [1, 2], "events=issues,release": [2, 4]}
    for query, seqs in wanted.items():
        name, _, value = query.partition("=")
        stream = source(server, ada, cursor=f"{epoch(server)}.0", **{name: value})
        async with stream.connected():
            assert (await stream.until_live())["payload"] == {"seq": seqs[-1]}
        assert stream.seqs == seqs
        prevs = [each["prev"] for each in stream.received if each["type"] == "github_event"]
        assert prevs == [0, *seqs[:-1]]
    live = source(server, ada, repos="octo/other", events="issues")
    async with live.connected():
        await live.until_live()
        for repo, event in ((hello, "issues"), (other, "push"), (other, "issues")):
            await server.github.deliver(repo, event=event)
        await live.until_applied(1)
    assert live.seqs == [7]


async def test_another_users_events_are_not_in_it(server: Server, ada: Account, hello: Tracked):
    eve = server.user("eve")
    theirs = server.track(eve, "octo/other")
    stream = source(server, eve, cursor=f"{epoch(server)}.0")
    logged(server.store, hello, 3)
    async with stream.connected():
        await stream.until_live()
        await server.github.deliver(hello)
        await server.github.deliver(theirs)
        await stream.until_applied(1)
    assert stream.seqs == [5]


# Who is refused.


@on_sqlite
async def test_without_a_good_token_there_is_no_stream(server: Server, ada: Account):
    revoked = server.token(ada)
    server.store.run(tokens.revoke, "ada")
    for token in ("garbage", revoked):
        answer = await refused(server, None, authorization=f"Bearer {token}")
        assert answer == (401, "unauthorized")
    assert await refused(server, None) == (401, "unauthorized")
    assert await refused(server, None, f"?token={server.token(ada)}") == (401, "unauthorized")


@on_sqlite
async def test_who_may_not_read_events_is_refused_by_name(server: Server, ada: Account):
    other = server.store.run(tokens.issue, "ada", scopes=frozenset({scope.REPOS_READ})).token
    answer = await refused(server, None, authorization=f"Bearer {other}")
    assert answer == (403, "insufficient_scope")
    token = server.token(ada)
    server.store.run(accounts.disable, "ada")
    assert await refused(server, None, authorization=f"Bearer {token}") == (403, "forbidden")


@on_sqlite
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("cursor=1", "invalid_cursor"),
        ("cursor=e0.-1", "invalid_cursor"),
        ("cursor=%00", "invalid_cursor"),
        (f"device={'x' * 101}", "invalid"),
        ("device=a%00b", "invalid"),
        (f"repos={','.join(['x'] * 101)}", "invalid"),
        (f"repos={'x' * 201}", "invalid"),
        (f"events={'x,' * 101}", "invalid"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(server: Server, ada: Account, query: str, code: str):
    assert await refused(server, ada, f"?{query}") == (400, code)


@on_sqlite
async def test_a_last_event_id_that_is_no_cursor_is_refused(server: Server, ada: Account):
    good = f"?cursor={epoch(server)}.0"
    for given in ("1", "e0.-1", "x" * 5000):
        assert await refused(server, ada, good, **{"last-event-id": given}) == (400, "invalid_cursor")


@on_sqlite
async def test_pages_of_an_allowed_origin_may_read_it_and_others_may_not(servers: Serve, settings: Settings):
    server = await servers(replace(settings, allowed_origins=("https://app.example.com",)))
    ada = server.user("ada")
    async with source(server, ada).connected(origin="https://app.example.com") as response:
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
        assert response.headers["vary"] == "origin"
        assert "x-request-id" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers
    await eventually(lambda: len(inside().hub) == 0)
    answer = await server.get(STREAM, ada, headers={"origin": "https://evil.example.com"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@on_sqlite
async def test_a_browser_may_ask_before_whether_it_may_send_its_last_event_id(
    servers: Serve, settings: Settings
):
    server = await servers(replace(settings, allowed_origins=("https://app.example.com",)))
    asked = {
        "origin": "https://app.example.com",
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization,last-event-id",
    }
    answer = await server.request("OPTIONS", STREAM, headers=asked)
    assert answer.status_code == 204
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "last-event-id"} <= set(allowed)


@on_sqlite
async def test_a_server_that_drains_begins_no_stream(server: Server, ada: Account):
    inside().draining = True
    answer = await server.get(STREAM, ada)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


@on_sqlite
async def test_streams_are_among_the_connections_that_a_user_may_have(servers: Serve, settings: Settings):
    server = await servers(replace(settings, max_connections_per_user=2))
    ada, eve = server.user("ada"), server.user("eve")
    stream, client = source(server, ada), server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        async with stream.connected():
            await stream.until_live()
            answer = await server.get(STREAM, ada)
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_connections")
            assert int(answer.headers["retry-after"]) > 0
            async with source(server, eve).connected() as response:
                assert response.status_code == 200
        await eventually(lambda: len(inside().hub) == 1)
        async with stream.connected() as response:
            assert response.status_code == 200


# Who is shut out.


@pytest.mark.parametrize("how", ["disabled", "revoked"])
async def test_who_may_not_read_any_more_is_cut_off_and_the_next_request_says_why(
    server: Server, ada: Account, how: str
):
    eve = server.user("eve")
    doomed = server.store.run(tokens.issue, "ada", label="doomed").token
    stream, other = EventSource(server.url, doomed), source(server, eve)
    async with stream.connected(), other.connected():
        await stream.until_live()
        await other.until_live()
        if how == "disabled":
            server.store.run(accounts.disable, "ada")
        else:
            server.store.run(tokens.revoke, "ada", "doomed")
        await stream.ended()
        await server.github.deliver(server.track(eve))
        await other.until_applied(1)
    answer = await server.get(STREAM, headers={"authorization": f"Bearer {doomed}"})
    expected = (403, "forbidden") if how == "disabled" else (401, "unauthorized")
    assert (answer.status_code, answer.json()["code"]) == expected


@on_sqlite
async def test_a_stream_is_told_that_its_token_ends_and_outlives_it_by_the_grace_and_no_more(
    server: Server, ada: Account, hello: Tracked
):
    stream = source(server, ada)
    async with stream.connected():
        await stream.until_live()
        later(3600 - 55.0)
        told = await stream.until(lambda message: message.get("event") == "token_expiring")
        assert told["payload"]["token_exp"] == stream.received[0]["payload"]["token_exp"]
        later(3600 + TOKEN_GRACE - 5)
        await server.github.deliver(hello)
        await stream.until_applied(1)
        later(3600 + TOKEN_GRACE + 1)
        await stream.ended()
    assert stream.last_event_id == f"{epoch(server)}.1"


# Who is slow, and who is gone.


def big(number: int) -> dict[str, Any]:
    """A push whose summary has about 40 KB."""
    commit = {"id": f"{number:040x}", "added": [f"{number}/{'x' * 60}/{file}" for file in range(300)]}
    return push(number, commits=[commit])


@on_sqlite
async def test_a_slow_reader_costs_a_bounded_buffer_and_loses_nothing(
    server: Server, ada: Account, hello: Tracked
):
    stream, sizes = source(server, ada), []
    hub = inside().hub
    async with stream.connected():
        await stream.until_live()
        (slow,) = hub._all()
        transport: Any = slow._transport
        transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 32 * 1024)
        while slow.session.live or len(sizes) < 5:
            seqs = logged(server.store, hello, 10, payload=big(len(sizes)))
            await eventually(lambda upto=seqs[-1]: hub.head == upto)
            sizes.append(slow.waiting)
        head = hub.head
        await stream.until_applied(head)
        assert stream.seqs == list(range(1, head + 1))
        await eventually(lambda: slow.session.live)
        await server.github.deliver(hello)
        await stream.until_applied(head + 1)
    assert 0 < max(sizes) <= BOUND + 1024 * 10, "more than the bound, and what frames the events"


@on_sqlite
async def test_a_client_that_disappears_is_forgotten(server: Server, ada: Account, hello: Tracked):
    stream = source(server, ada)
    async with stream.connected():
        await stream.until_live()
        assert len(inside().hub) == 1
    await eventually(lambda: len(inside().hub) == 0)
    assert (await server.github.deliver(hello)).status_code == 200


@on_sqlite
async def test_what_a_client_says_after_its_request_is_not_heard(
    server: Server, ada: Account, hello: Tracked
):
    head = f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token(ada)}\r\n\r\n"
    host, port = httpx.URL(server.url).host, httpx.URL(server.url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode() + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + b"\xff" * 200_000)
    await asyncio.wait_for(reader.readuntil(b'"live"'), WAIT)
    await server.github.deliver(hello)
    await asyncio.wait_for(reader.readuntil(b'"seq":1'), WAIT)
    writer.transport.abort()


@on_sqlite
async def test_it_is_one_of_those_who_are_connected(server: Server, ada: Account):
    stream = source(server, ada, device="board")
    async with stream.connected():
        await stream.until_live()

        async def shown() -> bool:
            devices = (await server.get("/api/me/devices", ada)).json()
            return [(each["device"], each["protocol"], each["connections"]) for each in devices] == [
                ("board", "stream", 1)
            ]

        await eventually(shown)


# With another client.


@on_sqlite
@pytest.mark.skipif(shutil.which("curl") is None, reason="THERE IS NO CURL")
async def test_curl_prints_events_as_they_come(server: Server, ada: Account, hello: Tracked):
    running = await asyncio.create_subprocess_exec(
        *("curl", "--no-progress-meter", "-N", "--noproxy", "*", "--fail"),
        *("-H", f"authorization: Bearer {server.token(ada)}", server.url + STREAM),
        stdout=asyncio.subprocess.PIPE,
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(WAIT):
            while b'"live"' not in await running.stdout.readline():
                pass
            await server.github.deliver(hello, guid="the-guid")
            while (line := await running.stdout.readline()) != f"id: {epoch(server)}.1\n".encode():
                assert line, "it has ended"
            assert await running.stdout.readline() == b"event: github_event\n"
            data = (await running.stdout.readline()).removeprefix(b"data: ")
    finally:
        running.terminate()
        await running.wait()
    assert json.loads(data)["payload"]["id"] == "the-guid"
    await eventually(lambda: len(inside().hub) == 0)
