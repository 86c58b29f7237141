"""`cotex status`"""

import time
from typing import Annotated

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families

from cotex import local, view
from cotexd.errors import Unavailable
from cotexd.operations import nodes
from cotexd.operations.nodes import Running
from cotexd.operations.pulse import pulse
from cotexd.store import Store

app = view.single()

METRICS_WITHIN = 0.5
"""seconds"""


@app.command(epilog=view.examples("cotex status", "cotex status --json"))
def status(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Draw it anew each second, until Ctrl-C.")
    ] = False,
    as_json: view.Json = False,
) -> None:
    """What runs, and on what."""
    if watch:
        with local.opened(context) as store:
            view.watch(Watched(store).look)
        return
    current = local.settings(context)
    with local.opened(context) as store:
        servers = store.look(nodes.running)
        totals = store.look(nodes.totals)
        database = store.dialect.label
        nobody = local.nobody(store)
    if as_json:
        view.document(
            {"servers": servers, "data_dir": str(current.data_dir), "database": database, "totals": totals}
        )
        return
    for server in servers:
        view.facts(
            (
                ("server", server.url),
                ("version", server.version),
                ("process", server.pid),
                ("connections", server.connections),
                ("since", server.started_at),
            )
        )
    if not servers:
        view.error(nobody)
    view.facts(
        (
            ("data", current.data_dir),
            ("database", database),
            ("users", totals.users),
            ("repositories", totals.repositories),
            ("events", totals.events),
            ("log", f"{totals.epoch}.{totals.head}"),
        )
    )


class Watched:
    """What changes from second to second. What a server alone knows is asked of it, if it lets us."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: tuple[float, int] | None = None

    def look(self) -> list[tuple[str, object]]:
        """What is wrong, too: who watches while a database goes wants to see it come back."""
        try:
            return self._look()
        except Unavailable as error:
            return [("database", error.message)]

    def _look(self) -> list[tuple[str, object]]:
        servers, now = self._store.look(nodes.running), self._store.look(pulse)
        at = time.monotonic()
        speed = "-"
        if self._before is not None and at > self._before[0]:
            speed = f"{(now.head - self._before[1]) / (at - self._before[0]):.1f}"
        self._before = at, now.head
        waiting, refused = _measured(servers)
        return [
            ("servers", ", ".join(each.url for each in servers) or "none: cotex serve"),
            ("connections", f"{now.connections}, {now.catching_up} of them catching up"),
            ("events a second", speed),
            ("log", f"{now.head}; the furthest behind lacks {now.behind}"),
            ("waits", f"{waiting} jobs for the disk, {now.unsent} bytes for clients"),
            ("database", f"{self._store.dialect.label}, {self._store.describe().size_bytes / 2**20:.1f} MiB"),
            (
                "from GitHub",
                f"{now.repaired} fetched; last asked {now.looked_at or 'never'}; {now.problems} problems",
            ),
            ("refused", refused),
        ]


def _measured(servers: list[Running]) -> tuple[str, str]:
    """Jobs that wait for the writers, and what was refused since they started; "-" where none lets us see."""
    waiting, refused, seen = 0.0, dict[str, float](), False
    for each in servers:
        try:
            answer = httpx.get(f"{each.url}/metrics", timeout=METRICS_WITHIN).raise_for_status()
        except httpx.HTTPError:
            continue
        seen = True
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if sample.name == "cotexd_writer_queue_jobs":
                    waiting += sample.value
                elif sample.name == "cotexd_refusals_total" and sample.value:
                    code = sample.labels["code"]
                    refused[code] = refused.get(code, 0) + sample.value
    if not seen:
        return "-", "-"
    most = sorted(refused.items(), key=lambda each: -each[1])
    return f"{waiting:.0f}", ", ".join(f"{count:.0f} {code}" for code, count in most) or "nothing"
