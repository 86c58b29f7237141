"""What the routes share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar

import msgspec
import structlog
from sanic import HTTPResponse, Sanic
from sanic.config import Config
from sanic.http import Http
from sanic.request import Request

from cotexd.domain.address import Network
from cotexd.errors import Invalid, TooLarge, Unavailable
from cotexd.flows.billing import Account, Terms
from cotexd.live.hub import Hub
from cotexd.store import Store
from cotexd.web.limits import Limits, Standing

if TYPE_CHECKING:
    from cotexd.web.auth import Authenticator

T = TypeVar("T")
Tell = Callable[[bytes | None], None]


@dataclass(slots=True)
class Context:
    """What a running server can be told to do otherwise is changed here: appliance.reload."""

    store: Store
    hub: Hub
    authenticator: "Authenticator"
    limits: Limits
    retention: timedelta
    accept_sha1: bool
    stripe: Account
    terms: Terms
    allowed_origins: Sequence[str] = ()
    trusted_proxies: Sequence[Network] = ()
    metrics_networks: Sequence[Network] = ()
    shortcut: Callable[[bytes, Tell], bool] | None = None
    """takes what has a shorter way than through Sanic, see web.shortcut"""
    draining: bool = False
    """set when the server begins to stop"""


App = Sanic[Config, Context]
WebRequest = Request[App, SimpleNamespace]


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    return HTTPResponse(msgspec.json.encode(value), status, headers, content_type="application/json")


def bind(**fields: str) -> None:
    """Put fields into every log line of this request."""
    structlog.contextvars.bind_contextvars(**fields)


def limited(request: WebRequest, standing: Standing) -> None:
    """Tell the caller how they stand with a limit, in the answer's headers."""
    request.ctx.standing = standing


def body_of(request: WebRequest, kind: type[T]) -> T:
    """:raises Invalid: the body is not JSON of this form"""
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body is not what this route takes: {error}.") from None


class Room:
    """What the bodies of all requests may take together, before it is known who sent them.

    :param most: bytes
    """

    def __init__(self, most: int) -> None:
        self._left = most

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Takes so many bytes more each time it is called, until the block ends.

        :raises Unavailable: from the call: there is no room for them
        """
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if size > self._left:
                raise Unavailable("The server is being sent more than it can hold: try again soon.")
            self._left -= size
            held += size

        try:
            yield take
        finally:
            self._left += held


async def read_bounded(
    request: WebRequest, most: int, why: str, take: Callable[[int], None] = lambda _: None
) -> bytes:
    """The whole body of a streamed route, bounded while it comes in.

    :param most: bytes
    :param take: of Room
    :raises TooLarge: it is longer; the rest is not read
    :raises Unavailable: there is no room for it
    """
    parts: list[bytes] = []
    size = 0
    while (part := await next_part(request)) is not None:
        size += len(part)
        if size > most:
            if isinstance(request.stream, Http):
                request.stream.keep_alive = False  # the rest of it is not read
            raise TooLarge(f"The body is over {most // 2**20} MB: {why}.")
        take(len(part))
        parts.append(part)
    return b"".join(parts)


async def next_part(request: WebRequest) -> bytes | None:
    stream = request.stream
    return await stream.read() if isinstance(stream, Http) else None


def parameter(request: WebRequest, name: str) -> str | None:
    """A parameter of the query; None if it is absent or empty."""
    return request.args.get(name) or None


def needed(request: WebRequest, name: str) -> str:
    """A parameter of the query.

    :raises Invalid: it is absent or empty
    """
    value = parameter(request, name)
    if value is None:
        raise Invalid(f"Say which one: ?{name}=")
    return value


def flag(request: WebRequest, name: str) -> bool:
    return (parameter(request, name) or "").lower() in {"true", "1"}


def number(request: WebRequest, name: str, default: int, most: int) -> int:
    """:raises Invalid: not a whole number from 1 on; one over `most` is `most`"""
    text = parameter(request, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0):
        raise Invalid(f"{name} is a whole number from 1 to {most}.")
    return min(int(text), most)
