"""`cotex init`: a guided first run. Safe to run twice."""

import sys
from typing import Annotated

import typer

from cotex import local, view
from cotexd.errors import Conflict
from cotexd.operations import accounts, tokens
from cotexd.operations.accounts import Account

app = view.single()


@app.command(epilog=view.examples("cotex init", "cotex init --user ada --email ada@example.com --json"))
def init(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Name of the first user; asked for on a terminal.")] = None,
    email: Annotated[str, typer.Option(help="The user's e-mail address.")] = "",
    tier: Annotated[str, typer.Option(help="The user's tier; the default one unless given.")] = "",
    as_json: view.Json = False,
) -> None:
    """Set up the data folder, the keys and the first user."""
    settings = local.settings(context)
    account: Account | None = None
    with local.opened(context) as store:
        store.run(tokens.signing_key)
        if user is None and sys.stdin.isatty() and not store.look(accounts.all_of_them):
            user = typer.prompt(
                "Name of the first user (empty for none)", default="", show_default=False, err=True
            )
        if user:
            try:
                account = store.run(accounts.create, user, email=email, tier=tier)
            except Conflict:
                account = store.look(accounts.find, user)
        database = store.dialect.label
    if as_json:
        view.document({"data_dir": str(settings.data_dir), "database": database, "user": account})
        return
    view.say(
        f"The data lies in {settings.data_dir} ({database}). Keep a copy of cotexd.key: it opens the secrets."
    )
    view.say("Next: cotex serve")
