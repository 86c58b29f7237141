"""`cotex secret`"""

from typing import Annotated, Literal

import typer

from cotex import local, view
from cotexd.operations import signing

app = view.group("Secrets and keys of the server itself. Their values are never shown.")


@app.command("list", epilog=view.examples("cotex secret list", "cotex secret list --json"))
def list_(context: typer.Context, as_json: view.Json = False) -> None:
    """List the keys that sign access tokens, and where each is in its life."""
    with local.opened(context) as store:
        listed = store.look(signing.listing)
    _show(listed, as_json=as_json)


@app.command(epilog=view.examples("cotex secret rotate signing", "cotex secret rotate signing --json"))
def rotate(
    context: typer.Context,
    what: Annotated[Literal["signing"], typer.Argument(help="signing: the key of /auth/v1's access tokens.")],
    as_json: view.Json = False,
) -> None:
    """Put the standby key into use. The one before still verifies, until the next rotation; it is gone then."""
    del what
    with local.opened(context) as store:
        listed = store.run(signing.rotate)
    _show(listed, as_json=as_json)


def _show(listed: list[signing.Shown], *, as_json: bool) -> None:
    if as_json:
        view.document(listed)
    else:
        view.table(("key", "state", "since"), [(each.kid, each.state, each.created_at) for each in listed])
