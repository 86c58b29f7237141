"""`cotex config`"""

import typer

from cotex import local, view
from cotexd import config

app = view.group("Settings, and where each comes from.")


@app.command(epilog=view.examples("cotex config show", "cotex config show --json"))
def show(context: typer.Context, as_json: view.Json = False) -> None:
    """Show every setting with where it came from; secrets are not shown."""
    rows = config.shown(local.settings(context))
    if as_json:
        view.document(rows)
    else:
        view.table(
            ("option", "value", "from", "what it is"),
            [(row.key, row.value, row.origin, row.about) for row in rows],
        )


@app.command(epilog=view.examples("cotex config check", "cotex config check --json"))
def check(context: typer.Context, as_json: view.Json = False) -> None:
    """Check the settings; all that is wrong is said at once."""
    current = local.settings(context)
    if as_json:
        view.document({"good": True, "file": None if current.file is None else str(current.file)})
    else:
        view.say(f"The configuration is good ({current.file or 'no file, defaults and environment only'}).")


@app.command(epilog=view.examples("cotex config path", "cotex config path --json"))
def path(context: typer.Context, as_json: view.Json = False) -> None:
    """Print where the configuration file is, or would be."""
    current = local.settings(context)
    file = current.file or current.data_dir / config.FILE_NAME
    if as_json:
        view.document({"path": str(file), "exists": file.exists()})
    else:
        view.result(str(file))
