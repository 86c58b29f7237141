"""A client of the server, as every client should be: it follows docs/protocol.md, and sees each event once, in order.

For scripts:

    from cotex.client import connect

    async for event in connect("https://cotex.example.com", token, cursor=kept):
        handle(event)
        kept = event.cursor
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import datetime
from typing import Literal
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from cotexd.domain.event import Summary
from cotexd.domain.github import SIGNATURE_256, sign
from cotexd.errors import (
    BadSignature,
    CotexError,
    Failed,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
)

TIMEOUT = 10.0
"""seconds; GitHub waits as long"""
BACKOFF = (0.5, 20.0)
"""seconds: the first and the longest wait before a new connection, with full jitter"""
MAX_MESSAGE = 16 * 1024 * 1024
"""bytes"""
NEVER_AGAIN = range(4500, 5000)
"""close codes that say: do not reconnect"""

Token = str | Callable[[], str]
"""a token, or what makes a fresh one when it is needed"""


class Answer(msgspec.Struct, frozen=True):
    event_id: str = ""
    seq: int = 0
    duplicate: bool = False
    filtered: bool = False
    pinged: bool = False


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    code: str = ""
    hint: str = ""


class Message(msgspec.Struct, frozen=True):
    """Any message of the server's: what the client's rule looks at, and the whole of it as `text`."""

    type: str
    event: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")
    repo_name: str = ""
    event_id: str = ""
    seq: int = 0
    prev: int = 0
    text: str = ""
    cursor: str = ""
    """of a client that has this message"""


class Event(msgspec.Struct, frozen=True):
    """An event of a repository, by the names that it has on the wire; `event["seq"]` is `event.seq`."""

    type: str
    user_id: str
    target_user_id: str
    repo_name: str
    event: str
    payload: Summary
    timestamp: datetime
    event_id: str
    seq: int
    prev: int
    cursor: str = ""
    """to be kept with what was done about it: `connect` goes on after it"""

    def __getitem__(self, name: str) -> object:
        if name not in self.__struct_fields__:
            raise KeyError(name)
        value: object = getattr(self, name)
        return value


class _Hello(msgspec.Struct, frozen=True):
    epoch: str
    resume: str
    from_: int = msgspec.field(name="from")


class Follower:
    """The client's whole rule (docs/protocol.md): with it, an application sees each event once, in order."""

    def __init__(self, cursor: str | None = None) -> None:
        self.cursor = cursor
        self._epoch = ""
        self._seq = 0
        self._resuming = False

    def take(self, message: Message) -> Literal["apply", "drop", "resume"]:
        """What to do with a message; "resume" is: ask to go on from the cursor, by a message or a new connection."""
        if message.type == "system_event" and message.event == "hello":
            hello = msgspec.json.decode(message.payload, type=_Hello)
            self._epoch, self._seq, self._resuming = hello.epoch, hello.from_, False
        elif message.type == "github_event":
            if message.seq <= self._seq or self._resuming:
                return "drop"
            if message.prev > self._seq:
                self._resuming = True
                return "resume"
            self._seq = message.seq
        self.cursor = f"{self._epoch}.{self._seq}"
        return "apply"


async def connect(
    url: str,
    token: Token,
    *,
    cursor: str | None = None,
    device: str = "",
    repos: Iterable[str] = (),
    events: Iterable[str] = (),
    told: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Event]:
    """Every event from now on, or after `cursor`, each once and in order, for ever: it reconnects by itself.

    :param url: of the server, as https://cotex.example.com
    :param cursor: of the last event that was handled
    :param device: a name under which the server remembers how far this client came, where no cursor is given; an
        event counts as handled when the next one is asked for
    :param repos: only of these
    :param events: only of these types
    :param told: is told in a sentence when the connection is lost, is back, and when events can't be had any more
    :raises Unreachable: no server there, at first
    :raises Unauthorized, Forbidden: the server does not let us in, or not any more
    """
    messages = follow(url, token, cursor=cursor, device=device, repos=repos, events=events, told=told)
    async with aclosing(messages):
        async for message in messages:
            if message.type == "github_event":
                event = msgspec.json.decode(message.text, type=Event)
                yield msgspec.structs.replace(event, cursor=message.cursor)


