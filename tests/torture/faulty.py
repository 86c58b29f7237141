"""`cotexd` with a switch for faults that cannot be made from outside. The product knows nothing of it.

The switch is a file, named by TORTURE_SWITCH, that holds three numbers: how often a publication is dropped, how often
the answer to a commit is lost (both 0 to 1), and for how many seconds at most a commit is held up.
"""

import contextlib
import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cotexd.__main__ import main
from cotexd.live.hub import Hub
from cotexd.store import Published, Store, Tx, dialect

SWITCH = "TORTURE_SWITCH"
_PR_SET_PDEATHSIG = 1


class Faults(NamedTuple):
    drop: float = 0.0
    lose: float = 0.0
    delay: float = 0.0

    def __str__(self) -> str:
        return " ".join(map(str, self))


def now() -> Faults:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Faults(*map(float, Path(os.environ[SWITCH]).read_text().split()))
    return Faults()


def drop_hints() -> None:
    publish = Hub.publish

    def perhaps(self: Hub, batch: Sequence[Published]) -> None:
        if random.random() >= now().drop:
            publish(self, batch)

    Hub.publish = perhaps  # type: ignore[method-assign]


def lose_answers() -> None:
    committed = Store._committed

    def perhaps(self: Store, tx: Tx) -> None:
        committed(self, tx)
        faults = now()
        time.sleep(random.random() * faults.delay)
        if random.random() < faults.lose:
            raise OSError("The answer to the commit was lost.")

    Store._committed = perhaps  # type: ignore[method-assign]


def delay_commits(kind: type[dialect.Dialect]) -> None:
    before_commit = kind.before_commit

    def late(self: dialect.Dialect, database: object) -> None:
        time.sleep(random.random() * now().delay)
        before_commit(self, database)  # type: ignore[arg-type]

    kind.before_commit = late  # type: ignore[method-assign]


def die_with_parent() -> None:
    """Whatever ends the run, SIGKILL too, ends the server."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    drop_hints()
    lose_answers()
    delay_commits(dialect.Sqlite)
    delay_commits(dialect.Postgres)
    sys.exit(main([]))
