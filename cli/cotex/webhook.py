"""`cotex webhook`"""

import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeVar

import msgspec
import typer

from cotex import local, view
from cotexd.config import Settings
from cotexd.domain import duration
from cotexd.errors import CotexError, Invalid, NotFound, Unreachable
from cotexd.flows import hooks as flows
from cotexd.flows import recovery as repairs
from cotexd.flows.access import Access
from cotexd.flows.hooks import Standing
from cotexd.flows.recovery import Repaired
from cotexd.gateways.github import SCOPES, GitHub, Hook, NoToken
from cotexd.operations import hooks, repositories
from cotexd.operations.hooks import Known
from cotexd.store import Store, utc_now

app = view.group("Where GitHub sends its events.")

Repo = Annotated[
    str, typer.Argument(metavar="REPO", help="OWNER/NAME, or an id.", autocompletion=local.repos)
]
OneOrAll = Annotated[
    str | None, typer.Argument(metavar="[REPO]", help="All, unless given.", autocompletion=local.repos)
]
NEEDS = f"GitHub's token needs {SCOPES}."
LISTED = 30
"""attempts, unless told"""
MAX_LISTED = 5000
PATIENCE = 90.0
"""seconds for which a person waits, where GitHub limits us"""

T = TypeVar("T")


class At(msgspec.Struct, frozen=True):
    """GitHub, for one repository."""

    store: Store
    github: GitHub
    known: Known
    bases: tuple[str, ...]

    async def hook(self) -> Hook:
        """:raises NotFound: GitHub shows none that calls this server"""
        return await flows.the_hook(self.github, self.known, self.bases)


@app.command(epilog=view.examples("cotex webhook url octo/hello", "cotex webhook url octo/hello --json"))
def url(context: typer.Context, repo: Repo, as_json: view.Json = False) -> None:
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


@app.command(
    help=f"Make a repository's webhook at GitHub, or mend it, and have it pinged; says each step. {NEEDS}",
    epilog=view.examples(
        "cotex webhook setup octo/hello --url https://cotex.example.com",
        "cotex webhook setup octo/hello --events push,pull_request --json",
    ),
)
def setup(
    context: typer.Context,
    repo: Repo,
    url: Annotated[
        str | None, typer.Option(help="How GitHub reaches this server; COTEX_PUBLIC_URL unless given.")
    ] = None,
    events: Annotated[
        str, typer.Option(help="What it sends, comma separated; unless given what it does, or all.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="It sends every type of event.")] = False,
    as_json: view.Json = False,
) -> None:
    wanted = tuple(dict.fromkeys(each.strip() for each in events.split(",") if each.strip()))
    if everything and wanted:
        raise Invalid("--all and --events exclude each other.")

    async def do(at: At, current: Settings) -> flows.SetUp:
        return await flows.set_up(
            at.store,
            at.github,
            at.known.repo_id,
            _base(url, current, at.known),
            flows.ALL_EVENTS if everything else wanted,
            bases=at.bases,
            say=view.say,
        )

    done = _at_github(context, repo, do)
    if as_json:
        view.document(done)


@app.command(
    help=f"How webhooks stand at GitHub. {NEEDS}",
    epilog=view.examples("cotex webhook status", "cotex webhook status octo/hello --json"),
)
def status(context: typer.Context, repo: OneOrAll = None, as_json: view.Json = False) -> None:
    async def look(store: Store, access: Access, known: Known, bases: tuple[str, ...]) -> Standing:
        try:
            return await flows.standing(store, await access.github(known.repo_id), known.repo_id, bases)
        except CotexError as error:
            return flows.unasked(known, error)

    async def run(store: Store, access: Access, current: Settings) -> list[Standing]:
        return [await look(store, access, each, _bases(current)) for each in await _chosen(store, repo)]

    found = _with_access(context, run)
    if as_json:
        view.document(found)
        return
    view.table(
        ("repository", "state", "hook", "secret", "last delivery", "answer", "repaired", "lost", "looked at"),
        [
            (
                each.repo_name,
                each.state,
                each.hook_id,
                each.secret,
                each.last_delivery_at,
                each.last_response,
                each.repaired,
                each.lost,
                each.looked_at,
            )
            for each in found
        ],
    )
    for each in found:
        for problem in each.problems:
            view.say(f"{each.repo_name}: {problem}")


@app.command(
    help=f"Have GitHub send a ping, and wait for it. {NEEDS}",
    epilog=view.examples("cotex webhook ping octo/hello", "cotex webhook ping octo/hello --json"),
)
def ping(context: typer.Context, repo: Repo, as_json: view.Json = False) -> None:
    async def do(at: At, _: Settings) -> flows.Ping:
        return await flows.ping(at.store, at.github, at.known, (await at.hook()).id, view.say)

    went = _at_github(context, repo, do)
    if as_json:
        view.document({"ping": went})
    if went == "missing":
        raise typer.Exit(6)


@app.command(
    help=f"List what GitHub delivered, newest first, and whether the log has it. {NEEDS}",
    epilog=view.examples(
        "cotex webhook deliveries octo/hello", "cotex webhook deliveries octo/hello --limit 100 --json"
    ),
)
def deliveries(
    context: typer.Context,
    repo: Repo,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="How many attempts.")] = LISTED,
    as_json: view.Json = False,
) -> None:
    async def do(at: At, _: Settings) -> list[flows.Listed]:
        return await flows.listing(at.store, at.github, at.known, await at.hook(), limit)

    found = _at_github(context, repo, do)
    if as_json:
        view.document(found)
        return
    view.table(
        ("when", "event", "action", "answer", "again", "in the log", "delivery"),
        [
            (
                each.delivered_at,
                each.event,
                each.action,
                f"{each.status_code or ''} {each.status or ''}".strip(),
                each.redelivery,
                "-" if each.event == "ping" else each.in_log,
                each.delivery_id,
            )
            for each in found
        ],
    )


