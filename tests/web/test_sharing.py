"""Sharing over REST, and what it does to the sockets that are open."""

import asyncio
from typing import Any

import httpx
import pytest
from actors import legacy, push, receive
from conftest import Server

from cotexd.operations import accounts, audit, members, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked

# What the database has no part in is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def bob(server: Server) -> Account:
    return server.user("bob")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


@pytest.fixture
def shared(server: Server, ada: Account, bob: Account, hello: Tracked) -> Tracked:
    """octo/hello, which ada shares with bob."""
    server.store.run(members.share, ada.id, hello.id, "bob")
    return hello


async def share(server: Server, who: Account, repo: Tracked, user: str) -> httpx.Response:
    return await server.request("POST", f"/api/repos/members?id={repo.id}", who, json={"user": user})


async def unshare(server: Server, who: Account, repo: Tracked, user: str) -> httpx.Response:
    return await server.request(
        "DELETE", f"/api/repos/members?id={repo.id}", who, params={"user": user, "id": repo.id}
    )


async def change(server: Server, who: Account, repo: Tracked, **wanted: Any) -> httpx.Response:
    return await server.request("PATCH", f"/api/repos?id={repo.id}", who, json=wanted)


async def seqs(server: Server, user: Account) -> list[int]:
    return [event["seq"] for event in (await server.get("/api/github-events", user)).json()]


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# Who shares with whom.


async def test_an_owner_shares_by_name_or_by_id(server: Server, ada: Account, bob: Account, hello: Tracked):
    eve = server.user("eve")
    for user, named in ((bob, "bob"), (eve, eve.id)):
        answer = await share(server, ada, hello, named)
        assert answer.status_code == 201
        member = answer.json()
        assert (member["user_id"], member["name"], member["role"]) == (user.id, user.name, "member")
        assert member["filter"] == {"events": [], "branches": [], "paths": []}
    done = server.store.look(audit.listing, limit=10, action="repo.share")
    assert [(each.actor, each.via, each.target, each.detail["user"]) for each in done] == [
        ("ada", "api", "octo/hello", "eve"),
        ("ada", "api", "octo/hello", "bob"),
    ]


async def test_a_member_sees_the_repository_and_what_comes_from_then_on(
    server: Server, ada: Account, bob: Account, hello: Tracked
):
    await server.github.deliver(hello)
    await share(server, ada, hello, "bob")
    await server.github.deliver(hello)
    assert await seqs(server, bob) == [2]
    assert await seqs(server, ada) == [2, 1]
    (seen,) = (await server.get("/api/repos", bob)).json()
    assert (seen["repo_name"], seen["role"], seen["user_id"]) == ("octo/hello", "member", ada.id)
    assert seen["webhook_secret"] == ""


