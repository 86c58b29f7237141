"""How cost grows: a delivery with the size of its payload, reading with the number of a user's repositories.

`python -m bench growth`. Each is beside the smallest of its kind, in rounds that alternate.
"""

import statistics
from contextlib import ExitStack
from dataclasses import replace

from bench import payloads, server
from bench.figure import Ratio, Result, Row, Run
from bench.history import REPLAYED, asking, log_of, replay, timed
from bench.ingest import Poster

SIZES = (10, 100, 1000)
"""KB of a payload"""
REPOSITORIES = (1, 100, 1000)
EVENTS = 20_000
"""in each log"""
CONNECTIONS = 20
VARIANTS = 8
"""different bodies of a size"""


def measure(run: Run) -> Result:
    payload, repos = _by_payload(run), _by_repositories(run)
    return Result([*payload.rows, *repos.rows], {"payload": payload.facts, "repositories": repos.facts})


def _by_payload(run: Run) -> Result:
    rounds, seconds = (2, 1.5) if run.quick else (5, 3.0)
    prepared = server.prepare(run.folder("growth-payload"))
    with server.cotexd(run.root, prepared) as ours:

        def poster(size: int) -> Poster:
            of_size = payloads.requests(ours.host, prepared.path, prepared.secret, VARIANTS, size * 1024)
            return Poster(run, replace(ours, requests=of_size))

        posters = [poster(size) for size in SIZES]
        found = [[each.round(CONNECTIONS, seconds).a_second for each in posters] for _ in range(rounds)]
    speeds = [[each[which] for each in found] for which in range(len(SIZES))]
    rows, facts = [], {}
    for size, its in zip(SIZES, speeds, strict=True):
        ratio, bytes_a_second = Ratio.of(its, speeds[0]), statistics.median(its) * size / 1024
        told = f"{statistics.median(its):,.0f}, {bytes_a_second:,.0f} MB"
        rows.append(Row(f"deliveries of {size} KB a second", told, f"{SIZES[0]} KB", str(ratio)))
        facts[str(size)] = {"per_second": round(statistics.median(its)), **ratio.facts}
    return Result(rows, facts)


def _by_repositories(run: Run) -> Result:
    times = 50 if run.quick else 200
    with ExitStack() as stack:
        logs = [stack.enter_context(log_of(run, f"growth-{count}", EVENTS, count)) for count in REPOSITORIES]
        pages = [stack.enter_context(asking(each, "/api/github-events/recent?limit=50")) for each in logs]
        replays = [lambda each=each: replay(each) for each in logs]
        found = {
            "page": ("a page of 50 recent events", timed(pages, times)),
            "replay": (f"a client that missed {REPLAYED} is live", timed(replays, times)),
        }
    rows, facts = [], {}
    for name, (what, took) in found.items():
        first = statistics.median(took[0])
        for count, its in zip(REPOSITORIES, took, strict=True):
            middle = statistics.median(its)
            against = f"{first:.2f} ms ({REPOSITORIES[0]})"
            rows.append(
                Row(
                    f"{what}, of {count:,} repositories", f"{middle:.2f} ms", against, f"{middle / first:.2f}"
                )
            )
        facts[name] = {
            str(count): round(statistics.median(its), 3)
            for count, its in zip(REPOSITORIES, took, strict=True)
        }
    return Result(rows, facts)
