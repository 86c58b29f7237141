from dataclasses import replace
from typing import Any

import pytest
from actors import EventSource, legacy, logged
from conftest import Serve, Server, eventually, inside

from cotexd.config import Settings
from cotexd.operations import cursors, events, members, tiers
from cotexd.operations.accounts import Account

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


async def test_me_says_who_one_is_and_what_one_may_have(server: Server):
    ada = server.user("ada", tier="free")
    server.track(ada)
    told = (await server.get("/api/me", ada)).json()
    assert set(told) >= {"user", "tier", "limits", "use"}
    assert (told["user"]["id"], told["user"]["name"], told["user"]["email"]) == (ada.id, "ada", "")
    assert (told["tier"], told["user"]["tier"]) == ("free", "free")
    assert told["limits"] == {"repos": 2, "requests_per_minute": 600}
    assert told["use"] == {"repos": 1}


async def test_a_tier_that_a_command_gives_is_told_at_once(server: Server):
    ada = server.user("ada", tier="free")
    assert (await server.get("/api/me", ada)).json()["limits"]["repos"] == 2
    server.store.run(tiers.set_tier, "ada", "pro")
    told = (await server.get("/api/me", ada)).json()
    assert (told["tier"], told["limits"]["repos"]) == ("pro", 10)


async def test_what_is_shared_with_one_counts_for_its_owner(server: Server):
    ada, bob = server.user("ada"), server.user("bob")
    server.store.run(members.share, ada.id, server.track(ada).id, "bob")
    for user, count in ((ada, 1), (bob, 0)):
        assert (await server.get("/api/me", user)).json()["use"] == {"repos": count}


@on_sqlite
async def test_the_requests_that_one_may_make_are_the_configurations(servers: Serve, settings: Settings):
    server = await servers(replace(settings, rate_limit=42))
    answer = await server.get("/api/me", server.user("ada"))
    assert answer.json()["limits"]["requests_per_minute"] == 42
    assert answer.headers["ratelimit-policy"] == '"api";q=42;w=60'


@on_sqlite
async def test_nothing_secret_is_told(server: Server):
    told = (await server.get("/api/me", server.user("ada"))).text.lower()
    assert not any(word in told for word in ("password", "hash", "token", "secret"))


# Devices.


async def devices(server: Server, user: Account) -> dict[str, dict[str, Any]]:
    answer = await server.get("/api/me/devices", user)
    assert answer.status_code == 200
    return {each["device"]: each for each in answer.json()}


async def forget(server: Server, user: Account, query: str) -> tuple[int, str]:
    answer = await server.request("DELETE", f"/api/me/devices{query}", user)
    return answer.status_code, answer.json()["code"] if answer.content else ""


def cursor(server: Server, seq: int) -> str:
    return f"{server.store.look(events.log).epoch}.{seq}"


async def test_a_device_is_listed_with_how_far_it_has_come_whether_it_is_connected_or_not(server: Server):
    ada = server.user("ada")
    repo, client = server.track(ada), server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
        logged(server.store, repo, 3)
        await client.until_applied(socket, 3)
        await server.request(
            "POST", "/api/github-events/ack", ada, json={"cursor": cursor(server, 1), "device": "laptop"}
        )

        async def connected() -> bool:
            return (await devices(server, ada))["laptop"]["connections"] == 1

        await eventually(connected)
        shown = (await devices(server, ada))["laptop"]
        assert (shown["protocol"], shown["cursor"], shown["lag"]) == ("v2", cursor(server, 1), 2)
        assert (shown["address"], shown["buffer"]) == ("127.0.0.1", 0)
        assert shown["connected_since"] <= shown["seen_at"]
    await eventually(lambda: not_connected(server, ada, "laptop"))
    shown = (await devices(server, ada))["laptop"]
    assert (shown["cursor"], shown["lag"], shown["address"]) == (cursor(server, 1), 2, "")
    assert shown["connected_since"] is None
    assert shown["seen_at"] is not None


async def not_connected(server: Server, user: Account, device: str) -> bool:
    shown = (await devices(server, user))[device]
    return (shown["connections"], shown["connected_since"]) == (0, None)


async def test_every_kind_of_client_is_listed_the_connected_ones_first(server: Server):
    ada = server.user("ada")
    server.store.run(cursors.attach, ada.id, device="old", cursor=None)
    token = server.token(ada)
    clients = [server.client(ada, device="laptop"), server.client(ada, device="laptop"), server.client(ada)]
    board = EventSource(server.url, token, device="board")
    async with (
        clients[0].connected(),
        clients[1].connected(),
        clients[2].connected(),
        board.connected(),
        legacy(server.url, token),
    ):

        async def all_there() -> bool:
            return sum(each["connections"] for each in (await devices(server, ada)).values()) == 5

        await eventually(all_there)
        shown = await devices(server, ada)
    counted = sorted((each["protocol"], each["connections"]) for each in shown.values())
    assert counted == [("legacy", 1), ("stream", 1), ("v2", 0), ("v2", 1), ("v2", 2)]
    assert (shown["laptop"]["connections"], shown[""]["connections"]) == (2, 1)
    assert list(shown)[-1] == "old"


async def test_nobody_sees_or_forgets_the_devices_of_another(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    server.store.run(cursors.attach, ada.id, device="laptop", cursor=None)
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        assert await devices(server, eve) == {}
    assert await forget(server, eve, "?device=laptop") == (404, "not_found")
    assert set(await devices(server, ada)) >= {"laptop"}


async def test_a_device_that_is_forgotten_begins_at_the_head_when_it_comes_again(server: Server):
    ada = server.user("ada")
    repo = server.track(ada)
    for name in ("laptop", "phone"):
        server.store.run(cursors.attach, ada.id, device=name, cursor=None)
    logged(server.store, repo, 2)
    assert await forget(server, ada, "?device=laptop") == (204, "")
    assert set(await devices(server, ada)) == {"phone"}
    assert await forget(server, ada, "?device=laptop") == (404, "not_found")
    for name, resume, seqs in (("laptop", "new", []), ("phone", "ok", [1, 2])):
        client = server.client(ada, device=name)
        async with client.connected() as socket:
            await client.until_live(socket)
        assert (client.hello["resume"], client.seqs) == (resume, seqs)


async def test_a_legacy_client_is_forgotten_by_the_name_of_its_token_and_the_shared_cursor_stays(
    server: Server,
):
    ada = server.user("ada")
    repo, token = server.track(ada), server.token(ada)
    async with legacy(server.url, token) as socket:
        await socket.ping()
        logged(server.store, repo)
        await eventually(lambda: len(inside().hub) == 1)
    (name,) = await devices(server, ada)
    assert await forget(server, ada, f"?device={name}") == (204, "")
    assert await devices(server, ada) == {}


@on_sqlite
async def test_a_device_has_to_be_named(server: Server):
    ada = server.user("ada")
    for query in ("", "?device="):
        assert await forget(server, ada, query) == (400, "invalid")
