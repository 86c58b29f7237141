"""How far each client of a user has come, and where it goes on.

A `device` is a v2 client that gave itself a name. A `session` is a legacy client, told from others by its token. The
`shared` cursor was made with the user and is the furthest that any legacy client acknowledged: a new one starts there.
A cursor never goes back.
"""

from datetime import timedelta
from typing import Literal

import msgspec
import peewee

from cotexd.domain import selection as selections
from cotexd.domain.cursor import Cursor, Log, Place, Reason, parse, place
from cotexd.domain.selection import Selection
from cotexd.errors import Conflict, Invalid, InvalidCursor
from cotexd.operations import events, visibility
from cotexd.store import Tx
from cotexd.store.models import Acknowledgement, Device, LogState

MAX_DEVICES = 100
"""named devices a user"""
MAX_NAME = 100
"""characters"""

_MOVE = """
UPDATE device SET
  "cursor" = CASE WHEN "cursor" < ? THEN ? ELSE "cursor" END,
  acked = CASE WHEN acked < ? THEN ? ELSE acked END,
  seen_at = ?
WHERE user_id = ? AND kind = ? AND name = ?
"""

_NOTE = """
INSERT INTO acknowledgement (minute, user_id, kind, name, seq, at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (user_id, kind, name, minute) DO UPDATE SET seq = excluded.seq, at = excluded.at
WHERE acknowledgement.seq < excluded.seq
"""
NOTES_KEPT = timedelta(days=14)

Kind = Literal["device", "session", "shared"]
Resumption = Literal["ok", "gap", "new"]


class Keeper(msgspec.Struct, frozen=True):
    """The row that keeps a client's cursor."""

    user_id: str
    kind: Kind
    name: str


class Gap(msgspec.Struct, frozen=True):
    """Events that a client can't get any more."""

    reason: Reason
    """expired: older than what is kept; epoch: the log was set back or is another one; ahead: not written yet"""
    asked: str
    """the cursor from which it wanted to go on"""
    floor: int
    """events up to this seq are no longer kept"""
    missed: int | None
    """how many are gone; null where nobody can count them"""


class Start(msgspec.Struct, frozen=True):
    """Where a client goes on: with the first of its events after `after`."""

    epoch: str
    head: int
    floor: int
    after: int
    resume: Resumption
    gap: Gap | None
    keeper: Keeper | None


class Ack(msgspec.Struct, frozen=True):
    keeper: Keeper
    seq: int


def attach(
    tx: Tx,
    user_id: str,
    *,
    device: str,
    cursor: Cursor | None,
    selection: Selection = selections.EVERYTHING,
) -> Start:
    """Begin with a v2 client. Its row is committed before it is greeted: it may drop at once and lose nothing.

    :param device: "" if it gave no name; then nothing is kept for it
    :raises Invalid: the device's name is too long, or not printable
    :raises Conflict: the user has MAX_DEVICES others
    """
    log = events.log(tx)
    keeper = Keeper(user_id, "device", device) if device else None
    if keeper is not None:
        _check_name(device)
    kept = None if keeper is None else _kept(tx, keeper)
    if cursor is None and kept is None:
        start = Start(log.epoch, log.head, log.floor, log.head, "new", None, keeper)
    else:
        start = _resume(tx, user_id, log, cursor or Cursor(log.epoch, kept or 0), keeper, selection)
    if keeper is not None:
        _keep(tx, keeper, start.after, known=kept is not None)
    return start


def attach_legacy(tx: Tx, user_id: str, session: str) -> Start:
    """Begin with a legacy client; whatever it has missed within the retention, it gets, and hears of no gap."""
    log = events.log(tx)
    shared = Keeper(user_id, "shared", "")
    keeper = Keeper(user_id, "session", session[:MAX_NAME]) if session else shared
    kept = _kept(tx, keeper)
    start = kept if kept is not None else _kept(tx, shared)
    after = log.head if start is None else start
    _keep(tx, keeper, after, known=kept is not None)
    return Start(log.epoch, log.head, log.floor, max(after, log.floor), "ok", None, keeper)


def resume(tx: Tx, user_id: str, cursor: Cursor, selection: Selection = selections.EVERYTHING) -> Start:
    """Where a connected client goes on that asked to be set to `cursor`; its keeper stays what it was."""
    return _resume(tx, user_id, events.log(tx), cursor, None, selection)


