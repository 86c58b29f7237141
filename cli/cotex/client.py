"""A client of the server: what the desktop app does, for `cotex tail` and `cotex event send`."""

import random
import time
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import connect

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
NEVER_AGAIN = range(4500, 5000)
"""close codes that say: do not reconnect"""


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
    """What the client's rule looks at."""

    type: str
    event: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")
    repo_name: str = ""
    seq: int = 0
    prev: int = 0


class _Hello(msgspec.Struct, frozen=True):
    epoch: str
    resume: str
    from_: int = msgspec.field(name="from")


class Follower:
    """The client's whole rule (docs/protocol.md): with it, an application sees each event once, in order."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self._epoch = ""
        self._seq = 0

    def take(self, message: Message) -> Literal["apply", "drop", "resume"]:
        """What to do with a message; "resume" is: connect again from the cursor."""
        if message.type == "system_event" and message.event == "hello":
            hello = msgspec.json.decode(message.payload, type=_Hello)
            self._epoch, self._seq = hello.epoch, hello.from_
        elif message.type == "github_event":
            if message.seq <= self._seq:
                return "drop"
            if message.prev > self._seq:
                return "resume"
            self._seq = message.seq
        self.cursor = f"{self._epoch}.{self._seq}"
        return "apply"


def follow(server: str, token: str) -> Iterator[tuple[Message, str]]:
    """Every message that is to be shown, for ever: reconnects by itself, and misses nothing.

    :raises Unreachable: no server there, at first
    :raises Unauthorized, Forbidden: the server does not let us in
    """
    follower, wait = Follower(), BACKOFF[0]
    while True:
        try:
            for message, text in _connection(server, token, follower):
                wait = BACKOFF[0]
                yield message, text
        except (OSError, ConnectionClosed, WebSocketException, Unavailable) as error:
            if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code in NEVER_AGAIN:
                raise Forbidden(f"The server closed the connection: {error.rcvd.reason}.") from None
            if follower.cursor is None:
                raise _unreachable(server) from error
        time.sleep(random.uniform(0, wait))  # noqa: S311  # jitter, no secret
        wait = min(wait * 2, BACKOFF[1])


def _connection(server: str, token: str, follower: Follower) -> Iterator[tuple[Message, str]]:
    query = {"v": "2"} | ({"cursor": follower.cursor} if follower.cursor else {})
    _check_address(server)
    _check_header("A token", token)
    address = f"{server.rstrip('/').replace('http', 'ws', 1)}/ws?{urlencode(query)}"
    try:
        connection = connect(
            address, additional_headers={"Authorization": f"Bearer {token}"}, open_timeout=TIMEOUT, proxy=None
        )
    except InvalidURI as error:
        raise Invalid(f'"{server}" is not the address of a server.') from error
    except InvalidStatus as error:
        raise _refusal(error.response.status_code, bytes(error.response.body or b"")) from None
    with connection:
        for text in connection:
            try:
                message = msgspec.json.decode(text, type=Message)
            except msgspec.DecodeError:
                raise Failed(
                    f"What answers at {server} is no cotexd.", hint="Is the address right?"
                ) from None
            verdict = follower.take(message)
            if verdict == "resume":
                return
            if verdict == "apply":
                yield message, str(text)


def _check_address(server: str) -> None:
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
    _check_address(base)
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
        503: Unavailable,
    }
    detail = problem.detail or "it gave no reason"
    return kinds.get(status, Failed)(f"The server refused ({status}): {detail}", hint=problem.hint)


def _unreachable(address: str) -> Unreachable:
    return Unreachable(
        f"No server answers at {address}.",
        hint="Is it running? Start it with `cotex serve`, or give its address.",
    )
