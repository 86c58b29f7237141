"""`make bench`: the figures of docs/performance.md, measured on this machine.

Each figure is measured on both sides within one run, in rounds that alternate, and is given as a ratio: what the
machine does meanwhile happens to both. The numbers beside it are of this machine and this hour. Everything runs on
loopback, in temporary folders (TMPDIR says where; the disk there is part of what is measured), and ends by itself.
"""

import argparse
import json
import os
import platform
import resource
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bench import burst, e2e, fanout, growth, history, idle, ingest, peers, purge, reconnect, start, timing
from bench.client import Load
from bench.figure import Result, Row, Run
from bench.process import Broken
from cotexd import __version__

LIMIT = {True: 3 * 60, False: 14 * 60}
"""seconds for all of it, quick or not; then it gives up"""


@dataclass(frozen=True)
class Figure:
    name: str
    measure: Callable[[Run], Result]
    key: str
    """in --json"""
    asked_for: bool = False
    """it is measured only if it is named"""


FIGURES = (
    Figure("ingest", ingest.measure, "ingest"),
    Figure("fanout", fanout.measure, "fanout"),
    Figure("idle", idle.measure, "idle"),
    Figure("e2e", e2e.measure, "e2e"),
    Figure("burst", burst.measure, "burst"),
    Figure("reconnect", reconnect.measure, "reconnect"),
    Figure("history", history.measure, "history"),
    Figure("start", start.measure, "cli"),
    Figure("timing", timing.measure, "timing"),
    Figure("purge", purge.measure, "purge"),
    Figure("growth", growth.measure, "growth", asked_for=True),
    Figure("peers", peers.measure, "peers", asked_for=True),
)


def main() -> int:
    given = _arguments()
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _give_up)
    signal.alarm(LIMIT[given.quick])
    _allow_connections()
    facts: dict[str, object] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="cotexd-bench-") as name:
            run = Run(given.quick, Load.made(Path(name)), Path(name), given.events)
            facts["machine"] = _machine(run)
            _line("", "cotexd", "against", "ratio (lowest to highest round)")
            for figure in FIGURES:
                if figure.name in given.figures or not (given.figures or figure.asked_for):
                    began = time.monotonic()
                    found = figure.measure(run)
                    _show(figure.name, found.rows, time.monotonic() - began)
                    facts[figure.key] = found.facts
                    if figure.name == "idle":
                        facts["idle_kb"] = found.facts["ours_kb"]
    except Broken as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        if given.json and facts:
            given.json.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: within 3 minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="in the large log of `history`, if it is no quick run"
    )
    names = [each.name for each in FIGURES]
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"only these of: {', '.join(names)}")
    given = parser.parse_args()
    unknown = set(given.figures) - set(names)
    if unknown:
        parser.error(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return given


def _give_up(number: int, _: FrameType | None) -> None:
    # Raised where the main thread is: all that was begun is ended on the way out.
    raise Broken("It took too long." if number == signal.SIGALRM else "It was asked to stop.")


def _allow_connections() -> None:
    """As many open files as this user may have; the processes that are started get the same."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536 if most == resource.RLIM_INFINITY else most, most))


def _machine(run: Run) -> dict[str, object]:
    """What the numbers are numbers of."""
    disk = _disk(run.root / "disk")
    load = os.getloadavg()[0]
    facts: dict[str, object] = {
        "cotexd": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "fsync_ms": round(disk, 3),
        "load": round(load, 2),
        "load_program": "C" if run.load.compiled else "Python",
    }
    print(
        f"cotexd {__version__}, Python {facts['python']}, SQLite {facts['sqlite']}, {facts['system']}, "
        f"{facts['cores']} cores; 4 KB to the disk with fsync: {disk:.2f} ms; load average before: {load:.2f}"
    )
    if not run.load.compiled:
        print("No C compiler (or no epoll): the load is made in Python, and the ratios are too good.")
    return facts


def _disk(path: Path) -> float:
    """Milliseconds that one write of 4 KB takes to be on the disk."""
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def _show(name: str, rows: list[Row], seconds: float) -> None:
    print(f"{name} ({seconds:.0f} s)")
    for row in rows:
        _line("  " + row.what, row.ours, row.against, row.ratio)


def _line(what: str, ours: str, against: str, ratio: str) -> None:
    print(f"{what:<80} {ours:>18}   {against:<32} {ratio}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
