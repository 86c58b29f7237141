"""What a server sends, as a client reads it; what it does not know it passes over."""

import msgspec

from .history import Gap
from .rule import parse


class Message(msgspec.Struct):
    """`payload` is that of a system_event, still to be read: hello or gap."""

    type: str
    event: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")
    user_id: str = ""
    event_id: str = ""
    seq: int = 0
    prev: int = 0


class Hello(msgspec.Struct, rename={"after": "from"}):
    epoch: str
    after: int


class Polled(msgspec.Struct):
    messages: list[Message]
    cursor: str


class _Missing(msgspec.Struct):
    reason: str
    asked: str
    floor: int
    missed: int | None


_message = msgspec.json.Decoder(Message)
_polled = msgspec.json.Decoder(Polled)


def read(data: bytes | str) -> Message:
    return _message.decode(data)


def read_polled(data: bytes) -> Polled:
    return _polled.decode(data)


def hello(message: Message) -> Hello:
    return msgspec.json.decode(message.payload, type=Hello)


def gap(message: Message) -> Gap:
    missing = msgspec.json.decode(message.payload, type=_Missing)
    return Gap(missing.reason, parse(missing.asked), missing.floor, missing.missed)
