"""What an operation is given: one moment, one database, who acts, and the key for secrets."""

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import peewee

from cotexd.domain.event import Frame
from cotexd.domain.vault import Vault


@dataclass(frozen=True, slots=True)
class Published:
    """An event that was committed, and who may see it: ids of users."""

    frame: Frame
    audience: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, for the audit trail: a user's name, or the account that typed a command."""

    name: str
    via: Literal["api", "cli", "server"]


SERVER = Actor("cotexd", "server")

_acting: contextvars.ContextVar[Actor] = contextvars.ContextVar("acting", default=SERVER)


def acting() -> Actor:
    return _acting.get()


def act_as(actor: Actor) -> None:
    """From here on, in this task or thread, `actor` does what is done."""
    _acting.set(actor)


@contextmanager
def acted_by(actor: Actor) -> Iterator[None]:
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


@dataclass(slots=True)
class Tx:
    """A transaction. `now` is the same for all that happens in it."""

    now: datetime
    vault: Vault
    database: peewee.Database
    actor: Actor = field(default_factory=acting)
    published: list[Published] = field(default_factory=list)
    """what to hand to the hub once this is committed"""
    head: int | None = None
    """the log's head, where this transaction moved it"""
