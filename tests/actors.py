"""Who acts in the tests: GitHub, which signs; a client, which follows the rule; a legacy client, which knows none."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from cotexd.domain.event import summarise
from cotexd.domain.github import Headers, read_body, sign
from cotexd.operations import events
from cotexd.operations.events import Incoming
from cotexd.store import Store, Tx
from cotexd.store.models import LogState, Membership

WAIT = 20.0
"""seconds until a test gives up on something that must come; never a measure of speed"""


def push(number: int = 1, ref: str = "refs/heads/main", **more: Any) -> dict[str, Any]:
    """A small push of one commit."""
    commit = {
        "id": f"{number:040x}",
        "message": f"Commit {number}",
        "timestamp": "2026-11-24T12:00:00Z",
        "added": [f"new-{number}.txt"],
        "removed": [],
        "modified": ["README.md"],
    }
    return {
        "ref": ref,
        "commits": [commit],
        "head_commit": commit,
        "sender": {"login": "ada"},
        "repository": {"full_name": "octo/hello"},
        **more,
    }


class GitHub:
    """Sends deliveries to a server, as GitHub does."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url = url
        self._http = http

    async def deliver(
        self,
        repo: Any,
        payload: dict[str, Any] | bytes | None = None,
        *,
        event: str = "push",
        guid: str | None = None,
        headers: dict[str, str | None] | None = None,
        algorithm: str = "sha256",
        secret: str | None = None,
    ) -> httpx.Response:
        """One delivery; `headers` override what GitHub would send, None leaves one out."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload or push()).encode()
        name = "x-hub-signature-256" if algorithm == "sha256" else "x-hub-signature"
        sent: dict[str, str | None] = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/test",
            "x-github-event": event,
            "x-github-delivery": guid or str(uuid.uuid4()),
            name: sign(body, secret or repo.webhook_secret, algorithm).decode(),
            **(headers or {}),
        }
        given = {key: value for key, value in sent.items() if value is not None}
        return await self._http.post(
            f"{self._url}/api/webhooks/github/{repo.id}", content=body, headers=given
        )


class Client:
    """A v2 client with the client's whole rule: what it `applied` is what its user sees."""

    def __init__(self, url: str, token: str, **query: str) -> None:
        self._url = url.replace("http", "ws", 1) + "/ws"
        self._token = token
        self._query = query
        self.cursor: str | None = None
        self._epoch = ""
        self._seq = 0
        self.applied: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = {}
        self.gaps: list[dict[str, Any]] = []

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[ClientConnection]:
        query = {"v": "2", **self._query, **({"cursor": self.cursor} if self.cursor else {})}
        headers = {"Authorization": f"Bearer {self._token}"}
        async with connect(
            f"{self._url}?{urlencode(query)}", additional_headers=headers, proxy=None, **options
        ) as socket:
            yield socket

    async def take(self, socket: ClientConnection) -> dict[str, Any]:
        """The next message, after the rule."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), WAIT))
        self.received.append(message)
        if message["type"] == "system_event" and message["event"] == "hello":
            self.hello = message["payload"]
            self._epoch, self._seq = self.hello["epoch"], self.hello["from"]
            self.cursor = f"{self._epoch}.{self._seq}"
        elif message["type"] == "system_event" and message["event"] == "gap":
            self.gaps.append(message["payload"])
        elif message["type"] == "github_event" and message["seq"] > self._seq:
            assert message["prev"] <= self._seq, (
                f"a hole before {message['seq']}: {message['prev']} > {self._seq}"
            )
            self._seq = message["seq"]
            self.cursor = f"{self._epoch}.{self._seq}"
            self.applied.append(message)
        return message

    async def until(self, socket: ClientConnection, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Take messages until one is what was waited for."""
        while not done(message := await self.take(socket)):
            pass
        return message

    async def until_live(self, socket: ClientConnection) -> dict[str, Any]:
        return await self.until(socket, lambda message: message.get("event") == "live")

    async def until_applied(self, socket: ClientConnection, count: int) -> None:
        while len(self.applied) < count:
            await self.take(socket)

    @property
    def seqs(self) -> list[int]:
        return [message["seq"] for message in self.applied]


@asynccontextmanager
async def legacy(url: str, token: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """The desktop app as it is: a token, and nothing else."""
    address = url.replace("http", "ws", 1) + "/ws"
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, proxy=None, **options) as socket:
        yield socket


async def receive(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), WAIT))
    return message


