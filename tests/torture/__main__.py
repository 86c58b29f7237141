"""`make torture`: a server, hundreds of clients, a sender and a chaos hand; then what was promised is checked.

    make torture ARGS="--events 20000 --database sqlite"

The exit code is 0 if nothing was lost, sent twice, out of order, left out in silence or shown to another user, and 1 if
anything was. The seed repeats who does what and when in the order of events; the machine's own timing it cannot.
Everything runs on loopback, in a temporary folder (TMPDIR says where), and ends by itself.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path

from tests import private_postgres

from . import table
from .chaos import Disk, FileLimit, SmallMount
from .plan import Plan
from .run import Outcome, torture
from .server import Broken
from .world import World

DATABASES = ("sqlite", "postgresql")
EVENTS = 10_000
CLIENTS = 240
LEAST, AN_EVENT = 240.0, 0.08
"""seconds for a run, unless it is told: so many, and so many an event"""


def main() -> int:
    given = _arguments()
    limit = given.seconds or LEAST + AN_EVENT * given.events
    plan = Plan(given.seed, given.clients)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _interrupt)
    # Should the loop itself be stuck.
    signal.alarm(int(limit) + 120)
    _allow_connections()
    print(f"seed {given.seed}: {table.command(given)}", flush=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="cotexd-torture-") as name,
            _database(given.database, Path(name)) as made,
        ):
            database, disk = made
            outcome = _run(torture(Path(name), database, plan, given.events, disk, limit))
    except TimeoutError:
        print(f"torture: it did not end within {limit:g} s", file=sys.stderr)
        return 1
    except Broken as error:
        print(f"torture: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("torture: interrupted", file=sys.stderr)
        return 130
    table.show(outcome, given)
    return 1 if outcome.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS, help=f"deliveries that are sent [{EVENTS}]")
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"of all kinds together [{CLIENTS}]")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31), help="of a run that is repeated")
    parser.add_argument("--seconds", type=float, help="after which it gives up; else by the events")
    given = parser.parse_args()
    if given.events < 1 or given.clients < 1:
        parser.error("at least one of each")
    return given


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(work: Coroutine[None, None, Outcome]) -> Outcome:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _allow_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536 if most == resource.RLIM_INFINITY else most, most))


@contextlib.contextmanager
def _database(kind: str, folder: Path) -> Iterator[tuple[str, Callable[[World], Disk]]]:
    """The URL of an empty database, and what fills its disk.

    :raises Broken: no PostgreSQL server starts here
    """
    if kind == "sqlite":
        yield "", FileLimit if hasattr(resource, "prlimit") else Disk
        return
    # Not in the run's folder: a socket's path may not be longer than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cotexd-pg-") as name, _mounted(Path(name)) as mount:
        started = private_postgres.start(Path(name) if mount is None else mount)
        if started is None:
            raise Broken("No PostgreSQL server could be started here.")
        url, stop = started
        try:
            yield url, Disk if mount is None else partial(SmallMount, mount=mount)
        finally:
            stop()


@contextlib.contextmanager
def _mounted(folder: Path) -> Iterator[Path | None]:
    """A file system in memory, where this user may mount one."""
    mount = folder / "disk"
    mount.mkdir(mode=0o755)
    folder.chmod(0o755)
    given = ["mount", "-t", "tmpfs", "-o", f"size={SmallMount.ROOM},mode=755", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(given, check=False, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield mount
    finally:
        for _ in range(50):
            if subprocess.run(["umount", mount], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
