import asyncio
import json
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import fakeissuer
import httpx
import psutil
import pytest
from actors import WAIT, Client, GitHub, legacy, push
from conftest import PASSWORD, Serve, Server, eventually, hash_of_password, inside
from websockets.exceptions import InvalidStatus

from cotexd import config
from cotexd.config import Settings
from cotexd.domain.github import sign
from cotexd.operations import accounts, repositories, sessions, tokens
from cotexd.store import Store
from cotexd.web.limits import ADDRESS

PROXY = "127.0.0.0/8"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def database() -> str:
    """SQLite: nothing here gets as far as a database."""
    return ""


def behind(settings: Settings, proxies: str, **more: object) -> Settings:
    """Settings with trusted proxies, as they are written in the environment."""
    trusted = config.load({}, {"COTEX_TRUSTED_PROXIES": proxies}).trusted_proxies
    return replace(settings, trusted_proxies=trusted, **more)


async def address_of(server: Server, headers: list[tuple[str, str]], suspects: list[str]) -> str:
    """Which of these addresses a request is counted for."""
    limits = inside().limits
    quota = ADDRESS * limits.rate_limit
    before = {each: limits.standing("address", each, quota).remaining for each in suspects}
    assert (await server.http.get(f"{server.url}/api/me", headers=headers)).status_code == 401
    (found,) = [each for each in suspects if limits.standing("address", each, quota).remaining < before[each]]
    return found


# Whose address it is.

NEAR, FAR, FORGED = "203.0.113.9", "198.51.100.1", "192.0.2.66"


@pytest.mark.parametrize(
    ("proxies", "headers", "address"),
    [
        ("", [], "127.0.0.1"),
        ("", [("x-forwarded-for", FORGED)], "127.0.0.1"),
        ("", [("forwarded", f"for={FORGED}")], "127.0.0.1"),
        ("10.0.0.0/8", [("x-forwarded-for", FORGED)], "127.0.0.1"),
        (PROXY, [], "127.0.0.1"),
        (PROXY, [("x-forwarded-for", NEAR)], NEAR),
        (PROXY, [("x-forwarded-for", f"{NEAR}:4711")], NEAR),
        (PROXY, [("x-forwarded-for", f"{FORGED}, {NEAR}")], NEAR),
        (PROXY, [("x-forwarded-for", FORGED), ("x-forwarded-for", NEAR)], NEAR),
        (PROXY, [("x-forwarded-for", f"127.0.0.1, {FORGED}, {NEAR}")], NEAR),
        (PROXY, [("x-forwarded-for", f"{FORGED}, nonsense, {NEAR}")], NEAR),
        (PROXY, [("x-forwarded-for", f"{FORGED}, unknown")], "127.0.0.1"),
        (PROXY, [("x-forwarded-for", f"::ffff:{NEAR}")], NEAR),
        (f"{PROXY}, 203.0.113.0/24", [("x-forwarded-for", f"{FORGED}, {FAR}, {NEAR}")], FAR),
        (PROXY, [("forwarded", f"for={FORGED}, for={NEAR};proto=https;by=10.0.0.1")], NEAR),
        (PROXY, [("forwarded", 'for="[2001:db8::7]:4711"')], "2001:db8::/64"),
        (PROXY, [("x-real-ip", FORGED), ("client-ip", FORGED), ("true-client-ip", FORGED)], "127.0.0.1"),
    ],
)
@pytest.mark.usefixtures("minute")
async def test_an_address_is_believed_as_far_as_the_proxies_that_are_named(
    servers: Serve, settings: Settings, proxies: str, headers: list[tuple[str, str]], address: str
):
    server = await servers(behind(settings, proxies))
    suspects = ["127.0.0.1", NEAR, FAR, FORGED, "2001:db8::/64"]
    assert await address_of(server, headers, suspects) == address


@pytest.mark.usefixtures("minute")
async def test_behind_a_proxy_that_writes_one_header_the_other_one_is_still_the_clients_word(
    servers: Serve, settings: Settings
):
    """Such a proxy (nginx, as it is set up everywhere) hands on a Forwarded that the client made up."""
    server = await servers(behind(settings, PROXY))
    headers = [("forwarded", f"for={FORGED}"), ("x-forwarded-for", NEAR)]
    assert await address_of(server, headers, ["127.0.0.1", NEAR, FORGED]) != FORGED


