"""What a running server takes over from changed settings, and what it says it cannot."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from actors import WAIT
from conftest import Server, deliveries_waiting, eventually, holding, inside, serving
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from cotexd import config, telemetry
from cotexd.appliance import RELOADABLE, Appliance
from cotexd.config import Settings
from cotexd.operations.repositories import Tracked

LOOPBACK = ipaddress.ip_network("127.0.0.1")
OTHERS = ipaddress.ip_network("203.0.113.0/24")
OUTSIDER = {"x-forwarded-for": "203.0.113.9"}
PAGE = "https://app.example.com"


@pytest.fixture
def database() -> str:
    """SQLite: the settings that can be changed are not the database's."""
    return ""


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """That of the process, as it was."""
    before = telemetry.levels._base
    yield
    telemetry.levels.configure(before)


def reloaded(server: Server, **changes: Any) -> dict[str, Any]:
    """Reload with changed settings; the line in which the server says what it did."""
    with capture_logs() as lines:
        server.appliance.reload(replace(server.appliance.settings, **changes))
    (line,) = [each for each in lines if each["event"] == "reloaded"]
    return dict(line)


# Each option that is taken over: how one sees that it is.


async def takes_sha1(server: Server) -> object:
    repo = hello(server)
    return (await server.github.deliver(repo, algorithm="sha1")).status_code


async def lets_the_page_read(server: Server) -> object:
    answer = await server.get("/health", headers={"origin": PAGE})
    return answer.headers.get("access-control-allow-origin")


async def lets_the_page_connect(server: Server) -> object:
    answer = await server.get("/ws", server.user("page"), headers={"origin": PAGE})
    return answer.status_code


async def wants_debug(_: Server) -> object:
    return telemetry.wants_debug()


async def lets_in(server: Server) -> object:
    """Of three who come, how many are let in."""
    count = 0
    ada = server.user("ada")
    async with AsyncExitStack() as stack:
        for _ in range(3):
            try:
                await stack.enter_async_context(server.client(ada).connected())
            except InvalidStatus:
                continue
            count += 1
    await eventually(lambda: len(inside().hub) == 0)
    return count


async def lets_an_outsider_see_metrics(server: Server) -> object:
    return (await server.get("/metrics", headers=OUTSIDER)).status_code


async def quota(server: Server) -> object:
    answer = await server.get("/api/me", server.user("quota"))
    assert str(answer.json()["limits"]["requests_per_minute"]) in answer.headers["ratelimit-policy"]
    return answer.json()["limits"]["requests_per_minute"]


async def believes_a_proxy(server: Server) -> object:
    """Who was asked for a link over https, told so by the proxy."""
    ada = server.user("ada")
    repo = server.track(ada)
    for _ in range(2):
        await server.github.deliver(repo)
    answer = await server.get("/api/github-events?limit=1", ada, headers={"x-forwarded-proto": "https"})
    return answer.links["next"]["url"].partition(":")[0]


async def drains_for(server: Server) -> object:
    return server.appliance.settings.drain


def hello(server: Server) -> Tracked:
    return server.track(server.user("ada"))


Seen = Callable[[Server], Awaitable[object]]
TAKEN: list[tuple[str, object, object, Seen, object, object]] = [
    # option, its value before and after, what is looked at, what is seen before and after
    ("accept_sha1", False, True, takes_sha1, 401, 200),
    ("allowed_origins", (), (PAGE,), lets_the_page_read, None, PAGE),
    ("allowed_origins", (PAGE,), (), lets_the_page_connect, 400, 403),
    ("log_level", "info", "debug", wants_debug, False, True),
    ("max_connections", 2, 3, lets_in, 2, 3),
    ("max_connections", 3, 1, lets_in, 3, 1),
    ("max_connections_per_user", 3, 2, lets_in, 3, 2),
    ("metrics_networks", (), (LOOPBACK,), lets_an_outsider_see_metrics, 404, 200),
    ("rate_limit", 600, 42, quota, 600, 42),
    ("trusted_proxies", (), (LOOPBACK,), believes_a_proxy, "http", "https"),
    (
        "drain",
        timedelta(seconds=2),
        timedelta(seconds=1),
        drains_for,
        timedelta(seconds=2),
        timedelta(seconds=1),
    ),
]


