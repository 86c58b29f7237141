"""The messages of the wire protocol: encode, decode. docs/protocol.md describes them for clients."""

from datetime import datetime
from typing import Literal

import msgspec

from cotexd.domain.event import Frame
from cotexd.operations.cursors import Gap, Start

PING_EVERY = 25.0
"""seconds"""


class _Event(msgspec.Struct, frozen=True, tag_field="type", tag="system_event"):
    """To v2 clients: an event of the connection itself."""

    event: str
    payload: dict[str, object]
    timestamp: datetime


class _Told(msgspec.Struct, frozen=True, tag_field="type", tag="system_event"):
    """To legacy clients: a sentence."""

    payload: str
    timestamp: datetime


class _Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    user_id: str
    payload: str
    timestamp: datetime


class _Fields(msgspec.Struct, frozen=True):
    seq: int | None = None
    cursor: str = ""
    token: str = ""


class ClientEvent(_Fields, frozen=True, kw_only=True):
    """What a client sends. Other fields, such as a target, are not even read."""

    type: Literal["client_event"]
    event: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def fields(self) -> _Fields:
        """`seq` of an ack, `cursor` of a resume, `token` of an auth: beside `event`, or in a `payload`."""
        if self.seq is not None or self.cursor or self.token:
            return self
        try:
            return msgspec.json.decode(self.payload, type=_Fields)
        except msgspec.DecodeError:
            return self


def addressed_to(user_id: str) -> bytes:
    """The beginning of every github_event of one receiver."""
    receiver = msgspec.json.encode(user_id)
    return b'{"type":"github_event","user_id":%b,"target_user_id":%b,' % (receiver, receiver)


def github_event(addressed: bytes, frame: Frame, prev: int) -> bytes:
    """The whole message: what the receiver's events begin with, what all receivers share, the seq before it."""
    return b'%b%b,"prev":%d}' % (addressed, frame.tail, prev)


def hello(start: Start, token_exp: datetime, now: datetime) -> bytes:
    return _system(
        "hello",
        {
            "v": 2,
            "epoch": start.epoch,
            "head": start.head,
            "floor": start.floor,
            "resume": start.resume,
            "from": start.after,
            "ping": int(PING_EVERY),
            "token_exp": token_exp,
            "window": 0,
        },
        now,
    )


def gap(missing: Gap, now: datetime) -> bytes:
    return _system("gap", msgspec.structs.asdict(missing), now)


def live(seq: int, now: datetime) -> bytes:
    return _system("live", {"seq": seq}, now)


def ping(seq: int, now: datetime) -> bytes:
    return _system("ping", {"seq": seq}, now)


def token_expiring(token_exp: datetime, now: datetime) -> bytes:
    return _system("token_expiring", {"token_exp": token_exp}, now)


def auth_ok(token_exp: datetime, now: datetime) -> bytes:
    return _system("auth_ok", {"token_exp": token_exp}, now)


def drain(after_ms: int, now: datetime) -> bytes:
    return _system("drain", {"after_ms": after_ms}, now)


def notice(text: str, now: datetime) -> bytes:
    return _system("notice", {"text": text}, now)


def told(text: str, now: datetime) -> bytes:
    return msgspec.json.encode(_Told(text, now))


def error(user_id: str, text: str, now: datetime) -> bytes:
    return msgspec.json.encode(_Error(user_id, text, now))


def client_event(message: str | bytes) -> ClientEvent:
    """:raises ValueError: not a client_event (msgspec.ValidationError and DecodeError are ValueErrors)"""
    try:
        return msgspec.json.decode(message, type=ClientEvent)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _system(event: str, payload: dict[str, object], now: datetime) -> bytes:
    return msgspec.json.encode(_Event(event, payload, now))
