"""Hundreds of clients in one process: each follows the rule of its kind, and writes down what it is sent.

What a client thinks of it (its cursor) only decides how it goes on; whether all was well is judged afterwards, from
the history (check.py).
"""

import asyncio
import socket
from dataclasses import replace
from random import Random
from urllib.parse import quote, urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from . import message as messages
from .history import Greeting, History, Spell, Who
from .line import Line, head, read_head
from .message import Message
from .plan import Spec
from .rule import Cursor, Rule, parse
from .world import World

CONNECT_WITHIN = 20.0
COMES_BACK = (0.02, 0.6)
PACES = (0.03, 0.03, 0.2, 1.0)
"""seconds; what slow clients take for a message, at most"""
HANGS_UP = 0.01
RESUMES = 0.02
"""chances, a message"""
ACKS_EVERY = 10
"""messages, of one that acknowledges"""
POLL = 2
"""seconds of a long poll"""
SMALL = 4096
"""bytes that a slow client's kernel takes for it"""
FAILURES = (
    OSError,
    EOFError,
    TimeoutError,
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    asyncio.LimitOverrunError,
)
EXPECTED = frozenset({429, 502, 503, 504})
"""statuses after which a client comes back; any other refusal is strange"""
FINAL = range(4500, 5000)
"""close codes after which a client must not come back; nobody here deserves one"""


class Client:
    """What all kinds have in common. A subclass connects once, and reads until that ends."""

    def __init__(self, spec: Spec, world: World) -> None:
        self.spec = spec
        self.history = History(Who(spec.name, spec.user, spec.kind, spec.selection))
        self.world = world
        self.here = asyncio.Event()
        """cleared while it is away"""
        self.here.set()
        self.applied = 0
        self.again = 0
        """events that it was sent and had had: by the rule it drops them, or, where it forgot its cursor, it can't"""
        self.rule = Rule()
        self._dice = Random(f"{world.plan.seed} {spec.name}")
        self._pace = self._dice.choice(PACES)
        self._spell = Spell()
        self._furthest = 0
        self._greeting: Greeting | None = None
        self._asked: Cursor | None = None
        self._acked: int | None = None
        self._user = world.users[spec.user]
        self._token = world.token(spec.user, spec.name)
        self._headers = {"Authorization": f"Bearer {self._token}"}

    @property
    def position(self) -> int:
        return self.rule.cursor.seq if self.rule.cursor else -1

    @property
    def _slow(self) -> bool:
        return self.spec.temper == "slow" and not self.world.calm.is_set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.here.wait()
            self._spell = Spell()
            try:
                await self._connected()
            except InvalidStatus as error:
                self._refused(error.response.status_code)
            except FAILURES:
                pass
            finally:
                self._settle_greeting()
                self._spell.floor = self.world.floor
                if self._spell.seqs or self._spell.greetings:
                    self.history.spells.append(self._spell)
            await asyncio.sleep(self._dice.uniform(*COMES_BACK))

    def cut(self) -> None:
        """Lose the connection, whatever is on its way."""
        raise NotImplementedError

    async def _connected(self) -> None:
        raise NotImplementedError

    # What is written down.

    def _take(self, message: Message) -> None:
        if message.event != "gap":
            self._settle_greeting()
        if message.type == "github_event":
            self._event(message)
        elif message.type == "error":
            self.history.strange.append(f"error: {bytes(message.payload).decode()}")
        elif message.event == "hello":
            hello = messages.hello(message)
            self._greet(hello.epoch, hello.after)
        elif message.event == "gap":
            gap = messages.gap(message)
            if self._greeting is None:
                # A long poll has no hello: its gap says where it goes on.
                self._greet(gap.asked.epoch, gap.floor)
            assert self._greeting is not None
            self._greeting = replace(self._greeting, gap=gap)
            self.world.counts["gaps announced"] += 1
            self.world.counts["events in gaps"] += gap.missed or 0

    def _greet(self, epoch: str, after: int) -> None:
        at = len(self._spell.seqs)
        # The answer to what was asked; a server greets again unasked, when the retention overtook a slow client.
        asked, self._asked = self._asked, None
        self._greeting = Greeting(at, asked, epoch, after, acked=self._acked)

    def _settle_greeting(self) -> None:
        """A hello is followed when it is known whether a gap comes with it."""
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            self._spell.greetings.append(greeting)
            self.rule.greeted(greeting.epoch, greeting.after, gap=greeting.gap is not None)
            if self.spec.kind == "device" and self._acked is None:
                self._acked = greeting.after

    def _event(self, message: Message) -> None:
        self._spell.seqs.append(message.seq)
        self._spell.prevs.append(message.prev)
        if message.user_id != self._user:
            self.history.strange.append(f"event {message.seq} is addressed to {message.user_id}")
        if self.world.ids.setdefault(message.seq, message.event_id) != message.event_id:
            self.history.strange.append(f"event {message.seq} is {message.event_id}, and was another")
        if not self._follows(message):
            self.history.strange.append(f"event {message.seq} has prev {message.prev} beyond {self.position}")
            self.cut()
        new, self._furthest = message.seq > self._furthest, max(message.seq, self._furthest)
        self.applied += new
        self.again += not new

    def _follows(self, message: Message) -> bool:
        """Whether an event comes where the rule does not make its client resume."""
        return self.rule.meets(message.seq, message.prev) != "resume"

    def _refused(self, status: int) -> None:
        self.world.counts[f"clients refused {status}"] += 1
        if status not in EXPECTED:
            self.history.strange.append(f"refused with {status}")

    def _query(self) -> str:
        given = {"v": "2"}
        if self.spec.kind == "device":
            given["device"] = self.spec.name[:90]
        if self.spec.selection.repos:
            given["repos"] = ",".join(
                self.world.repos[each].name for each in sorted(self.spec.selection.repos)
            )
        if self.spec.selection.events:
            given["events"] = ",".join(sorted(self.spec.selection.events))
        return urlencode(given)

    def _hangs_up(self) -> bool:
        dropping = self.spec.temper == "dropping" and not self.world.calm.is_set()
        return dropping and self._dice.random() < HANGS_UP

    def _socket(self) -> socket.socket:
        made = socket.socket()
        if self.spec.temper == "slow":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        made.setblocking(False)
        return made

    async def _dialled(self) -> socket.socket:
        made = self._socket()
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self.world.server.port))
        except BaseException:
            made.close()
            raise
        return made