def acknowledge_many(tx: Tx, acks: list[Ack]) -> list[None]:
    """Move cursors forward. What a legacy client has got, the user's next new one need not get again."""
    now = Device.seen_at.db_value(tx.now)
    minute = int(tx.now.timestamp() // 60)
    moves, notes = [], []
    for ack in acks:
        user_id, kind, name = msgspec.structs.astuple(ack.keeper)
        moves.append((ack.seq, ack.seq, ack.seq, ack.seq, now, user_id, kind, name))
        notes.append((minute, user_id, kind, name, ack.seq, now))
        if kind == "session":
            moves.append((ack.seq, ack.seq, ack.seq, ack.seq, now, user_id, "shared", ""))
    tx.change_many(_MOVE, moves)
    tx.change_many(_NOTE, notes)
    return [None] * len(acks)


def acknowledge(tx: Tx, user_id: str, cursor: str, device: str = "") -> Cursor:
    """Mark everything up to a cursor delivered (REST): for a device, or for all legacy clients.

    :raises InvalidCursor: not a cursor, of another epoch, or beyond the log's head
    """
    given, state = parse(cursor), LogState.get_by_id(1)
    if given.epoch != state.epoch:
        raise InvalidCursor(
            "The cursor is of another epoch.", hint="Connect to /ws: hello says where to go on."
        )
    if given.seq > state.head:
        raise InvalidCursor(f"The cursor is beyond the log's head, {state.head}.")
    if device:
        _check_name(device)
    keeper = Keeper(user_id, "device", device) if device else Keeper(user_id, "shared", "")
    _keep(tx, keeper, given.seq, known=_kept(tx, keeper) is not None)
    acknowledge_many(tx, [Ack(keeper, given.seq)])
    return given


def forget_old(tx: Tx) -> int:
    """What is noted of acknowledgements that are long past."""
    oldest = int((tx.now - NOTES_KEPT).timestamp() // 60)
    return int(Acknowledgement.delete().where(Acknowledgement.minute < oldest).execute())


def _resume(
    tx: Tx, user_id: str, log: Log, cursor: Cursor, keeper: Keeper | None, selection: Selection
) -> Start:
    found = place(cursor, log)
    gap = _gap(tx, user_id, log, cursor, found, selection)
    return Start(log.epoch, log.head, log.floor, found.seq, "gap" if gap else "ok", gap, keeper)


def _gap(tx: Tx, user_id: str, log: Log, cursor: Cursor, found: Place, selection: Selection) -> Gap | None:
    if found.reason is None:
        return None
    missed: int | None = None
    if found.reason == "expired" and cursor.seq >= LogState.get_by_id(1).stub_floor:
        missed = visibility.count(tx, user_id, after=cursor.seq, upto=log.floor, selection=selection)
        if missed == 0:
            return None
    return Gap(found.reason, str(cursor), log.floor, missed)


def _check_name(device: str) -> None:
    if len(device) > MAX_NAME or not device.isprintable():
        raise Invalid(f"A device's name is at most {MAX_NAME} printable characters.")


def _kept(tx: Tx, keeper: Keeper) -> int | None:
    """Where a client was; None if it is not known."""
    found = tx.rows(
        'SELECT "cursor" FROM device WHERE user_id = ? AND kind = ? AND name = ?',
        keeper.user_id,
        keeper.kind,
        keeper.name,
    )
    return int(found[0][0]) if found else None


def _keep(tx: Tx, keeper: Keeper, seq: int, *, known: bool) -> None:
    """Make the row if it is new, at `seq`; else only note that it was seen."""
    now = Device.seen_at.db_value(tx.now)
    user_id, kind, name = msgspec.structs.astuple(keeper)
    if known:
        seen = "UPDATE device SET seen_at = ? WHERE user_id = ? AND kind = ? AND name = ?"
        tx.change(seen, now, user_id, kind, name)
        return
    mine = (Device.user_id == user_id) & (Device.kind == kind)
    if kind == "device" and _count(mine) >= MAX_DEVICES:
        raise Conflict(
            f"This user has {MAX_DEVICES} devices.", hint="Connect under the name of one that is known."
        )
    Device.insert(
        user_id=user_id, kind=kind, name=name, cursor=seq, acked=0, created_at=tx.now, seen_at=tx.now
    ).execute()


def _count(condition: peewee.Expression) -> int:
    return int(Device.select().where(condition).count())
