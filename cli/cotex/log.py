"""`cotex log`"""

from typing import Annotated

import typer

from cotex import local, view
from cotexd.operations import levels
from cotexd.store import Tx

app = view.group("What running servers log.")


@app.command(
    epilog=view.examples(
        "cotex log level debug --user ada",
        "cotex log level debug --repo 3f0c --json",
        "cotex log level warning",
    )
)
def level(
    context: typer.Context,
    level: Annotated[str, typer.Argument(help="debug, info, warning or error.")],
    user: Annotated[str | None, typer.Option(help="Only lines of this user.")] = None,
    repo: Annotated[str | None, typer.Option(help="Only lines of the repository with this id.")] = None,
    delivery: Annotated[str | None, typer.Option(help="Only lines of this delivery.")] = None,
    logger: Annotated[str | None, typer.Option(help="Only lines of this part, as cotexd.hub.")] = None,
    as_json: view.Json = False,
) -> None:
    """Log from this level on, in all running servers, until `cotex log reset`."""
    fields = {"user": user, "repo": repo, "delivery": delivery, "logger": logger}
    with local.opened(context) as store:
        named = [(name, value) for name, value in fields.items() if value is not None] or [("", "")]
        current = store.run(_set_all, level, named)
    _show(current, as_json=as_json)


@app.command(epilog=view.examples("cotex log show", "cotex log show --json"))
def show(context: typer.Context, as_json: view.Json = False) -> None:
    """Show what is logged at another level than the configuration says."""
    with local.opened(context) as store:
        current = store.look(levels.current)
    _show(current, as_json=as_json)


@app.command(epilog=view.examples("cotex log reset", "cotex log reset --json"))
def reset(context: typer.Context, as_json: view.Json = False) -> None:
    """Log what the configuration says."""
    with local.opened(context) as store:
        store.run(levels.reset)
    _show({}, as_json=as_json)


def _set_all(tx: Tx, level: str, named: list[tuple[str, str]]) -> levels.Levels:
    """All of them, or none."""
    for name, value in named:
        levels.set_level(tx, level, name, value)
    return levels.current(tx)


def _show(current: levels.Levels, *, as_json: bool) -> None:
    rows = [(field or "all", value, level) for (field, value), level in current.items()]
    if as_json:
        view.document([dict(zip(("field", "value", "level"), row, strict=True)) for row in rows])
    elif rows:
        view.table(("field", "value", "level"), rows)
    else:
        view.say("The servers log what their configuration says.")
