import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from actors import Client
from conftest import Minute, Serve, Server, inside, with_password
from websockets.exceptions import InvalidStatus

from cotexd import config, metrics
from cotexd.config import Settings
from cotexd.errors import TooManyRequests
from cotexd.operations import tokens
from cotexd.operations.accounts import Account
from cotexd.store import Tx
from cotexd.store.models import Tier
from cotexd.web import limits as module
from cotexd.web.limits import MAX_BAD_TOKENS, Limits

# Counted in one minute, however long a test takes.
pytestmark = pytest.mark.usefixtures("minute")


@pytest.fixture
def database() -> str:
    """SQLite: the counters are in memory."""
    return ""


@pytest.fixture
async def narrow(servers: Serve, settings: Settings) -> Server:
    """A server that takes three requests a minute of a user, behind a proxy on this machine."""
    loopback = config.load({}, {"COTEX_TRUSTED_PROXIES": "127.0.0.0/8"}).trusted_proxies
    running: Server = await servers(replace(settings, rate_limit=3, trusted_proxies=loopback))
    return running


def counted(limit: str) -> float:
    return metrics.REGISTRY.get_sample_value("cotexd_limited_total", {"limit": limit}) or 0.0


async def spend(server: Server, user: Account, count: int = 3) -> None:
    """Use up a user's requests to the API."""
    for _ in range(count):
        assert (await server.get("/api/me", user)).status_code == 200
    assert (await server.get("/api/me", user)).status_code == 429


# The counters.


