"""`cotex status`"""

import typer

from cotex import local, view
from cotexd.operations import nodes

app = view.single()


@app.command(epilog=view.examples("cotex status", "cotex status --json"))
def status(context: typer.Context, as_json: view.Json = False) -> None:
    """What runs, and on what."""
    current = local.settings(context)
    with local.opened(context) as store:
        servers = store.look(nodes.running)
        totals = store.look(nodes.totals)
        database = store.dialect.label
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
        view.say("No server is running. Start it: cotex serve")
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
