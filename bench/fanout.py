"""One event of 1 KB to 1,000 and to 5,000 WebSockets: deliveries per second of CPU, against the bare loop of send().

One event after the other, each when the last one has reached everybody, so that nothing joins two messages in one
write and every delivery is a send() of its own, as in the loop. What is counted is the CPU time of the sending process
as the kernel has it: a slow or a busy machine makes no difference to whose process is charged. The bare loop is the
least that any program on this kernel can do; plain Sanic, `await ws.send()` in a loop, is what one would write first.

Turns are long, so that the loop is measured at its best: in turns of 10 events it was a quarter slower, being cold at
the beginning of each, and our ratio to it 0.57 where it is 0.44 in turns of 200. The price is that a virtual machine's
host may change its mood between two neighbours: on an idle guest a round differed from the next by up to 40 %, so read
the range of the rounds, and no difference to plain Sanic that is smaller than it.

Deliveries a second by the clock count from when the event was brought until the last one had it.
"""

import statistics
from typing import NamedTuple

from bench.crowd import Crowd, crowds
from bench.figure import Ratio, Result, Row, Run

LISTENERS = (1000, 5000)
DELIVERIES = 200_000
"""in a round, half of it in a quick one: so that the kernel's clock of 10 ms is fine enough for the quickest"""


class Round(NamedTuple):
    a_cpu_second: float
    a_second: float


def measure(run: Run) -> Result:
    rows: list[Row] = []
    facts: dict[str, object] = {}
    for count in LISTENERS:
        found = _measure(run, count)
        rows += found.rows
        facts |= found.facts
    return Result(rows, facts)


def _measure(run: Run, count: int) -> Result:
    rounds, events = (2, DELIVERIES // count // 2) if run.quick else (9, DELIVERIES // count)
    with crowds(run, f"fanout-{count}", count) as (ours, floor, plain):
        found = [[round_of(each, events, count) for each in (ours, floor, plain)] for _ in range(rounds)]
        size = ours.listeners.message
    facts: dict[str, object] = {"bytes": size}
    rows = []
    for what, name, speeds in (
        ("a second of CPU", "", [[each[which].a_cpu_second for each in found] for which in range(3)]),
        ("a second by the clock", "wall_", [[each[which].a_second for each in found] for which in range(3)]),
    ):
        ours_, floor_, plain_ = (statistics.median(each) for each in speeds)
        to_floor, to_plain = Ratio.of(speeds[0], speeds[1]), Ratio.of(speeds[0], speeds[2])
        title = f"1 event of {size:,} bytes to {count:,} sockets: deliveries {what}"
        rows.append(Row(title, f"{ours_:,.0f}", f"{floor_:,.0f} (send loop)", str(to_floor)))
        rows.append(
            Row("  the same, against await ws.send()", f"{ours_:,.0f}", f"{plain_:,.0f}", str(to_plain))
        )
        facts |= {
            f"{name}ours": round(ours_),
            f"{name}floor": round(floor_),
            **{name + key: value for key, value in to_floor.facts.items()},
            f"{name}sanic": round(plain_),
            f"{name}ratio_sanic": to_plain.facts["ratio"],
        }
    return Result(rows, {str(count): facts})


def round_of(crowd: Crowd, events: int, count: int) -> Round:
    before = crowd.sender.cpu()
    took = 0
    for _ in range(events):
        sent = crowd.send()
        took += sent.arrived - sent.begun
    deliveries = events * count
    return Round(deliveries / (crowd.sender.cpu() - before), deliveries / took * 1e9)
