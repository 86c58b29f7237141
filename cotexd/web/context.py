"""What the routes share."""

from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TypeVar

import msgspec
from sanic import HTTPResponse, Sanic
from sanic.config import Config
from sanic.request import Request

from cotexd.errors import Invalid
from cotexd.live.hub import Hub
from cotexd.store import Store

T = TypeVar("T")


@dataclass(slots=True)
class Context:
    store: Store
    hub: Hub
    signing_key: bytes
    retention: timedelta
    accept_sha1: bool
    draining: bool = False
    """set when the server begins to stop"""


App = Sanic[Config, Context]
WebRequest = Request[App, SimpleNamespace]


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    return HTTPResponse(msgspec.json.encode(value), status, headers, content_type="application/json")


def body_of(request: WebRequest, kind: type[T]) -> T:
    """:raises Invalid: the body is not JSON of this form"""
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body is not what this route takes: {error}.") from None


def parameter(request: WebRequest, name: str) -> str | None:
    """A parameter of the query; None if it is absent or empty."""
    return request.args.get(name) or None


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