@pytest.mark.parametrize(("proxies", "scheme"), [("", "http"), (PROXY, "https")])
async def test_https_is_believed_where_the_proxy_is(
    servers: Serve, settings: Settings, proxies: str, scheme: str
):
    server = await servers(behind(settings, proxies))
    ada = server.user("ada")
    repo = server.track(ada)
    for _ in range(2):
        await server.github.deliver(repo)
    headers = {"x-forwarded-proto": "https", "host": "cotex.example"}
    answer = await server.get("/api/github-events?limit=1", ada, headers=headers)
    assert answer.headers["link"].startswith(f"<{scheme}://cotex.example/api/github-events?")


# Which pages may read an answer.

ALLOWED = (
    "https://app.example.com, https://*.example.org, cotex://app, tauri://localhost, http://localhost:5173"
)
ORIGINS = {
    "https://app.example.com": True,
    "HTTPS://APP.EXAMPLE.COM": True,
    "cotex://app": True,
    "tauri://localhost": True,
    "http://localhost:5173": True,
    "https://a.example.org": True,
    "https://a.b.example.org": True,
    "https://example.org": False,
    "https://.example.org": False,
    "http://a.example.org": False,
    "https://a.example.org:8443": False,
    "https://evilexample.org": False,
    "https://a.example.org.evil.example": False,
    "https://app.example.com.evil.example": False,
    "https://app.example.com:444": False,
    "http://app.example.com": False,
    "https://example.com": False,
    "cotex://other": False,
    "cotex://": False,
    "http://localhost": False,
    "http://localhost:5174": False,
    "null": False,
    "file://": False,
    "*": False,
    "": False,
}


@pytest.fixture
async def listed(servers: Serve, settings: Settings) -> Server:
    """A server with a list of origins, as it is written in the environment."""
    origins = config.load({}, {"COTEX_ALLOWED_ORIGINS": ALLOWED}).allowed_origins
    running: Server = await servers(replace(settings, allowed_origins=origins))
    return running


async def test_only_pages_of_listed_origins_may_read_an_answer(listed: Server):
    ada = listed.user("ada")
    for origin, allowed in ORIGINS.items():
        answer = await listed.get("/api/me", ada, headers={"origin": origin})
        assert answer.status_code == 200
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None), origin
        assert answer.headers["vary"] == "origin"


async def test_what_is_no_origin_is_below_no_domain(listed: Server):
    """No browser sends it; a list that is exact takes it for nothing all the same."""
    for rest in (
        "evil.example/",
        "evil.example#",
        "evil.example?",
        "evil.example@a",
        "a b",
    ):
        answer = await listed.get("/health", headers={"origin": f"https://{rest}.example.org"})
        assert "access-control-allow-origin" not in answer.headers, rest


async def test_a_websocket_from_a_page_that_is_not_listed_is_refused(listed: Server):
    token = listed.token(listed.user("ada"))
    for origin, allowed in ORIGINS.items():
        connecting = legacy(listed.url, token, origin=origin)
        if allowed:
            async with connecting as socket:
                assert await socket.ping()
        else:
            with pytest.raises(InvalidStatus) as refused:
                await connecting.__aenter__()
            assert refused.value.response.status_code == 403, origin


async def test_without_a_list_only_the_servers_own_pages_may_call(server: Server):
    ada = server.user("ada")
    for origin in ORIGINS:
        assert (
            "access-control-allow-origin"
            not in (await server.get("/api/me", ada, headers={"origin": origin})).headers
        )
    answer = await server.get("/api/me", ada, headers={"origin": server.url})
    assert answer.headers["access-control-allow-origin"] == server.url


