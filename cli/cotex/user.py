"""`cotex user`"""

from typing import Annotated

import typer

from cotex import local, view
from cotexd.domain import duration
from cotexd.errors import Conflict
from cotexd.operations import accounts, tokens
from cotexd.operations.accounts import Account

app = view.group("Users of this server.")


@app.command(
    epilog=view.examples(
        "cotex user add ada", "cotex user add grace --email grace@example.com --tier pro --if-not-exists"
    )
)
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, hyphens, underscores.")],
    email: Annotated[str, typer.Option(help="E-mail address.")] = "",
    tier: Annotated[str, typer.Option(help="See cotex tier list.")] = "free",
    if_not_exists: view.IfNotExists = False,
    as_json: view.Json = False,
) -> None:
    """Add a user."""
    with local.opened(context) as store:
        try:
            account = store.run(accounts.create, name, email=email, tier=tier)
        except Conflict:
            if not if_not_exists:
                raise
            account = store.look(accounts.find, name)
    if as_json:
        view.document(account)
    else:
        _show(account)
        view.say(f"Next: cotex repo add octo/hello --user {account.name}")


@app.command("list", epilog=view.examples("cotex user list", "cotex user list --json"))
def list_(context: typer.Context, as_json: view.Json = False) -> None:
    """List the users."""
    with local.opened(context) as store:
        everybody = store.look(accounts.all_of_them)
    if as_json:
        view.document(everybody)
    else:
        view.table(
            ("name", "e-mail", "tier", "repositories", "disabled", "since"),
            [
                (each.name, each.email, each.tier, _use(each), each.disabled, each.created_at)
                for each in everybody
            ],
        )


@app.command(epilog=view.examples("cotex user show ada", "cotex user show ada --json"))
def show(context: typer.Context, user: str, as_json: view.Json = False) -> None:
    """Show one user."""
    with local.opened(context) as store:
        account = store.look(accounts.find, user)
    if as_json:
        view.document(account)
    else:
        _show(account)


@app.command(epilog=view.examples("cotex user disable ada", "cotex user disable ada --json"))
def disable(context: typer.Context, user: str, as_json: view.Json = False) -> None:
    """Shut a user out at once; their tokens are good again when they are enabled."""
    with local.opened(context) as store:
        account = store.run(accounts.disable, user)
    if as_json:
        view.document(account)
    else:
        view.say(f"{account.name} is disabled. To let them in again: cotex user enable {account.name}")


@app.command(epilog=view.examples("cotex user enable ada", "cotex user enable ada --json"))
def enable(context: typer.Context, user: str, as_json: view.Json = False) -> None:
    """Let a disabled user in again."""
    with local.opened(context) as store:
        account = store.run(accounts.enable, user)
    if as_json:
        view.document(account)
    else:
        view.say(f"{account.name} is enabled.")


@app.command(epilog=view.examples("cotex user token ada", "cotex user token ada --expires 30d --json"))
def token(
    context: typer.Context,
    user: str,
    expires: Annotated[str, typer.Option(help="How long it is good: 30s, 10m, 24h, 14d.")] = "24h",
    as_json: view.Json = False,
) -> None:
    """Make a token that signs a client in. It is shown once."""
    lifetime = duration.parse(expires)
    with local.opened(context) as store:
        issued = store.run(tokens.issue, user, lifetime)
    if as_json:
        view.document(issued)
    else:
        view.result(issued.token)
        view.say(
            f"It signs {issued.name} in until {issued.expires_at:%Y-%m-%d %H:%M} UTC, and is not shown again."
        )


def _show(account: Account) -> None:
    view.facts(
        (
            ("name", account.name),
            ("id", account.id),
            ("e-mail", account.email),
            ("tier", account.tier),
            ("repositories", _use(account)),
            ("disabled", account.disabled),
            ("since", account.created_at),
        )
    )


def _use(account: Account) -> str:
    return f"{account.repo_count} of {account.repo_limit}"
