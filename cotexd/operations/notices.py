"""What running servers are to tell a user's clients, or do to them.

A row, not a call: so that a command typed beside the server, or another server on the same database, reaches every
open socket within a second, and no private way into the server is needed.
"""

from datetime import timedelta
from typing import Literal

import msgspec

from cotexd.store import Tx
from cotexd.store.models import Notice

Kind = Literal["told", "disabled"]
TOLD: Kind = "told"
DISABLED: Kind = "disabled"
KEPT = timedelta(hours=1)
MAX_READ = 500


class News(msgspec.Struct, frozen=True):
    id: int
    user_id: str
    kind: Kind
    text: str


def post(tx: Tx, user_id: str, kind: Kind, text: str) -> None:
    Notice.insert(user_id=user_id, kind=kind, text=text, created_at=tx.now).execute()


def last_id(_: Tx) -> int:
    row = Notice.select(Notice.id).order_by(Notice.id.desc()).first()
    return row.id if row else 0


def after(_: Tx, notice_id: int) -> list[News]:
    """The notices since `notice_id`, oldest first, MAX_READ at most."""
    rows = Notice.select().where(Notice.id > notice_id).order_by(Notice.id).limit(MAX_READ)
    return [News(row.id, row.user_id, TOLD if row.kind == TOLD else DISABLED, row.text) for row in rows]


def forget_old(tx: Tx) -> int:
    return int(Notice.delete().where(Notice.created_at < tx.now - KEPT).execute())
