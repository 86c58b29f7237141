import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from actors import WAIT, Client, GitHub, exchange, legacy, push
from conftest import Server, inside
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cotexd.domain.github import sign
from cotexd.operations import accounts, repositories, tokens
from cotexd.store import Store
from cotexd.store.models import Event, Membership
from cotexd.web import MAX_BODY

MORE = b"Host: cotexd\r\nConnection: close\r\n"
# What never gets as far as a database is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@on_sqlite
async def test_a_request_id_that_is_not_sane_is_replaced(server: Server):
    for given in ("", "a b", "x" * 65, "ä".encode(), b"a\xff", "<script>", "a\tb"):
        answer = await server.get("/health", headers={"x-request-id": given})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"]), given


@on_sqlite
async def test_an_answer_without_an_id_gets_one_of_its_own(server: Server):
    ids = {(await server.get("/health")).headers["x-request-id"] for _ in range(10)}
    assert len(ids) == 10


async def test_the_id_is_on_the_answer_that_opens_a_websocket(server: Server):
    ada = server.user("ada")
    async with legacy(server.url, server.token(ada)) as socket:
        assert socket.response is not None
        assert socket.response.headers.get("x-request-id")


@on_sqlite
async def test_an_unknown_address_is_not_found(server: Server):
    for path in ("/", "/nothing", "/api/repos/1", "/api/webhooks/github/a/b", "//health", "/api%2frepos"):
        answer = await server.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


@on_sqlite
async def test_another_method_is_refused_and_the_answer_names_those_that_are_there(server: Server):
    answer = await server.request("PUT", "/api/repos")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST", "PATCH", "DELETE"}
    assert (await server.get("/api/webhooks/github/x")).status_code == 405
    assert (await server.request("POST", "/ws")).status_code == 405


