"""The messages of the wire protocol: encode, decode. docs/protocol.md describes them for clients.

What is sent is encoded from the types here, and /asyncapi.json is made of the same ones.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from cotexd.domain.cursor import CursorText
from cotexd.domain.event import Frame, Summary
from cotexd.operations.cursors import Gap, Resumption, Start

PING_EVERY = 25.0
"""seconds"""


class GithubEvent(msgspec.Struct, frozen=True, tag_field="type", tag="github_event"):
    """An event of a repository: every client gets these."""

    # For speed, it is `github_event` that makes them, from bytes; a test holds it to this type.

    user_id: str
    target_user_id: str
    """the same as `user_id`"""
    repo_name: str
    """the name under which the repository is tracked"""
    event: str
    """GitHub's name of the kind of event"""
    payload: Summary
    timestamp: datetime
    """when it was received; where it was repaired, when GitHub first tried to deliver it"""
    event_id: str
    """its id in REST"""
    seq: int
    """its place in the log"""
    prev: int
    """the seq of the event before it on this connection; of the first, where the connection goes on"""
    repaired: bool = False
    """true where GitHub had to be asked for it, since its delivery had not arrived; else not there"""


class Hello(msgspec.Struct, frozen=True, rename={"after": "from"}):
    """The first message of a connection, and the answer to a `resume`."""

    v: int
    """of the protocol"""
    epoch: str
    """names the log: the first half of a cursor"""
    head: int
    """the last seq of the log"""
    floor: int
    """events up to this seq are no longer kept"""
    resume: Resumption
    """ok: goes on where it was asked to; gap: later, and a `gap` follows; new: a device that begins at the head"""
    after: int
    """events go on after this seq: take it as the cursor"""
    ping: int
    """seconds between two pings"""
    token_exp: datetime
    """when the token ends"""
    window: int
    """how many events may be unacknowledged before the server waits; 0 is no limit"""


class Live(msgspec.Struct, frozen=True):
    """The backlog is sent: what follows is live."""

    seq: int
    """the last that was sent"""


class Ping(msgspec.Struct, frozen=True):
    """A sign of life. A client that answers nothing, not even by its library's pong, is cut off."""

    seq: int
    """the last that was sent"""


class TokenExpiring(msgspec.Struct, frozen=True):
    """The token ends within a minute: send a fresh one with `auth`."""

    token_exp: datetime


class AuthOk(msgspec.Struct, frozen=True):
    """The connection goes on with the token of the `auth`."""

    token_exp: datetime
    """when that one ends"""


class Drain(msgspec.Struct, frozen=True):
    """The server restarts, and closes the connection with 1012."""

    after_ms: int


class Notice(msgspec.Struct, frozen=True):
    """Something about the user's account."""

    text: str


SystemPayload = Hello | Gap | Live | Ping | TokenExpiring | AuthOk | Drain | Notice
SYSTEM_EVENTS: dict[type[SystemPayload], str] = {
    Hello: "hello",
    Gap: "gap",
    Live: "live",
    Ping: "ping",
    TokenExpiring: "token_expiring",
    AuthOk: "auth_ok",
    Drain: "drain",
    Notice: "notice",
}
"""what a system_event may hold, and its name then"""


class SystemEvent(msgspec.Struct, frozen=True, tag_field="type", tag="system_event"):
    """To v2 clients: an event of the connection itself."""

    event: str
    payload: SystemPayload
    timestamp: datetime


MessageJson = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        extra_json_schema={
            "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("GithubEvent", "GapEvent")]
        }
    ),
]
"""an encoded message that moves a client's cursor"""


class Told(msgspec.Struct, frozen=True, tag_field="type", tag="system_event"):
    """To legacy clients: a sentence about the user's account."""

    payload: str
    timestamp: datetime


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """What the client asked for was refused, in words; the connection stays."""

    user_id: str
    payload: str
    timestamp: datetime


