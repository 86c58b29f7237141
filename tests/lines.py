"""Connections without a network: a hub on a store, and transports whose other side a test holds in its hand."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from actors import incoming
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from cotexd.domain.cursor import Cursor
from cotexd.domain.selection import EVERYTHING, Selection
from cotexd.live.connection import About, Connection
from cotexd.live.hub import Hub
from cotexd.live.session import Session
from cotexd.live.socket import Socket
from cotexd.live.stream import Stream
from cotexd.operations import cursors, events
from cotexd.store import Store


@asynccontextmanager
async def running(store: Store, **how: Any) -> AsyncIterator[Hub]:
    """A hub with the threads of its store."""
    hub = Hub(store, **how)
    store.start(hub.publish, hub.moved)
    try:
        await hub.open()
        yield hub
    finally:
        for each in hub._all():
            each._abort()  # nobody is there to answer a farewell
        await hub.close()
        await store.stop()


async def happen(store: Store, repo: Any, *events_of: dict[str, Any] | None, **more: Any) -> None:
    """Let events happen one after the other: written, committed, handed out."""
    for payload in events_of or (None,):
        await store.write_many(events.accept_many, incoming(repo, payload, **more))


def begun(
    hub: Hub,
    store: Store,
    user_id: str,
    *,
    v2: bool = True,
    device: str = "",
    after: int | str | None = None,
    selection: Selection = EVERYTHING,
    answers: bool = True,
    token_session: str = "",
) -> Session:
    """A session as web makes it; `after` is its cursor, or the seq of one."""
    epoch, seq = store.look(events.log).epoch, after
    if isinstance(after, str):
        epoch, _, seq = after.partition(".")
    cursor = None if seq is None else Cursor(epoch, int(seq))
    moment = datetime.now(UTC)
    start = (
        store.run(cursors.attach, user_id, device=device, cursor=cursor, selection=selection)
        if v2
        else store.run(cursors.attach_legacy, user_id, token_session)
    )
    return Session(
        user_id,
        hub.addressed_to(user_id),
        start,
        v2=v2,
        token_exp=moment + timedelta(hours=1),
        token_session=token_session,
        selection=selection,
        answers=answers,
        now=time.monotonic(),
        moment=moment,
    )


class Line(asyncio.Transport):
    """Takes all that is written at once, unless the other side has stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = bytearray()
        """what the other side has got"""
        self.reads = True
        self.most = 0
        """bytes that ever waited"""
        self.limits: tuple[int | None, int | None] = (None, None)
        self._waiting = bytearray()
        self._protocol: Connection | None = None
        self._closing = False
        self._lost = False

    def begin(self, hub: Hub, connection: Connection, received: bytes = b"") -> "Line":
        """Attach a connection, and let it take this over."""
        self._protocol = connection
        hub.attach(connection)
        connection.take_over(self, received)
        return self

    # What the other side does.

    def stop_reading(self) -> None:
        self.reads = False

    def read(self, size: int | None = None) -> None:
        """Take so many bytes of what waits, or all from now on."""
        self.reads = size is None
        some = self._waiting[:size]
        del self._waiting[:size]
        self.taken += some
        if some and not self._waiting:
            self._emptied()

    def say(self, data: bytes) -> None:
        if not self._lost and self._protocol is not None:
            self._protocol.data_received(data)

    def say_no_more(self) -> None:
        if not self._lost and self._protocol is not None and not self._protocol.eof_received():
            self.close()

    def vanish(self) -> None:
        self.abort()

    @property
    def ended(self) -> bool:
        return self._lost

    # What a transport does.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost:
            return
        assert not self._closing, "written after the end"
        if self.reads and not self._waiting:
            self.taken += data
        else:
            first = not self._waiting
            self._waiting += data
            self.most = max(self.most, len(self._waiting))
            if first and self._protocol is not None:
                self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = high, low

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def close(self) -> None:
        self._closing = True
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.abort)

    def abort(self) -> None:
        if not self._lost:
            self._lost = True
            self._waiting.clear()
            if self._protocol is not None:
                self._protocol.connection_lost(None)

    def _emptied(self) -> None:
        if self._closing:
            self.close()
        elif self._protocol is not None:
            self._protocol.resume_writing()


# WebSockets.


def socket(hub: Hub, session: Session, device: str = "") -> Socket:
    return Socket(session, hub, About("v2" if session.v2 else "legacy", device, "127.0.0.1"))


def frames(line: Line) -> list[Frame]:
    """The frames that have arrived."""
    found, reader = [], StreamReader()
    reader.feed_data(bytes(line.taken))
    while True:
        parsing = Frame.parse(reader.read_exact, mask=False)
        try:
            next(parsing)
        except StopIteration as parsed:
            found.append(parsed.value)
        else:
            return found  # half a frame, or none


def told(line: Line) -> list[dict[str, Any]]:
    """The messages that have arrived."""
    return [json.loads(bytes(frame.data)) for frame in frames(line) if frame.opcode is Opcode.TEXT]


def names(line: Line) -> list[str]:
    return [message.get("event", message["type"]) for message in told(line)]


def seqs(line: Line) -> list[int]:
    return [message["seq"] for message in told(line) if message["type"] == "github_event"]


def code(line: Line) -> int | None:
    """With which the server has closed."""
    closing = [bytes(frame.data) for frame in frames(line) if frame.opcode is Opcode.CLOSE]
    return int.from_bytes(closing[0][:2]) if closing else None


def client_event(event: str, **fields: object) -> bytes:
    """The frame in which a client says this."""
    message = json.dumps({"type": "client_event", "event": event, **fields})
    return Frame(Opcode.TEXT, message.encode()).serialize(mask=True)


# Event streams.


def stream(hub: Hub, session: Session, device: str = "") -> Stream:
    return Stream(session, hub, About("stream", device, "127.0.0.1"))


def sse(line: Line) -> list[dict[str, str]]:
    """The whole events that have arrived, each with its fields."""
    *whole, _ = bytes(line.taken).split(b"\n\n")
    return [dict(row.split(": ", 1) for row in event.decode().split("\n")) for event in whole]