@on_sqlite
async def test_head_answers_without_a_body_where_there_is_something_to_ask(server: Server):
    for path in ("/health", "/livez", "/readyz"):
        answer = await server.request("HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
    answer = await server.request("HEAD", "/api/repos")
    assert (answer.status_code, answer.content) == (405, b"")


async def test_a_body_over_the_limit_is_refused_before_it_comes(server: Server):
    ada = server.user("ada")
    head = f"POST /api/repos HTTP/1.1\r\nAuthorization: Bearer {server.token(ada)}\r\n".encode() + MORE
    answer = await exchange(server.url, head + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@on_sqlite
async def test_a_body_over_the_limit_has_the_code_of_the_catalogue(server: Server):
    answer = await server.request("POST", "/api/repos", content=b" " * (MAX_BODY + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@on_sqlite
async def test_chunks_over_the_limit_are_refused(server: Server):
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    head = b"POST /api/repos HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + MORE + b"\r\n"
    assert (await exchange(server.url, head + 2 * chunk + b"1\r\n")).status_code == 413


NO_REQUESTS = [
    (b"GARBAGE", 400),
    (b"GET /health HTTP/2.0", 400),
    (b"GET /health", 400),
    (b"GET /\xff HTTP/1.1", 400),
    (b"GET /health HTTP/1.1\r\nno colon", 400),
    (b"POST /api/repos HTTP/1.1\r\nContent-Length: x", 400),
    (b"POST /api/repos HTTP/1.1\r\nContent-Length: -1", 400),
    (b"POST /api/repos HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0", 400),
    (b"POST /api/repos HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked", 400),
    (b"POST /api/repos HTTP/1.1\r\nTransfer-Encoding: gzip", 400),
    (b"POST /api/repos HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz", 400),
    (b"POST /api/repos HTTP/1.1\r\nContent-Length: 0\r\nExpect: the unexpected", 417),
    (b"GET /health HTTP/1.1\r\nX: " + b"a" * 20_000, 413),
]


@on_sqlite
async def test_what_is_no_request_is_a_problem_and_the_end_of_its_connection_only(server: Server):
    for sent, status in NO_REQUESTS:
        answer = await exchange(server.url, sent + b"\r\n\r\n")
        assert answer.status_code == status, sent
        assert answer.headers["content-type"] == "application/problem+json", sent
        assert answer.headers["x-request-id"] == answer.json()["request_id"], sent
    assert (await server.get("/health")).status_code == 200


@on_sqlite
@pytest.mark.parametrize(
    "target",
    [b"GET http://cotexd", b"GET ?a=b", b"CONNECT cotexd:443"],
    ids=["absolute", "query", "authority"],
)
async def test_a_target_without_a_path_is_a_problem_as_well(server: Server, target: bytes):
    answer = await exchange(server.url, target + b" HTTP/1.1\r\n" + MORE + b"\r\n")
    assert answer.status_code in {400, 404, 405}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("value", ["%00", "a%0d%0aSet-Cookie:%20a=b", "%ff%ed%a0%80'%22;--%"])
async def test_no_parameter_makes_a_mistake_of_the_server(server: Server, value: str):
    ada = server.user("ada")
    server.track(ada)
    mistakes = []
    for method, path in (
        ("GET", f"/api/repos?id={value}"),
        ("DELETE", f"/api/repos?name={value}"),
        ("GET", f"/api/github-events?cursor={value}"),
        ("GET", f"/api/github-events?event_type={value}"),
        ("GET", f"/api/github-events?repo_id={value}"),
        ("GET", f"/api/github-events?limit={value}&since={value}&until={value}"),
        ("GET", f"/api/github-events/recent?repo_id={value}"),
        ("GET", f"/api/github-events/event?id={value}"),
        ("GET", f"/ws?v={value}&device={value}&cursor={value}"),
    ):
        answer = await server.request(method, path, ada)
        assert "set-cookie" not in answer.headers
        if answer.status_code >= 500:
            mistakes.append(path)
    assert mistakes == []


@on_sqlite
async def test_no_header_comes_back_as_another_one(server: Server):
    for between in (b"\n", b"\r", b"\0", b"\x0b"):
        line = b"X-Request-ID: a" + between + b"Set-Cookie: a=b"
        answer = await exchange(server.url, b"GET /health HTTP/1.1\r\n" + MORE + line + b"\r\n\r\n")
        assert "set-cookie" not in answer.headers
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"]), between


@on_sqlite
async def test_requests_that_come_together_are_answered_in_their_order(server: Server):
    one = b"GET /livez HTTP/1.1\r\nHost: cotexd\r\nX-Request-ID: %d\r\n"
    requests = [one % number for number in range(3)]
    answers = await exchange(
        server.url, b"\r\n".join([*requests[:2], requests[2] + b"Connection: close\r\n", b""])
    )
    assert answers.headers["x-request-id"] == "0"
    assert re.findall(rb"x-request-id: (\d)", answers.content) == [b"1", b"2"]


async def test_a_mistake_of_the_server_is_told_without_its_details(server: Server):
    ada = server.user("ada")
    repo = server.track(ada)
    await server.github.deliver(repo)
    server.store.run(lambda _: Event.update(payload=b"damaged").execute())
    answer = await server.get("/api/github-events", ada)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "zstd" not in answer.text.lower()
    assert "Traceback" not in answer.text


async def test_what_is_refused_for_now_says_when_to_come_again(server: Server):
    inside().draining = True
    answer = await server.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


class Process:
    """`cotexd` as a process of its own, and every line that it logged."""

    def __init__(self, data: Path, form: str) -> None:
        self._arguments = [
            "--port",
            "0",
            "--data-dir",
            str(data),
            "--log-level",
            "debug",
            "--log-format",
            form,
        ]
        self.lines: list[str] = []

    async def start(self) -> str:
        """The address, once it is ready."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cotexd", *self._arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stderr is not None
        while line := (await asyncio.wait_for(self.process.stderr.readline(), WAIT)).decode():
            self.lines.append(line)
            if "ready" in line and (found := re.search(r"http://127\.0\.0\.1:\d+", line)):
                self.reading = asyncio.create_task(self.process.communicate())
                return found[0]
        pytest.fail("".join(self.lines))

    async def stop(self) -> str:
        """The whole log."""
        self.process.terminate()
        out, rest = await asyncio.wait_for(self.reading, WAIT)
        assert self.process.returncode == 0
        return "".join(self.lines) + out.decode() + rest.decode()


@on_sqlite
@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_line_of_the_log_holds_a_token_a_secret_or_a_signature(
    database: str, tmp_path: Path, form: str
):
    process = Process(tmp_path / "data", form)
    url = await process.start()
    store = Store(database, tmp_path / "data")
    ada = store.run(accounts.create, "ada")
    token = store.run(tokens.issue, ada.id).token
    wrong = "wrong." + token
    repo = store.run(repositories.add, ada.id, "octo/hello", "the-secret")
    body = json.dumps(push(7)).encode()
    address = url.replace("http", "ws") + "/ws"

    client = Client(url, token, device="laptop")
    async with httpx.AsyncClient(timeout=WAIT, trust_env=False) as http, client.connected() as socket:
        github = GitHub(url, http)
        assert (await github.deliver(repo)).status_code == 200
        await client.until_applied(socket, 1)
        assert (await github.deliver(repo, algorithm="sha1")).status_code == 200
        assert (await github.deliver(repo, secret="another-secret")).status_code == 401
        new = {"repo_name": "octo/new", "webhook_secret": "the-secret"}
        for bearer, status in ((token, 201), (wrong, 401)):
            headers = {"authorization": f"Bearer {bearer}"}
            answer = await http.post(f"{url}/api/repos", headers=headers, json=new)
            assert answer.status_code == status
        async with connect(address, subprotocols=["cotex.v2", f"cotex.bearer.{token}"], proxy=None) as other:
            await other.send("not a message")
        with pytest.raises(InvalidStatus):
            await connect(address, subprotocols=["cotex.v2", f"cotex.bearer.{wrong}"], proxy=None)
        # Something that nobody foresaw, where everything is at hand.
        store.run(lambda _: Membership.update(wants="{").execute())
        assert (await github.deliver(repo, body)).status_code == 500
    store.close()

    log = await process.stop()
    assert f"/api/webhooks/github/{repo.id}" in log
    assert "request_failed" in log
    parts = {part for part in token.split(".") if len(part) > 40}
    made = {sign(body, "the-secret", algorithm).decode() for algorithm in ("sha256", "sha1")}
    for hidden in {token, "the-secret", "another-secret", *parts, *made}:
        assert hidden not in log
        assert hidden[:40] not in log


async def test_a_client_that_is_gone_before_its_answer_harms_nobody(server: Server):
    ada = server.user("ada")
    head = f"GET /api/repos HTTP/1.1\r\nAuthorization: Bearer {server.token(ada)}\r\n\r\n".encode()
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(head)
        await writer.drain()
        writer.transport.abort()
    assert (await server.get("/api/repos", ada)).json() == []