class Fields(msgspec.Struct, frozen=True):
    seq: int | None = None
    cursor: str = ""
    token: str = ""


class ClientEvent(Fields, frozen=True, kw_only=True):
    """What a client sends. Other fields, such as a target, are not even read."""

    type: Literal["client_event"]
    event: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def fields(self) -> Fields:
        """`seq` of an ack, `cursor` of a resume, `token` of an auth: beside `event`, or in a `payload`."""
        if self.seq is not None or self.cursor or self.token:
            return self
        try:
            return msgspec.json.decode(self.payload, type=Fields)
        except msgspec.DecodeError:
            return self


class ClientAck(msgspec.Struct, frozen=True, tag_field="type", tag="client_event"):
    """The client has everything up to this event: moves the cursor that the server keeps for its device."""

    event: Literal["ack"]
    seq: int


class ClientResume(msgspec.Struct, frozen=True, tag_field="type", tag="client_event"):
    """Go on from here: answered by a new `hello`, perhaps a `gap`, the backlog, and `live`."""

    event: Literal["resume"]
    cursor: CursorText


class ClientAuth(msgspec.Struct, frozen=True, tag_field="type", tag="client_event"):
    """Go on with this token, of the same user: answered by `auth_ok`, or by an `error`."""

    event: Literal["auth"]
    token: str


class ClientPong(msgspec.Struct, frozen=True, tag_field="type", tag="client_event"):
    """A sign of life."""

    event: Literal["pong"]


CLIENT_EVENTS: dict[str, type[msgspec.Struct]] = {
    "ack": ClientAck,
    "resume": ClientResume,
    "auth": ClientAuth,
    "pong": ClientPong,
}
"""what a client_event is in full; ClientEvent reads them all, and is lenient"""


def addressed_to(user_id: str) -> bytes:
    """The beginning of every github_event of one receiver."""
    receiver = msgspec.json.encode(user_id)
    return b'{"type":"github_event","user_id":%b,"target_user_id":%b,' % (receiver, receiver)


def github_event(addressed: bytes, frame: Frame, prev: int) -> bytes:
    """The whole message: what the receiver's events begin with, what all receivers share, the seq before it."""
    return b'%b%b,"prev":%d}' % (addressed, frame.tail, prev)


def hello(start: Start, token_exp: datetime, now: datetime) -> bytes:
    greeting = Hello(
        v=2,
        epoch=start.epoch,
        head=start.head,
        floor=start.floor,
        resume=start.resume,
        after=start.after,
        ping=int(PING_EVERY),
        token_exp=token_exp,
        window=0,
    )
    return _system(greeting, now)


def gap(missing: Gap, now: datetime) -> bytes:
    return _system(missing, now)


def live(seq: int, now: datetime) -> bytes:
    return _system(Live(seq), now)


def ping(seq: int, now: datetime) -> bytes:
    return _system(Ping(seq), now)


def token_expiring(token_exp: datetime, now: datetime) -> bytes:
    return _system(TokenExpiring(token_exp), now)


def auth_ok(token_exp: datetime, now: datetime) -> bytes:
    return _system(AuthOk(token_exp), now)


def drain(after_ms: int, now: datetime) -> bytes:
    return _system(Drain(after_ms), now)


def notice(text: str, now: datetime) -> bytes:
    return _system(Notice(text), now)


def told(text: str, now: datetime) -> bytes:
    return msgspec.json.encode(Told(text, now))


def error(user_id: str, text: str, now: datetime) -> bytes:
    return msgspec.json.encode(Error(user_id, text, now))


def client_event(message: str | bytes) -> ClientEvent:
    """:raises ValueError: not a client_event (msgspec.ValidationError and DecodeError are ValueErrors)"""
    try:
        return msgspec.json.decode(message, type=ClientEvent)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _system(payload: SystemPayload, now: datetime) -> bytes:
    return msgspec.json.encode(SystemEvent(SYSTEM_EVENTS[type(payload)], payload, now))
