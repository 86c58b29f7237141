import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from actors import WAIT, push
from conftest import Server, deliveries_waiting, eventually, holding, inside, inside_app, serving

from cotexd import metrics
from cotexd.config import Settings
from cotexd.domain.github import sign
from cotexd.operations import history, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.web import github, shortcut
from cotexd.web.protocol import MAX_WAITING

HEAD = (
    b"POST /api/webhooks/github/a-Repo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"X-GitHub-Event: push\r\nX-GitHub-Delivery:  a-guid\r\nContent-Length: 2\r\n\r\n"
)


@pytest.fixture(autouse=True)
def kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which way a delivery goes is not to depend on how quick this machine is."""
    monkeypatch.setattr(github, "HOOK_KEPT", 10 * WAIT)


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


class Taken:
    """What was offered to the shortcut, and what it took."""

    def __init__(self) -> None:
        self.answers: list[bool] = []
        context = inside()
        take = context.shortcut
        assert take is not None
        context.shortcut = lambda data, tell: self._note(take(data, tell))

    def _note(self, taken: bool) -> bool:
        self.answers.append(taken)
        return taken


class Wire:
    """One connection, over which a test sends bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), WAIT)).decode()
        fields = {name.lower(): value for name, value in re.findall(r"\r\n([^:]+): *([^\r]*)", head)}
        body = await asyncio.wait_for(self._reader.readexactly(int(fields["content-length"])), WAIT)
        return int(head.split(" ")[1]), fields, json.loads(body)

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        self.writer.write(data)
        return await self.answer()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Wire]:
    """A connection that has served a request: its task has begun."""
    address = urlsplit(server.url)
    wire = Wire(*await asyncio.open_connection(address.hostname, address.port))
    try:
        assert (await wire.ask(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        yield wire
    finally:
        wire.writer.transport.abort()


def request(repo: Tracked, body: bytes | None = None, **changed: bytes | None) -> bytes:
    """A signed delivery as GitHub sends it; `changed` are headers, with _ for -, None leaves one out."""
    body = json.dumps(push()).encode() if body is None else body
    headers: dict[str, bytes | None] = {
        "Host": b"cotexd",
        "User-Agent": b"GitHub-Hookshot/test",
        "Accept": b"*/*",
        "content-type": b"application/json",
        "x-github-event": b"push",
        "x-github-delivery": str(uuid.uuid4()).encode(),
        "x-hub-signature-256": sign(body, repo.webhook_secret),
        "content-length": b"%d" % len(body),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    lines = [name.encode() + b": " + value for name, value in headers.items() if value is not None]
    return b"\r\n".join([f"POST /api/webhooks/github/{repo.id} HTTP/1.1".encode(), *lines, b"", body])


async def warm(server: Server, repo: Tracked) -> None:
    """Now its secret is at hand."""
    assert (await server.github.deliver(repo)).status_code == 200


def test_a_whole_plain_delivery_is_read():
    post = shortcut.read(HEAD + b"{}")
    assert post is not None
    assert (post.repo_id, post.body) == ("a-Repo", b"{}")
    assert post.headers["x-github-delivery"] == "a-guid"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"{",
        HEAD + b"{}G",
        HEAD[:-2],
        HEAD.replace(b"POST", b"PUT") + b"{}",
        HEAD.replace(b"a-Repo", b"a/b") + b"{}",
        HEAD.replace(b"a-Repo", b"a%2Fb") + b"{}",
        HEAD.replace(b"a-Repo", b"a?b=c") + b"{}",
        HEAD.replace(b"a-Repo", b"") + b"{}",
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"{}",
        HEAD.replace(b"Host: x", b"Host: x\r\nhost: y") + b"{}",
        HEAD.replace(b"Host: x", b"Host : x") + b"{}",
        HEAD.replace(b"Host: x", b"Host: x\r\n folded") + b"{}",
        HEAD.replace(b"Host: x", b"Host: x\nTransfer-Encoding: chunked") + b"{}",
        HEAD.replace(b"Host: x", b"Host: x\rTransfer-Encoding: chunked") + b"{}",
        HEAD.replace(b"Host: x", b"Transfer-Encoding: chunked") + b"{}",
        HEAD.replace(b"Host: x", b"Expect: 100-continue") + b"{}",
        HEAD.replace(b"Host: x", b"Connection: close") + b"{}",
        HEAD.replace(b"Host: x", b"Upgrade: websocket") + b"{}",
        HEAD.replace(b"Host: x", b"Host: \xe9") + b"{}",
        HEAD.replace(b"Content-Length: 2", b"Content-Length: +2") + b"{}",
        HEAD.replace(b"Content-Length: 2", b"Content-Length: 2 ") + b"{}",
        HEAD.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2") + b"{}",
        HEAD.replace(b"Content-Length: 2\r\n", b"") + b"{}",
        HEAD.replace(b"Host: x", b"Host: " + b"x" * shortcut.MAX_HEAD) + b"{}",
    ],
)
def test_all_else_goes_the_long_way(data: bytes):
    assert shortcut.read(data) is None


async def test_both_ways_answer_alike(server: Server, ada: Account, hello: Tracked):
    await warm(server, hello)
    taken = Taken()
    async with connected(server) as wire:
        short = await wire.ask(request(hello, x_request_id=b"mine"))
        long = await wire.ask(request(hello, x_request_id=b"mine", traceparent=b"none"))
        again = await wire.ask(request(hello, x_github_delivery=b"a-guid"))
        twice = await wire.ask(request(hello, x_github_delivery=b"a-guid"))
    assert taken.answers == [False, True, False, True, True]
    assert [answer[0] for answer in (short, long, again, twice)] == [200] * 4
    assert [answer[2]["seq"] for answer in (short, long, again, twice)] == [2, 3, 4, 4]
    assert [answer[2]["duplicate"] for answer in (short, long, again, twice)] == [False, False, False, True]
    assert (again[2]["event_id"], set(short[2])) == (twice[2]["event_id"], set(long[2]))
    for name in ("x-request-id", "content-type", "connection"):
        assert short[1][name] == long[1][name]
    assert again[1]["x-request-id"] != twice[1]["x-request-id"]
    stored = server.store.look(history.get, ada.id, short[2]["event_id"])
    assert (json.loads(bytes(stored.payload)), stored.delivery_id != "") == (push(), True)


async def test_what_is_refused_is_refused_by_the_long_way(server: Server, ada: Account, hello: Tracked):
    other, unknown = server.track(ada, "octo/other"), msgspec.structs.replace(hello, id="unknown")
    for repo in (hello, other):
        await warm(server, repo)
    await server.github.deliver(unknown)
    server.store.run(repositories.pause, ada.id, other.id)
    for data, status, code in (
        (request(hello, x_hub_signature_256=b"sha256=" + b"0" * 64), 401, "bad_signature"),
        (request(unknown), 401, "bad_signature"),
        (request(other), 403, "repo_paused"),
        (request(hello, b"[]"), 400, "invalid_payload"),
        (request(hello, x_github_event=None), 400, "invalid_payload"),
        (request(hello, content_type=b"text/plain"), 415, "unsupported_media_type"),
    ):
        async with connected(server) as wire:
            answer = await wire.ask(data)
            assert (answer[0], answer[2]["code"]) == (status, code)
    assert (await server.github.deliver(hello)).json()["seq"] == 3


async def test_what_comes_before_the_answer_waits_for_its_turn(server: Server, hello: Tracked):
    await warm(server, hello)
    async with connected(server) as wire:
        async with holding(inside().store):
            wire.writer.write(request(hello))
            await eventually(lambda: deliveries_waiting(inside().store) == 1)
            wire.writer.write(
                request(hello) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + request(hello)[:500]
            )
            assert (await server.get("/livez")).status_code == 200
            assert deliveries_waiting(inside().store) == 1
        assert [(await wire.answer())[2].get("seq") for _ in range(3)] == [2, 3, None]


async def test_a_client_that_sends_on_and_on_before_its_answer_is_not_read_on(server: Server, hello: Tracked):
    await warm(server, hello)
    many = 3 * MAX_WAITING // len(request(hello))
    async with connected(server) as wire:
        async with holding(inside().store):
            wire.writer.write(request(hello))
            await eventually(lambda: deliveries_waiting(inside().store) == 1)
            wire.writer.write(b"".join(request(hello) for _ in range(many)))
            assert (await server.get("/livez")).status_code == 200
        assert [(await wire.answer())[2]["seq"] for _ in range(many + 1)] == list(range(2, many + 3))


async def test_a_connection_that_has_long_rested_is_not_closed_in_the_middle_of_a_delivery(
    server: Server, hello: Tracked
):
    inside_app().config.KEEP_ALIVE_TIMEOUT = 1
    await warm(server, hello)
    async with connected(server) as wire:
        assert (await wire.ask(request(hello)))[0] == 200
        await asyncio.sleep(0.6)
        await warm(server, hello)
        async with holding(inside().store):
            wire.writer.write(request(hello))
            await asyncio.sleep(0.7)  # longer than it would have been left alone
        assert (await wire.answer())[0] == 200


async def test_a_delivery_that_was_begun_is_answered_before_the_server_stops(settings: Settings):
    async with serving(settings) as server:
        hello = server.track(server.user("ada"))
        await warm(server, hello)
        async with connected(server) as wire:
            context = inside()
            async with holding(context.store):
                wire.writer.write(request(hello))
                await eventually(lambda: deliveries_waiting(context.store) == 1)
                stopping = asyncio.create_task(server.appliance.stop())
                await eventually(lambda: context.draining)
            assert (await wire.answer())[2]["seq"] == 2
            await stopping


async def test_a_busy_repositorys_secret_is_read_anew_beside_its_deliveries(
    server: Server, hello: Tracked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(github, "RENEW_AFTER", 0)
    await warm(server, hello)
    taken = Taken()
    async with connected(server) as wire:
        assert (await wire.ask(request(hello)))[0] == 200
        server.store.run(repositories.rotate_secret, hello.id, overlap=timedelta(0))

        async def refused() -> bool:
            return (await wire.ask(request(hello)))[0] == 401

        await eventually(refused)
    assert taken.answers[:2] == [False, True]
    assert taken.answers[-1] is False


async def test_a_peer_that_leaves_by_the_short_way_loses_no_event(
    server: Server, ada: Account, hello: Tracked
):
    await warm(server, hello)
    taken = Taken()
    async with holding(inside().store), connected(server) as wire:
        wire.writer.write(request(hello, x_github_delivery=b"left"))
        await eventually(lambda: deliveries_waiting(inside().store) == 1)
    assert taken.answers == [False, True]
    again = await server.github.deliver(hello, guid="left")
    assert (again.json()["seq"], again.json()["duplicate"]) == (2, True)


async def test_what_goes_the_short_way_is_counted_as_all_else(server: Server, hello: Tracked):
    def counted() -> dict[str, float]:
        lines = metrics.exposition().decode().splitlines()
        wanted = (
            'cotexd_deliveries_total{answer="accepted"}',
            "cotexd_delivery_seconds_count",
            "cotexd_delivery_bytes_sum",
            'cotexd_http_requests_total{method="POST",route="api/webhooks/github/<repo_id:str>",status="200"}',
            'cotexd_http_request_seconds_count{route="api/webhooks/github/<repo_id:str>"}',
        )
        return {
            name: float(line.rpartition(" ")[2]) for line in lines for name in wanted if line.startswith(name)
        }

    await warm(server, hello)
    async with connected(server) as wire:
        before, taken = counted(), Taken()
        await wire.ask(request(hello))
        middle = counted()
        await wire.ask(request(hello, traceparent=b"none"))
        after = counted()
    assert taken.answers == [True, False]
    assert len(before) == 5
    assert {name: middle[name] - before[name] for name in before} == {
        name: after[name] - middle[name] for name in before
    }
