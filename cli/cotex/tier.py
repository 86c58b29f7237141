"""`cotex tier`"""

import typer

from cotex import local, view
from cotexd.operations import accounts

app = view.group("Tiers, and who is on which.")


@app.command("list", epilog=view.examples("cotex tier list", "cotex tier list --json"))
def list_(context: typer.Context, as_json: view.Json = False) -> None:
    """List the tiers, with their limits."""
    with local.opened(context) as store:
        tiers = store.look(accounts.all_tiers)
    if as_json:
        view.document(tiers)
    else:
        view.table(("tier", "repositories"), [(tier.name, tier.repos) for tier in tiers])


@app.command(
    "set", epilog=view.examples("cotex tier set ada pro", "cotex tier set ada free --dry-run --json")
)
def set_(
    context: typer.Context,
    user: str,
    tier: str,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Put a user on a tier."""
    with local.opened(context) as store:
        before = store.look(accounts.find, user)
        after = before if dry_run else store.run(accounts.set_tier, user, tier)
        wanted = store.look(accounts.tier_named, tier)
    if as_json:
        view.document(after)
    else:
        verb = "would be" if dry_run else "is"
        view.say(
            f"{after.name} {verb} on {wanted.name}: up to {wanted.repos} repositories (was on {before.tier})."
        )
