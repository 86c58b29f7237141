"""What libraries bring along if it is installed, and a server has no use for: a quarter of its memory."""

import sys

from cotexd.config import Settings


def leave_out(settings: Settings, *names: str) -> None:
    """Have modules count as not installed in this process, from now on; what was imported before stays.

    :param names: of some; beside them, psycopg, if the database is none of its: Peewee takes every driver that it finds
    """
    if not settings.database.startswith("postgres"):
        names += ("psycopg",)
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # the sign for it (importlib's reference)
