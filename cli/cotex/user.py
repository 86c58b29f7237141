"""`cotex user`"""

from typing import Annotated

import typer

from cotex import local, view
from cotexd.domain import duration, passwords, scope
from cotexd.errors import Conflict, Invalid
from cotexd.operations import accounts, presence, removal, sessions, tokens
from cotexd.operations.accounts import Account

app = view.group("Users of this server.")

User = Annotated[str, typer.Argument(help="A name, or an id.", autocompletion=local.users)]


@app.command(
    epilog=view.examples(
        "cotex user add ada", "cotex user add grace --email grace@example.com --tier pro --if-not-exists"
    )
)
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, hyphens, underscores.")],
    email: Annotated[str, typer.Option(help="E-mail address.")] = "",
    tier: Annotated[str, typer.Option(help="See cotex tier list; the default one unless given.")] = "",
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
def show(context: typer.Context, user: User, as_json: view.Json = False) -> None:
    """Show one user."""
    with local.opened(context) as store:
        account = store.look(accounts.find, user)
    if as_json:
        view.document(account)
    else:
        _show(account)


@app.command(epilog=view.examples("cotex user devices ada", "cotex user devices ada --json"))
def devices(context: typer.Context, user: User, as_json: view.Json = False) -> None:
    """List a user's devices: how far each has come, and what is connected."""
    with local.opened(context) as store:
        found = store.look(presence.devices, store.look(accounts.find, user).id)
    if as_json:
        view.document(found)
    else:
        view.table(
            ("device", "protocol", "lag", "connected since", "address", "last seen"),
            [
                (
                    each.device or "(no name)",
                    each.protocol,
                    each.lag,
                    each.connected_since,
                    each.address,
                    each.seen_at,
                )
                for each in found
            ],
        )


@app.command(epilog=view.examples("cotex user disable ada", "cotex user disable ada --json"))
def disable(context: typer.Context, user: User, as_json: view.Json = False) -> None:
    """Shut a user out at once; their tokens are good again when they are enabled."""
    with local.opened(context) as store:
        account = store.run(accounts.disable, user)
    if as_json:
        view.document(account)
    else:
        view.say(f"{account.name} is disabled. To let them in again: cotex user enable {account.name}")


@app.command(epilog=view.examples("cotex user enable ada", "cotex user enable ada --json"))
def enable(context: typer.Context, user: User, as_json: view.Json = False) -> None:
    """Let a disabled user in again."""
    with local.opened(context) as store:
        account = store.run(accounts.enable, user)
    if as_json:
        view.document(account)
    else:
        view.say(f"{account.name} is enabled.")


@app.command(epilog=view.examples("cotex user remove grace --dry-run", "cotex user remove grace --yes"))
def remove(
    context: typer.Context,
    user: User,
    yes: view.Yes = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Remove a user, with the repositories that they track and all stored events of these.

    A subscription of theirs is cancelled at Stripe, in its dashboard: it is theirs, and goes on until then.
    """
    with local.opened(context) as store:
        account = store.look(accounts.find, user)
        if not dry_run:
            view.confirm(
                f"Remove {account.name} and {account.repo_count} repositories with their events?", yes=yes
            )
            store.run(removal.remove_user, account.id)
    if as_json:
        view.document(account)
    else:
        view.say(f"{account.name} {'would be' if dry_run else 'is'} removed.")


@app.command(
    epilog=view.examples(
        "echo 'correct horse battery' | cotex user passwd ada --stdin",
        "echo 'correct horse battery' | cotex user passwd ada --email ada@example.com --stdin --json",
    )
)
def passwd(
    context: typer.Context,
    user: User,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the password from standard input.")] = False,
    email: Annotated[
        str, typer.Option(help="The e-mail address to sign in with; the user's unless given.")
    ] = "",
    as_json: view.Json = False,
) -> None:
    """Let a user sign in with a password; whoever is signed in as them has to do so again."""
    with local.opened(context) as store:
        store.look(accounts.find, user)
        password = view.secret("Password", stdin=stdin)
        account = store.run(sessions.set_password, user, passwords.hash_of(password), email)
    if as_json:
        view.document(account)
    else:
        view.say(f"{account.name} signs in as {account.email} from now on.")


@app.command(
    epilog=view.examples(
        "cotex user token ada",
        "cotex user token ada --expires 30d --json",
        "cotex user token ada --scope events:read,repos:write --label ci",
    )
)
def token(
    context: typer.Context,
    user: User,
    expires: Annotated[str, typer.Option(help="How long it is good: 30s, 10m, 24h, 14d.")] = "24h",
    scopes: Annotated[
        str, typer.Option("--scope", help="What it may do, comma separated; everything unless given.")
    ] = "",
    label: Annotated[str, typer.Option(help="A name for it, to revoke it by.")] = "",
    as_json: view.Json = False,
) -> None:
    """Make a token that signs a client in. It is shown once."""
    lifetime, granted = duration.parse(expires), scope.parse(scopes)
    with local.opened(context) as store:
        issued = store.run(tokens.issue, user, lifetime, label=label, scopes=granted)
    if as_json:
        view.document(issued)
    else:
        view.result(issued.token)
        view.say(
            f"It signs {issued.name} in until {issued.expires_at:%Y-%m-%d %H:%M} UTC, and is not shown again.\n"
            f"To end it before: cotex user revoke {issued.name} --label {issued.label}"
        )


@app.command("tokens", epilog=view.examples("cotex user tokens ada", "cotex user tokens ada --json"))
def tokens_(context: typer.Context, user: User, as_json: view.Json = False) -> None:
    """List a user's tokens, without their value."""
    with local.opened(context) as store:
        listed = store.look(tokens.listing, store.look(accounts.find, user).id)
    _show_tokens(listed, as_json=as_json)


@app.command(epilog=view.examples("cotex user revoke ada --label ci", "cotex user revoke ada --all --json"))
def revoke(
    context: typer.Context,
    user: User,
    label: Annotated[str | None, typer.Option(help="The token with this name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tokens and sessions of the user.")] = False,
    as_json: view.Json = False,
) -> None:
    """End a token at once; connections that were opened with it are closed."""
    if (label is None) != everything:
        raise Invalid("Say which token.", hint=f"With --label, or --all. There are: cotex user tokens {user}")
    with local.opened(context) as store:
        listed = store.run(tokens.revoke, user, label)
        if everything:
            store.run(sessions.end_all, store.look(accounts.find, user).id)
    _show_tokens(listed, as_json=as_json)


def _show_tokens(listed: list[tokens.Listed], *, as_json: bool) -> None:
    if as_json:
        view.document(listed)
        return
    view.table(
        ("label", "scopes", "since", "until", "revoked"),
        [
            (
                each.label,
                "everything" if each.scopes is None else ", ".join(each.scopes),
                each.created_at,
                each.expires_at,
                each.revoked_at,
            )
            for each in listed
        ],
    )


def _show(account: Account) -> None:
    view.facts(
        (
            ("name", account.name),
            ("id", account.id),
            ("e-mail", account.email),
            ("tier", f"{account.tier} ({account.tier_source})"),
            ("repositories", _use(account)),
            ("over the limit", account.over_limit_since),
            ("disabled", account.disabled),
            ("since", account.created_at),
        )
    )


def _use(account: Account) -> str:
    return f"{account.repo_count} of {account.repo_limit}"
