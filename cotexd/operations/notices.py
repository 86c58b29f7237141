"""What running servers are to tell a user's clients, or do to them.

A row, not a call: so that a command typed beside the server, or another server on the same database, reaches every
open socket within a second, and no private way into the server is needed.
"""

from datetime import timedelta
from typing import Literal

import msgspec

from cotexd.store import Tx
from cotexd.store.models import Notice

Kind = Literal["told", "disabled", "revoked"]
TOLD: Kind = "told"
DISABLED: Kind = "disabled"
REVOKED: Kind = "revoked"
"""its text is the session that has ended"""
_KINDS: dict[str, Kind] = {TOLD: TOLD, DISABLED: DISABLED, REVOKED: REVOKED}
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
    # A kind that we don't know is a newer server's, beside us on the same database.
    return [News(row.id, row.user_id, _KINDS[row.kind], row.text) for row in rows if row.kind in _KINDS]


def forget_old(tx: Tx) -> int:
    return int(Notice.delete().where(Notice.created_at < tx.now - KEPT).execute())
