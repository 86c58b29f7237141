"""`cotex repo`"""

import sys
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from cotex import local, view
from cotexd.domain import duration
from cotexd.domain.filter import Filter
from cotexd.errors import Conflict, Invalid
from cotexd.operations import accounts, hooks, members, repositories
from cotexd.operations.members import Member
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx

app = view.group("Tracked repositories.")

Name = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="As in octo/hello.")]
Repo = Annotated[
    str, typer.Argument(metavar="REPO", help="OWNER/NAME, or an id.", autocompletion=local.repos)
]
Owner = Annotated[str | None, typer.Option("--user", help="Whose, where several track it.")]


@app.command(
    epilog=view.examples(
        "cotex repo add octo/hello --user ada", "cotex repo add octo/docs --user ada --if-not-exists --json"
    )
)
def add(
    context: typer.Context,
    name: Name,
    user: Annotated[
        str | None, typer.Option(help="Who tracks it; may be left out where there is one user.")
    ] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the webhook's secret from standard input.")
    ] = False,
    shared: Annotated[str, typer.Option("--share", help="Who else sees it, comma separated.")] = "",
    if_not_exists: view.IfNotExists = False,
    as_json: view.Json = False,
) -> None:
    """Track a repository; shows the webhook's secret, once."""
    secret = sys.stdin.readline().strip() if secret_stdin else ""
    if secret_stdin and not secret:
        raise Invalid("Standard input holds no secret.", hint="Leave --secret-stdin out, and one is made.")
    with local.opened(context) as store:
        owner = local.the_user(store, user)
        try:
            tracked = store.run(_add, owner.id, name, secret, _names(shared))
        except Conflict:
            if not if_not_exists:
                raise
            tracked = store.look(repositories.find, name, user_id=owner.id)
        public_url = local.settings(context).public_url
    if as_json:
        view.document(tracked)
        return
    _show(tracked)
    view.say(
        "\nAt GitHub: Settings → Webhooks → Add webhook\n"
        f"  Payload URL   {public_url or 'https://YOUR-SERVER'}{tracked.webhook_url}\n"
        "  Content type  application/json\n"
        f"  Secret        {tracked.webhook_secret or '(the one that was shown when it was made)'}\n"
        f"With a token for GitHub: cotex webhook setup {tracked.repo_name} --url https://…\n"
        f"To try it without GitHub: cotex event send --repo {tracked.repo_name}"
    )


@app.command("list", epilog=view.examples("cotex repo list", "cotex repo list --user ada --json"))
def list_(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Only what this user sees.")] = None,
    as_json: view.Json = False,
) -> None:
    """List the tracked repositories."""
    with local.opened(context) as store:
        if user is None:
            found = store.look(repositories.everyone)
        else:
            found = store.look(repositories.all_of, store.look(accounts.find, user).id)
        owners = {account.id: account.name for account in store.look(accounts.all_of_them)}
    if as_json:
        view.document(found)
    else:
        view.table(
            ("repository", "owner", "status", "last event", "id"),
            [
                (each.repo_name, owners[each.user_id], each.status, each.last_event_at, each.id)
                for each in found
            ],
        )


@app.command(epilog=view.examples("cotex repo show octo/hello", "cotex repo show octo/hello --json"))
def show(context: typer.Context, repo: Repo, as_json: view.Json = False) -> None:
    """Show one repository."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo)
        who = store.look(members.listing, tracked.user_id, tracked.id)
    if as_json:
        view.document({**msgspec.structs.asdict(tracked), "members": who})
    else:
        _show(tracked)
        view.facts([(each.role, each.name) for each in who])


@app.command(
    epilog=view.examples("cotex repo remove octo/hello --dry-run", "cotex repo remove octo/hello --yes")
)
def remove(
    context: typer.Context,
    repo: Repo,
    user: Owner = None,
    yes: view.Yes = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Stop tracking a repository; its stored events are deleted."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo, user_id=_id_of(store, user))
        if not dry_run:
            view.confirm(f"Remove {tracked.repo_name} and all its stored events?", yes=yes)
            store.run(repositories.remove, tracked.user_id, tracked.id)
    if as_json:
        view.document(tracked)
    else:
        view.say(
            f"{tracked.repo_name} {'would be' if dry_run else 'is'} removed, with all its stored events."
        )


@app.command(
    epilog=view.examples(
        "cotex repo secret octo/hello", "cotex repo secret octo/hello --rotate --overlap 24h --json"
    )
)
def secret(
    context: typer.Context,
    repo: Repo,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new secret, and show it once.")] = False,
    overlap: Annotated[str, typer.Option(help="How long the old one stays good.")] = "24h",
    only_here: Annotated[
        bool, typer.Option("--only-here", help="Leave GitHub alone, and show the new one to paste there.")
    ] = False,
    as_json: view.Json = False,
) -> None:
    """Say what secret a webhook has; with --rotate, give it a new one.

    Where its hook at GitHub is known, GitHub is given it as well; if that is interrupted, the same command goes on.
    """
    kept = duration.parse(overlap)
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo)
        known = store.look(hooks.known, tracked.id)
        at_github = rotate and not only_here and known.hook_id is not None
        if rotate and not at_github:
            tracked = store.run(repositories.rotate_secret, tracked.id, overlap=kept)
    ping = _rotate_at_github(context, tracked.id, kept) if at_github else None
    with local.opened(context) as store:
        state = store.look(repositories.secret_state, tracked.id)
    if as_json:
        view.document(
            {
                "id": tracked.id,
                "repo_name": tracked.repo_name,
                **state,
                "webhook_secret": tracked.webhook_secret,
                "ping": ping,
            }
        )
    elif at_github:
        view.say(f"The old one stays good for {overlap}.")
    elif rotate:
        view.result(tracked.webhook_secret)
        view.say(f"Put it into the webhook at GitHub. The old one stays good for {overlap}.")
    else:
        view.facts((("repository", tracked.repo_name), *state.items()))
        view.say("The secret itself is not shown. For a new one: cotex repo secret REPO --rotate")


def _rotate_at_github(context: typer.Context, repo_id: str, overlap: timedelta) -> str:
    from cotex import webhook  # what it needs takes a while to import

    return webhook.rotate_secret(context, repo_id, overlap)


@app.command(
    epilog=view.examples(
        "cotex repo share octo/hello --with grace", "cotex repo share octo/hello --with bob,eve --json"
    )
)
def share(
    context: typer.Context,
    repo: Repo,
    users: Annotated[str, typer.Option("--with", help="Whom, comma separated.")],
    user: Owner = None,
    as_json: view.Json = False,
) -> None:
    """Let other users see a repository's events, from now on."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo, user_id=_id_of(store, user))
        joined = store.run(_share, tracked, _names(users))
    if as_json:
        view.document(joined)
    else:
        view.say(f"{tracked.repo_name} is shared with {', '.join(each.name for each in joined)}.")


