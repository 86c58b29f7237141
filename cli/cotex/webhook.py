"""`cotex webhook`"""

from typing import Annotated

import typer

from cotex import local, view
from cotexd.errors import Unreachable
from cotexd.operations import repositories

app = view.group("Where GitHub sends its events.")


@app.callback()
def webhook() -> None:
    """Where GitHub sends its events."""


@app.command(epilog=view.examples("cotex webhook url octo/hello", "cotex webhook url octo/hello --json"))
def url(
    context: typer.Context,
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="OWNER/NAME, or an id.", autocompletion=local.repos)
    ],
    as_json: view.Json = False,
) -> None:
    """Print the address to paste into GitHub's webhook form."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo)
        base = local.settings(context).public_url
        if not base:
            view.say("public_url is not set: this is the address on this machine, which GitHub cannot reach.")
            try:
                base = local.server_url(store)
            except Unreachable:
                current = local.settings(context)
                base = f"http://{current.host}:{current.port}"
    address = base + tracked.webhook_url
    if as_json:
        view.document({"url": address})
    else:
        view.result(address)
