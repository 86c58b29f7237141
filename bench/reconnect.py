"""2,000 clients that come back at once, as after a restart: until the last of them is live again.

They are the devices of 50 users, each has missed some events, and all connect in the same moment, which no client that
waits with jitter does. Against plain Sanic, which lets anybody in and sends nothing: how much of the time is HTTP.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from bench import server
from bench.client import upgrade
from bench.figure import Ratio, Result, Row, Run
from bench.process import Broken
from bench.server import Prepared, Server
from cotexd.domain import event
from cotexd.domain.github import Delivery
from cotexd.operations import accounts, events, repositories, tokens
from cotexd.operations.events import Incoming
from cotexd.store import Store

CLIENTS = 2000
USERS = 50
MISSED = 3
"""events of each"""
WANTED = 5.0
"""seconds"""
_WITHIN = 60.0
_LIVE = b'"event":"live"'
_EVENT = b'"type":"github_event"'


@dataclass(frozen=True)
class _Team:
    prepared: Prepared
    tokens: list[str]
    repos: list[str]


def measure(run: Run) -> Result:
    rounds = 2 if run.quick else 5
    team = _prepare(run.folder("reconnect"))
    ours_s, plain_s = [], []
    with server.cotexd(run.root, team.prepared) as ours, server.plain(run.root) as plain:
        requests = [
            upgrade(ours.host, f"/ws?v=2&device=d{number // USERS}", team.tokens[number % USERS])
            for number in range(CLIENTS)
        ]
        # The first time makes their devices; what comes after that is what they have missed.
        asyncio.run(_all_back(ours, requests, _LIVE))
        for _ in range(rounds):
            _miss(team)
            took, missed = asyncio.run(_all_back(ours, requests, _LIVE))
            if missed < MISSED * CLIENTS:
                raise Broken(f"{CLIENTS} clients missed {MISSED} events each, and got {missed} in all.")
            ours_s.append(took)
            plain_s.append(asyncio.run(_all_back(plain, [plain.upgrade] * CLIENTS, b"\r\n\r\n"))[0])
    ratio, worst = Ratio.of(ours_s, plain_s), max(ours_s)
    rows = [
        Row(
            f"{CLIENTS:,} clients come back at once: the last is live after",
            f"{sorted(ours_s)[len(ours_s) // 2]:.1f} s",
            f"{sorted(plain_s)[len(plain_s) // 2]:.1f} s (plain Sanic's upgrade)",
            f"{ratio}, less is better",
        ),
        Row("  the slowest round, of 5 s", f"{worst:.1f} s", f"{WANTED:.0f} s", f"{worst / WANTED:.2f}"),
    ]
    return Result(rows, {"clients": CLIENTS, "ours_s": ours_s, "plain_s": plain_s, **ratio.facts})


def _prepare(folder: Path) -> _Team:
    store = Store("", folder, "")
    try:
        everybody = [store.run(accounts.create, f"user{number}", tier="pro") for number in range(USERS)]
        repos = [store.run(repositories.add, each.id, f"octo/r{each.name}") for each in everybody]
        signed = [store.run(tokens.issue, each.id, timedelta(hours=1)).token for each in everybody]
    finally:
        store.close()
    prepared = Prepared(folder, repos[0].webhook_secret, repos[0].webhook_url, signed[0])
    return _Team(prepared, signed, [each.id for each in repos])


def _miss(team: _Team) -> None:
    """Let something happen to everybody while nobody is there."""
    document: dict[str, object] = {"ref": "refs/heads/main", "commits": []}
    store = Store("", team.prepared.folder, "")
    try:
        for repo_id in team.repos * MISSED:
            guid = str(uuid.uuid4())
            delivery = Delivery(repo_id, guid, "push", b"{}", document, "sha256")
            summary = msgspec.json.encode(event.summarise(delivery, "octo/hello", datetime.now(UTC)))
            store.run(events.accept_many, [Incoming(repo_id, guid, "push", "main", "sha256", summary, b"{}")])
    finally:
        store.close()


async def _all_back(to: Server, requests: list[bytes], until: bytes) -> tuple[float, int]:
    """Seconds until the last has been sent `until`, and how many events they got."""
    began = time.perf_counter()
    writers: list[asyncio.StreamWriter] = []

    async def back(request: bytes) -> int:
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writers.append(writer)
        writer.write(request)
        received = b""
        while until not in received:
            part = await reader.read(65536)
            if not part:
                raise Broken(f"A client was turned away: {received[:200]!r}")
            received += part
        return received.count(_EVENT)

    async with asyncio.timeout(_WITHIN):
        found = await asyncio.gather(*(back(request) for request in requests))
    took = time.perf_counter() - began
    for writer in writers:
        writer.close()
    return took, sum(found)
