"""Whole tables as plain rows, the same for both databases: what a backup and a copy are made of."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import peewee

from cotexd.store.dialect import Dialect
from cotexd.store.models import ALL, Node, Present, fields_of, table_of

Row = list[Any]
Progress = Callable[[int, int], None]
"""is told how many are done, and of how many"""
# What runs at this moment is of this moment.
KEPT = tuple(each for each in ALL if each not in {Node, Present})
"""in an order in which what is referred to comes first"""


def columns_of(model: type[peewee.Model]) -> tuple[str, ...]:
    return tuple(each.column_name for each in fields_of(model))


def selecting(name: str, columns: Sequence[str]) -> str:
    """The query for all rows of a table."""
    listed = ", ".join(f'"{each}"' for each in columns)
    return f'SELECT {listed} FROM "{name}"'  # noqa: S608  # our own names


def count(database: peewee.Database, name: str, condition: str = "TRUE") -> int:
    query = f'SELECT COUNT(*) FROM "{name}" WHERE {condition}'  # noqa: S608  # our own names
    return int(database.execute_sql(query).fetchone()[0])


def told_nobody(_done: int, _total: int) -> None: ...


def plain(model: type[peewee.Model], row: Sequence[Any]) -> Row:
    """A row as both databases take it: SQLite knows no booleans."""
    values = list(row)
    for place in _booleans_of(model):
        if values[place] is not None:
            values[place] = bool(values[place])
    return values


@functools.cache
def _booleans_of(model: type[peewee.Model]) -> tuple[int, ...]:
    return tuple(
        place for place, field in enumerate(fields_of(model)) if isinstance(field, peewee.BooleanField)
    )


def count_on(database: peewee.Database, dialect: Dialect) -> None:
    """Let what the database numbers by itself go on after the rows that were inserted."""
    for model in KEPT:
        for field in fields_of(model):
            if isinstance(field, peewee.AutoField):
                dialect.count_on(database, table_of(model), field.column_name)
