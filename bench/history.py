"""What reading costs as the log grows: a page of history, an event by its id, and the backlog of who was away.

Two servers of ours, one with 10,000 events and one with many more, are asked the same in turns: the newest page of
recent events, an event in the middle of the log, and a WebSocket whose cursor lies 50 events back, up to `live`. The
ratio is what the larger log costs more. Payloads are small, so that a log of millions fits on any disk; how long they
are makes no difference to what is read here, since none of it is the payload.
"""

import http.client
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench import server
from bench.client import upgrade
from bench.figure import Result, Row, Run, percentile
from bench.process import Broken
from bench.server import Prepared, Server
from cotexd.domain.cursor import Cursor
from cotexd.operations import events
from cotexd.store import Store
from cotexd.store.models import Event

SMALL = 10_000
REPLAYED = 50
TIMES = 200
"""of each, a quarter of it in a quick run"""
_WITHIN = 10.0
_LIVE = b'"event":"live"'
_EVENT = b'"type":"github_event"'


class Log(NamedTuple):
    """A running server, and what is asked of it."""

    server: Server
    token: str
    event_id: str
    """of the one in the middle"""
    cursor: Cursor
    """REPLAYED events before the head"""


def measure(run: Run) -> Result:
    large, times = (50_000, TIMES // 4) if run.quick else (run.events, TIMES)
    with ExitStack() as stack:
        logs = [stack.enter_context(log_of(run, f"history-{count}", count)) for count in (SMALL, large)]
        pages = [stack.enter_context(asking(each, "/api/github-events/recent?limit=50")) for each in logs]
        by_id = [
            stack.enter_context(asking(each, f"/api/github-events/event?id={each.event_id}")) for each in logs
        ]
        replays = [lambda each=each: replay(each) for each in logs]
        found = {
            "page": ("a page of 50 recent events", timed(pages, times)),
            "event": ("an event by its id", timed(by_id, times)),
            "replay": (f"a client that missed {REPLAYED} is live", timed(replays, times)),
        }
    rows, facts = [], {"small": SMALL, "large": large}
    for name, (what, (small, big)) in found.items():
        # Of medians: what one of many takes says more of the machine than of the log.
        ratio = statistics.median(big) / statistics.median(small)
        rows.append(
            Row(
                f"{what}, {large:,} events in the log, p50 / p99",
                _show(big),
                f"{_show(small)} ({SMALL:,} events)",
                f"{ratio:.2f} of p50, less is better",
            )
        )
        facts[name] = {
            "small_ms": round(statistics.median(small), 3),
            "large_ms": round(statistics.median(big), 3),
            "ratio": round(ratio, 3),
        }
    return Result(rows, facts)


@contextmanager
def log_of(run: Run, name: str, count: int, repos: int = 1) -> Iterator[Log]:
    """A server whose log has so many events, of so many repositories of its one user."""
    prepared = server.prepare(run.folder(name), repos)
    server.fill(prepared, count, b"{}")
    event_id, cursor = _middle(prepared, count)
    with server.cotexd(run.root, prepared) as ours:
        yield Log(ours, prepared.token, event_id, cursor)


def _middle(prepared: Prepared, count: int) -> tuple[str, Cursor]:
    store = Store("", prepared.folder, "")
    try:
        log = store.look(events.log)
        row = store.look(lambda _: Event.get(Event.seq == count // 2))
        return row.id, Cursor(log.epoch, log.head - REPLAYED)
    finally:
        store.close()


def timed(both: list[Callable[[], object]], times: int) -> list[list[float]]:
    """Milliseconds of each, in turns; the first few are not counted."""
    took: list[list[float]] = [[] for _ in both]
    for turn in range(times + 5):
        for each, its in zip(both, took, strict=True):
            begun = time.perf_counter()
            each()
            if turn >= 5:
                its.append((time.perf_counter() - begun) * 1e3)
    return took


@contextmanager
def asking(log: Log, path: str) -> Iterator[Callable[[], object]]:
    """A request over a connection that stays."""
    connection = http.client.HTTPConnection(log.server.host, log.server.port, timeout=_WITHIN)

    def ask() -> None:
        connection.request("GET", path, headers={"Authorization": f"Bearer {log.token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK or not json.loads(body):
            raise Broken(f"{path} was answered with {answer.status}: {body[:200]!r}")

    try:
        yield ask
    finally:
        connection.close()


def replay(log: Log) -> None:
    path = f"/ws?v=2&cursor={log.cursor}"
    received = b""
    with socket.create_connection((log.server.host, log.server.port), timeout=_WITHIN) as connection:
        connection.sendall(upgrade(log.server.host, path, log.token))
        while _LIVE not in received:
            part = connection.recv(65536)
            if not part:
                raise Broken(f"A client was turned away: {received[:200]!r}")
            received += part
    if received.count(_EVENT) != REPLAYED:
        raise Broken(f"A client that missed {REPLAYED} events got {received.count(_EVENT)}.")


def _show(took: list[float]) -> str:
    return f"{percentile(took, 50):.2f} / {percentile(took, 99):.2f} ms"
