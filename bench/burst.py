"""64 webhooks in flight, each to 1,000 WebSockets: events a second that have reached everybody, against plain Sanic.

What comes together is committed together, and goes out as one write a socket; plain Sanic, which stores nothing, sends
each event by itself. Counted from when the first was sent until the last socket had the last, in rounds that alternate.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from bench import server
from bench.client import Listeners, Posts, message, send_request
from bench.figure import Ratio, Result, Row, Run
from bench.payloads import DIGITS, Request
from bench.process import Broken
from bench.server import Server

LISTENERS = 1000
IN_FLIGHT = 64
WARM = 0.5
"""seconds of a round that does not count"""


class Crowd:
    def __init__(
        self, run: Run, to: Server, listeners: Listeners, requests: list[Request], in_flight: int
    ) -> None:
        self._run = run
        self._to = to
        self._listeners = listeners
        self._requests = requests
        self._in_flight = in_flight
        self._sent = 0

    @property
    def message(self) -> int:
        """Bytes of the last event's message."""
        return self._listeners.message

    def round(self, seconds: float) -> float:
        """Events a second."""
        posts = Posts(
            self._run.load,
            (self._to.host, self._to.port),
            self._requests,
            connections=self._in_flight,
            seconds=seconds,
            first=self._sent,
        )
        answers = posts.answers()
        if not all(200 <= each.status < 300 for each in answers):
            raise Broken("Deliveries were refused.")
        self._sent += len(answers)
        arrived = 0
        while self._listeners.events < self._sent:
            arrived = self._listeners.next()
        return len(answers) / (arrived - min(each.due for each in answers)) * 1e9


def measure(run: Run) -> Result:
    rounds, seconds = (2, 0.7) if run.quick else (5, 4.0)
    with (
        server.cotexd(run.root, server.prepare(run.folder("burst"))) as ours,
        server.plain(run.root) as plain,
        crowd(run, ours, ours.requests) as first,
    ):
        first.round(WARM)
        with crowd(run, plain, [numbered(send_request(plain.host, message(first.message)))]) as second:
            second.round(WARM)
            found = [[each.round(seconds) for each in (first, second)] for _ in range(rounds)]
    speeds = [[each[which] for each in found] for which in (0, 1)]
    ratio = Ratio.of(*speeds)
    mine, theirs = map(statistics.median, speeds)
    rows = [
        Row(
            f"{IN_FLIGHT} webhooks in flight, each to {LISTENERS:,} sockets: events a second",
            f"{mine:,.0f}",
            f"{theirs:,.0f} (await ws.send())",
            str(ratio),
        )
    ]
    return Result(rows, {"ours": round(mine), "sanic": round(theirs), **ratio.facts})


@contextmanager
def crowd(run: Run, to: Server, requests: list[Request], in_flight: int = IN_FLIGHT) -> Iterator[Crowd]:
    with Listeners(run.load, (to.host, to.port), LISTENERS, to.upgrade) as listeners:
        listeners.opened()
        yield Crowd(run, to, listeners, requests, in_flight)


def numbered(request: bytes) -> Request:
    """One whose body ends like a message; the digits, which change nothing, stand before that end."""
    return Request(request, len(request) - DIGITS - 2)