def test_every_option_that_can_be_reloaded_is_tried():
    assert {option for option, *_ in TAKEN} == RELOADABLE


@pytest.mark.parametrize(
    ("option", "before", "after", "look", "then", "now"),
    TAKEN,
    ids=[f"{each[0]}-{each[3].__name__}" for each in TAKEN],
)
async def test_an_option_is_in_force_once_it_is_reloaded(
    settings: Settings, option: str, before: object, after: object, look: Seen, then: object, now: object
):
    # Each is looked at on a server that began with it, and on one that was told.
    async with serving(replace(settings, **{option: before})) as server:
        assert await look(server) == then
    fresh = replace(settings, data_dir=settings.data_dir.with_name("fresh"), **{option: before})
    async with serving(fresh) as server:
        line = reloaded(server, **{option: after})
        key = next(config.key_of(each) for each in config.declared() if each.name == option)
        assert (line["changed"], line["needs_restart"]) == ([key], [])
        assert await look(server) == now


# What is not taken over.


async def test_what_cannot_be_changed_while_it_runs_is_named_and_stays_as_it_was(
    settings: Settings, tmp_path: Path
):
    async with serving(settings) as server:
        before = server.appliance.settings
        changes = {
            "port": 1,
            "data_dir": tmp_path / "other",
            "retention": timedelta(days=3),
            "key": "a-secret-that-is-not-told",
            "public_url": "https://cotex.example.com",
            "supabase_jwt_secret": "another-secret-that-is-not-told-either",
            "rate_limit": 42,
            "log_level": "warning",
        }
        line = reloaded(server, **changes)
        assert set(line["changed"]) == {"rate_limit", "log.level"}
        assert set(line["needs_restart"]) == {
            *("port", "data_dir", "retention", "key", "public_url", "supabase.jwt_secret")
        }
        assert "that-is-not-told" not in repr(line)
        # The taken and nothing else: the server's own settings are those that are in force.
        assert server.appliance.settings == replace(before, rate_limit=42, log_level="warning")
        assert inside().retention == before.retention
        ada = server.user("ada")
        assert (await server.get("/api/me", ada)).json()["limits"]["requests_per_minute"] == 42
        # It says so until it is restarted, and again takes only what it can.
        again = reloaded(server, **{**changes, "rate_limit": 43})
        assert again["changed"] == ["rate_limit"]
        assert set(again["needs_restart"]) == set(line["needs_restart"])


async def test_settings_that_did_not_change_change_nothing(settings: Settings):
    async with serving(settings) as server:
        before = server.appliance.settings
        line = reloaded(server)
        assert (line["changed"], line["needs_restart"]) == ([], [])
        assert server.appliance.settings == before


async def test_who_is_connected_stays_connected_though_fewer_may_be(settings: Settings):
    async with serving(settings) as server:
        ada = server.user("ada")
        one, two = server.client(ada), server.client(ada)
        async with one.connected() as first, two.connected() as second:
            await one.until_live(first)
            await two.until_live(second)
            reloaded(server, max_connections=1, max_connections_per_user=1)
            await server.github.deliver(server.track(ada))
            await one.until_applied(first, 1)
            await two.until_applied(second, 1)
        await eventually(lambda: len(inside().hub) == 0)
        async with one.connected() as first:
            await one.until_live(first)
            with pytest.raises(InvalidStatus):
                async with two.connected():
                    pass


async def test_a_reload_before_it_has_started_is_taken_over_by_the_start(settings: Settings):
    appliance = Appliance(settings)
    appliance.reload(replace(settings, rate_limit=42))
    await appliance.start()
    assert inside().limits.rate_limit == 42
    await appliance.stop()


async def test_how_long_it_takes_to_stop_is_what_was_said_last(settings: Settings):
    async with serving(replace(settings, drain=timedelta(minutes=5))) as server:
        repo = hello(server)
        inner = inside().store
        async with holding(inner):
            delivery = asyncio.ensure_future(server.github.deliver(repo))
            await eventually(lambda: deliveries_waiting(inner) > 0)
            reloaded(server, drain=timedelta(0))
            stopping = asyncio.ensure_future(server.appliance.stop())
            with pytest.raises(httpx.HTTPError):
                await delivery
        async with asyncio.timeout(WAIT):
            await stopping