class EventSource:
    """A client of /api/events/stream that reads as a browser does (HTML Living Standard, 9.2.6)."""

    def __init__(self, url: str, token: str, **query: str) -> None:
        self._url = f"{url}/api/events/stream"
        self._token = token
        self._query = query
        self.last_event_id = ""
        self.retry = 0
        self.everything: list[tuple[dict[str, Any], str | None]] = []
        """each message with its id; None where it had none"""

    @asynccontextmanager
    async def connected(self, **headers: str) -> AsyncIterator[httpx.Response]:
        """:param headers: more of them, with _ for -"""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.last_event_id:
            given.setdefault("last-event-id", self.last_event_id)
        given["authorization"] = f"Bearer {self._token}"
        async with (
            httpx.AsyncClient(timeout=WAIT, trust_env=False) as http,
            http.stream("GET", self._url, params=self._query, headers=given) as response,
        ):
            self._lines = self._split(response.aiter_bytes())
            yield response

    async def _split(self, parts: AsyncIterator[bytes]) -> AsyncIterator[str]:
        """Lines end with LF here; httpx's own would end with U+2028 as well."""
        rest = b""
        async for part in parts:
            assert b"\r" not in part
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line.decode()

    async def take(self) -> dict[str, Any]:
        """The next message.

        :raises EOFError: the server has ended the stream
        """
        fields: dict[str, str] = {}
        async with asyncio.timeout(WAIT):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "retry":
                    self.retry = int(value)
                elif name:
                    fields[name] = value
                elif "data" in fields:
                    return self._dispatch(fields)
        raise EOFError

    def _dispatch(self, fields: dict[str, str]) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(fields["data"])
        assert fields["event"] == message["type"]
        self.everything.append((message, fields.get("id")))
        self.last_event_id = fields.get("id", self.last_event_id)
        return message

    async def until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not done(message := await self.take()):
            pass
        return message

    async def until_live(self) -> dict[str, Any]:
        return await self.until(lambda message: message.get("event") == "live")

    async def until_applied(self, count: int) -> None:
        while len(self.seqs) < count:
            await self.take()

    async def ended(self) -> None:
        """Read until the server ends the stream."""
        try:
            while True:
                await self.take()
        except EOFError:
            pass

    @property
    def received(self) -> list[dict[str, Any]]:
        return [message for message, _ in self.everything]

    @property
    def seqs(self) -> list[int]:
        return [each["seq"] for each in self.received if each["type"] == "github_event"]


# On the operations' floor, without HTTP.


def incoming(
    repo: Any, payload: dict[str, Any] | None = None, *, event: str = "push", guid: str | None = None
) -> Incoming:
    """A delivery whose signature was found good, as the log takes it."""
    body = json.dumps(payload or push()).encode()
    headers = Headers(event, guid or str(uuid.uuid4()), form=False)
    delivery = read_body(repo.id, headers, body, "sha256")
    summary = summarise(delivery, repo.repo_name, datetime.now(UTC))
    return Incoming(
        repo_id=repo.id,
        delivery_id=delivery.delivery_id,
        event_type=event,
        branch=summary.branch,
        verified="sha256",
        summary=msgspec.json.encode(summary),
        payload=body,
    )


def logged(store: Store, repo: Any, count: int = 1, **more: Any) -> list[int]:
    """Put new events into the log, in one transaction; returns their seqs."""
    taken = store.run(events.accept_many, [incoming(repo, **more) for _ in range(count)])
    return [each.seq for each in taken if isinstance(each, events.Accepted)]


def join(tx: Tx, user_id: str, repo_id: str) -> None:
    """Share a repository with a user from now on."""
    head = LogState.get_by_id(1).head
    Membership.insert(
        user_id=user_id, repo_id=repo_id, role="member", since_seq=head, created_at=tx.now
    ).execute()


def leave(_: Tx, user_id: str, repo_id: str) -> None:
    """End that: what came until now stays theirs."""
    mine = (Membership.user_id == user_id) & (Membership.repo_id == repo_id) & Membership.until_seq.is_null()
    Membership.update(until_seq=LogState.get_by_id(1).head).where(mine).execute()


# On the bytes' floor, where a client may be as odd as it likes.


async def exchange(url: str, request: bytes) -> httpx.Response:
    """Send a request byte for byte; its answer, once the server has closed."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), WAIT)
    writer.close()
    assert answer, f"closed without an answer: {request[:100]!r}"
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (each.partition(": ") for each in lines)]
    return httpx.Response(int(line.split()[1]), headers=headers, content=body)


class Bare:
    """A WebSocket client that does nothing by itself: no pong, no closing frame, no reading ahead."""

    def __init__(self, url: str, token: str, query: str = "") -> None:
        self._url = url.replace("http", "ws", 1) + "/ws" + query
        self._protocol = ClientProtocol(parse_uri(self._url))
        self._request = self._protocol.connect()
        self._request.headers["Authorization"] = f"Bearer {token}"
        self._events: list[Any] = []

    @asynccontextmanager
    async def connected(self, more: bytes = b"") -> AsyncIterator["Bare"]:
        """:param more: bytes that go out together with the handshake"""
        address = urlsplit(self._url)
        self._reader, self.writer = await asyncio.open_connection(address.hostname, address.port)
        self._protocol.send_request(self._request)
        self.writer.write(b"".join(self._protocol.data_to_send()) + more)
        try:
            response = await self._next()
            assert response.status_code == 101, response
            yield self
        finally:
            self.writer.transport.abort()

    def send(self, opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> None:
        self.writer.write(Frame(opcode, payload, fin).serialize(mask=True))

    async def receive(self, opcode: Opcode = Opcode.TEXT) -> bytes:
        """The payload of the next frame of this kind; others are passed over."""
        while (frame := await self._next()).opcode is not opcode:
            pass
        return bytes(frame.data)

    async def closed(self) -> int:
        """The code of the closing frame that comes."""
        return int.from_bytes((await self.receive(Opcode.CLOSE))[:2])

    async def _next(self) -> Any:
        while not self._events:
            data = await asyncio.wait_for(self._reader.read(2**16), WAIT)
            if not data:
                raise EOFError
            self._protocol.receive_data(data)
            self._events += self._protocol.events_received()
        return self._events.pop(0)
