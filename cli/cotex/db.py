"""`cotex db`"""

from dataclasses import asdict

import msgspec
import typer

from cotex import local, view
from cotexd.operations import nodes

app = view.group("The database.")


@app.command(epilog=view.examples("cotex db status", "cotex db status --json"))
def status(context: typer.Context, as_json: view.Json = False) -> None:
    """Show which database it is, its schema, its size and its log."""
    with local.opened(context) as store:
        state = {**asdict(store.describe()), **msgspec.structs.asdict(store.look(nodes.totals))}
    if as_json:
        view.document(state)
    else:
        view.facts(list(state.items()))


@app.command(epilog=view.examples("cotex db migrate", "cotex db migrate --json"))
def migrate(context: typer.Context, as_json: view.Json = False) -> None:
    """Bring the schema up to date. Every command and the server do so when they start."""
    with local.opened(context) as store:
        done = {"migrated": store.migrated, "schema": store.describe().schema}
    if as_json:
        view.document(done)
    else:
        view.say(f"The schema is {done['schema']}; {done['migrated']} steps were taken.")