async def test_credentials_are_never_let_through_and_a_cookie_is_none(servers: Serve, settings: Settings):
    server = await servers(replace(settings, allowed_origins=("*",)))
    token = server.token(server.user("ada"))
    for headers in (
        {"cookie": f"authorization=Bearer {token}; access_token={token}; sb-access-token={token}"},
        {"authorization": f"Bearer {token}", "cookie": "a=b"},
    ):
        answer = await server.get("/api/me", headers={"origin": "https://evil.example", **headers})
        assert answer.status_code == (200 if "authorization" in headers else 401)
        assert answer.headers["access-control-allow-origin"] == "https://evil.example"
        assert "access-control-allow-credentials" not in answer.headers
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/api/repos", "/auth/v1/token?grant_type=password", "/auth/v1/user", "/ws"])
async def test_a_preflight_needs_no_token_and_lets_the_clients_headers_through(listed: Server, path: str):
    asked = {
        "origin": "cotex://app",
        "access-control-request-method": "POST",
        "access-control-request-headers": "apikey,authorization,content-type,x-client-info,x-supabase-api-version",
    }
    answer = await listed.request("OPTIONS", path, headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "cotex://app"
    allowed = set(answer.headers["access-control-allow-headers"].split(", "))
    assert set(asked["access-control-request-headers"].split(",")) <= allowed
    assert {"GET", "POST", "PATCH", "DELETE"} <= set(
        answer.headers["access-control-allow-methods"].split(", ")
    )
    assert int(answer.headers["access-control-max-age"]) > 0


async def test_a_preflight_from_elsewhere_is_told_nothing(listed: Server):
    asked = {"origin": "https://evil.example", "access-control-request-method": "DELETE"}
    answer = await listed.request("OPTIONS", "/api/repos", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_options_that_is_no_preflight_is_a_method_like_any_other(listed: Server):
    assert (await listed.request("OPTIONS", "/api/repos")).status_code == 405


# On every answer.


async def test_every_answer_keeps_a_browser_from_doing_more_with_it(server: Server):
    ada = server.user("ada")
    preflight = {"origin": server.url, "access-control-request-method": "GET"}
    for answer in (
        await server.get("/health"),
        await server.get("/api/me", ada),
        await server.get("/api/me"),
        await server.get("/nothing/here"),
        await server.request("PUT", "/api/repos"),
        await server.request("OPTIONS", "/api/repos", headers=preflight),
        await server.request("POST", "/auth/v1/token", content=b"<script>"),
        await server.request("POST", "/api/webhooks/github/x", content=b"{}"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


async def test_a_trace_is_taken_and_passed_on_if_it_is_one(server: Server):
    answer = await server.get("/health", headers={"traceparent": TRACE})
    assert answer.headers["traceparent"] == TRACE
    for given in (
        "",
        "nonsense",
        TRACE.upper(),
        f"{TRACE}-",
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TRACE.replace("00f067aa0ba902b7", "0" * 16),
        "ff" + TRACE[2:],
    ):
        answer = await server.get("/health", headers={"traceparent": given})
        assert "traceparent" not in answer.headers, given


# Metrics.


async def test_metrics_are_for_this_machine_and_not_for_whom_a_proxy_on_it_lets_in(server: Server):
    answer = await server.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(re.findall("^# TYPE cotexd_", answer.text, re.MULTILINE)) >= 30
    assert len(re.findall("^# TYPE .* histogram$", answer.text, re.MULTILINE)) >= 5
    for headers in (
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-for": ""},
        {"forwarded": "for=127.0.0.1"},
    ):
        assert (await server.get("/metrics", headers=headers)).status_code == 404


async def test_a_method_that_somebody_made_up_is_counted_with_all_others_of_its_kind(server: Server):
    async with httpx.AsyncClient(trust_env=False) as http:
        for number in range(3):
            await http.request(f"MADEUP{number}", f"{server.url}/livez")
    text = (await server.get("/metrics")).text
    assert 'method="other"' in text
    assert "MADEUP" not in text


async def test_metrics_are_for_the_networks_that_are_named_as_well(servers: Serve, settings: Settings):
    networks = config.load({}, {"COTEX_METRICS_NETWORKS": "127.0.0.1"}).metrics_networks
    server = await servers(replace(settings, metrics_networks=networks))
    assert (await server.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"})).status_code == 200


async def test_metrics_are_not_for_another_machine(servers: Serve, settings: Settings):
    others = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if re.fullmatch(r"[\d.]+", each.address) and not each.address.startswith("127.")
    ]
    if not others:
        pytest.skip("THIS MACHINE HAS NO ADDRESS BUT 127.0.0.1: /metrics is not tried from another one.")
    server = await servers(replace(settings, host="0.0.0.0"))  # noqa: S104  # to be reached by another address
    url = server.url.replace("127.0.0.1", others[0])
    assert (await server.http.get(f"{url}/health")).status_code == 200
    for headers in ({}, {"x-forwarded-for": "127.0.0.1"}, {"host": "127.0.0.1"}):
        assert (await server.http.get(f"{url}/metrics", headers=headers)).status_code == 404


@pytest.mark.usefixtures("minute")
async def test_metrics_count_what_was_refused_and_for_whom_it_was_too_much(
    servers: Serve, settings: Settings
):
    server = await servers(replace(settings, rate_limit=1))

    async def measured(name: str) -> float:
        text = (await server.get("/metrics")).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    names = (
        'cotexd_limited_total{limit="api"}',
        "cotexd_tokens_refused_total",
        'cotexd_refusals_total{code="rate_limited"}',
        'cotexd_sign_ins_total{outcome="wrong"}',
    )
    before = [await measured(name) for name in names]
    ada = server.user("ada")
    for _ in range(2):
        await server.get("/api/me", ada)
    await server.get("/api/me", headers={"authorization": "Bearer x"})
    wrong = {"email": "nobody@example.com", "password": "x"}
    await server.request("POST", "/auth/v1/token?grant_type=password", json=wrong)
    assert [await measured(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1, 1]


# Logs.


class Process:
    """`cotexd` as a process of its own; what it logs goes into a file."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "log"

    @asynccontextmanager
    async def running(self, **environment: str) -> AsyncIterator[str]:
        """Its address, while it runs."""
        more = {"COTEX_DATA_DIR": str(self.data), "COTEX_PORT": "0", "COTEX_LOG_FORMAT": "json"}
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cotexd", env={**os.environ, **more, **environment}, stderr=log
            )
        await eventually(lambda: bool(self.lines("ready")) or process.returncode is not None)
        try:
            yield self.lines("ready")[0]["url"]
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), WAIT) == 0

    def lines(self, event: str = "", **fields: str) -> list[dict]:
        """What was logged so far, of one event and with these fields."""
        text = self.log.read_text()
        found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [
            line
            for line in found
            if event in {"", line["event"]} and all(line.get(name) == fields[name] for name in fields)
        ]


async def test_a_whole_life_at_debug_level_leaves_no_secret_in_the_log(tmp_path: Path):
    process = Process(tmp_path)
    secrets: set[str] = {PASSWORD, "wrong horse"}
    async with (
        fakeissuer.running() as issuer,
        httpx.AsyncClient(timeout=WAIT, trust_env=False) as http,
        process.running(
            COTEX_LOG_LEVEL="debug", COTEX_SUPABASE_URL=issuer.url, COTEX_SUPABASE_JWT_SECRET=issuer.secret
        ) as url,
    ):
        store = Store("", process.data)
        ada = store.run(accounts.create, "ada", email="ada@example.com", tier="pro")
        store.run(sessions.set_password, "ada", hash_of_password())
        script = store.run(tokens.issue, "ada").token
        repo = store.run(repositories.add, ada.id, "octo/hello", "a secret of the hook")
        github = GitHub(url, http)
        secrets |= {script, repo.webhook_secret, issuer.secret, hash_of_password()}

        # Signing in, wrongly and well; refreshing; signing out.
        auth = f"{url}/auth/v1"
        for password in ("wrong horse", PASSWORD):
            given = {"email": "ada@example.com", "password": password}
            session = (await http.post(f"{auth}/token?grant_type=password", json=given)).json()
        for _ in range(2):
            given = {"refresh_token": session["refresh_token"]}
            secrets |= {session["access_token"], session["refresh_token"]}
            session = (await http.post(f"{auth}/token?grant_type=refresh_token", json=given)).json()
        secrets |= {session["access_token"], session["refresh_token"]}
        bearer = {"authorization": f"Bearer {session['access_token']}"}

        # Tokens where they belong, and where they don't.
        outside, bad = issuer.token(), issuer.token(kid="x", key=issuer.keys[issuer.es256])
        secrets |= {outside, bad}
        for token in (script, outside, bad):
            for path in (
                "/api/me",
                f"/api/me?token={token}&apikey={token}",
                f"/api/{token}",
                f"/api/repos?id={token}",
            ):
                await http.get(
                    url + path, headers={"authorization": f"Bearer {token}", "cookie": f"a={token}"}
                )
                await http.get(url + path, headers={"x-request-id": token, "user-agent": token})
        await http.post(f"{url}/api/webhooks/github/{script}", content=b"{}")

        # Deliveries, good and bad.
        body = json.dumps(push(message="what only the payload says")).encode()
        for secret in (repo.webhook_secret, "a guess at the secret"):
            secrets |= {secret, sign(body, secret).decode()}
            await github.deliver(repo, body, secret=secret, headers={"traceparent": TRACE})
        secrets.add("what only the payload says")

        # Sockets, with the token in either place, that say what they should not.
        client = Client(url, script)
        async with client.connected() as socket:
            await client.until_live(socket)
            await socket.send(json.dumps({"type": "client_event", "event": script, "payload": PASSWORD}))
            await socket.send(script)
            await socket.wait_closed()

        # What changes secrets.
        change = {"webhook_secret": "a newer secret of the hook", "overlap": "1h"}
        answer = await http.patch(f"{url}/api/repos?id={repo.id}", json=change, headers=bearer)
        assert answer.json()["webhook_secret"] == change["webhook_secret"]
        made = {"repo_name": "octo/made"}
        answer = await http.post(f"{url}/api/repos", json=made, headers=bearer)
        secrets |= {change["webhook_secret"], answer.json()["repository"]["webhook_secret"]}
        await http.patch(
            f"{url}/api/repos?id={repo.id}", content=f'{{"webhook_secret":"{script}', headers=bearer
        )
        assert (await http.post(f"{auth}/logout", headers=bearer)).status_code == 204
        store.close()

    text = process.log.read_text()
    for secret in secrets:
        parts = {secret, *(part for part in secret.split(".") if len(part) > 30)}
        assert not [part for part in parts if part in text], secret
    # It was not silent about it.
    (delivered,) = process.lines("request", repo=repo.id, status=200, method="POST")
    assert delivered["trace_id"] == TRACE.split("-")[1]
    assert uuid.UUID(delivered["delivery"])
    assert delivered["request_id"]
    assert len(process.lines("request", user="ada")) > 5


async def cotex(process: Process, *command: str) -> str:
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cotex.main",
        *command,
        env={**os.environ, "COTEX_DATA_DIR": str(process.data)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(running.communicate(), WAIT)
    assert running.returncode == 0
    return out.decode()


async def test_a_level_is_changed_for_one_user_while_the_server_runs(tmp_path: Path):
    process = Process(tmp_path)
    async with httpx.AsyncClient(timeout=WAIT, trust_env=False) as http, process.running() as url:
        store = Store("", process.data)
        bearers = {}
        for name in ("ada", "eve"):
            store.run(accounts.create, name)
            token = store.run(tokens.issue, name, timedelta(hours=1)).token
            bearers[name] = {"authorization": f"Bearer {token}"}
        store.close()

        async def told() -> dict[str, int]:
            """How many lines each one's request makes."""
            before = {name: len(process.lines("request", user=name)) for name in bearers}
            for bearer in bearers.values():
                assert (await http.get(f"{url}/api/me", headers=bearer)).status_code == 200
            return {name: len(process.lines("request", user=name)) - before[name] for name in bearers}

        async def become(wanted: dict[str, int]) -> None:
            async def did() -> bool:
                return await told() == wanted

            await eventually(did)

        assert await told() == {"ada": 0, "eve": 0}
        shown = json.loads(await cotex(process, "log", "level", "debug", "--user", "ada", "--json"))
        assert shown == [{"field": "user", "value": "ada", "level": "debug"}]
        await become({"ada": 1, "eve": 0})
        await cotex(process, "log", "level", "debug")
        await become({"ada": 1, "eve": 1})
        await cotex(process, "log", "reset")
        await become({"ada": 0, "eve": 0})
