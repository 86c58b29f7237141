"""`cotex audit`"""

from typing import Annotated

import typer

from cotex import local, view
from cotexd.operations import audit

app = view.group("Who changed what.")

MAX_LISTED = 10_000


@app.callback()
def trail() -> None:
    """Who changed what, for a year."""


@app.command(
    "list", epilog=view.examples("cotex audit list", "cotex audit list --action repo. --limit 5 --json")
)
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="How many.")] = 100,
    action: Annotated[
        str | None, typer.Option(help="Only this one, as repo.share; or a group, as repo.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did.")] = None,
    as_json: view.Json = False,
) -> None:
    """List changes, the newest first."""
    with local.opened(context) as store:
        entries = store.look(audit.listing, limit=limit, action=action, actor=actor)
    if as_json:
        view.document(entries)
        return
    view.table(
        ("when", "who", "by", "what", "of", "more"),
        [
            (
                each.at,
                each.actor,
                each.via,
                each.action,
                each.target,
                ", ".join(f"{name}={value}" for name, value in each.detail.items()),
            )
            for each in entries
        ],
    )
