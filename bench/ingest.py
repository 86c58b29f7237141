"""Deliveries a second that are verified, stored and answered, against the same framework doing nothing with them.

Ours answers when the event is committed with synchronous=FULL, so every figure has its share of the disk (the head of
the table says how quick that is). The empty handler gets the very same requests over as many connections, and Sanic
has read and parsed them before it answers 204: what is between the two is what we do. Rounds alternate, and a ratio is
of two neighbours. At the end the log must hold exactly what was answered 200.

One request alone is measured with one connection: 50 that are always busy tell of the queue before the server, which
is 50 divided by what it does a second.
"""

import statistics
from typing import NamedTuple

from bench import server
from bench.client import Answer, Posts
from bench.figure import Ratio, Result, Row, Run, percentile
from bench.process import Broken
from bench.server import Server

CONNECTIONS = 50
WANTED = 0.3
"""of the empty handler"""
_WARM = 0.5
"""seconds"""


class _Round(NamedTuple):
    a_second: float
    took: list[float]
    """milliseconds"""


class Poster:
    """Posts to one server, each delivery under a number of its own."""

    def __init__(self, run: Run, to: Server) -> None:
        self._run = run
        self._to = to
        self.count = 0

    def round(self, connections: int, seconds: float) -> _Round:
        posts = Posts(
            self._run.load,
            (self._to.host, self._to.port),
            self._to.requests,
            connections=connections,
            seconds=seconds,
            first=self.count,
        )
        answers: list[Answer] = posts.answers()
        refused = {each.status for each in answers if not 200 <= each.status < 300}
        if refused:
            raise Broken(f"Deliveries were refused: {refused}")
        self.count += len(answers)
        return _Round(len(answers) / seconds, [each.took for each in answers])


def measure(run: Run) -> Result:
    rounds, seconds = (3, 1.5) if run.quick else (9, 4.0)
    prepared = server.prepare(run.folder("ingest"))
    with server.cotexd(run.root, prepared) as ours, server.plain(run.root) as plain:
        posters = Poster(run, ours), Poster(run, plain)
        for each in posters:
            each.round(CONNECTIONS, _WARM)
        busy = [[each.round(CONNECTIONS, seconds) for each in posters] for _ in range(rounds)]
        alone = [each.round(1, seconds) for each in posters]
    stored = server.totals(prepared).head
    if stored != posters[0].count:
        raise Broken(f"{posters[0].count} deliveries were answered 200, and the log holds {stored}.")
    return _result(busy, alone)


def _result(busy: list[list[_Round]], alone: list[_Round]) -> Result:
    speeds = [[each[which].a_second for each in busy] for which in (0, 1)]
    ratio = Ratio.of(*speeds)
    times = [[took for each in busy for took in each[which].took] for which in (0, 1)]
    single = [each.took for each in alone]
    rows = [
        Row(
            f"deliveries of 10 KB a second, {CONNECTIONS} connections",
            f"{statistics.median(speeds[0]):,.0f}",
            f"{statistics.median(speeds[1]):,.0f} (empty handler)",
            f"{ratio}, wanted {WANTED}",
        ),
        Row(f"  one of them, p50 / p99, {CONNECTIONS} connections", _show(times[0]), _show(times[1])),
        Row("  one alone, p50 / p99", _show(single[0]), _show(single[1])),
    ]
    facts: dict[str, object] = {
        name: {
            "per_second": round(statistics.median(speeds[which])),
            "p50_ms": round(percentile(times[which], 50), 2),
            "p99_ms": round(percentile(times[which], 99), 2),
            "alone_p50_ms": round(percentile(single[which], 50), 3),
            "alone_p99_ms": round(percentile(single[which], 99), 3),
        }
        for which, name in enumerate(("ours", "floor"))
    }
    return Result(rows, {**facts, **ratio.facts, "wanted": WANTED})


def _show(took: list[float]) -> str:
    return f"{percentile(took, 50):.2f} / {percentile(took, 99):.2f} ms"
