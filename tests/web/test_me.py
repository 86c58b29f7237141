from dataclasses import replace

import pytest
from conftest import Serve, Server

from cotexd.config import Settings
from cotexd.operations import members, tiers

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
