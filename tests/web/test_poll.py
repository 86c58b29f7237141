"""The long poll, the other half of cotexd/web/stream.py."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from actors import join, logged, push
from conftest import Serve, Server, eventually, inside

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.live.session import BOUND
from cotexd.operations import accounts, events, tokens, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Event
from cotexd.web import stream

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
LONG = 50
"""seconds, and longer than any test waits: an answer that comes has come before"""


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


async def poll(server: Server, user: Account, **query: Any) -> tuple[list[dict[str, Any]], str]:
    answer = await server.get("/api/events", user, params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    told = answer.json()
    assert told.keys() == {"messages", "cursor"}
    return told["messages"], told["cursor"]


async def refused(server: Server, user: Account | None, **query: Any) -> tuple[int, str]:
    answer = await server.get("/api/events", user, params=query)
    return answer.status_code, answer.json()["code"]


def cursor(server: Server, seq: int) -> str:
    return f"{server.store.look(events.log).epoch}.{seq}"


def seqs(messages: list[dict[str, Any]]) -> list[int]:
    return [each["seq"] for each in messages]


def polling() -> int:
    return sum(each.about.protocol == "poll" for each in inside().hub._all())


# What it answers.


async def test_without_a_cursor_it_answers_at_once_with_the_head_and_nothing_else(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 3)
    for query in ({}, {"wait": LONG}):
        assert await poll(server, ada, **query) == ([], cursor(server, 3))


async def test_what_is_there_comes_at_once(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 3)
    for query in ({}, {"wait": 0}, {"wait": 1}, {"wait": LONG}):
        messages, following = await poll(server, ada, after=cursor(server, 1), **query)
        assert (seqs(messages), following) == ([2, 3], cursor(server, 3)), query
    assert [each["prev"] for each in messages] == [1, 2]


async def test_a_message_is_that_of_a_websocket(server: Server, ada: Account, hello: Tracked):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(hello)
        await client.until_applied(socket, 1)
    messages, _ = await poll(server, ada, after=cursor(server, 0), wait=LONG)
    assert messages == client.applied


async def test_where_there_is_nothing_it_waits_and_the_first_event_ends_it(
    server: Server, ada: Account, hello: Tracked
):
    _, head = await poll(server, ada)
    waiting = asyncio.ensure_future(poll(server, ada, after=head, wait=LONG))
    await eventually(lambda: polling() == 1)
    assert not waiting.done()
    await server.github.deliver(hello, guid="the-guid")
    (message,), following = await waiting
    assert (message["payload"]["id"], following) == ("the-guid", cursor(server, 1))
    assert polling() == 0


@on_sqlite
async def test_the_time_that_it_waits_is_the_clients_up_to_a_bound(
    server: Server, ada: Account, hello: Tracked, monkeypatch: pytest.MonkeyPatch
):
    logged(server.store, hello)
    assert await poll(server, ada, after=cursor(server, 1), wait=1) == ([], cursor(server, 1))
    monkeypatch.setattr(stream, "MAX_WAIT", 1)
    assert await poll(server, ada, after=cursor(server, 1), wait=99999) == ([], cursor(server, 1))


async def test_what_is_another_users_moves_the_cursor_and_is_not_told(
    server: Server, ada: Account, hello: Tracked
):
    theirs = server.track(server.user("eve"), "octo/other")
    logged(server.store, hello)
    logged(server.store, theirs, 4)
    assert await poll(server, ada, after=cursor(server, 1)) == ([], cursor(server, 5))
    waiting = asyncio.ensure_future(poll(server, ada, after=cursor(server, 5), wait=LONG))
    await eventually(lambda: polling() == 1)
    await server.github.deliver(theirs)
    await server.github.deliver(hello)
    messages, following = await waiting
    assert (seqs(messages), following) == ([7], cursor(server, 7))


async def test_a_member_gets_what_is_shared(server: Server, hello: Tracked):
    eve = server.user("eve")
    logged(server.store, hello)
    server.store.run(join, eve.id, hello.id)
    logged(server.store, hello)
    messages, _ = await poll(server, eve, after=cursor(server, 0))
    assert [(each["seq"], each["user_id"]) for each in messages] == [(2, eve.id)]


async def test_it_has_only_what_it_asked_for(server: Server, ada: Account, hello: Tracked):
    other = server.track(ada, "octo/other")
    for repo in (hello, other):
        logged(server.store, repo)
        logged(server.store, repo, event="issues")
    after = cursor(server, 0)
    for query, expected in (
        ({"repos": "OCTO/other"}, [3, 4]),
        ({"repos": hello.id}, [1, 2]),
        ({"events": "issues"}, [2, 4]),
        ({"events": "issues", "repos": "octo/hello"}, [2]),
        ({"events": "release"}, []),
    ):
        messages, following = await poll(server, ada, after=after, **query)
        # The cursor passes what was not asked for.
        assert (seqs(messages), following) == (expected, cursor(server, 4)), query
    waiting = asyncio.ensure_future(poll(server, ada, after=following, wait=LONG, events="issues"))
    await eventually(lambda: polling() == 1)
    await server.github.deliver(hello)
    await server.github.deliver(hello, event="issues")
    assert seqs((await waiting)[0]) == [6]


# Going on.


async def test_who_asks_again_with_each_cursor_gets_each_event_once_in_order(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 100)
    after, got = cursor(server, 0), []

    async def deliver() -> None:
        for number in range(25):
            await server.github.deliver(hello, push(number))

    senders = [asyncio.ensure_future(deliver()) for _ in range(4)]
    while len(got) < 200:
        last = int(after.rpartition(".")[2])
        messages, after = await poll(server, ada, after=after, wait=LONG)
        assert messages[0]["prev"] == last
        got += seqs(messages)
    await asyncio.gather(*senders)
    assert got == list(range(1, 201))
    assert await poll(server, ada, after=after) == ([], cursor(server, 200))


async def test_two_who_poll_side_by_side_get_everything_each(server: Server, ada: Account, hello: Tracked):
    async def follow() -> list[int]:
        after, got = cursor(server, 0), []
        while len(got) < 40:
            messages, after = await poll(server, ada, after=after, wait=LONG, events="push")
            got += seqs(messages)
        return got

    followers = [asyncio.ensure_future(follow()) for _ in range(2)]
    for number in range(40):
        await server.github.deliver(hello, push(number))
    assert await asyncio.gather(*followers) == [list(range(1, 41))] * 2


def big(number: int) -> dict[str, Any]:
    """A push whose summary has about 40 KB."""
    commit = {"id": f"{number:040x}", "added": [f"{number}/{'x' * 60}/{file}" for file in range(300)]}
    return push(number, commits=[commit])


@on_sqlite
async def test_an_answer_is_bounded_and_its_cursor_has_the_rest(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 20, payload=big(1))
    after, got, bearer = cursor(server, 0), [], {"authorization": f"Bearer {server.token(ada)}"}
    while len(got) < 20:
        answer = await server.get("/api/events", params={"after": after, "wait": LONG}, headers=bearer)
        assert len(answer.content) < BOUND + 1024
        got += seqs(answer.json()["messages"])
        after = answer.json()["cursor"]
    assert got == list(range(1, 21))


def purged(server: Server, upto: int) -> None:
    """Let the events up to a seq grow older than the retention, and purge."""
    retention = server.appliance.settings.retention
    old = datetime.now(UTC) - retention - timedelta(hours=1)
    server.store.run(lambda _: Event.update(created_at=old).where(Event.seq <= upto).execute())
    server.store.run(upkeep.purge, retention)


async def test_what_is_gone_is_announced_once_and_the_cursor_goes_on_after_it(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 10)
    purged(server, 6)
    asked = cursor(server, 2)
    (gap, *rest), following = await poll(server, ada, after=asked)
    assert (gap["type"], gap["event"]) == ("system_event", "gap")
    assert gap["payload"] == {"reason": "expired", "asked": asked, "floor": 6, "missed": 4}
    assert (seqs(rest), following) == ([7, 8, 9, 10], cursor(server, 10))
    assert await poll(server, ada, after=following) == ([], following)


async def test_a_gap_with_nothing_after_it_is_told_without_waiting(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 3)
    purged(server, 3)
    (gap,), following = await poll(server, ada, after=cursor(server, 1), wait=LONG)
    assert (gap["payload"]["missed"], following) == (2, cursor(server, 3))


@on_sqlite
async def test_a_cursor_beyond_the_head_or_of_another_log_is_a_gap_and_goes_on_in_this_one(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 2)
    foreign = f"{'f' * len(cursor(server, 1).partition('.')[0])}.1"
    for asked, reason, expected in ((cursor(server, 9), "ahead", []), (foreign, "epoch", [1, 2])):
        (gap, *rest), following = await poll(server, ada, after=asked, wait=LONG)
        assert gap["payload"] == {"reason": reason, "asked": asked, "floor": 0, "missed": None}
        assert (seqs(rest), following) == (expected, cursor(server, 2))


# Who is refused.


@on_sqlite
@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "1e1", "٣", " 5", "5s", "9" * 30])
async def test_a_time_that_is_none_is_refused(server: Server, ada: Account, wait: str):
    for query in ({}, {"after": cursor(server, 0)}):
        assert await refused(server, ada, wait=wait, **query) == (400, "invalid")


@on_sqlite
@pytest.mark.parametrize("after", ["1", "e0.-1", ".", "\0", "x" * 5000, "e0.99999999999999999999"])
async def test_what_is_no_cursor_is_refused(server: Server, ada: Account, after: str):
    assert await refused(server, ada, after=after) == (400, "invalid_cursor")


@on_sqlite
async def test_who_may_not_read_events_is_refused_by_name(server: Server, ada: Account):
    after = cursor(server, 0)
    assert await refused(server, None, after=after) == (401, "unauthorized")
    other = server.store.run(tokens.issue, "ada", scopes=frozenset({scope.REPOS_READ})).token
    token = server.token(ada)
    server.store.run(accounts.disable, "ada")
    for given, code in ((other, "forbidden"), (token, "forbidden")):
        headers = {"authorization": f"Bearer {given}"}
        answer = await server.get("/api/events", params={"after": after}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, code)


@on_sqlite
async def test_a_token_for_other_things_is_refused(server: Server, ada: Account):
    other = server.store.run(tokens.issue, "ada", scopes=frozenset({scope.REPOS_READ})).token
    answer = await server.get("/api/events", headers={"authorization": f"Bearer {other}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


@on_sqlite
async def test_a_server_that_drains_lets_nobody_wait(server: Server, ada: Account):
    inside().draining = True
    answer = await server.get("/api/events", ada, params={"after": cursor(server, 0), "wait": LONG})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


@on_sqlite
async def test_polls_are_among_the_connections_that_a_user_may_have(servers: Serve, settings: Settings):
    server = await servers(replace(settings, max_connections_per_user=1))
    ada, eve = server.user("ada"), server.user("eve")
    repo, after = server.track(ada), cursor(server, 0)
    waiting = asyncio.ensure_future(poll(server, ada, after=after, wait=LONG))
    await eventually(lambda: polling() == 1)
    answer = await server.get("/api/events", ada, params={"after": after, "wait": LONG})
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_connections")
    assert int(answer.headers["retry-after"]) > 0
    assert await poll(server, eve, after=after) == ([], after)
    await server.github.deliver(repo)
    assert seqs((await waiting)[0]) == [1]
    assert seqs((await poll(server, ada, after=after))[0]) == [1]


# The end.


@pytest.mark.parametrize("how", ["disabled", "revoked"])
async def test_who_may_not_read_any_more_waits_no_longer(server: Server, ada: Account, how: str):
    doomed = server.store.run(tokens.issue, "ada", label="doomed").token
    asking = {
        "params": {"after": cursor(server, 0), "wait": LONG},
        "headers": {"authorization": f"Bearer {doomed}"},
    }
    waiting = asyncio.ensure_future(server.get("/api/events", **asking))
    await eventually(lambda: polling() == 1)
    if how == "disabled":
        server.store.run(accounts.disable, "ada")
    else:
        server.store.run(tokens.revoke, "ada", "doomed")
    assert (await waiting).json() == {"messages": [], "cursor": cursor(server, 0)}
    answer = await server.get("/api/events", **asking)
    assert answer.status_code == (403 if how == "disabled" else 401)


async def test_a_client_that_goes_away_leaves_nothing_behind(server: Server, ada: Account, hello: Tracked):
    bearer = {"authorization": f"Bearer {server.token(ada)}"}
    asking = {"after": cursor(server, 0), "wait": LONG}
    async with httpx.AsyncClient(trust_env=False) as http:
        waiting = asyncio.ensure_future(
            http.get(f"{server.url}/api/events", params=asking, headers=bearer, timeout=None)
        )
        await eventually(lambda: polling() == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await eventually(lambda: len(inside().hub) == 0)
    assert (await server.github.deliver(hello)).status_code == 200
    assert seqs((await poll(server, ada, after=asking["after"]))[0]) == [1]


@on_sqlite
async def test_a_poll_is_no_device(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello)
    await poll(server, ada, after=cursor(server, 0))
    assert (await server.get("/api/me/devices", ada)).json() == []
    listed = (await server.get("/api/github-events?undelivered=true", ada)).json()
    assert seqs(listed) == [1]


@on_sqlite
async def test_a_page_of_an_allowed_origin_may_read_it(servers: Serve, settings: Settings):
    server = await servers(replace(settings, allowed_origins=("https://app.example.com",)))
    ada = server.user("ada")
    for given, allowed in (("https://app.example.com", True), ("https://evil.example.com", False)):
        answer = await server.get("/api/events", ada, headers={"origin": given})
        assert ("access-control-allow-origin" in answer.headers) is allowed
