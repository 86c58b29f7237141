"""One run: a server, its clients, the sender and the chaos hand; then the end, and the verdict."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import check, clients
from .chaos import Chaos, Disk
from .check import Rows, Violation
from .clients import Client
from .history import Entry
from .plan import Plan
from .sender import Sender
from .server import Server
from .world import World, until

STUCK = 30.0
"""seconds without any client coming nearer to the end; what is missing then counts as lost"""


@dataclass(frozen=True, slots=True)
class Outcome:
    events: int
    """in the log"""
    answers: int
    """200s"""
    counts: Counter[str]
    clients: Counter[str]
    applied: Counter[str]
    again: Counter[str]
    """these by kind of client; `again` was sent a second time, as its rule allows"""
    violations: list[Violation]
    sending: float
    """seconds until all was answered"""
    settling: float
    """seconds from then until every client had all"""
    full: str
    """how the disk was made full"""
    said: list[str]
    """the last lines of the server's log"""
    errors: list[str]
    """the first of them that say error"""


async def torture(
    folder: Path, database: str, plan: Plan, events: int, disk: Callable[[World], Disk], limit: float
) -> Outcome:
    """:param limit: seconds for all of it
    :raises TimeoutError: it took longer
    :raises Broken: the server does not start or stop
    """
    server = Server(folder, database)
    world = World(plan, server)
    everybody = [clients.make(spec, world) for spec in plan.clients]
    tasks: list[asyncio.Task[None]] = []
    full = disk(world)
    try:
        async with asyncio.timeout(limit):
            await server.start()
            tasks += [asyncio.create_task(each.run()) for each in everybody]
            await _all_in(everybody)
            began = time.monotonic()
            await _send_under(Chaos(world, everybody, events, full), Sender(world, events), tasks)
            sent = time.monotonic()
            log = world.log()
            rows = Rows(log, world.spans)
            await _settled(world, everybody, rows)
            done = time.monotonic()
            await _end(tasks)
            world.counts["exits other than 0"] += await server.terminate() != 0
        return _outcome(world, everybody, world.log(), rows, full.way, sent - began, done - sent)
    finally:
        await _end(tasks)
        full.free()
        if server.running:
            server.proceed()
            await server.kill()
        world.store.close()


async def _send_under(chaos: Chaos, sender: Sender, tasks: Sequence[asyncio.Task[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(chaos.run())
        group.create_task(sender.run())
    _raise_failures(tasks)


async def _all_in(everybody: Sequence[Client]) -> None:
    """Until each client has begun: what comes before that is not for it."""
    greeted = [each for each in everybody if each.history.who.kind != "legacy"]
    await until(lambda: all(each.position >= 0 for each in greeted))


async def _settled(world: World, everybody: Sequence[Client], rows: Rows) -> None:
    """Until each client is where its row ends, or none comes nearer."""
    world.calm.set()
    for each in everybody:
        each.here.set()
    progress, since = -1, time.monotonic()
    while time.monotonic() - since < STUCK:
        late = [each for each in everybody if each.position < rows.of(each.history.who).last]
        if not late:
            return
        now = sum(each.position for each in everybody)
        if now != progress:
            progress, since = now, time.monotonic()
        await asyncio.sleep(0.1)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _raise_failures(tasks)


def _raise_failures(tasks: Sequence[asyncio.Task[None]]) -> None:
    """A client that broke by a mistake of ours must not look like one that lost something."""
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise error


def _outcome(
    world: World,
    everybody: Sequence[Client],
    log: Sequence[Entry],
    rows: Rows,
    full: str,
    sending: float,
    settling: float,
) -> Outcome:
    violations = check.answers(world.answers, log)
    violations += check.told(world.ids, log)
    violations += check.hidden(log, world.plan.hides)
    for each in everybody:
        violations += check.client(each.history, rows.of(each.history.who), world.epoch)
    applied, again, kinds = Counter[str](), Counter[str](), Counter[str]()
    for each in everybody:
        kinds[each.spec.kind] += 1
        applied[each.spec.kind] += each.applied
        again[each.spec.kind] += each.again
    return Outcome(
        events=len(log),
        answers=len(world.answers),
        counts=world.counts,
        clients=kinds,
        applied=applied,
        again=again,
        violations=violations,
        sending=sending,
        settling=settling,
        full=full,
        said=list(world.server.said),
        errors=world.server.errors,
    )