async def test_everybody_who_sees_it_sees_who_else_does_the_owner_first(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    for user in (ada, bob):
        found = (await server.get(f"/api/repos/members?id={shared.id}", user)).json()
        assert [(each["name"], each["role"]) for each in found] == [("ada", "owner"), ("bob", "member")]
    answer = await server.get(f"/api/repos/members?id={shared.id}", server.user("eve"))
    assert told(answer) == (404, "not_found")


async def test_one_repository_never_reaches_a_user_by_two_ways(
    server: Server, ada: Account, bob: Account, hello: Tracked
):
    assert told(await share(server, ada, hello, "ada")) == (409, "conflict")
    theirs = server.track(bob, "Octo/Hello")
    assert told(await share(server, ada, hello, "bob")) == (409, "conflict")
    server.store.run(repositories.remove, bob.id, theirs.id)
    assert (await share(server, ada, hello, "bob")).status_code == 201
    assert told(await share(server, ada, hello, "bob")) == (409, "conflict")
    answer = await server.request("POST", "/api/repos", bob, json={"repo_name": "octo/HELLO"})
    assert told(answer) == (409, "conflict")


@on_sqlite
async def test_with_whom_must_be_somebody_who_is_here(server: Server, ada: Account, hello: Tracked):
    for named in ("nobody", "", "nobody@example.com", "x" * 300):
        assert told(await share(server, ada, hello, named)) == (404, "not_found")
    for body in ({}, {"user": None}, {"user": ["bob"]}, ["bob"]):
        answer = await server.request("POST", f"/api/repos/members?id={hello.id}", ada, json=body)
        assert told(answer) == (400, "invalid")
    assert told(await server.request("POST", "/api/repos/members", ada, json={"user": "bob"})) == (
        400,
        "invalid",
    )


@on_sqlite
async def test_a_repository_has_a_bounded_number_of_members(
    server: Server, ada: Account, bob: Account, hello: Tracked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(members, "MAX_MEMBERS", 1)
    assert (await share(server, ada, hello, "bob")).status_code == 201
    server.user("eve")
    assert told(await share(server, ada, hello, "eve")) == (400, "invalid")


async def test_a_member_may_leave_and_change_nothing_for_others(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    server.user("eve")
    server.store.run(members.share, ada.id, shared.id, "eve")
    for answer in (
        await unshare(server, bob, shared, "eve"),
        await unshare(server, bob, shared, "ada"),
        await share(server, bob, shared, "eve"),
        await change(server, bob, shared, status="paused"),
        await change(server, bob, shared, filter={"events": ["push"]}),
        await change(server, bob, shared, rotate_secret=True),
        await server.request("DELETE", f"/api/repos?id={shared.id}", bob),
        await server.request("DELETE", "/api/repos?name=octo/hello", bob),
    ):
        assert told(answer) == (404, "not_found")
    assert (await server.github.deliver(shared)).status_code == 200
    assert (await unshare(server, bob, shared, "bob")).status_code == 204
    assert (await server.get("/api/repos", bob)).json() == []
    assert len((await server.get(f"/api/repos/members?id={shared.id}", ada)).json()) == 2


@on_sqlite
async def test_the_owner_cannot_be_taken_out(server: Server, ada: Account, bob: Account, shared: Tracked):
    for who in (ada, bob):
        assert told(await unshare(server, who, shared, "ada")) == (404, "not_found")
    assert told(await unshare(server, ada, shared, "nobody")) == (404, "not_found")


async def test_who_left_and_comes_back_sees_both_times_and_not_what_came_between(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    await server.github.deliver(shared)
    assert (await unshare(server, ada, shared, "bob")).status_code == 204
    await server.github.deliver(shared)
    assert (await share(server, ada, shared, "bob")).status_code == 201
    await server.github.deliver(shared)
    assert await seqs(server, bob) == [3, 1]


async def test_a_removed_repository_is_gone_for_its_members(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    await server.github.deliver(shared)
    await server.request("DELETE", f"/api/repos?id={shared.id}", ada)
    assert (await server.get("/api/repos", bob)).json() == []
    assert await seqs(server, bob) == []


async def test_a_disabled_owner_takes_nothing_from_the_members(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    server.store.run(accounts.disable, "ada")
    assert (await server.github.deliver(shared)).status_code == 200
    assert await seqs(server, bob) == [1]


# On sockets that are open.


async def test_sharing_and_its_end_are_in_force_on_open_sockets(
    server: Server, ada: Account, bob: Account, hello: Tracked
):
    """Each change is in force with the answer to it: what is delivered after that is seen, or is not."""
    own = server.track(bob, "octo/own")
    client = server.client(bob)
    async with client.connected() as socket, legacy(server.url, server.token(bob)) as old:
        await client.until_live(socket)
        for turn in range(3):
            await server.github.deliver(hello)
            await share(server, ada, hello, "bob")
            await server.github.deliver(hello)
            await unshare(server, ada, hello, "bob")
            await server.github.deliver(hello)
            await server.github.deliver(own)
            await client.until_applied(socket, 2 * turn + 2)
        assert client.seqs == [2, 4, 6, 8, 10, 12]
        events = []
        while len(events) < 6:
            message = await receive(old)
            if message["type"] == "github_event":
                events.append(message["seq"])
        assert events == client.seqs


async def test_a_command_shares_with_an_open_socket_as_well(
    server: Server, ada: Account, bob: Account, hello: Tracked
):
    client = server.client(bob)
    async with client.connected() as socket, legacy(server.url, server.token(bob)) as old:
        await client.until_live(socket)
        server.store.run(members.share, ada.id, hello.id, "bob")
        await server.github.deliver(hello, push(1))
        server.store.run(members.unshare, ada.id, hello.id, "bob")
        await server.github.deliver(hello, push(2))
        sentences = []
        while len(sentences) < 2:
            message = await client.take(socket)
            if message.get("event") == "notice":
                sentences.append(message["payload"]["text"])
        assert client.seqs == [1]
        assert sentences == [
            "Repository octo/hello was shared with you",
            "Repository octo/hello is no longer shared with you",
        ]
        plain = [await receive(old) for _ in range(3)]
        assert sentences == [each["payload"] for each in plain if each["type"] == "system_event"]


async def test_members_and_owner_get_each_event_once_whatever_is_changed_meanwhile(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    mine, theirs = server.client(ada), server.client(bob)
    async with mine.connected() as first, theirs.connected() as second:
        await asyncio.gather(mine.until_live(first), theirs.until_live(second))
        for _ in range(10):
            await asyncio.gather(
                *(server.github.deliver(shared) for _ in range(5)),
                unshare(server, ada, shared, "bob"),
                server.github.deliver(shared),
            )
            await share(server, ada, shared, "bob")
        last = (await server.github.deliver(shared)).json()["seq"]
        while not mine.seqs or mine.seqs[-1] < last:
            await mine.take(first)
        while not theirs.seqs or theirs.seqs[-1] < last:
            await theirs.take(second)
    assert mine.seqs == list(range(1, 62))
    assert sorted(set(theirs.seqs)) == theirs.seqs == sorted(await all_of(server, bob))


async def all_of(server: Server, user: Account) -> list[int]:
    answer = await server.get("/api/github-events?limit=100", user)
    return [event["seq"] for event in answer.json()]


# What of it.


async def test_the_owners_filter_keeps_events_from_everybody(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    answer = await change(server, ada, shared, filter={"events": ["push"], "branches": ["main", "release/*"]})
    assert answer.json()["filter"] == {"events": ["push"], "branches": ["main", "release/*"], "paths": []}
    clients = [server.client(ada), server.client(bob)]
    async with clients[0].connected() as first, clients[1].connected() as second:
        for client, socket in zip(clients, (first, second), strict=True):
            await client.until_live(socket)
        kept = await server.github.deliver(
            shared, {"action": "opened", "issue": {"title": "x"}}, event="issues"
        )
        assert kept.json() | {"event_id": ""} == {
            "event_id": "", "seq": 1, "duplicate": False, "filtered": True,
        }  # fmt: skip
        await server.github.deliver(shared, push(ref="refs/heads/topic"))
        await server.github.deliver(shared, push(ref="refs/heads/release/1"))
        for client, socket in zip(clients, (first, second), strict=True):
            await client.until_applied(socket, 1)
            assert client.seqs == [3]
    assert (await seqs(server, ada), await seqs(server, bob)) == ([3], [3])


async def test_a_members_own_filter_is_for_them_alone(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    answer = await change(server, bob, shared, my_filter={"paths": ["docs/*"]})
    assert answer.status_code == 200
    assert answer.json()["filter"] == {"events": [], "branches": [], "paths": []}
    code, docs = push(1), push(2)
    docs["commits"][0]["added"] = ["docs/new.md"]
    client = server.client(bob)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(shared, code)
        await server.github.deliver(shared, docs)
        await client.until_applied(socket, 1)
    assert client.seqs == [2]
    assert (await seqs(server, ada), await seqs(server, bob)) == ([2, 1], [2])
    # A new client of theirs is given the same from the log.
    again = server.client(bob, cursor=f"{client.hello['epoch']}.0")
    async with again.connected() as socket:
        await again.until_live(socket)
    assert again.seqs == [2]
    listed = (await server.get(f"/api/repos/members?id={shared.id}", ada)).json()
    assert [each["filter"]["paths"] for each in listed] == [[], ["docs/*"]]


async def test_a_change_is_made_whole_or_not_at_all(
    server: Server, ada: Account, bob: Account, shared: Tracked
):
    answer = await change(server, bob, shared, my_filter={"events": ["push"]}, filter={"events": ["push"]})
    assert told(answer) == (404, "not_found")
    answer = await change(server, ada, shared, status="paused", filter={"branches": [""]})
    assert told(answer) == (400, "invalid")
    listed = (await server.get(f"/api/repos/members?id={shared.id}", ada)).json()
    assert [each["filter"]["events"] for each in listed] == [[], []]
    assert (await server.github.deliver(shared)).status_code == 200


@on_sqlite
@pytest.mark.parametrize(
    "wanted",
    [
        {"filter": {"events": ["Push"]}},
        {"filter": {"events": [""]}},
        {"filter": {"branches": ["x" * 201]}},
        {"filter": {"paths": ["a\nb"]}},
        {"filter": {"events": ["push"] * 101}},
        {"filter": {"events": "push"}},
        {"my_filter": {"paths": [5]}},
        {"status": "off"},
        {"fliter": {}},
        {"overlap": "soon", "rotate_secret": True},
        {"overlap": "31d", "rotate_secret": True},
    ],
)
async def test_what_cannot_be_is_refused(
    server: Server, ada: Account, hello: Tracked, wanted: dict[str, Any]
):
    assert told(await change(server, ada, hello, **wanted)) == (400, "invalid")


async def test_an_owner_pauses_resumes_and_gives_a_new_secret(server: Server, ada: Account, shared: Tracked):
    assert (await change(server, ada, shared, status="paused")).json()["status"] == "paused"
    assert told(await server.github.deliver(shared)) == (403, "repo_paused")
    answer = await change(server, ada, shared, status="active", rotate_secret=True, overlap="0s")
    renewed = answer.json()
    assert (renewed["status"], len(renewed["webhook_secret"])) == ("active", 64)
    assert (await server.github.deliver(shared, secret=renewed["webhook_secret"])).status_code == 200
    actions = [each.action for each in server.store.look(audit.listing, limit=3, action="repo.")]
    assert actions == ["repo.secret", "repo.resume", "repo.pause"]
