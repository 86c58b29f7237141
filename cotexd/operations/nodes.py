"""The servers that run on this database: each writes its row every few seconds, and those who look read it."""

from datetime import datetime, timedelta

import msgspec

from cotexd.store import Tx
from cotexd.store.models import NODE_ALIVE, Event, LogState, Node, Present, Repository, User, alive

ALIVE = NODE_ALIVE
FORGOTTEN = timedelta(days=1)


class Server(msgspec.Struct, frozen=True):
    id: str
    url: str
    version: str
    pid: int
    connections: int
    started_at: datetime
    head: int = 0
    """the last seq that it handed to its clients"""


class Running(Server, frozen=True, kw_only=True):
    seen_at: datetime


class Totals(msgspec.Struct, frozen=True):
    users: int
    repositories: int
    events: int
    """in the log, those whose payload is purged not counted"""
    oldest: datetime | None
    """when the first of them came"""
    epoch: str
    head: int
    floor: int


def beat(tx: Tx, server: Server) -> None:
    """Say that a server is alive, and forget those that have not been for a day."""
    Node.delete().where((Node.id == server.id) | (Node.seen_at < tx.now - FORGOTTEN)).execute()
    Node.insert(**msgspec.structs.asdict(server), seen_at=tx.now).execute()
    Present.delete().where(Present.node_id.not_in(Node.select(Node.id))).execute()


def leave(_: Tx, node_id: str) -> None:
    Present.delete().where(Present.node_id == node_id).execute()
    Node.delete().where(Node.id == node_id).execute()


def running(tx: Tx) -> list[Running]:
    """The servers that are alive, the youngest first."""
    rows = Node.select().where(alive(tx.now)).order_by(Node.started_at.desc())
    return [_described(row) for row in rows]


def last_seen(_: Tx) -> Running | None:
    """The server that wrote last and did not leave: it was killed, or cannot write."""
    row = Node.select().order_by(Node.seen_at.desc()).first()
    return None if row is None else _described(row)


def _described(row: Node) -> Running:
    about = (row.id, row.url, row.version, row.pid, row.connections, row.started_at, row.head)
    return Running(*about, seen_at=row.seen_at)


def totals(_: Tx) -> Totals:
    state = LogState.get_by_id(1)
    kept = Event.select(Event.seq, Event.created_at).where(Event.seq > state.floor)
    first = kept.order_by(Event.seq).first()
    return Totals(
        users=User.select().count(),
        repositories=Repository.select().where(Repository.removed_at.is_null()).count(),
        events=kept.count(),
        oldest=None if first is None else first.created_at,
        epoch=state.epoch,
        head=state.head,
        floor=state.floor,
    )
