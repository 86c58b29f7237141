"""Start and stop what is measured: `cotexd` as it is installed, with a data folder of its own, and plain Sanic."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bench import payloads
from bench.client import Hook, upgrade
from bench.payloads import Request
from bench.process import Child, environment, installed
from cotexd.operations import accounts, events, nodes, repositories, tiers, tokens
from cotexd.operations.events import Incoming
from cotexd.operations.nodes import Totals
from cotexd.store import Store, utc_now

START_WITHIN = 30.0
"""seconds"""
_RATE_LIMIT = "1000000"
"""requests a minute of one user: everything is counted as always, but all WebSockets of a bench are one user's"""
_AT_ONCE = 500
_READY = r"http://([0-9.]+):(\d+)"


@dataclass(frozen=True)
class Prepared:
    """A data folder with one user and their repositories, and what is needed to act for them."""

    folder: Path
    secret: str
    path: str
    """of the first one's webhook"""
    token: str
    repo_ids: tuple[str, ...] = ()
    """to fill it with events of"""


@dataclass(frozen=True)
class Server:
    """One that runs: ours, or a plain one."""

    process: Child
    host: str
    port: int
    upgrade: bytes
    """the request that opens a WebSocket"""
    requests: list[Request]
    """deliveries that it takes"""

    def hook(self) -> Hook:
        return Hook(self.host, self.port)


def prepare(folder: Path, repos: int = 1) -> Prepared:
    """Make a database as its commands would: ada, who tracks octo/hello, and as many others."""
    store = Store("", folder, "")
    try:
        store.run(tiers.edit, "pro", repos=repos)
        ada = store.run(accounts.create, "ada", tier="pro")
        repo, *others = [
            store.run(repositories.add, ada.id, f"octo/hello{number or ''}") for number in range(repos)
        ]
        token = store.run(tokens.issue, ada.id, timedelta(hours=1)).token
    finally:
        store.close()
    ids = tuple(each.id for each in (repo, *others))
    return Prepared(folder, repo.webhook_secret, repo.webhook_url, token, ids)


def fill(prepared: Prepared, count: int, body: bytes, moment: datetime | None = None) -> None:
    """Put so many events into the log, by the operation that accepts deliveries; the repositories take turns.

    :param moment: when they came; now, unless it is told
    """
    store = Store("", prepared.folder, "", utc_now if moment is None else lambda: moment)
    ids = prepared.repo_ids
    summary = b'{"id":"","type":"push","headline":"2 commits pushed to main"}'.ljust(700)
    try:
        for start in range(0, count, _AT_ONCE):
            store.run(
                events.accept_many,
                [
                    Incoming(
                        *(ids[number % len(ids)], str(uuid.uuid4()), "push", "main", "sha256", summary, body)
                    )
                    for number in range(start, min(start + _AT_ONCE, count))
                ],
            )
    finally:
        store.close()


def totals(prepared: Prepared) -> Totals:
    """What lies in the database, read beside the server."""
    store = Store("", prepared.folder, "")
    try:
        return store.look(nodes.totals)
    finally:
        store.close()


@contextmanager
def cotexd(root: Path, prepared: Prepared, **variables: str) -> Iterator[Server]:
    """Ours, until the end of the block.

    :param variables: of its environment
    """
    environ = environment(
        root, COTEX_DATA_DIR=str(prepared.folder), COTEX_RATE_LIMIT=_RATE_LIMIT, **variables
    )
    with Child([installed("cotexd"), "--port", "0"], environ) as process:
        found = process.line(_READY, START_WITHIN)
        host, port = found[1], int(found[2])
        yield Server(
            process,
            host,
            port,
            upgrade(host, "/ws?v=2", prepared.token),
            payloads.requests(host, prepared.path, prepared.secret),
        )


@contextmanager
def plain(root: Path) -> Iterator[Server]:
    """A plain Sanic application, until the end of the block."""
    program = Path(__file__).parent / "plain.py"
    with Child([sys.executable, program], environment(root)) as process:
        found = process.line(_READY, START_WITHIN)
        host, port = found[1], int(found[2])
        deliveries = payloads.requests(host, "/api/webhooks/github/plain", "none")
        yield Server(process, host, port, upgrade(host, "/ws", ""), deliveries)
