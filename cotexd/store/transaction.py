"""What an operation is given: one moment, one database, who acts, and the key for secrets."""

import contextvars
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import peewee

from cotexd.domain.event import Frame
from cotexd.domain.vault import Vault


@dataclass(frozen=True, slots=True)
class Published:
    """An event that was committed, who may see it (ids of users), and the bytes that its payload takes on disk."""

    frame: Frame
    audience: tuple[str, ...]
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, for the audit trail: a user's name, or the account that typed a command."""

    name: str
    via: Literal["api", "cli", "server"]


ROWS_AT_ONCE = 64
"""in one INSERT; an SQLite before 3.32 takes 999 values"""
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
    """the log's head, where this transaction moved it, or found it moved"""
    head_id: str = ""
    """of the event there"""
    epoch: str = ""
    """of the log, where this transaction found another than was known"""

    def mark(self) -> tuple[int, int | None, str]:
        """For `back_to`, before a savepoint."""
        return len(self.published), self.head, self.head_id

    def back_to(self, mark: tuple[int, int | None, str]) -> None:
        """What happened since is taken back."""
        published, self.head, self.head_id = mark
        del self.published[published:]

    # For the hot path: building a statement by Peewee costs more than running it (docs/performance.md).

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a fixed statement, on either database; returns its rows.

        :param values: one for each `?`; for a set, that becomes a list to be IN
        """
        return list(self._run(sql, values))

    def change(self, sql: str, *values: object) -> None:
        """The same, for one that has no rows."""
        self._run(sql, values)

    def change_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a fixed statement for each of `rows`; here `?` stands for no set."""
        self.database.cursor().executemany(sql.replace("?", self.database.param), rows)

    def insert(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows of one length, many in a statement: at each one its thread gives up the interpreter.

        :param sql: a fixed INSERT up to its VALUES
        """
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            one = f"({', '.join([self.database.param] * len(some[0]))})"
            values = [value for row in some for value in row]
            self.database.execute_sql(f"{sql} VALUES {', '.join([one] * len(some))}", values)

    def _run(self, sql: str, values: Sequence[object]) -> Iterable[tuple[Any, ...]]:
        mark = self.database.param
        first, *rest = sql.split("?")
        statement, given = [first], list[object]()
        for value, part in zip(values, rest, strict=True):
            if isinstance(value, set | frozenset):
                given += value
                statement += (f"({', '.join([mark] * len(value)) or 'NULL'})", part)
            else:
                given.append(value)
                statement += (mark, part)
        rows: Iterable[tuple[Any, ...]] = self.database.execute_sql("".join(statement), given)
        return rows
