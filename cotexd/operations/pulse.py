"""How all of it is doing right now, for people who look."""

import bisect
import itertools
from datetime import datetime, timedelta

import msgspec
import peewee

from cotexd.operations import nodes
from cotexd.store import Tx
from cotexd.store.models import Event, LogState, Node, Present, Webhook

HOURS = 24


class Pulse(msgspec.Struct, frozen=True):
    head: int
    connections: int
    catching_up: int
    """of them, those that are fed from the log"""
    behind: int
    """events between the head and where the furthest behind of them is"""
    unsent: int
    """bytes that wait for clients"""
    repaired: int
    """deliveries that were fetched from GitHub"""
    looked_at: datetime | None
    """when GitHub was last asked for some"""
    problems: int
    """repositories of which the last look failed"""


def pulse(tx: Tx) -> Pulse:
    """By the rows that servers which are alive write every few seconds."""
    alive = Node.select(Node.id).where(Node.seen_at >= tx.now - nodes.ALIVE)
    here = Present.select().where(Present.node_id.in_(alive))
    count, unsent, least = here.select(
        peewee.fn.COUNT(Present.id),
        peewee.fn.COALESCE(peewee.fn.SUM(Present.buffer), 0),
        peewee.fn.MIN(Present.sent),
    ).scalar(as_tuple=True)
    state = LogState.get_by_id(1)
    repaired = Webhook.select(peewee.fn.COALESCE(peewee.fn.SUM(Webhook.repaired), 0)).scalar()
    last = Webhook.select().where(Webhook.looked_at.is_null(False)).order_by(Webhook.looked_at.desc()).first()
    return Pulse(
        head=state.head,
        connections=int(count),
        catching_up=here.where(~Present.live).count(),
        behind=0 if least is None else max(0, state.head - int(least)),
        unsent=int(unsent),
        repaired=int(repaired),
        looked_at=None if last is None else last.looked_at,
        problems=Webhook.select().where(Webhook.problem != "").count(),
    )


def by_hour(tx: Tx) -> list[int]:
    """How many events came in each of the last HOURS, the oldest first.

    The log is dense and in the order of time, so two seqs tell how many lie between, and nothing is counted: a seek for
    each step of a search for each hour's end, however long the log is.
    """
    state = LogState.get_by_id(1)
    seqs = range(state.stub_floor + 1, state.head + 1)

    def came(seq: int) -> datetime:
        first = Event.select(Event.created_at).where(Event.seq >= seq).order_by(Event.seq).first()
        return tx.now if first is None else first.created_at

    ends = [tx.now - timedelta(hours=hours) for hours in range(HOURS, 0, -1)]
    found = [bisect.bisect_left(seqs, end, key=came) for end in ends] + [len(seqs)]
    return [after - before for before, after in itertools.pairwise(found)]
