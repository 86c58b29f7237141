"""When a backup was made last."""

from datetime import datetime, timedelta

from cotexd.store import Tx
from cotexd.store.models import Setting

_MADE, _SCHEDULED, _CLAIMED = "backup_at", "backup_scheduled_at", "backup_claimed_at"
CLAIM = timedelta(hours=1)
"""after which a backup that was begun and never ended is tried again"""


def noted(_: Tx) -> datetime | None:
    """When the last backup was made; None if there never was one."""
    return _at(_MADE)


def note(tx: Tx, *, scheduled: bool = False) -> None:
    """A backup is made; one by hand changes nothing of when the next is due."""
    for name in (_MADE, _SCHEDULED) if scheduled else (_MADE,):
        _put(tx, name)


def claim(tx: Tx, every: timedelta) -> bool:
    """Whether it is time for a backup; if it is, whoever asks makes it, and nobody else for a while."""
    made, begun = _at(_SCHEDULED), _at(_CLAIMED)
    # What lies in the future is of a clock that was wrong.
    if made and timedelta(0) <= tx.now - made < every:
        return False
    if begun and timedelta(0) <= tx.now - begun < min(CLAIM, every):
        return False
    _put(tx, _CLAIMED)
    return True


def _at(name: str) -> datetime | None:
    row = Setting.get_or_none(Setting.name == name)
    return None if row is None else datetime.fromisoformat(row.value)


def _put(tx: Tx, name: str) -> None:
    Setting.delete().where(Setting.name == name).execute()
    Setting.insert(name=name, value=tx.now.isoformat()).execute()
