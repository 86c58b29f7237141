"""How long a delivery waits while old payloads are being purged, against while nothing is.

The database is filled with old events before the server starts: by the operation that accepts deliveries, under a
clock that is a day behind. The server keeps payloads for a minute, and looks for old ones a minute after it started,
as it always does. Deliveries come by the clock, from before that until after it, and each counts from when it was due;
those that were under way while the log's floor moved are one group, the others the other. So both are of one run, one
server and one file.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from bench import payloads, server
from bench.client import Answer, Posts
from bench.figure import Result, Row, Run, percentile
from bench.process import Broken
from bench.server import Prepared
from cotexd.operations import events
from cotexd.store import Store, utc_now

RETENTION = "1m"
AGE = timedelta(days=1)
CONNECTIONS = 20
RATE = 200
"""deliveries a second"""
FIRST_LOOK = 60.0
"""seconds after its start that the server purges for the first time"""
BEFORE, AFTER = 15.0, 20.0
"""seconds of deliveries before and after that; in a quick run a half of it"""
_LOOK_EVERY = 0.05


class _Purge(NamedTuple):
    """Nanoseconds of the monotonic clock."""

    begun: int
    ended: int
    events: int


def measure(run: Run) -> Result:
    old, before, after = (40_000, BEFORE / 2, AFTER / 2) if run.quick else (100_000, BEFORE, AFTER)
    prepared = server.prepare(run.folder("purge"))
    server.fill(prepared, old, payloads.push(0), utc_now() - AGE)
    with server.cotexd(run.root, prepared, COTEX_RETENTION=RETENTION) as ours:
        time.sleep(FIRST_LOOK - before)
        posts = Posts(
            run.load,
            (ours.host, ours.port),
            ours.requests,
            connections=CONNECTIONS,
            seconds=before + after,
            rate=RATE,
        )
        purge = _watch(prepared, old, before + after)
        answers = posts.answers()
    if not all(each.status == 200 for each in answers):
        raise Broken("Deliveries were refused.")
    return _result(purge, answers)


def _watch(prepared: Prepared, old: int, seconds: float) -> _Purge:
    """Look at the log's floor until it has passed the old events, or the time is over."""
    store = Store("", prepared.folder, "")
    deadline = time.monotonic() + seconds
    begun = floor = 0
    try:
        while floor < old and time.monotonic() < deadline:
            floor = store.look(events.log).floor
            if floor and not begun:
                begun = time.monotonic_ns() - int(_LOOK_EVERY * 1e9)
            time.sleep(_LOOK_EVERY)
    finally:
        store.close()
    if not begun:
        raise Broken("The server did not purge.")
    return _Purge(begun, time.monotonic_ns(), min(floor, old))


def _result(purge: _Purge, answers: Sequence[Answer]) -> Result:
    during: list[float] = []
    beside: list[float] = []
    for each in answers:
        under_way = each.due < purge.ended and each.due + each.took * 1e6 > purge.begun
        (during if under_way else beside).append(each.took)
    speed = purge.events / (purge.ended - purge.begun) * 1e9
    ratio = percentile(during, 99) / percentile(beside, 99)
    rows = [
        Row(
            f"a delivery during a purge, {RATE} a second, p50 / p99",
            _show(during),
            f"{_show(beside)} (without one)",
            f"{ratio:.2f} of p99, less is better",
        ),
        Row("  events purged a second meanwhile", f"{speed:,.0f}"),
    ]
    facts: dict[str, object] = {
        "p50_ms": round(percentile(during, 50), 2),
        "p99_ms": round(percentile(during, 99), 2),
        "without_p50_ms": round(percentile(beside, 50), 2),
        "without_p99_ms": round(percentile(beside, 99), 2),
        "ratio": round(ratio, 3),
        "deliveries": [len(during), len(beside)],
        "purged": purge.events,
        "purged_per_second": round(speed),
    }
    return Result(rows, facts)


def _show(took: Sequence[float]) -> str:
    return f"{percentile(took, 50):.2f} / {percentile(took, 99):.2f} ms"
