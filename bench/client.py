"""Who loads a server: the programs of bench/load.c, each in a process of its own, and one webhook by hand."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from bench import payloads
from bench.payloads import Request
from bench.process import Broken, Child, environment

OPEN_WITHIN = 90.0
"""seconds for all WebSockets of a figure"""
EVENT_WITHIN = 15.0
"""seconds for one event to reach all of them"""
_ANSWER_WITHIN = 10.0


@dataclass(frozen=True)
class Load:
    """The load program: the command that starts it, and where its files go."""

    command: tuple[str, ...]
    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Compiled where there is a compiler and epoll, else the same in Python."""
        source = Path(__file__).with_name("load.c")
        compiler = shutil.which("cc")
        if compiler and sys.platform == "linux":
            program = folder / "load"
            subprocess.run([compiler, "-O2", "-o", program, source], check=True)
            return cls((str(program),), folder)
        return cls((sys.executable, str(source.with_suffix(".py"))), folder)

    @property
    def compiled(self) -> bool:
        return len(self.command) == 1

    def file(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


@dataclass(frozen=True)
class Answer:
    due: int
    """nanoseconds of the monotonic clock: when it was, or should have been, sent"""
    took: float
    """milliseconds until it was answered"""
    status: int


class Posts:
    """Deliveries over keep-alive connections, for so many seconds, beginning now."""

    def __init__(
        self,
        load: Load,
        address: tuple[str, int],
        requests: Sequence[Request],
        *,
        connections: int,
        seconds: float,
        rate: float = 0,
        first: int = 0,
    ) -> None:
        """:param rate: a second; 0 is as many as are answered
        :param first: the number of the first delivery; no two of one server may be the same
        """
        self._seconds = seconds
        path = payloads.write(requests, load.folder / "requests")
        given = (*address, connections, seconds, rate, first, path)
        self._process = subprocess.Popen(
            [*load.command, "post", *map(str, given)],
            env=environment(load.folder),
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def answers(self) -> list[Answer]:
        """All of them, once the time is over.

        :raises Broken: some were not answered
        """
        try:
            said, _ = self._process.communicate(timeout=self._seconds + 2 * _ANSWER_WITHIN)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        if self._process.returncode:
            raise Broken("The load that posts has failed.")
        fields = (line.split() for line in said.splitlines())
        return [Answer(int(due), int(took) / 1e6, int(status)) for due, took, status in fields]


class Marks(NamedTuple):
    """What tells a listener where it is, in a protocol that it does not speak."""

    opens: str
    """comes when a connection is ready"""
    ends: int
    """the byte with which each event ends, and that comes nowhere else"""


class Listeners(Child):
    """WebSockets, or connections of another kind, that count what they get."""

    def __init__(
        self,
        load: Load,
        address: tuple[str, int],
        connections: int,
        request: bytes,
        marks: Marks | None = None,
        name: str = "",
    ) -> None:
        """:param marks: of another kind
        :param name: of one of several that speak to the same address
        """
        path = load.file(f"upgrade-{address[1]}{name}", request)
        command = [*load.command, "listen", *map(str, address), str(connections), path]
        if marks is not None:
            command[len(load.command)] = "count"
            command += [marks.opens, str(marks.ends)]
        super().__init__(command, environment(load.folder))
        self.events = 0
        """that all of them have got"""
        self.message = 0
        """bytes of the last event's message"""

    def opened(self) -> None:
        self.line("^open$", OPEN_WITHIN)

    def next(self) -> int:
        """When the last of them had the next event: nanoseconds of the monotonic clock."""
        found = self.line(r"^(\d+) (\d+) (\d+)$", EVENT_WITHIN)
        self.events, self.message = int(found[1]), int(found[3])
        return int(found[2])

    def reached(self) -> int:
        """How many events all of them have got by now."""
        while not self._said.empty():
            self.next()
        return self.events


class Floor(Child):
    """The bare loop of send() to as many sockets, for messages of `size` bytes."""

    def __init__(self, load: Load, connections: int, size: int) -> None:
        path = load.file("message", frame(message(size)))
        super().__init__([*load.command, "floor", str(connections), path], environment(load.folder))
        self.address = ("127.0.0.1", int(self.line(r"^(\d+)$", EVENT_WITHIN)[1]))

    def send(self) -> int:
        """Send it to all; when that began, in nanoseconds of the monotonic clock."""
        begun = time.monotonic_ns()
        self.tell(b".")
        return begun


class Hook:
    """One keep-alive connection that posts, and knows when it was answered."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=_ANSWER_WITHIN)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, request: bytes) -> tuple[int, int]:
        """When it was sent and when it was answered: nanoseconds of the monotonic clock.

        :raises Broken: it was refused
        """
        sent = time.monotonic_ns()
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (part := self._socket.recv(65536)):
                raise Broken("The server hung up.")
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            body += self._socket.recv(65536)
        answered = time.monotonic_ns()
        if not head.startswith(b"HTTP/1.1 2"):
            raise Broken(f"The server refused: {answer[:500]!r}")
        return sent, answered

    def close(self) -> None:
        self._socket.close()


def upgrade(host: str, path: str, token: str) -> bytes:
    """A WebSocket handshake, with the key of RFC 6455's example."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{bearer}"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def message(size: int) -> bytes:
    """What stands for ours where others send it: `size` bytes that begin like an event's message."""
    head = b'{"type":"github_event","payload":"'
    return head + b"x" * (size - len(head) - 2) + b'"}'


def frame(text: bytes) -> bytes:
    """One text message of 126 to 65,535 bytes, as a server sends it (RFC 6455, 5.2)."""
    return b"\x81\x7e" + len(text).to_bytes(2) + text


def send_request(host: str, text: bytes) -> bytes:
    """What makes a plain server send `text` to all of its WebSockets."""
    head = f"POST /send HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text