@app.command(
    help=f"Have GitHub send a delivery again. {NEEDS}",
    epilog=view.examples(
        "cotex webhook redeliver octo/hello 0b989ba4-242f-11e5-81e1-c7b6966d2516",
        "cotex webhook redeliver octo/hello 0b989ba4-242f-11e5-81e1-c7b6966d2516 --json",
    ),
)
def redeliver(
    context: typer.Context,
    repo: Repo,
    delivery: Annotated[str, typer.Argument(metavar="GUID", help="The delivery's GUID, or an attempt's id.")],
    as_json: view.Json = False,
) -> None:
    async def do(at: At, _: Settings) -> flows.Listed:
        hook = await at.hook()
        for each in await flows.listing(at.store, at.github, at.known, hook, MAX_LISTED):
            if delivery in {each.delivery_id, str(each.id)}:
                await at.github.redeliver(at.known.repo_name, hook.id, each.id)
                return each
        raise NotFound(
            f"GitHub knows no delivery {delivery} of {at.known.repo_name}.",
            hint=f"See which there are: cotex webhook deliveries {at.known.repo_name}",
        )

    asked = _at_github(context, repo, do)
    if as_json:
        view.document(asked)
    else:
        view.say(f"GitHub sends {asked.delivery_id} ({asked.event}) again.")


