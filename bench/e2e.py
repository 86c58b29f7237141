"""How long until everybody has it: one event in 50 ms to 1,000 WebSockets.

From when the webhook was answered to when the last of them had the message, and from when it was sent to then. The
first may be below zero: a committed event is written to the sockets before its webhook is answered, so that a sender
that waits for the answer may come second. Therefore the ratio is of the second. It is to plain Sanic, which answers
when it has sent to all of them, and to the bare loop of send(), which neither verifies nor stores.

Events come by the clock, and count from when they were due: one that is slow makes the next ones late, not rare. Each
round has all three.
"""

import time
from collections.abc import Sequence

from bench.crowd import Crowd, Sent, crowds
from bench.figure import Ratio, Result, Row, Run, percentile

LISTENERS = 1000
RATE = 20
"""events a second"""


def measure(run: Run) -> Result:
    rounds, seconds = (2, 2) if run.quick else (5, 8)
    with crowds(run, "e2e", LISTENERS) as three:
        found = [[_round(each, seconds * RATE) for each in three] for _ in range(rounds)]
    whole = [[[_ms(each.arrived - each.begun) for each in one[which]] for one in found] for which in range(3)]
    after = [_ms(each.arrived - each.answered) for one in found for each in one[0]]
    flat = [[took for one in each for took in one] for each in whole]
    ratios = [
        Ratio.of(*([percentile(one, 50) for one in each] for each in (whole[0], whole[to]))) for to in (1, 2)
    ]
    rows = [
        Row(
            f"webhook sent → the last of {LISTENERS:,} has it, {RATE} a second, p50 / p99",
            _show(flat[0]),
            f"{_show(flat[1])} (send loop)",
            f"{ratios[0]}, less is better",
        ),
        Row(
            "  the same, against await ws.send()",
            _show(flat[0]),
            _show(flat[2]),
            f"{ratios[1]}, less is better",
        ),
        Row("  webhook answered → the last has it, p50 / p99", _show(after)),
    ]
    facts: dict[str, object] = {
        "after_answer_p50_ms": round(percentile(after, 50), 2),
        "after_answer_p99_ms": round(percentile(after, 99), 2),
        "p50_ms": round(percentile(flat[0], 50), 2),
        "p99_ms": round(percentile(flat[0], 99), 2),
        "floor_p50_ms": round(percentile(flat[1], 50), 2),
        "floor_p99_ms": round(percentile(flat[1], 99), 2),
        "sanic_p50_ms": round(percentile(flat[2], 50), 2),
        "sanic_p99_ms": round(percentile(flat[2], 99), 2),
        "ratio": ratios[0].facts["ratio"],
        "ratio_sanic": ratios[1].facts["ratio"],
    }
    return Result(rows, facts)


def _round(crowd: Crowd, count: int) -> list[Sent]:
    begun = time.monotonic_ns()
    sent: list[tuple[int, int]] = []
    for number in range(count):
        due = begun + number * 10**9 // RATE
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        _, answered = crowd.begin()
        sent.append((due, answered))
    return [Sent(due, answered, crowd.listeners.next()) for due, answered in sent]


def _ms(nanoseconds: int) -> float:
    return nanoseconds / 1e6


def _show(took: Sequence[float]) -> str:
    return f"{percentile(took, 50):.1f} / {percentile(took, 99):.1f} ms"
