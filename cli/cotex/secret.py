"""`cotex secret`"""

from typing import Annotated, Literal

import typer

from cotex import local, view
from cotexd.operations import repositories, secrets, signing
from cotexd.store import Store

app = view.group("Secrets of other services, and keys of the server itself. Values are never shown.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="See cotex secret list.")]


OfRepo = Annotated[
    str | None,
    typer.Option("--repo", help="A token of this repository's own.", autocompletion=local.repos),
]


@app.command("list", epilog=view.examples("cotex secret list", "cotex secret list --json"))
def list_(context: typer.Context, as_json: view.Json = False) -> None:
    """List which secrets are set, and the keys that sign access tokens."""
    with local.opened(context) as store:
        held, keys = store.look(secrets.listing), store.look(signing.listing)
    if as_json:
        view.document({"secrets": held, "signing_keys": keys})
        return
    view.table(
        ("secret", "repository", "set", "since", "what it is"),
        [(each.name, each.repo_name, each.is_set, each.since, each.about) for each in held],
    )
    _show_keys(keys)


@app.command(
    "set",
    epilog=view.examples(
        "cotex secret set stripe-key < key.txt",
        "cotex secret set github-token --repo octo/hello < token.txt",
        "echo sk_test_123 | cotex secret set stripe-key --json",
    ),
)
def set_(context: typer.Context, name: Name, repo: OfRepo = None, as_json: view.Json = False) -> None:
    """Set a secret, from standard input or a prompt; it is in force at once."""
    with local.opened(context) as store:
        secrets.check_name(name)
        repo_id = _id_of(store, repo)
        value = view.secret(f"Value of {name}", stdin=not view.is_terminal(), again=False)
        held = store.run(secrets.put, name, value, repo_id=repo_id)
    if as_json:
        view.document(held)
    else:
        view.say(f"{held.name} is set{f' for {held.repo_name}' if held.repo_name else ''}.")


@app.command(
    epilog=view.examples("cotex secret remove stripe-key --dry-run", "cotex secret remove github-token --yes")
)
def remove(
    context: typer.Context,
    name: Name,
    repo: OfRepo = None,
    yes: view.Yes = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Forget a secret."""
    with local.opened(context) as store:
        repo_id = _id_of(store, repo)
        if dry_run:
            store.rehearse(secrets.remove, name, repo_id=repo_id)
        else:
            view.confirm(f"Forget {name}?", yes=yes)
            store.run(secrets.remove, name, repo_id=repo_id)
    if as_json:
        view.document({"name": name, "is_set": False})
    else:
        view.say(f"{name} {'would be' if dry_run else 'is'} forgotten.")


@app.command(epilog=view.examples("cotex secret rotate signing", "cotex secret rotate signing --json"))
def rotate(
    context: typer.Context,
    what: Annotated[Literal["signing"], typer.Argument(help="signing: the key of /auth/v1's access tokens.")],
    as_json: view.Json = False,
) -> None:
    """Put the standby key into use. The one before still verifies, until the next rotation; it is gone then."""
    del what
    with local.opened(context) as store:
        keys = store.run(signing.rotate)
    if as_json:
        view.document(keys)
    else:
        _show_keys(keys)


def _id_of(store: Store, repo: str | None) -> str:
    return "" if repo is None else store.look(repositories.find, repo).id


def _show_keys(keys: list[signing.Shown]) -> None:
    view.table(("signing key", "state", "since"), [(each.kid, each.state, each.created_at) for each in keys])
