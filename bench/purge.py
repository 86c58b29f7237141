"""How long a delivery waits while old payloads are being purged, against while nothing is.

The database is filled with old events before the server starts: by the operation that accepts deliveries, under a
clock that is a day behind. The server keeps payloads for a minute, and looks for old ones a minute after it started,
as it always does. Deliveries come by the clock, from before that until after it, and each counts from when it was due;
those that were under way while the log's floor moved are one group, the others the other. So both are of one run, one
server and one file. While the server waits for that minute, a backup is made, and measured in the same way.
"""

import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from bench import payloads, server
from bench.client import Answer, Posts
from bench.figure import Result, Row, Run, percentile
from bench.process import Broken, environment, installed
from bench.server import Prepared, Server
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
BACKUP_FOR = 12.0
"""seconds of deliveries, after a third of which a backup is made"""
_SEQS = 10**9
"""where the numbers of those deliveries begin"""
_LOOK_EVERY = 0.05


class _Work(NamedTuple):
    """Nanoseconds of the monotonic clock."""

    begun: int
    ended: int
    events: int


def measure(run: Run) -> Result:
    old, before, after = (40_000, BEFORE / 2, AFTER / 2) if run.quick else (100_000, BEFORE, AFTER)
    prepared = server.prepare(run.folder("purge"))
    server.fill(prepared, old, payloads.push(0), utc_now() - AGE)
    with server.cotexd(run.root, prepared, COTEX_RETENTION=RETENTION) as ours:
        started = time.monotonic()
        posts = _posts(run, ours, BACKUP_FOR, _SEQS)
        backup = _back_up(run, prepared)
        saved = _taken(posts)
        time.sleep(max(0.0, started + FIRST_LOOK - before - time.monotonic()))
        posts = _posts(run, ours, before + after, 0)
        purge = _watch(prepared, old, before + after)
        purged = _taken(posts)
    return _result(purge, purged, backup, saved)


def _posts(run: Run, to: Server, seconds: float, first: int) -> Posts:
    address = to.host, to.port
    return Posts(
        run.load, address, to.requests, connections=CONNECTIONS, seconds=seconds, rate=RATE, first=first
    )


def _taken(posts: Posts) -> list[Answer]:
    answers = posts.answers()
    if not all(each.status == 200 for each in answers):
        raise Broken("Deliveries were refused.")
    return answers


def _back_up(run: Run, prepared: Prepared) -> _Work:
    time.sleep(BACKUP_FOR / 3)
    begun = time.monotonic_ns()
    command: list[str | Path] = [installed("cotex"), "db", "backup", run.root / "purge.backup"]
    environ = environment(run.root, COTEX_DATA_DIR=str(prepared.folder))
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return _Work(begun, time.monotonic_ns(), 0)


def _watch(prepared: Prepared, old: int, seconds: float) -> _Work:
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
    return _Work(begun, time.monotonic_ns(), min(floor, old))


class _Times(NamedTuple):
    """Milliseconds of deliveries during some work, and beside it."""

    during: list[float]
    beside: list[float]

    @classmethod
    def of(cls, work: _Work, answers: Sequence[Answer]) -> "_Times":
        times = cls([], [])
        for each in answers:
            under_way = each.due < work.ended and each.due + each.took * 1e6 > work.begun
            (times.during if under_way else times.beside).append(each.took)
        return times

    @property
    def ratio(self) -> float:
        return percentile(self.during, 99) / percentile(self.beside, 99)

    def row(self, what: str) -> Row:
        return Row(
            f"a delivery during a {what}, {RATE} a second, p50 / p99",
            _show(self.during),
            f"{_show(self.beside)} (without one)",
            f"{self.ratio:.2f} of p99, less is better",
        )

    @property
    def facts(self) -> dict[str, object]:
        return {
            "p50_ms": round(percentile(self.during, 50), 2),
            "p99_ms": round(percentile(self.during, 99), 2),
            "without_p50_ms": round(percentile(self.beside, 50), 2),
            "without_p99_ms": round(percentile(self.beside, 99), 2),
            "ratio": round(self.ratio, 3),
            "deliveries": [len(self.during), len(self.beside)],
        }


def _result(purge: _Work, purged: Sequence[Answer], backup: _Work, saved: Sequence[Answer]) -> Result:
    times, beside_backup = _Times.of(purge, purged), _Times.of(backup, saved)
    speed = purge.events / (purge.ended - purge.begun) * 1e9
    rows = [
        times.row("purge"),
        Row("  events purged a second meanwhile", f"{speed:,.0f}"),
        beside_backup.row("backup"),
        Row("  which took", f"{(backup.ended - backup.begun) / 1e9:.1f} s"),
    ]
    facts = {
        **times.facts,
        "purged": purge.events,
        "purged_per_second": round(speed),
        "backup": beside_backup.facts,
    }
    return Result(rows, facts)


def _show(took: Sequence[float]) -> str:
    return f"{percentile(took, 50):.2f} / {percentile(took, 99):.2f} ms"
