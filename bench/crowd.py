"""A crowd: one event for N WebSockets, sent by ours, by plain Sanic, or by the bare loop of send().

All three are told to send in the way that is theirs (a webhook; POST /send; a byte), their messages are of the same
length, and the same program listens to them. So a fan-out's figures differ in the sender only. Ours also verifies,
stores and commits the event before it sends it; that is part of what it is charged with.
"""

import contextlib
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench import server
from bench.client import Floor, Listeners, Load, message, send_request
from bench.figure import Run
from bench.process import Child
from bench.server import Server

_WARM = 3
"""events before the first that counts"""


class Sent(NamedTuple):
    """One event to all; nanoseconds of the monotonic clock."""

    begun: int
    answered: int
    """when whoever brought it had an answer"""
    arrived: int
    """when the last one had it"""


class Crowd(ABC):
    """A sender and its listeners, all connected."""

    def __init__(self, sender: Child, listeners: Listeners) -> None:
        self.sender = sender
        self.listeners = listeners

    def send(self) -> Sent:
        """Send one event, and wait until the last one has it."""
        begun, answered = self.begin()
        return Sent(begun, answered, self.listeners.next())

    @abstractmethod
    def begin(self) -> tuple[int, int]:
        """Send one event; when that began, and when it was answered."""


class _OfServer(Crowd):
    def __init__(self, to: Server, listeners: Listeners, size: int) -> None:
        super().__init__(to.process, listeners)
        self._requests = to.requests
        self._sends = send_request(to.host, message(size)) if size else b""
        self._hook = to.hook()
        self._count = 0

    def begin(self) -> tuple[int, int]:
        self._count += 1
        request = self._requests[self._count % len(self._requests)]
        return self._hook.post(self._sends or request.numbered(self._count))


class OfPeer(Crowd):
    """:param publish: what makes `sender` send one event to all, on a connection that has said `hello`"""

    def __init__(
        self, sender: Child, listeners: Listeners, address: tuple[str, int], hello: bytes, publish: bytes
    ) -> None:
        super().__init__(sender, listeners)
        self._publish = publish
        self._connection = socket.create_connection(address)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(hello)

    def begin(self) -> tuple[int, int]:
        told = time.monotonic_ns()
        self._connection.sendall(self._publish)
        with contextlib.suppress(BlockingIOError):
            self._connection.recv(1 << 16, socket.MSG_DONTWAIT)  # what it says to that
        return told, told


class _OfFloor(Crowd):
    def __init__(self, floor: Floor, listeners: Listeners) -> None:
        super().__init__(floor, listeners)
        self._floor = floor

    def begin(self) -> tuple[int, int]:
        told = self._floor.send()
        return told, told


@contextmanager
def crowds(run: Run, name: str, count: int) -> Iterator[tuple[Crowd, Crowd, Crowd]]:
    """Ours, the floor, plain Sanic, each with `count` listeners that have had their first events."""
    with ExitStack() as stack:
        ours = stack.enter_context(server.cotexd(run.root, server.prepare(run.folder(name))))
        first = warm(_OfServer(ours, stack.enter_context(_listeners(run.load, ours, count)), 0))
        size = first.listeners.message
        bare = stack.enter_context(Floor(run.load, count, size))
        heard = stack.enter_context(Listeners(run.load, bare.address, count, ours.upgrade))
        floor = warm(_OfFloor(bare, heard))
        plain = stack.enter_context(server.plain(run.root))
        third = warm(_OfServer(plain, stack.enter_context(_listeners(run.load, plain, count)), size))
        yield first, floor, third


def _listeners(load: Load, to: Server, count: int) -> Listeners:
    return Listeners(load, (to.host, to.port), count, to.upgrade)


def warm(crowd: Crowd) -> Crowd:
    crowd.listeners.opened()
    for _ in range(_WARM):
        crowd.send()
    return crowd