@app.command(
    help="Fetch from GitHub what it could not deliver and still has. The server does it by itself, at its start, when "
    f"a repository is resumed, and every few minutes. {NEEDS}",
    epilog=view.examples(
        "cotex webhook repair octo/hello --dry-run", "cotex webhook repair --since 3d --json"
    ),
)
def repair(
    context: typer.Context,
    repo: OneOrAll = None,
    since: Annotated[str | None, typer.Option(help="How far back, as in 3d; all, unless given.")] = None,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    begin = None if since is None else utc_now() - duration.parse(since)
    failed: list[CotexError] = []

    async def run(store: Store, access: Access, current: Settings) -> list[Repaired]:
        async def look(known: Known) -> Repaired:
            try:
                github = await access.github(known.repo_id)
                return await repairs.repair(
                    store,
                    github,
                    known.repo_id,
                    _bases(current),
                    since=begin,
                    dry_run=dry_run,
                    progress=lambda: shown(next(count)),
                )
            except CotexError as error:
                if repo is not None:
                    raise
                # What is wrong with one is no reason to leave out the others; that nobody set it up, no failure.
                if not isinstance(error, NotFound | NoToken):
                    failed.append(error)
                return Repaired(known.repo_name, problem=error.message)

        count = itertools.count(1)
        with view.progress("deliveries fetched") as shown:
            return [await look(each) for each in await _chosen(store, repo)]

    found = _with_access(context, run)
    totals = {
        name: sum(getattr(each, name) for each in found)
        for name in ("checked", "missing", "recovered", "requested", "lost")
    }
    if as_json:
        view.document({**totals, "dry_run": dry_run, "repositories": found})
    else:
        _show_repaired(found, totals, dry_run=dry_run)
    if failed:
        raise typer.Exit(1)


@app.command(
    help=f"Delete a repository's webhook at GitHub; it stays tracked here. {NEEDS}",
    epilog=view.examples(
        "cotex webhook remove octo/hello --dry-run", "cotex webhook remove octo/hello --yes --json"
    ),
)
def remove(
    context: typer.Context,
    repo: Repo,
    yes: view.Yes = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    async def do(at: At, _: Settings) -> None:
        await at.github.remove(at.known.repo_name, gone.id)
        await at.store.write(hooks.removed, at.known.repo_id)

    gone = _at_github(context, repo, lambda at, _: at.hook())
    if not dry_run:
        view.confirm(f"Delete hook {gone.id} of {repo} at GitHub?", yes=yes)
        _at_github(context, repo, do)
    if as_json:
        view.document({"hook_id": gone.id, "url": gone.config.url, "removed": not dry_run})
    else:
        view.say(f"Hook {gone.id} {'would be' if dry_run else 'is'} deleted at GitHub.")


def _show_repaired(found: list[Repaired], totals: dict[str, int], *, dry_run: bool) -> None:
    view.table(
        ("repository", "looked at", "missing", "recovered", "asked for again", "lost"),
        [
            (each.repo_name, each.checked, each.missing, each.recovered, each.requested, each.lost)
            for each in found
        ],
    )
    for each in found:
        if each.problem:
            view.say(f"{each.repo_name}: {each.problem}")
    missing = f"{totals['missing']} of {totals['checked']} deliveries"
    if dry_run:
        view.say(f"{missing} would be fetched.")
    else:
        view.say(f"{missing} were missing, {totals['recovered']} of them are here now.")


def rotate_secret(context: typer.Context, repo_id: str, overlap: timedelta) -> flows.Ping:
    """Give a hook a new secret, here and at GitHub: `cotex repo secret REPO --rotate`."""

    async def do(at: At, _: Settings) -> flows.Ping:
        return await flows.rotate(at.store, at.github, repo_id, overlap, bases=at.bases, say=view.say)

    return _at_github(context, repo_id, do)


def _base(given: str | None, current: Settings, known: Known) -> str:
    base = (given or current.public_url or known.base).rstrip("/").removesuffix(known.path)
    if not base.startswith(("https://", "http://")):
        raise Invalid(
            f'"{base}" is not an address that GitHub could call.'
            if base
            else "GitHub has to reach this server.",
            hint="Say how: --url https://cotex.example.com, or COTEX_PUBLIC_URL",
        )
    return base


def _bases(current: Settings) -> tuple[str, ...]:
    return (current.public_url,) if current.public_url else ()


async def _chosen(store: Store, repo: str | None) -> list[Known]:
    if repo is None:
        return await store.read(hooks.all_known)
    return [await store.read(hooks.known, (await store.read(repositories.find, repo)).id)]


def _at_github(context: typer.Context, repo: str, do: Callable[[At, Settings], Awaitable[T]]) -> T:
    """Do something with one repository's hook."""

    async def run(store: Store, access: Access, current: Settings) -> T:
        (known,) = await _chosen(store, repo)
        at = At(store, await access.github(known.repo_id), known, _bases(current))
        return await do(at, current)

    return _with_access(context, run)


def _with_access(context: typer.Context, do: Callable[[Store, Access, Settings], Awaitable[T]]) -> T:
    """Run a flow, as the server would: on a started store of our own."""
    current = local.settings(context)

    async def run(store: Store) -> T:
        access = Access(
            store,
            current.github_token,
            current.github_api_url,
            current.github_ca_cert,
            patience=PATIENCE,
            limited=lambda wait: view.say(f"GitHub limits us; going on in {wait:.0f} s."),
        )
        try:
            return await do(store, access, current)
        finally:
            await access.close()

    return local.run_started(context, run)
