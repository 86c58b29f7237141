"""What a WebSocket that waits costs: memory per connection, against plain Sanic's.

The resident memory of the server's process with all connected, less that with the first thousand (which have brought
in what every connection shares), for each connection between. Every one of them has had an event before it is counted,
so that it is through with whatever opening it cost. The kernel's buffers are not in it; they are the same for both.
"""

import time

from bench import server
from bench.client import Listeners
from bench.figure import Result, Row, Run
from bench.process import Broken
from bench.server import Server

FIRST = 1000
CONNECTIONS = 5000
_SETTLED = 0.005
"""of the memory: less than that is no longer a change"""
_LOOKS = 20


def measure(run: Run) -> Result:
    count = 4000 if run.quick else CONNECTIONS
    with server.cotexd(run.root, server.prepare(run.folder("idle"))) as ours:
        ours_kb = _per_connection(run, ours, count)
    with server.plain(run.root) as plain:
        plain_kb = _per_connection(run, plain, count)
    ratio = ours_kb / plain_kb
    rows = [
        Row(
            f"memory per idle connection, {count:,} connections",
            f"{ours_kb:.1f} KB",
            f"{plain_kb:.1f} KB (Sanic's WebSocket)",
            f"{ratio:.2f}, less is better",
        )
    ]
    facts: dict[str, object] = {
        "connections": count,
        "ours_kb": round(ours_kb, 2),
        "sanic_kb": round(plain_kb, 2),
        "ratio": round(ratio, 3),
    }
    return Result(rows, facts)


def _per_connection(run: Run, to: Server, count: int) -> float:
    """Kilobytes (1,024 bytes)."""
    address = (to.host, to.port)
    with Listeners(run.load, address, FIRST, to.upgrade) as first:
        first.opened()
        before = _settled(to)
        with Listeners(run.load, address, count - FIRST, to.upgrade) as others:
            others.opened()
            return (_settled(to) - before) / (count - FIRST) / 1024


def _settled(to: Server) -> int:
    """Bytes, once they stay."""
    last = to.process.resident()
    for _ in range(_LOOKS):
        time.sleep(0.5)
        now = to.process.resident()
        if abs(now - last) < _SETTLED * last:
            return now
        last = now
    raise Broken("The server's memory does not settle.")
