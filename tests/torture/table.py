"""What a run is told as: a table, the violations, and the command that repeats it."""

import argparse
from collections import Counter
from collections.abc import Iterator

from .chaos import ACTS
from .check import FAULTS
from .history import KINDS
from .run import Outcome

SHOWN = 40
"""violations that are told one by one"""


def command(given: argparse.Namespace) -> str:
    return (
        f'make torture ARGS="--events {given.events} --database {given.database} '
        f'--clients {given.clients} --seed {given.seed}"'
    )


def show(outcome: Outcome, given: argparse.Namespace) -> None:
    for what, figure in _lines(outcome):
        print(f"{what:<44} {figure}")
    found = Counter(each.fault for each in outcome.violations)
    print(f"{'violations':<44} {len(outcome.violations)}")
    for fault, count in found.items():
        print(f"  {fault}: {FAULTS[fault]:<40} {count}")
    for each in outcome.violations[:SHOWN]:
        print(f"    {each.fault}  {each.who}: {each.what}")
    if outcome.errors:
        print("the server's first errors:", *outcome.errors[:5], sep="\n    ")
    if outcome.violations:
        print("the server said last:", *outcome.said[-20:], sep="\n    ")
    print(f"again: {command(given)}", flush=True)


def _lines(outcome: Outcome) -> Iterator[tuple[str, str]]:
    counts = outcome.counts
    yield "events in the log", f"{outcome.events:,}"
    yield "webhooks answered 200", f"{outcome.answers:,}"
    yield "  of them duplicates, refused as such", f"{counts['duplicates refused']:,}"
    others = {name: count for name, count in counts.items() if name.startswith(("answered", "no answer"))}
    yield (
        "  sent again because of another answer",
        ", ".join(f"{n} {c}" for n, c in sorted(others.items())) or "0",
    )
    for kind in KINDS:
        applied, again = outcome.applied[kind], outcome.again[kind]
        yield f"applied by {outcome.clients[kind]} {kind} clients", f"{applied:,} (sent again: {again:,})"
    for name in ACTS:
        way = f" ({outcome.full})" if name == "disk-full spells" else ""
        yield name, f"{counts[name]}{way}"
    yield "gaps announced", f"{counts['gaps announced']:,}, of {counts['events in gaps']:,} events"
    for name, count in sorted(counts.items()):
        if name.startswith(("closed", "exits", "clients refused")) and count:
            yield name, f"{count:,}"
    yield "errors in the server's log", str(len(outcome.errors))
    yield "seconds until all was answered", f"{outcome.sending:.0f}"
    yield "seconds until every client had all", f"{outcome.settling:.0f} more"
