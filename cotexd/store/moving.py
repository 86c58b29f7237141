"""A database that is copied into another one, and what both know of it, as settings.

copying_until   in the source, while it is copied: nothing is purged, so that its log only grows
moved_to        in the source, from the last step on: it is read as before, and not written any more
copied_from     in the target, until it is whole: nobody writes there but the copy
"""

from datetime import datetime, timedelta

import peewee

from cotexd.errors import Unavailable

MOVED_TO, COPIED_FROM, COPYING_UNTIL = "moved_to", "copied_from", "copying_until"
NAMES = (MOVED_TO, COPIED_FROM, COPYING_UNTIL)
HELD = timedelta(minutes=2)
"""for which a copy that is under way keeps the purge away, each time that it says so"""


class Moved(Unavailable):
    """Nothing may be written to this database."""


def value(database: peewee.Database, name: str) -> str | None:
    row = database.execute_sql(f"SELECT value FROM setting WHERE name = {database.param}", (name,)).fetchone()  # noqa: S608
    return None if row is None else str(row[0])


def put(database: peewee.Database, name: str, text: str) -> None:
    """Set it, within a transaction of the caller's."""
    take_away(database, name)
    mark = database.param
    database.execute_sql(f"INSERT INTO setting (name, value) VALUES ({mark}, {mark})", (name, text))  # noqa: S608


def take_away(database: peewee.Database, name: str) -> None:
    database.execute_sql(f"DELETE FROM setting WHERE name = {database.param}", (name,))  # noqa: S608


def forget(database: peewee.Database) -> None:
    """Be neither the source nor the target of a copy."""
    for name in NAMES:
        take_away(database, name)


def refuse(database: peewee.Database) -> None:
    """See, at the beginning of a write transaction, that there may be one.

    :raises Moved: the database has moved, or is being filled by a copy
    """
    found = dict(
        database.execute_sql(
            f"SELECT name, value FROM setting WHERE name IN ('{MOVED_TO}', '{COPIED_FROM}')"  # noqa: S608  # constants
        ).fetchall()
    )
    if MOVED_TO in found:
        raise Moved(
            "The database has moved: this one is read, and not written any more.",
            hint="Start the server with the new one, which cotex db status names (COTEX_DATABASE). "
            "To go on with this one: cotex db copy --undo.",
        )
    if found:
        raise Moved(
            "The database is being filled by a copy, which is not through.",
            hint="Run the same `cotex db copy --to` again: it goes on where it was.",
        )


def is_copied(database: peewee.Database, now: datetime) -> bool:
    """A copy is under way, so that nothing may be purged."""
    until = value(database, COPYING_UNTIL)
    return until is not None and now < datetime.fromisoformat(until)