@app.command(
    epilog=view.examples(
        "cotex repo unshare octo/hello --with grace", "cotex repo unshare octo/hello --with bob,eve --json"
    )
)
def unshare(
    context: typer.Context,
    repo: Repo,
    users: Annotated[str, typer.Option("--with", help="Whom, comma separated.")],
    user: Owner = None,
    as_json: view.Json = False,
) -> None:
    """Take a repository back from other users: nothing that comes from now on reaches them."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo, user_id=_id_of(store, user))
        left = store.run(_unshare, tracked, _names(users))
    if as_json:
        view.document(left)
    else:
        view.say(f"{tracked.repo_name} is no longer shared with {', '.join(each.name for each in left)}.")


@app.command(epilog=view.examples("cotex repo pause octo/hello", "cotex repo pause octo/hello --json"))
def pause(context: typer.Context, repo: Repo, user: Owner = None, as_json: view.Json = False) -> None:
    """Refuse a repository's deliveries until it is resumed; GitHub keeps them for 3 days, and then they are lost."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo, user_id=_id_of(store, user))
        tracked = store.run(repositories.pause, tracked.user_id, tracked.id)
    if as_json:
        view.document(tracked)
    else:
        view.say(
            f"{tracked.repo_name} is paused. To go on, within 3 days: cotex repo resume {tracked.repo_name}"
        )


@app.command(epilog=view.examples("cotex repo resume octo/hello", "cotex repo resume octo/hello --json"))
def resume(context: typer.Context, repo: Repo, user: Owner = None, as_json: view.Json = False) -> None:
    """Take a repository's deliveries again."""
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo, user_id=_id_of(store, user))
        tracked = store.run(repositories.resume, tracked.user_id, tracked.id)
    if as_json:
        view.document(tracked)
    else:
        view.say(f"{tracked.repo_name} takes deliveries again.")


@app.command(
    "filter",
    epilog=view.examples(
        "cotex repo filter octo/hello --events push,release --branches main,release/*",
        "cotex repo filter octo/hello --member grace --paths 'docs/*' --json",
        "cotex repo filter octo/hello",
    ),
)
def filter_(
    context: typer.Context,
    repo: Repo,
    events: Annotated[str, typer.Option(help="Types of events, comma separated.")] = "",
    branches: Annotated[str, typer.Option(help="Branches; * and ? as in a shell.")] = "",
    paths: Annotated[
        str, typer.Option(help="Paths of which a push must touch one; * and ? as in a shell.")
    ] = "",
    member: Annotated[str | None, typer.Option(help="Only for what this user gets of it.")] = None,
    user: Owner = None,
    as_json: view.Json = False,
) -> None:
    """Choose which of a repository's events there are; without any choice, all."""
    wanted = Filter(_names(events), _names(branches), _names(paths))
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo, user_id=_id_of(store, user))
        if member is not None:
            whose = store.look(accounts.find, member)
            shown = store.run(members.set_filter, whose.id, tracked.id, wanted)
        else:
            tracked = store.run(repositories.set_filter, tracked.user_id, tracked.id, wanted)
    if as_json:
        view.document(tracked if member is None else shown)
    else:
        what = "all events" if wanted.wants_all else "what the filter lets pass"
        view.say(f"{tracked.repo_name}: {what}{f' for {member}' if member else ''}, from now on.")


def _add(tx: Tx, owner_id: str, name: str, secret: str, shared: tuple[str, ...]) -> Tracked:
    """With all whom it is shared with, or not at all."""
    tracked = repositories.add(tx, owner_id, name, secret)
    _share(tx, tracked, shared)
    return tracked


def _share(tx: Tx, tracked: Tracked, names: tuple[str, ...]) -> list[Member]:
    """All or nobody."""
    return [members.share(tx, tracked.user_id, tracked.id, name) for name in names]


def _unshare(tx: Tx, tracked: Tracked, names: tuple[str, ...]) -> list[Member]:
    return [members.unshare(tx, tracked.user_id, tracked.id, name) for name in names]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _id_of(store: Store, user: str | None) -> str | None:
    return None if user is None else store.look(accounts.find, user).id


def _show(tracked: Tracked) -> None:
    view.facts(
        (
            ("repository", tracked.repo_name),
            ("id", tracked.id),
            ("status", tracked.status),
            ("webhook", tracked.webhook_url),
            *((("secret", tracked.webhook_secret),) if tracked.webhook_secret else ()),
            ("last event", tracked.last_event_at),
            ("since", tracked.created_at),
        )
    )
