"""What is written down while a run lasts: every 200, every client's history, who may see what. Values only."""

from array import array
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .rule import Cursor

Kind = Literal["legacy", "v2", "device", "stream", "poll"]
KINDS: tuple[Kind, ...] = ("legacy", "v2", "device", "stream", "poll")
"""`device` leaves its cursor to the server, and acknowledges; the last two are server-sent events and the long poll"""


class Answer(NamedTuple):
    """A webhook that was answered 200."""

    guid: str
    seq: int
    event_id: str
    duplicate: bool


class Entry(NamedTuple):
    """An event as it lies in the database at the end."""

    seq: int
    event_id: str
    guid: str
    repo: int
    event: str
    hidden: bool
    """the repository's filter keeps it from everybody"""


class Span(NamedTuple):
    """A user sees events of a repository in (since, until]."""

    user: int
    repo: int
    since: int
    until: int | None


class Gap(NamedTuple):
    """As the server announced it."""

    reason: str
    asked: Cursor
    floor: int
    missed: int | None


@dataclass(frozen=True, slots=True)
class Greeting:
    """A `hello`, or where a long poll says that its client now is."""

    at: int
    """so many events came before it on this connection"""
    asked: Cursor | None
    """None leaves it to the server"""
    epoch: str
    after: int
    gap: Gap | None = None
    acked: int | None = None
    """the furthest that the client has acknowledged by then"""


@dataclass(slots=True)
class Spell:
    """One connection: what was said on it, in order."""

    greetings: list[Greeting] = field(default_factory=list)
    seqs: "array[int]" = field(default_factory=lambda: array("q"))
    prevs: "array[int]" = field(default_factory=lambda: array("q"))
    floor: int = 0
    """events up to here may have been purged while it lasted"""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a client asked to be sent; empty is everything."""

    repos: frozenset[int] = frozenset()
    events: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Who:
    name: str
    user: int
    kind: Kind
    selection: Selection = Selection()


@dataclass(slots=True)
class History:
    who: Who
    spells: list[Spell] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """what no client should ever meet: somebody else's name on an event, a refusal"""
