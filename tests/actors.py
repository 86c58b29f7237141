"""Who acts in the tests: GitHub, which signs; a client, which follows the rule; a legacy client, which knows none."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect

from cotexd.domain.github import sign

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
