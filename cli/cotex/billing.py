"""`cotex billing`"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, TypeVar

import msgspec
import typer

from cotex import local, view
from cotexd.errors import Invalid
from cotexd.flows import billing as flows
from cotexd.flows.billing import Account
from cotexd.gateways.stripe import Stripe
from cotexd.operations import billing
from cotexd.store import Store

app = view.group("Selling tiers with Stripe.")

T = TypeVar("T")


@app.command(epilog=view.examples("cotex billing status", "cotex billing status --json"))
def status(context: typer.Context, as_json: view.Json = False) -> None:
    """Whether tiers are sold, and how many pay."""
    current = local.settings(context)
    with local.opened(context) as store:
        standing = store.look(billing.standing)
        key = current.stripe_key or store.look(local.stripe_key)
    facts = {
        "enabled": bool(key),
        "live": key.startswith(("sk_live_", "rk_live_")),
        **msgspec.structs.asdict(standing),
    }
    if as_json:
        view.document(facts)
    else:
        view.facts(list(facts.items()))
        if not key:
            view.say("Nothing is sold. To begin: cotex secret set stripe-key, then cotex billing setup")


@app.command(epilog=view.examples("cotex billing sync --dry-run", "cotex billing sync --json"))
def sync(context: typer.Context, dry_run: view.DryRun = False, as_json: view.Json = False) -> None:
    """Ask Stripe about every customer, and set their tiers by its answer."""

    async def look(store: Store, stripe: Stripe) -> flows.Reconciled:
        with view.progress("customers") as progress:
            return await flows.reconcile(store, stripe, dry_run=dry_run, progress=progress)

    found = _at_stripe(context, look)
    changed = [{"user": each.user, "from": each.before, "to": each.after} for each in found.changed]
    if as_json:
        view.document({"checked": found.checked, "changed": changed, "dry_run": dry_run})
        return
    view.table(("user", "from", "to"), [tuple(each.values()) for each in changed])
    verb = "would be" if dry_run else "were"
    view.say(f"{found.checked} customers looked at, {len(changed)} {verb} changed.")


@app.command(
    epilog=view.examples(
        "cotex billing setup --amount 900 --currency usd",
        "cotex billing setup --tier pro --amount 9000 --currency eur --interval year --json",
    )
)
def setup(
    context: typer.Context,
    amount: Annotated[int, typer.Option(min=1, help="Price in the smallest unit: 900 is 9.00.")],
    currency: Annotated[str, typer.Option(help="As usd or eur.")],
    tier: Annotated[str, typer.Option(help="Which tier is sold.")] = "pro",
    interval: Annotated[Literal["month", "year"], typer.Option(help="How often it is paid.")] = "month",
    as_json: view.Json = False,
) -> None:
    """Make product, price and webhook endpoint at Stripe, or keep what is there; says each step."""
    public_url = local.settings(context).public_url
    if not public_url.startswith("https://"):
        raise Invalid(
            "Stripe has to reach this server.", hint="Set COTEX_PUBLIC_URL to its https:// address."
        )
    if not (currency.isascii() and currency.isalpha() and len(currency) == 3):
        raise Invalid(f'"{currency}" is not a currency.', hint="As in usd or eur.")

    def do(store: Store, stripe: Stripe) -> Awaitable[flows.SetUp]:
        return flows.set_up(
            store,
            stripe,
            tier=tier,
            amount=amount,
            currency=currency.lower(),
            interval=interval,
            public_url=public_url,
        )

    done = _at_stripe(context, do)
    if as_json:
        view.document(done)
        return
    for step in done.steps:
        view.say(step)


def _at_stripe(context: typer.Context, do: Callable[[Store, Stripe], Awaitable[T]]) -> T:
    current = local.settings(context)

    async def run(store: Store) -> T:
        account = Account(store, current.stripe_key, current.stripe_api_url, current.stripe_webhook_secrets)
        return await do(store, await account.stripe())

    return local.run_started(context, run)