class OnSocket(Client):
    """legacy, v2, device: over a WebSocket."""

    _websocket: ClientConnection | None = None

    @property
    def position(self) -> int:
        return self._furthest if self.spec.kind == "legacy" else super().position

    def cut(self) -> None:
        if self._websocket is not None:
            self._websocket.transport.abort()

    async def _connected(self) -> None:
        path = "/ws"
        self._asked = None
        if self.spec.kind == "device":
            self.rule.forget()
        if self.spec.kind != "legacy":
            path += f"?{self._query()}"
        if self.spec.kind == "v2" and self.rule.cursor is not None:
            self._asked = self.rule.cursor
            path += f"&cursor={self._asked}"
        self._websocket = await connect(
            f"ws://127.0.0.1:{self.world.server.port}{path}",
            sock=await self._dialled(),
            additional_headers=self._headers,
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=CONNECT_WITHIN,
            max_queue=4 if self.spec.temper == "slow" else 64,
        )
        try:
            await self._read(self._websocket)
        except ConnectionClosed as closed:
            self._closed(closed)
        finally:
            self._websocket.transport.abort()
            self._websocket = None

    async def _read(self, websocket: ClientConnection) -> None:
        # What the library has taken it has acknowledged by its pong: it is read to the end, even after a cut.
        while True:
            message = messages.read(await websocket.recv(decode=False))
            self._take(message)
            if message.type == "github_event":
                await self._react(websocket)
            if self._slow:
                await asyncio.sleep(self._dice.uniform(0, self._pace))

    async def _react(self, websocket: ClientConnection) -> None:
        if self.spec.kind == "device" and self.applied % ACKS_EVERY == 0 and self.rule.cursor:
            # Not what it acknowledged on another connection: this one may have been set back before that.
            here = self.rule.cursor.seq
            self._acked = max(self._acked or 0, here)
            await _say(websocket, event="ack", seq=here)
        restless = self.spec.temper == "restless" and not self.world.calm.is_set()
        # Not a second one before the first is answered: nobody could tell which of them a hello is the answer to.
        if restless and self._asked is None and self._dice.random() < RESUMES:
            self._asked = self.rule.cursor
            await _say(websocket, event="resume", cursor=str(self._asked))
        if self._hangs_up():
            self.cut()

    def _follows(self, message: Message) -> bool:
        # A legacy client knows no rule.
        return self.spec.kind == "legacy" or super()._follows(message)

    def _closed(self, closed: ConnectionClosed) -> None:
        code = closed.rcvd.code if closed.rcvd else 1006
        self.world.counts[f"closed {code}"] += 1
        if code in FINAL:
            self.history.strange.append(f"closed with {code}")


