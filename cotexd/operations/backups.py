"""When a backup was made last."""

from datetime import datetime

from cotexd.store import Tx
from cotexd.store.models import Setting

_NAME = "backup_at"


def noted(_: Tx) -> datetime | None:
    """When the last backup was made; None if there never was one."""
    row = Setting.get_or_none(Setting.name == _NAME)
    return None if row is None else datetime.fromisoformat(row.value)


def note(tx: Tx) -> None:
    """A backup is made."""
    Setting.delete().where(Setting.name == _NAME).execute()
    Setting.insert(name=_NAME, value=tx.now.isoformat()).execute()
