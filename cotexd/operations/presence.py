"""Who is connected, and the devices of a user: how far each has come, and how much it has yet to get."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from cotexd.domain.cursor import Cursor
from cotexd.errors import NotFound
from cotexd.operations import nodes, visibility
from cotexd.store import Tx
from cotexd.store.models import Device as DeviceRow
from cotexd.store.models import LogState, Node
from cotexd.store.models import Present as Row

MAX_AT_ONCE = 100
"""rows in one write, so that it holds nobody up"""


class Present(msgspec.Struct, frozen=True):
    """One connection, as its server sees it."""

    id: str
    user_id: str
    protocol: str
    device: str
    address: str
    sent: int
    """the last seq that was sent to it"""
    live: bool
    buffer: int
    """bytes that wait for it"""
    connected_at: datetime


class Device(msgspec.Struct, frozen=True):
    """A client of a user's: one that has a name, a legacy client (whose name is its token's), or one that is just
    connected and has none.
    """

    device: str
    protocol: str
    cursor: str
    """up to where it has acknowledged; without a name, up to where it was sent"""
    lag: int | None
    """events of this user's after that; null where a filter by path makes them uncountable"""
    connected_since: datetime | None
    connections: int
    buffer: int
    """bytes that wait for it"""
    address: str
    seen_at: datetime | None


def portions(
    changed: Sequence[Present], gone: Sequence[str]
) -> Iterator[tuple[Sequence[Present], Sequence[str]]]:
    for start in range(0, max(len(changed), len(gone)), MAX_AT_ONCE):
        yield changed[start : start + MAX_AT_ONCE], gone[start : start + MAX_AT_ONCE]


def note(_: Tx, node_id: str, changed: Sequence[Present], gone: Sequence[str]) -> None:
    """Take over what a server says of its connections."""
    Row.delete().where(Row.id.in_([*gone, *(each.id for each in changed)])).execute()
    if changed:
        Row.insert_many([{**msgspec.structs.asdict(each), "node_id": node_id} for each in changed]).execute()


def devices(tx: Tx, user_id: str) -> list[Device]:
    """The devices of a user, the connected ones first, then by when they were last seen."""
    state = LogState.get_by_id(1)
    here: dict[tuple[str, str], list[Present]] = {}
    for each in _connected(tx, user_id):
        kind = "session" if each.protocol == "legacy" else "device"
        here.setdefault((kind, each.device), []).append(each)

    def described(kind: str, name: str, row: DeviceRow | None) -> Device:
        connected = here.get((kind, name), [])
        seq = min(each.sent for each in connected) if row is None else int(row.cursor)
        protocol = connected[0].protocol if connected else "legacy" if kind == "session" else "v2"
        return Device(
            device=name,
            protocol=protocol,
            cursor=str(Cursor(state.epoch, seq)),
            lag=visibility.count(tx, user_id, after=seq, upto=state.head),
            connected_since=min((each.connected_at for each in connected), default=None),
            connections=len(connected),
            buffer=sum(each.buffer for each in connected),
            address=connected[0].address if connected else "",
            seen_at=tx.now if connected else None if row is None else row.seen_at,
        )

    rows = list(DeviceRow.select().where(DeviceRow.user_id == user_id, DeviceRow.kind != "shared"))
    kept = {(row.kind, row.name) for row in rows}
    found = [described(row.kind, row.name, row) for row in rows]
    found += [described(kind, name, None) for kind, name in here if (kind, name) not in kept]
    return sorted(
        found, key=lambda each: (each.connected_since is not None, each.seen_at or tx.now), reverse=True
    )


def forget_device(_: Tx, user_id: str, name: str) -> None:
    """Forget how far a device has come; one that comes under this name again begins at the head.

    :raises NotFound: the user has no such device
    """
    mine = (DeviceRow.user_id == user_id) & (DeviceRow.kind != "shared") & (DeviceRow.name == name)
    if not DeviceRow.delete().where(mine).execute():
        raise NotFound(f'There is no device "{name}".', hint="GET /api/me/devices lists them.")


def _connected(tx: Tx, user_id: str) -> list[Present]:
    rows = (
        Row.select()
        .join(Node, on=(Node.id == Row.node_id))
        .where(Row.user_id == user_id, Node.seen_at >= tx.now - nodes.ALIVE)
        .order_by(Row.connected_at)
    )
    return [
        Present(
            row.id,
            row.user_id,
            row.protocol,
            row.device,
            row.address,
            row.sent,
            row.live,
            row.buffer,
            row.connected_at,
        )
        for row in rows
    ]