class OnStream(Client):
    """Server-sent events."""

    _writer: asyncio.StreamWriter | None = None

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def _connected(self) -> None:
        self._asked = self.rule.cursor
        headers = {**self._headers, "Accept": "text/event-stream"}
        if self._asked is not None:
            headers["Last-Event-ID"] = str(self._asked)
        reader, self._writer = await asyncio.open_connection(
            sock=await self._dialled(), limit=SMALL * 2 if self.spec.temper == "slow" else 2**16
        )
        try:
            self._writer.write(head("GET", f"/api/events/stream?{self._query()}", headers))
            async with asyncio.timeout(CONNECT_WITHIN):
                status, _ = read_head(await reader.readuntil(b"\r\n\r\n"))
            if status != 200:
                self._refused(status)
                return
            await self._read(reader)
        finally:
            self._writer.transport.abort()
            self._writer = None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        lines: dict[bytes, bytes] = {}
        while line := await _line(reader):
            name, _, value = line.rstrip(b"\n").partition(b": ")
            if name:
                lines[name] = value
                continue
            fields, lines = lines, {}
            if b"data" in fields:
                self._dispatched(fields)
                if self._slow:
                    await asyncio.sleep(self._dice.uniform(0, self._pace))
                if self._hangs_up():
                    self.cut()

    def _dispatched(self, fields: dict[bytes, bytes]) -> None:
        message = messages.read(fields[b"data"])
        if message.type == "github_event" and parse(fields[b"id"].decode()).seq != message.seq:
            self.history.strange.append(f"event {message.seq} has the id {fields[b'id'].decode()}")
        self._take(message)


class OnPoll(Client):
    """The long poll. Its connection is one spell, over as many requests as it lasts."""

    def __init__(self, spec: Spec, world: World) -> None:
        super().__init__(spec, world)
        self._line = Line(world.server.port)

    def cut(self) -> None:
        self._line.cut()

    async def _connected(self) -> None:
        while self.here.is_set():
            known = self.rule.cursor
            after = f"&after={quote(str(known))}" if known else ""
            reply = await self._line.request(
                "GET", f"/api/events?{self._query()}&wait={POLL}{after}", self._headers
            )
            if reply.status != 200:
                self._refused(reply.status)
                return
            self._asked = known
            polled = messages.read_polled(reply.body)
            for message in polled.messages:
                self._take(message)
            self._settle_greeting()
            self._told_cursor(parse(polled.cursor))
            if self._hangs_up():
                self.cut()
            await asyncio.sleep(self._dice.uniform(0, 2.0 if self._slow else 0.1))

    def _told_cursor(self, cursor: Cursor) -> None:
        if self.rule.cursor != cursor:
            self._asked = self.rule.cursor
            self._greet(*cursor)
            self._settle_greeting()


def make(spec: Spec, world: World) -> Client:
    kinds = {"stream": OnStream, "poll": OnPoll}
    return kinds.get(spec.kind, OnSocket)(spec, world)


async def _say(websocket: ClientConnection, **fields: object) -> None:
    await websocket.send(msgspec.json.encode({"type": "client_event", **fields}), text=True)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A line of any length; b"" at the end."""
    line = bytearray()
    while True:
        try:
            line += await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            line += await reader.readexactly(error.consumed)
        except asyncio.IncompleteReadError:
            return b""
        else:
            return bytes(line)
