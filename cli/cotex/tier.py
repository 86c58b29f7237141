"""`cotex tier`"""

from typing import Annotated, Literal

import msgspec
import typer

from cotex import local, view
from cotexd.errors import Conflict, Invalid
from cotexd.operations import accounts, tiers
from cotexd.operations.tiers import Described, Outcome

app = view.group("Tiers, and who is on which.")

Repos = Annotated[int, typer.Option(min=0, help="Repositories that a user may track.")]
Requests = Annotated[
    int | None, typer.Option(min=0, help="Requests to the API a minute; 0 is what the configuration says.")
]


@app.command("list", epilog=view.examples("cotex tier list", "cotex tier list --json"))
def list_(context: typer.Context, as_json: view.Json = False) -> None:
    """List the tiers, with their limits."""
    with local.opened(context) as store:
        listed = store.look(tiers.listing)
    if as_json:
        view.document(listed)
    else:
        view.table(
            ("tier", "repositories", "requests a minute", "users", "price"),
            [(each.name, each.repos, each.requests, each.users, _sold(each)) for each in listed],
        )


@app.command(epilog=view.examples("cotex tier show pro", "cotex tier show pro --json"))
def show(context: typer.Context, tier: str, as_json: view.Json = False) -> None:
    """Show one tier."""
    with local.opened(context) as store:
        _show(store.look(tiers.show, tier), as_json=as_json)


@app.command(
    epilog=view.examples(
        "cotex tier add team --repos 50", "cotex tier add team --repos 50 --if-not-exists --json"
    )
)
def add(
    context: typer.Context,
    tier: str,
    repos: Repos,
    requests: Requests = None,
    if_not_exists: view.IfNotExists = False,
    as_json: view.Json = False,
) -> None:
    """Add a tier."""
    with local.opened(context) as store:
        try:
            made = store.run(tiers.add, tier, repos, requests or None)
        except Conflict:
            if not if_not_exists:
                raise
            made = store.look(tiers.show, tier)
    _show(made, as_json=as_json)


@app.command(
    epilog=view.examples(
        "cotex tier edit pro --repos 20",
        "cotex tier edit pro --stripe-price price_123 --interval month",
        "cotex tier edit free --requests 300 --json",
    )
)
def edit(
    context: typer.Context,
    tier: str,
    repos: Annotated[int | None, typer.Option(min=0, help="Repositories that a user may track.")] = None,
    requests: Requests = None,
    stripe_price: Annotated[str | None, typer.Option(help="The price at Stripe at which it is sold.")] = None,
    interval: Annotated[Literal["month", "year"], typer.Option(help="What that price is for.")] = "month",
    as_json: view.Json = False,
) -> None:
    """Change a tier; it holds at once for all who are on it."""
    with local.opened(context) as store:
        changed = store.run(
            tiers.edit, tier, repos=repos, requests=requests, price=stripe_price, interval=interval
        )
    _show(changed, as_json=as_json)


@app.command(epilog=view.examples("cotex tier remove team --dry-run", "cotex tier remove team --yes"))
def remove(
    context: typer.Context,
    tier: str,
    yes: view.Yes = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Remove a tier that nobody is on."""
    with local.opened(context) as store:
        gone = store.look(tiers.show, tier)
        if dry_run:
            store.rehearse(tiers.remove, tier)
        else:
            view.confirm(f"Remove the tier {tier}?", yes=yes)
            store.run(tiers.remove, tier)
    if as_json:
        view.document(gone)
    else:
        view.say(f"The tier {tier} {'would be' if dry_run else 'is'} removed.")


@app.command(
    "set",
    epilog=view.examples(
        "cotex tier set ada pro", "cotex tier set ada free --dry-run --json", "cotex tier set ada --auto"
    ),
)
def set_(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="A name, or an id.", autocompletion=local.users)],
    tier: Annotated[
        str | None, typer.Argument(help="See cotex tier list.", autocompletion=local.tiers)
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Give the matter back to Stripe: no tier of the administrator's.")
    ] = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Put a user on a tier. A subscription may raise them above it, and never puts them below."""
    if (tier is None) != auto:
        raise Invalid("Say which tier.", hint=f"cotex tier set {user} TIER, or cotex tier set {user} --auto")
    with local.opened(context) as store:
        before = store.look(accounts.find, user)
        act = store.rehearse if dry_run else store.run
        outcome = act(tiers.set_tier, user, tier)
        after = store.look(accounts.find, user)
    if as_json:
        view.document(
            {**msgspec.structs.asdict(after), **msgspec.structs.asdict(outcome), "dry_run": dry_run}
        )
        return
    verb = "would be" if dry_run else "is"
    view.say(f"{after.name} {verb} on {outcome.tier} ({outcome.tier_source}); was on {before.tier}.")
    view.say(_consequence(outcome))


def _consequence(outcome: Outcome) -> str:
    used = f"{outcome.repo_count} of {outcome.repo_limit} repositories"
    if outcome.paused or outcome.resumed:
        changes = [f"paused: {', '.join(outcome.paused)}"] if outcome.paused else []
        changes += [f"resumed: {', '.join(outcome.resumed)}"] if outcome.resumed else []
        return f"{used}; {'; '.join(changes)}."
    if outcome.pauses_at is not None:
        return (
            f"{used}; the newest above the limit are paused from {outcome.pauses_at:%Y-%m-%d %H:%M} UTC on."
        )
    return f"{used}."


def _show(tier: Described, *, as_json: bool) -> None:
    if as_json:
        view.document(tier)
        return
    view.facts(
        (
            ("tier", tier.name),
            ("repositories", tier.repos),
            ("requests a minute", tier.requests),
            ("users", tier.users),
            ("price", _sold(tier)),
        )
    )


def _sold(tier: Described) -> str:
    return ", ".join(f"{each.id} a {each.interval}" for each in tier.prices if each.current) or "-"
