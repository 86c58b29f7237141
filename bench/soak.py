"""`make soak ARGS="--minutes 60"`: does the server's memory grow? 200 events a second to 2,000 WebSockets.

Twenty users, each with a repository and a hundred sockets. Events are kept for ten minutes, so that from then on as
many are purged as come. Every ten seconds the memory of the server's process is noted, and its CPU. At the end, every
socket must have had every event of its user, and the growth is that of the second half of the time, by least squares.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from bench import payloads, server
from bench.client import Listeners, Load, Posts, upgrade
from bench.process import Broken
from cotexd.operations import accounts, repositories, tokens
from cotexd.store import Store

USERS, SOCKETS = 20, 100
RATE = 200
RETENTION = "10m"
EVERY = 10.0
"""seconds between two looks"""
CONNECTIONS = 20
MAX_MINUTES = 180


class Look(NamedTuple):
    minutes: float
    memory_mb: float
    cpu: float
    """seconds of CPU a second, since the look before"""


class User(NamedTuple):
    path: str
    secret: str
    token: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    minutes = max(1.0, min(given.minutes, MAX_MINUTES))
    signal.signal(signal.SIGTERM, _give_up)
    try:
        with tempfile.TemporaryDirectory(prefix="cotexd-soak-") as name:
            looks, events = _soak(Path(name), minutes * 60)
    except Broken as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    growth = _growth(looks[len(looks) // 2 :])
    print(f"{events:,} events, each to {SOCKETS} of {USERS * SOCKETS:,} sockets; all arrived.")
    print(
        f"Memory {looks[0].memory_mb:.1f} MB at first, {looks[-1].memory_mb:.1f} at the end; "
        f"in the second half it grew by {growth:+.2f} MB an hour."
    )
    print(f"CPU {statistics.median(each.cpu for each in looks):.2f} of a core.")
    if given.json:
        facts = {
            "events": events,
            "mb_an_hour": round(growth, 2),
            "looks": [each._asdict() for each in looks],
        }
        given.json.write_text(json.dumps({"soak": facts}, indent=1) + "\n")
    return 0


def _give_up(*_: object) -> None:
    # Raised where the main thread is: all that was begun is ended on the way out.
    raise Broken("It was asked to stop.")


def _soak(root: Path, seconds: float) -> tuple[list[Look], int]:
    load, folder = Load.made(root), root / "data"
    users = _users(folder)
    prepared = server.Prepared(folder, users[0].secret, users[0].path, users[0].token)
    with server.cotexd(root, prepared, COTEX_RETENTION=RETENTION) as ours, ExitStack() as stack:
        address = ours.host, ours.port
        crowds = [
            stack.enter_context(
                Listeners(load, address, SOCKETS, upgrade(ours.host, "/ws?v=2", user.token), name=str(number))
            )
            for number, user in enumerate(users)
        ]
        for each in crowds:
            each.opened()
        of_each = [payloads.requests(ours.host, user.path, user.secret) for user in users]
        # One of each in turn, so that every user's come at the same rate.
        requests = [each for each in chain.from_iterable(zip_longest(*of_each)) if each is not None]
        posts = Posts(load, address, requests, connections=CONNECTIONS, seconds=seconds, rate=RATE)
        looks = _watch(ours, posts, seconds)
        answers = posts.answers()
        if not all(each.status == 200 for each in answers):
            raise Broken("Deliveries were refused.")
        time.sleep(1)
        had = sum(each.reached() for each in crowds)
        if had != len(answers):
            raise Broken(f"{len(answers)} events were taken, and {had} reached everybody.")
    return looks, len(answers)


def _watch(ours: server.Server, posts: Posts, seconds: float) -> list[Look]:
    began, looks = time.monotonic(), []
    cpu, at = ours.process.cpu(), began
    while (now := time.monotonic()) - began < seconds and not posts.ended:
        time.sleep(min(EVERY, seconds - (now - began)))
        used, moment = ours.process.cpu(), time.monotonic()
        looks.append(
            Look((moment - began) / 60, ours.process.resident() / 2**20, (used - cpu) / (moment - at))
        )
        cpu, at = used, moment
    return looks


def _users(folder: Path) -> list[User]:
    folder.mkdir(mode=0o700)
    store, found = Store("", folder, ""), []
    try:
        for number in range(USERS):
            user = store.run(accounts.create, f"user-{number}", tier="pro")
            repo = store.run(repositories.add, user.id, f"octo/repo-{number}")
            token = store.run(tokens.issue, user.id, timedelta(days=1)).token
            found.append(User(repo.webhook_url, repo.webhook_secret, token))
    finally:
        store.close()
    return found


def _growth(looks: Sequence[Look]) -> float:
    """Megabytes an hour."""
    slope, _ = statistics.linear_regression(
        [each.minutes for each in looks], [each.memory_mb for each in looks]
    )
    return slope * 60


if __name__ == "__main__":
    sys.exit(main())