def test_as_many_as_the_quota_are_counted_and_no_more():
    limits = Limits(600)
    assert [limits.hit("api", "ada", 3).remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(TooManyRequests) as refused:
        limits.hit("api", "ada", 3)
    assert 0 < refused.value.retry_after <= 120
    assert refused.value.headers["ratelimit-policy"] == '"api";q=3;w=60'
    assert re.fullmatch(r'"api";r=0;t=\d+', refused.value.headers["ratelimit"])


def test_callers_and_classes_are_counted_apart():
    limits = Limits(600)
    limits.hit("api", "ada", 1)
    for policy, key in (("api", "bob"), ("upgrades", "ada"), ("api", "ada/1"), ("api", ""), ("ap", "i/ada")):
        assert limits.hit(policy, key, 1).remaining == 0
    with pytest.raises(TooManyRequests):
        limits.hit("api", "ada", 1)


def test_to_look_whether_there_is_room_takes_none():
    limits = Limits(600)
    for _ in range(5):
        limits.test("guesses", "ada", 1)
    limits.hit("guesses", "ada", 1)
    with pytest.raises(TooManyRequests):
        limits.test("guesses", "ada", 1)


def test_a_minute_slides(minute: Minute):
    limits = Limits(600)
    for _ in range(60):
        limits.hit("api", "ada", 60)
    # Half a minute into the next one, half of what was used is free again; after an idle one all of it is.
    for passed, free in ((60 + 10, 30), (60, 45), (120, 60)):
        minute.now += passed
        assert limits.standing("api", "ada", 60).remaining == free, passed
        for _ in range(free):
            limits.hit("api", "ada", 60)
        with pytest.raises(TooManyRequests):
            limits.hit("api", "ada", 60)


def test_what_is_refused_is_counted_once_among_the_refusals():
    limits, before = Limits(600), counted("api")
    limits.hit("api", "ada", 1)
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            limits.hit("api", "ada", 1)
    assert counted("api") - before == 3


def test_inventing_callers_takes_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_KEYS", 100)
    limits = Limits(600)
    for number in range(1000):
        limits.hit("guesses", f"invented-{number}", 10)
    assert len(limits._storage.storage) <= 110


# What they do to requests.


async def test_every_answer_says_how_its_user_stands(server: Server):
    ada, standings = server.user("ada"), []
    for path in ("/api/me", "/api/repos", "/api/repos?id=none", "/api/github-events"):
        answer = await server.get(path, ada)
        assert answer.headers["ratelimit-policy"] == '"api";q=600;w=60'
        found = re.fullmatch(r'"api";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert found is not None
        assert 0 <= int(found[2]) <= 120
        standings.append(int(found[1]))
    assert standings == [599, 598, 597, 596]
    assert "ratelimit" not in (await server.get("/health")).headers


async def test_over_the_limit_is_429_with_the_time_to_wait(narrow: Server):
    ada = narrow.user("ada")
    await spend(narrow, ada)
    answer = await narrow.get("/api/repos", ada)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["content-type"] == "application/problem+json"
    assert 0 < int(answer.headers["retry-after"]) <= 120
    assert answer.headers["ratelimit-policy"] == '"api";q=3;w=60'
    assert re.fullmatch(r'"api";r=0;t=\d+', answer.headers["ratelimit"])


async def test_the_limit_is_the_configurations(servers: Serve, settings: Settings):
    for environment in ({"COTEX_RATE_LIMIT": "2"}, {"RATE_LIMIT": "2"}):
        loaded = config.load({}, environment)
        server = await servers(replace(settings, rate_limit=loaded.rate_limit))
        await spend(server, server.user(f"ada-{next(iter(environment)).lower()}"), 2)
        await server.appliance.stop()


async def test_one_user_over_the_limit_keeps_nobody_else_out(narrow: Server):
    ada, bob = narrow.user("ada"), narrow.user("bob")
    await spend(narrow, ada)
    assert (await narrow.get("/api/me", bob)).status_code == 200


async def test_a_user_is_one_whatever_the_token_and_the_address(narrow: Server):
    ada = narrow.user("ada")
    for number in range(3):
        answer = await narrow.get("/api/me", ada, headers={"x-forwarded-for": f"203.0.113.{number}"})
        assert answer.status_code == 200
    answer = await narrow.get("/api/me", ada, headers={"x-forwarded-for": "203.0.113.9"})
    assert answer.status_code == 429


async def test_a_tier_has_requests_of_its_own_in_force_at_once(server: Server):
    ada, eve = server.user("ada", tier="pro"), server.user("eve", tier="free")

    def give(_: Tx, requests: int) -> None:
        Tier.update(requests=requests).where(Tier.name == "pro").execute()

    assert (await server.get("/api/me", ada)).headers["ratelimit-policy"] == '"api";q=600;w=60'
    server.store.run(give, 2)
    await spend(server, ada, 2)
    assert (await server.get("/api/me", eve)).headers["ratelimit-policy"] == '"api";q=600;w=60'
    server.store.run(give, 7)
    answer = await server.get("/api/me", ada)
    assert answer.headers["ratelimit-policy"] == '"api";q=7;w=60'
    assert answer.json()["limits"]["requests_per_minute"] == 7


async def test_many_at_once_are_no_more_than_the_limit(narrow: Server):
    ada = narrow.user("ada")
    answers = await asyncio.gather(*(narrow.get("/api/me", ada) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 27


async def test_an_address_has_a_limit_whoever_asks_from_there(servers: Serve, settings: Settings):
    server = await servers(replace(settings, rate_limit=1))
    for _ in range(100):
        assert (await server.get("/api/me")).status_code == 401
    answer = await server.get("/api/me", server.user("ada"))
    assert (answer.status_code, answer.headers["ratelimit-policy"]) == (429, '"address";q=100;w=60')
    assert (await server.get("/health")).status_code == 200


async def test_a_network_of_ipv6_is_one_address(narrow: Server):
    for number in range(300):
        await narrow.get("/api/me", headers={"x-forwarded-for": f"2001:db8:0:1::{number:x}"})
    for address, status in (("2001:db8:0:1:ffff::1", 429), ("2001:db8:0:2::1", 401)):
        assert (await narrow.get("/api/me", headers={"x-forwarded-for": address})).status_code == status


async def test_who_has_no_token_guesses_at_none(server: Server):
    for _ in range(MAX_BAD_TOKENS + 10):
        assert (await server.get("/api/me")).status_code == 401


async def test_a_token_that_lacks_the_scope_counts_as_a_request(narrow: Server):
    narrow.user("ada")
    token = narrow.store.run(events_only, "ada")
    answers = [
        (await narrow.get("/api/me", headers={"authorization": f"Bearer {token}"})).status_code
        for _ in range(4)
    ]
    assert answers == [403, 403, 403, 429]


def events_only(tx: Tx, name: str) -> str:
    return tokens.issue(tx, name, scopes=frozenset({"events:read"})).token


# Each class apart.


async def test_whoever_used_up_the_api_still_opens_a_websocket(narrow: Server):
    ada = narrow.user("ada")
    await spend(narrow, ada)
    client = narrow.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)


async def test_opening_websockets_has_a_limit_of_its_own(narrow: Server):
    client = narrow.client(narrow.user("ada"))
    for _ in range(30):
        async with client.connected():
            pass
    with pytest.raises(InvalidStatus) as refused:
        await client.connected().__aenter__()
    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["ratelimit-policy"] == '"upgrades";q=30;w=60'
    assert int(refused.value.response.headers["retry-after"]) > 0


async def test_whoever_used_up_the_api_still_signs_in_refreshes_and_signs_out(narrow: Server):
    ada = with_password(narrow)
    await spend(narrow, ada)
    body = {"email": "ada@example.com", "password": "correct horse battery"}
    session = (await narrow.request("POST", "/auth/v1/token?grant_type=password", json=body)).json()
    body = {"refresh_token": session["refresh_token"]}
    answer = await narrow.request("POST", "/auth/v1/token?grant_type=refresh_token", json=body)
    assert answer.status_code == 200
    bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await narrow.get("/auth/v1/user", headers=bearer)).status_code == 200
    assert (await narrow.request("POST", "/auth/v1/logout", headers=bearer)).status_code == 204


async def test_an_open_websocket_costs_nothing(narrow: Server):
    ada = narrow.user("ada")
    repo = narrow.track(ada)
    token = narrow.token(ada, timedelta(hours=1))
    client = Client(narrow.url, token)
    async with client.connected() as socket:
        await client.until_live(socket)
        for _ in range(20):
            await narrow.github.deliver(repo)
        await client.until_applied(socket, 20)
    assert inside().limits.standing("api", ada.id, 3).remaining >= 2


async def test_a_refusal_is_read_by_a_page_that_may_call(servers: Serve, settings: Settings):
    server = await servers(replace(settings, rate_limit=1, allowed_origins=("https://app.example.com",)))
    ada = server.user("ada")
    await spend(server, ada, 1)
    answer = await server.get("/api/me", ada, headers={"origin": "https://app.example.com"})
    assert answer.status_code == 429
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"retry-after", "ratelimit", "ratelimit-policy"} <= set(exposed)
