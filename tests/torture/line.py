"""HTTP/1.1 on a connection that is kept: as much of it as senders and long polls need, and cheap."""

import asyncio
from typing import NamedTuple

WITHIN = 60.0
"""seconds for an answer; a long poll waits for some of them"""


class Reply(NamedTuple):
    status: int
    body: bytes


class Line:
    """One connection to a server, made when it is needed. One request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        """:raises OSError, EOFError, TimeoutError: no whole answer came; nobody knows what was done"""
        try:
            async with asyncio.timeout(WITHIN):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(head(method, path, {**headers, "Content-Length": str(len(body))}) + body)
                return await self._reply(reader)
        except BaseException:
            self.cut()
            raise

    def cut(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        status, fields = read_head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection", "").lower() == "close":
            self.cut()
        return Reply(status, body)


def head(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_head(data: bytes) -> tuple[int, dict[str, str]]:
    """The status, and the fields by their lower-case names."""
    first, *lines = data.decode("latin-1").strip().split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in fields}
