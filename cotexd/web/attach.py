"""How a client begins to get events, whichever way it is connected: who it is, what it asked for, a place for it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from cotexd import metrics
from cotexd.domain import scope, selection
from cotexd.domain.cursor import Cursor, parse
from cotexd.domain.selection import Selection
from cotexd.errors import Unavailable
from cotexd.live.connection import Connection
from cotexd.live.session import Session
from cotexd.operations import cursors, identities
from cotexd.operations.cursors import Start
from cotexd.operations.identities import Caller
from cotexd.store import Tx
from cotexd.web import edge
from cotexd.web.auth import caller_of, signed_in
from cotexd.web.context import Context, WebRequest, parameter
from cotexd.web.limits import UPGRADES
from cotexd.web.protocol import take_transport


class Asked(msgspec.Struct, frozen=True):
    """What a client of version 2 asked for."""

    device: str
    cursor: Cursor | None
    selection: Selection


def asked_by(request: WebRequest, cursor: str | None) -> Asked:
    """:raises InvalidCursor, Invalid: what it says can't be read"""
    return Asked(
        parameter(request, "device") or "",
        None if cursor is None else parse(cursor),
        selection.parse(parameter(request, "repos") or "", parameter(request, "events") or ""),
    )


async def let_in(request: WebRequest) -> Caller:
    """Who wants to be connected.

    :raises Unavailable: the server is stopping
    :raises Forbidden, Unauthorized, TooManyRequests: see edge.check_origin and auth.signed_in
    """
    if request.app.ctx.draining:
        raise Unavailable("The server is shutting down.")
    edge.check_origin(request)
    return await signed_in(request, scope.EVENTS_READ, policy="upgrades", times=UPGRADES)


async def sign_in(context: Context, token: str, address: str) -> Caller:
    """Whom a fresh token signs in, on a connection that is there already.

    :raises CotexError: it is a bad one, or for other things than events
    """
    caller = await caller_of(context, token, address)
    scope.demand(caller.scopes, scope.EVENTS_READ)
    return caller


@asynccontextmanager
async def session_of(
    request: WebRequest, caller: Caller, asked: Asked | None, *, answers: bool = True
) -> AsyncIterator[Session]:
    """A session, with a place that is kept for it until the block ends: by then it is attached.

    :param asked: None is a legacy client
    :raises TooManyConnections: of this user, or in all
    """
    context = request.app.ctx
    with context.hub.room_for(caller.id):
        told = context.hub.known_notice
        start = await context.store.write(_attach, caller, asked)
        while context.hub.known_notice != told:
            # What was told meanwhile it was not there to hear: that it is disabled, perhaps.
            told = context.hub.known_notice
            await context.store.read(identities.still_good, caller)
        metrics.ATTACHED.labels(start.resume).inc()
        if start.gap is not None:
            metrics.GAPS.labels(start.gap.reason).inc()
        yield Session(
            caller.id,
            context.hub.addressed_to(caller.id),
            start,
            v2=asked is not None,
            token_exp=caller.expiry,
            token_session=caller.session,
            selection=selection.EVERYTHING if asked is None else asked.selection,
            answers=answers,
            now=time.monotonic(),
            moment=datetime.now(UTC),
        )


def hand_over(request: WebRequest, connection: Connection, head: bytes) -> None:
    """Give the request's transport to a connection, which begins with the end of HTTP: `head`.

    :raises Unavailable: the client is gone
    """
    transport, received = take_transport(request)
    transport.set_protocol(connection)
    transport.write(head)
    request.app.ctx.hub.attach(connection)
    connection.take_over(transport, received)


def _attach(tx: Tx, caller: Caller, asked: Asked | None) -> Start:
    # Again, in the transaction: who was disabled since is not let in, who is from now on is told of it.
    identities.still_good(tx, caller)
    if asked is None:
        return cursors.attach_legacy(tx, caller.id, caller.session)
    return cursors.attach(tx, caller.id, device=asked.device, cursor=asked.cursor, selection=asked.selection)
