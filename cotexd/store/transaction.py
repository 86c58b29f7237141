"""What an operation is given: one moment, one database, and the key for its secrets."""

from dataclasses import dataclass, field
from datetime import datetime

import peewee

from cotexd.domain.event import Frame
from cotexd.domain.vault import Vault


@dataclass(frozen=True, slots=True)
class Published:
    """An event that was committed, and who may see it: ids of users."""

    frame: Frame
    audience: tuple[str, ...]


@dataclass(slots=True)
class Tx:
    """A transaction. `now` is the same for all that happens in it."""

    now: datetime
    vault: Vault
    database: peewee.Database
    published: list[Published] = field(default_factory=list)
    """what to hand to the hub once this is committed"""
    head: int | None = None
    """the log's head, where this transaction moved it"""