async def follow(
    server: str,
    token: Token,
    *,
    cursor: str | None = None,
    device: str = "",
    repos: Iterable[str] = (),
    events: Iterable[str] = (),
    told: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[Message]:
    """The same as `connect`, with the messages of the connection itself: hello, live, gap and so on."""
    follower, wait, away, known = Follower(cursor), BACKOFF[0], False, False
    wanted = {"device": device, "repos": ",".join(repos), "events": ",".join(events)}
    while True:
        try:
            async with _opened(server, token, wanted | {"cursor": follower.cursor or ""}) as socket:
                async for message in _messages(server, socket, follower, token):
                    known = True
                    if message.event == "live" and message.type == "system_event":
                        wait = BACKOFF[0]
                        if away:
                            told("Connected again, and caught up.")
                            away = False
                    if message.event == "gap" and message.type == "system_event":
                        told(_missing(message))
                    yield message
                    if device and message.type == "github_event":
                        await _say(socket, "ack", seq=message.seq)
        except (OSError, WebSocketException, Unavailable) as error:
            _give_up_on(error, server, known=known)
        if not away:
            told(f"Disconnected from {server}; it is tried again.")
            away = True
        await asyncio.sleep(random.uniform(0, wait))  # noqa: S311  # jitter, no secret
        wait = min(wait * 2, BACKOFF[1])


def _give_up_on(error: Exception, server: str, *, known: bool) -> None:
    """:raises CotexError: there is nothing to be had by trying again"""
    if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code in NEVER_AGAIN:
        raise Forbidden(f"The server closed the connection: {error.rcvd.reason}.") from None
    if isinstance(error, InvalidURI):
        raise Invalid(f'"{server}" is not the address of a server.') from error
    if isinstance(error, InvalidStatus):
        refusal = _refusal(error.response.status_code, bytes(error.response.body or b""))
        if not isinstance(refusal, Unavailable) or not known:
            raise refusal from None
    elif not known:
        raise error if isinstance(error, CotexError) else _unreachable(server) from error


def _opened(
    server: str, token: Token, wanted: dict[str, str]
) -> AbstractAsyncContextManager[ClientConnection]:
    given = token if isinstance(token, str) else token()
    check_address(server)
    _check_header("A token", given)
    query = urlencode({"v": "2"} | {name: value for name, value in wanted.items() if value})
    return open_socket(
        f"{server.rstrip('/').replace('http', 'ws', 1)}/ws?{query}",
        additional_headers={"Authorization": f"Bearer {given}"},
        open_timeout=TIMEOUT,
        max_size=MAX_MESSAGE,
        proxy=None,
    )


async def _messages(
    server: str, socket: ClientConnection, follower: Follower, token: Token
) -> AsyncIterator[Message]:
    """What is to be applied of what one connection brings."""
    async for data in socket:
        text = data if isinstance(data, str) else data.decode()
        try:
            message = msgspec.json.decode(text, type=Message)
        except msgspec.DecodeError:
            raise Failed(f"What answers at {server} is no cotexd.", hint="Is the address right?") from None
        verdict = follower.take(message)
        if verdict == "resume":
            await _say(socket, "resume", cursor=follower.cursor)
        elif verdict == "apply":
            if message.event == "token_expiring" and not isinstance(token, str):
                await _say(socket, "auth", token=token())
            yield msgspec.structs.replace(message, text=text, cursor=follower.cursor or "")


async def _say(socket: ClientConnection, event: str, **fields: object) -> None:
    await socket.send(msgspec.json.encode({"type": "client_event", "event": event, **fields}).decode())


def _missing(gap: Message) -> str:
    missed = msgspec.json.decode(gap.payload, type=dict[str, object]).get("missed")
    count = "Some events" if missed is None else "1 event" if missed == 1 else f"{missed} events"
    return f"{count} can't be had any more: older than the server keeps them, or gone with a restore."


def check_address(server: str) -> None:
    try:
        parts = urlsplit(server)
        good = parts.scheme in {"http", "https", "ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Invalid(f'"{server}" is not the address of a server.', hint="As in http://127.0.0.1:8080")


def _check_header(what: str, value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise Invalid(
            f"{what} holds a character that it cannot have.", hint="Was it copied whole, and nothing more?"
        )


def webhook_address(base: str, path: str) -> str:
    """Where to post: `base` is a server, or already the whole address of its webhook.

    :raises Invalid: it is no address
    """
    check_address(base)
    base = base.rstrip("/")
    return base if urlsplit(base).path.startswith("/api/webhooks/") else base + path


def deliver(address: str, payload: bytes, secret: str, *, event_type: str, delivery_id: str) -> Answer:
    """Post a payload as GitHub does.

    :raises Unreachable: no server there
    :raises CotexError: the server refuses it, and says why
    """
    _check_header("The type of an event", event_type)
    _check_header("A delivery's GUID", delivery_id)
    headers = {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/cotex",
        "x-github-event": event_type,
        "x-github-delivery": delivery_id,
        SIGNATURE_256: sign(payload, secret).decode(),
    }
    try:
        answer = httpx.post(address, content=payload, headers=headers, timeout=TIMEOUT, trust_env=False)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Invalid(f'"{address}" is not the address of a server.') from error
    except httpx.HTTPError as error:
        raise _unreachable(address) from error
    if not answer.is_success:
        raise _refusal(answer.status_code, answer.content)
    try:
        return msgspec.json.decode(answer.content, type=Answer)
    except msgspec.DecodeError:
        raise Failed(f"What answers at {address} is no cotexd.", hint="Is the address right?") from None


def _refusal(status: int, body: bytes) -> CotexError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    if problem.code == BadSignature.code:
        return BadSignature()
    kinds: dict[int, type[CotexError]] = {
        400: Invalid,
        401: Unauthorized,
        403: Forbidden,
        404: NotFound,
        413: TooLarge,
        429: Unavailable,
        503: Unavailable,
    }
    detail = problem.detail or "it gave no reason"
    return kinds.get(status, Failed)(f"The server refused ({status}): {detail}", hint=problem.hint)


def _unreachable(address: str) -> Unreachable:
    return Unreachable(
        f"No server answers at {address}.",
        hint="Is it running? Start it with `cotex serve`, or give its address.",
    )
