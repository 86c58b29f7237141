"""What starting costs: `cotex --help` against an empty Typer app's, and the server until it answers.

Both commands are run by this Python with compiled modules, one after the other in turns. The empty app is told not to
draw with Rich, as ours is, without which it would be the slower of the two; so the ratio is of what ours imports and
declares. The server is started on a database that has events, and is ready when GET /readyz is answered with 200; a
plain Sanic application, which opens nothing, is what it is set against. The memory is that of the process then.
"""

import http.client
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bench import payloads, server
from bench.figure import Ratio, Result, Row, Run
from bench.process import environment, installed
from bench.server import Server

STORED = 5000
"""events in the database"""
_EMPTY = """
import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def main() -> None:
    pass


app()
"""


def measure(run: Run) -> Result:
    turns, starts = (7, 3) if run.quick else (21, 7)
    folder = run.folder("start")
    empty = folder / "empty.py"
    empty.write_text(_EMPTY)
    commands: list[list[str | Path]] = [[installed("cotex"), "--help"], [sys.executable, empty, "--help"]]
    for command in commands:
        _run(run, command)
    helps = [[_run(run, command) for command in commands] for _ in range(turns)]

    prepared = server.prepare(folder / "data")
    server.fill(prepared, STORED, payloads.push(0))
    both = (
        (lambda: server.cotexd(run.root, prepared), "/readyz"),
        (lambda: server.plain(run.root), "/"),
    )
    for each in both:
        _start(*each)
    ready = [[_start(*each) for each in both] for _ in range(starts)]
    return _result(helps, ready)


def _run(run: Run, command: list[str | Path]) -> float:
    """Milliseconds."""
    begun = time.perf_counter()
    subprocess.run(command, env=environment(run.root), check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1e3


def _start(start: Callable[[], AbstractContextManager[Server]], path: str) -> tuple[float, float]:
    """Milliseconds until it answers, and megabytes (2**20 bytes) then."""
    begun = time.perf_counter()
    with start() as running:
        connection = http.client.HTTPConnection(running.host, running.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took = (time.perf_counter() - begun) * 1e3
        connection.close()
        if path != "/" and answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path} answered {answer.status}")
        return took, running.process.resident() / 2**20


def _result(helps: list[list[float]], ready: list[list[tuple[float, float]]]) -> Result:
    help_times = [[each[which] for each in helps] for which in (0, 1)]
    start_times = [[each[which][0] for each in ready] for which in (0, 1)]
    memory = [statistics.median(each[which][1] for each in ready) for which in (0, 1)]
    helped, started = Ratio.of(*help_times), Ratio.of(*start_times)
    ours_help, empty_help = map(statistics.median, help_times)
    ours_start, plain_start = map(statistics.median, start_times)
    rows = [
        Row(
            "cotex --help",
            f"{ours_help:.0f} ms",
            f"{empty_help:.0f} ms (empty Typer app)",
            f"{helped}, less is better",
        ),
        Row(
            f"cotexd until it is ready, {STORED:,} events stored",
            f"{ours_start:.0f} ms",
            f"{plain_start:.0f} ms (empty Sanic app)",
            f"{started}, less is better",
        ),
        Row(
            "  its memory then",
            f"{memory[0]:.0f} MB",
            f"{memory[1]:.0f} MB",
            f"{memory[0] / memory[1]:.2f}, less is better",
        ),
    ]
    facts: dict[str, object] = {
        "help_ms": round(ours_help, 1),
        "empty_ms": round(empty_help, 1),
        **helped.facts,
        "ready_ms": round(ours_start, 1),
        "sanic_ready_ms": round(plain_start, 1),
        "ready_ratio": started.facts["ratio"],
        "rss_mb": round(memory[0], 1),
        "sanic_rss_mb": round(memory[1], 1),
    }
    return Result(rows, facts)
