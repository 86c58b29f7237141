"""Whole databases, to be compared."""

import os
import uuid
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from cotexd.store import Store
from cotexd.store.models import ALL, Node, Present, fields_of, table_of

KEPT = [each for each in ALL if each not in {Node, Present}]


def rows_of(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """All that is in it, but for what is of this moment."""

    def read(tx: Any) -> dict[str, list[tuple[Any, ...]]]:
        found = {}
        for model in KEPT:
            columns = ", ".join(f'"{each.column_name}"' for each in fields_of(model))
            rows = tx.rows(f'SELECT {columns} FROM "{table_of(model)}"')  # noqa: S608  # our own names
            found[table_of(model)] = sorted(
                tuple(bytes(each) if isinstance(each, memoryview) else each for each in row) for row in rows
            )
        return found

    return store.look(read)


def as_plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """SQLite has numbers for booleans."""
    return [tuple(int(each) if isinstance(each, bool) else each for each in row) for row in rows]


def another_postgres(request: pytest.FixtureRequest, template: str = "template1") -> str:
    """The URL of a new PostgreSQL database, empty unless it is made from another one."""
    server = request.getfixturevalue("postgres")
    if server is None:
        if os.environ.get("CI"):
            pytest.fail("No PostgreSQL server could be started, and CI is set.")
        pytest.skip("NO POSTGRESQL SERVER COULD BE STARTED: nothing is tested on it.")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return urlsplit(server)._replace(path=f"/{name}").geturl()
