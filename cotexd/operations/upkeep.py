"""What time does to the log: payloads go after the retention, stubs after a year, removed repositories at once.

Each call does one small batch, so that nobody who writes waits for long; it is called again until it finds nothing.
"""

from datetime import timedelta

import peewee

from cotexd.operations import audit, billing, cursors, notices, recovery, tokens
from cotexd.operations import sessions as sign_ins
from cotexd.store import Tx, moving
from cotexd.store.models import Device, Event, LogState, Present, Repository

BATCH = 25
"""events"""
REST = 0.005
"""seconds between two batches, so that who writes meanwhile finds the disk free"""
BATCH_BYTES = 4 * 1024 * 1024
"""of payloads; at least one event"""
STUBS_KEPT = timedelta(days=365)
"""how long a late redelivery is known to be a duplicate, and what was missed can be counted"""
_OLDEST = "SELECT seq, created_at, COALESCE(LENGTH(payload), 0) FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
_PURGE = "UPDATE event SET summary = NULL, payload = NULL WHERE seq > ? AND seq <= ?"
SESSIONS_KEPT = timedelta(days=365)
"""since a legacy client was last seen: as long as payloads can be kept, so that none misses one by it"""


def purge(tx: Tx, retention: timedelta) -> int:
    """Take payload and summary from a batch of the oldest events, and leave their stubs; returns how many."""
    if moving.is_copied(tx.database, tx.now):
        return 0
    young = Event.created_at.db_value(tx.now - retention)
    ((floor,),) = tx.rows("SELECT floor FROM log_state WHERE id = 1")
    size = 0
    purged: list[int] = []
    for seq, created_at, length in tx.rows(_OLDEST, floor, BATCH):
        size += length
        # In order, up to the first that is young: the floor is one horizon for the whole log.
        if created_at >= young or (purged and size > BATCH_BYTES):
            break
        purged.append(seq)
    if purged:
        tx.change(_PURGE, floor, purged[-1])
        tx.change("UPDATE log_state SET floor = ?", purged[-1])
    return len(purged)


def purgeable(tx: Tx, retention: timedelta) -> int:
    """How many events `purge` would take in all."""
    floor = LogState.get_by_id(1).floor
    young = Event.select(peewee.fn.MIN(Event.seq)).where(
        Event.seq > floor, Event.created_at >= tx.now - retention
    )
    old = Event.select().where(Event.seq > floor)
    first = young.scalar()
    return int((old if first is None else old.where(Event.seq < first)).count())


def purge_removed(tx: Tx) -> int:
    """Delete a batch of the events of removed repositories: nobody may see them, and no delivery comes for them."""
    if moving.is_copied(tx.database, tx.now):
        return 0
    waiting = Repository.select(Repository.id).where(
        Repository.removed_at.is_null(False), Repository.purged_at.is_null()
    )
    for repo in list(waiting.limit(BATCH)):
        mine = Event.select(Event.seq).where(Event.repo_id == repo.id).order_by(Event.seq).limit(BATCH)
        seqs = [row.seq for row in mine]
        if len(seqs) < BATCH:
            Repository.update(purged_at=tx.now).where(Repository.id == repo.id).execute()
        if seqs:
            return int(Event.delete().where(Event.seq.in_(seqs)).execute())
    return 0


def forget_stubs(tx: Tx) -> int:
    """Delete a batch of stubs that are a year old."""
    if moving.is_copied(tx.database, tx.now):
        return 0
    state = LogState.get_by_id(1)
    oldest = Event.select(Event.seq, Event.created_at).where(
        Event.seq > state.stub_floor, Event.seq <= state.floor
    )
    old: list[int] = []
    for row in oldest.order_by(Event.seq).limit(BATCH):
        if row.created_at >= tx.now - STUBS_KEPT:
            break
        old.append(row.seq)
    if old:
        Event.delete().where(Event.seq.in_(old)).execute()
        LogState.update(stub_floor=old[-1]).execute()
    return len(old)


def forget_old(tx: Tx) -> int:
    """Forget notices that every server has told, clients that have long been away, and what nobody can use any more.

    A device that has a name is never forgotten by itself: it would come back as a new one, and hear of no gap.
    """
    here = Present.select(Present.device).where(
        Present.protocol == "legacy", Present.user_id == Device.user_id
    )
    gone = int(
        Device.delete()
        .where(
            Device.kind == "session",
            Device.seen_at < tx.now - SESSIONS_KEPT,
            Device.name.not_in(here),
        )
        .execute()
    )
    for room in (notices, tokens, sign_ins, audit, billing, recovery, cursors):
        gone += int(room.forget_old(tx))
    return gone
