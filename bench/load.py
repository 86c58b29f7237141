"""bench/load.c where there is no compiler, or no epoll: the same three programs, spoken to in the same way.

It is slower, so that the figures are more the load's and less the server's; the table says that it was used.
"""

import os
import re
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

OPENING = 200
"""connections that are being opened at a time"""
PATIENCE = 10
"""seconds for answers that are still to come"""
_BLOCK = re.compile(rb"(\d+) (\d+)\n")
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@dataclass(eq=False)
class Connection:
    socket: socket.socket
    due: int = 0
    have: bytearray = field(default_factory=bytearray)
    upgraded: bool = False
    events: int = 0


def post(
    host: str, port: int, connections: int, seconds: float, rate: float, first: int, requests: str
) -> None:
    blocks = _blocks(Path(requests).read_bytes())
    selector = selectors.DefaultSelector()
    free = [_connected(host, port, selector) for _ in range(connections)]
    answers: list[tuple[int, int, bytes]] = []
    begun = time.monotonic_ns()
    end = begun + int(seconds * 1e9)
    sent = 0
    while True:
        wait = 0.1
        while free:
            now = time.monotonic_ns()
            due = begun + int(sent / rate * 1e9) if rate > 0 else now
            if due >= end:
                break
            if due > now:
                wait = (due - now) / 1e9
                break
            connection = free.pop(0)  # in turn: an idle one would be closed
            request, offset = blocks[(first + sent) % len(blocks)]
            request[offset : offset + 12] = b"%012d" % (first + sent)
            connection.due = due
            connection.socket.sendall(request)
            sent += 1
        now = time.monotonic_ns()
        if now >= end and len(free) == connections:
            break
        if now >= end + PATIENCE * 10**9:
            sys.exit(f"load: {connections - len(free)} requests were not answered")
        for key, _ in selector.select(wait):
            connection = key.data
            connection.have += _received(connection.socket)
            head, found, body = connection.have.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if found and len(body) >= (int(length[1]) if length else 0):
                answers.append((connection.due, time.monotonic_ns() - connection.due, bytes(head[9:12])))
                connection.have.clear()
                free.append(connection)
    sys.stdout.writelines(f"{due} {took} {status.decode()}\n" for due, took, status in answers)


def listen(host: str, port: int, connections: int, request: str) -> None:
    upgrade = Path(request).read_bytes()
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    reached: dict[int, int] = {}
    opened = upgraded = 0
    while True:
        while opened < connections and opened - upgraded < OPENING:
            _connected(host, port, selector).socket.sendall(upgrade)
            opened += 1
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return
            connection: Connection = key.data
            connection.have += _received(connection.socket)
            if not connection.upgraded:
                head, found, rest = connection.have.partition(b"\r\n\r\n")
                if not found:
                    continue
                if not head.startswith(b"HTTP/1.1 101"):
                    sys.exit(f"load: no upgrade: {bytes(head[:12])!r}")
                connection.upgraded, connection.have = True, rest
                upgraded += 1
                if upgraded == connections:
                    print("open", flush=True)
            while (length := _frame(connection)) is not None:
                if length:
                    connection.events += 1
                    reached[connection.events] = reached.get(connection.events, 0) + 1
                    if reached[connection.events] == connections:
                        print(connection.events, time.monotonic_ns(), length, flush=True)


def floor(connections: int, message: str) -> None:
    content = Path(message).read_bytes()
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listening.getsockname()[1], flush=True)
    sockets = []
    for _ in range(connections):
        accepted, _address = listening.accept()
        accepted.recv(4096)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.sendall(_ANSWER)
        sockets.append(accepted)
    while os.read(sys.stdin.fileno(), 1):
        for each in sockets:
            each.sendall(content)


def _blocks(content: bytes) -> list[tuple[bytearray, int]]:
    found = []
    at = 0
    while match := _BLOCK.match(content, at):
        length, offset = int(match[1]), int(match[2])
        found.append((bytearray(content[match.end() : match.end() + length]), offset))
        at = match.end() + length
    return found


def _connected(host: str, port: int, selector: selectors.BaseSelector) -> Connection:
    connection = Connection(socket.create_connection((host, port)))
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    return connection


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        sys.exit("load: the server hung up")
    return data


def _frame(connection: Connection) -> int | None:
    """Take one whole frame away: the length of a github_event, 0 for another, None if there is none yet."""
    have = connection.have
    if len(have) < 2:
        return None
    header = {126: 4, 127: 10}.get(have[1], 2)
    length = have[1] if header == 2 else int.from_bytes(have[2:header])
    if len(have) < header + length:
        return None
    payload = bytes(have[header : header + length])
    code = have[0] & 15
    del have[: header + length]
    if code == 8:
        sys.exit(f"load: the server closed a WebSocket: {int.from_bytes(payload[:2])}")
    if code == 9:
        # Masked, as RFC 6455 wants it of a client, with a mask of zeros.
        connection.socket.sendall(bytes((0x8A, 0x80 | length, 0, 0, 0, 0)) + payload)
    return length if code == 1 and b"github_event" in payload[:48] else 0


if __name__ == "__main__":
    program, *given = sys.argv[1:]
    if program == "post":
        host, port, connections, seconds, rate, first, requests = given
        post(host, int(port), int(connections), float(seconds), float(rate), int(first), requests)
    elif program == "listen":
        listen(given[0], int(given[1]), int(given[2]), given[3])
    else:
        floor(int(given[0]), given[1])
