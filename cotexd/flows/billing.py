"""Selling tiers: checkout, portal, and looking at Stripe to see who has paid for what.

Each function asks Stripe first and writes then, in one transaction; what is asked twice does no harm. So whatever is
killed in between, is repeated by the next event or by the reconciliation, with the same end.
"""

from collections.abc import Callable

import msgspec

from cotexd.domain import tier as domain
from cotexd.domain.tier import Subscription
from cotexd.errors import Conflict, NotFound, Unavailable
from cotexd.gateways.stripe import EVENTS, Event, Offer, Priced, Stripe
from cotexd.operations import accounts, billing, secrets, tiers
from cotexd.operations.billing import Known, Synced
from cotexd.store import Store, Tx


class BillingDisabled(Unavailable):
    code = "billing_disabled"

    def __init__(self) -> None:
        super().__init__(
            "Nothing is sold on this server.",
            hint="The administrator turns it on: cotex secret set stripe-key",
        )


class AlreadySubscribed(Conflict):
    code = "already_subscribed"

    def __init__(self) -> None:
        super().__init__(
            "There is a subscription already.", hint="Change it in the portal: POST /api/billing/portal"
        )


class Terms(msgspec.Struct, frozen=True):
    """How tiers are sold."""

    public_url: str = ""
    """for the addresses to which Stripe's pages lead back; the one that was asked, if it is empty"""
    trial_days: int = 0
    promotion_codes: bool = False
    automatic_tax: bool = False
    seats: int = 1


class Pages(msgspec.Struct, frozen=True):
    """Where the browser comes back to."""

    done: str
    cancelled: str


class Reconciled(msgspec.Struct, frozen=True):
    """What a look at every customer found."""

    checked: int
    changed: tuple[Synced, ...]


class SetUp(msgspec.Struct, frozen=True):
    """What `set_up` did, a step a line."""

    price: Priced
    endpoint: str
    steps: tuple[str, ...]


class Account:
    """The account at Stripe, if there is one: its key is in the configuration, or was set by a command."""

    def __init__(self, store: Store, key: str, api_url: str, webhook_secrets: tuple[str, ...]) -> None:
        self._store = store
        self._key = key
        self._api_url = api_url
        self._webhook_secrets = webhook_secrets
        self._open: tuple[str, Stripe] | None = None

    async def stripe(self) -> Stripe:
        """:raises BillingDisabled: there is no key"""
        key = self._key or await self._store.read(secrets.get, secrets.STRIPE_KEY)
        if not key:
            raise BillingDisabled
        if self._open is None or self._open[0] != key:
            self._open = (key, Stripe(key, self._api_url))
        return self._open[1]

    async def webhook_secrets(self) -> tuple[str, ...]:
        """:raises BillingDisabled: there is none"""
        if self._webhook_secrets:
            return self._webhook_secrets
        stored = await self._store.read(secrets.get, secrets.STRIPE_WEBHOOK)
        found = tuple(each.strip() for each in stored.split(",") if each.strip())
        if not found:
            raise BillingDisabled
        return found


async def checkout(
    store: Store, stripe: Stripe, terms: Terms, user_id: str, tier: str, interval: str, pages: Pages
) -> str:
    """The address of a Checkout session; the customer is linked to the user before it is made.

    :raises AlreadySubscribed: changes are made in the portal
    :raises Conflict: the tier is not sold for this interval
    """
    price = await store.read(tiers.price_of, tier, interval)
    if price is None:
        raise Conflict(
            f"The tier {tier} is not sold by the {interval}.",
            hint=f"The administrator sets one: cotex tier edit {tier} --stripe-price PRICE --interval {interval}",
        )
    customer = await _customer(store, stripe, user_id)
    _, subscriptions = await _look(store, stripe, customer, None)
    if any(each.status in domain.LIVE for each in subscriptions):
        raise AlreadySubscribed
    had_trial = customer.had_trial or any(each.had_trial for each in subscriptions)
    offer = Offer(
        price,
        terms.seats,
        0 if had_trial else terms.trial_days,
        terms.promotion_codes,
        terms.automatic_tax,
        pages.done,
        pages.cancelled,
    )
    await stripe.expire_checkouts(customer.stripe_id)
    return await stripe.checkout(user_id, customer.stripe_id, offer)


async def portal(store: Store, stripe: Stripe, user_id: str, pages: Pages) -> str:
    """:raises NotFound: the user has never been a customer"""
    customer = await store.read(billing.customer_of, user_id)
    if customer is None:
        raise NotFound("You have no subscription.", hint="Begin one: POST /api/checkout")
    return await stripe.portal(customer.stripe_id, pages.done)


async def sync(store: Store, stripe: Stripe, customer: Known, event: tuple[str, str] | None = None) -> Synced:
    """Ask Stripe what a customer has, and write it down.

    :param event: its id and type, recorded with the effect
    """
    return (await _look(store, stripe, customer, event))[0]


async def on_event(store: Store, stripe: Stripe, event: Event) -> None:
    """An event came: look at the customer whom it is about, whatever it says of them."""
    if await store.read(billing.is_recorded, event.id):
        return
    recorded = (event.id, event.type)
    customer = await store.read(billing.by_stripe_id, event.customer) if event.customer else None
    if customer is None and event.customer and event.type in EVENTS:
        customer = await _find_lost(store, stripe, event.customer)
    if customer is None or event.type.split(".")[0] not in _CONCERNED:
        await store.write(billing.record, recorded)
        return
    await sync(store, stripe, customer, recorded)


async def reconcile(
    store: Store,
    stripe: Stripe,
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Reconciled:
    """Look at every customer.

    :param progress: is told how many were looked at so far
    """
    checked, changed, after = 0, [], ""
    while customers := await store.read(billing.everybody, after):
        for customer in customers:
            checked += 1
            try:
                synced = await (_rehearse if dry_run else sync)(store, stripe, customer)
            except NotFound:
                continue  # removed while we looked
            progress(checked)
            if synced.changed:
                changed.append(synced)
        after = customers[-1].user_id
    return Reconciled(checked, tuple(changed))


async def set_up(
    store: Store,
    stripe: Stripe,
    *,
    tier: str,
    amount: int,
    currency: str,
    interval: str,
    public_url: str,
) -> SetUp:
    """Make what is missing at Stripe (product, price, webhook endpoint), and keep what is there. Safe to run twice."""
    steps = []
    await store.read(tiers.show, tier)
    price = await stripe.make_price(tier, amount, currency, interval)
    steps.append(f"price {price.id}: {price.amount / 100:.2f} {price.currency} a {price.interval}")
    if await store.read(tiers.price_of, tier, interval) != price.id:
        await store.write(_sell, tier, price.id, interval)
        steps.append(f"tier {tier} is sold at {price.id} from now on")
    url = f"{public_url}/webhooks/stripe"
    found = [each async for each in stripe.endpoints() if each.url == url]
    if not found:
        endpoint = await stripe.make_endpoint(url)
        await store.write(secrets.put, secrets.STRIPE_WEBHOOK, endpoint.secret)
        steps.append(f"webhook endpoint {endpoint.id} made at {url}, its secret is kept")
    elif set(EVENTS) - set(found[0].events) or not found[0].enabled:
        endpoint = await stripe.mend_endpoint(found[0].id)
        steps.append(f"webhook endpoint {endpoint.id} mended: events, enabled")
    else:
        endpoint = found[0]
        steps.append(f"webhook endpoint {endpoint.id} is as it must be")
    return SetUp(price, endpoint.id, tuple(steps))


_CONCERNED = {"checkout", "customer", "invoice", "charge"}


async def _look(
    store: Store, stripe: Stripe, customer: Known, event: tuple[str, str] | None
) -> tuple[Synced, tuple[Subscription, ...]]:
    look = await store.write(billing.begin_look, customer.user_id)
    subscriptions = await stripe.subscriptions(look.customer.stripe_id)
    return await store.write(billing.end_look, look, subscriptions, event), subscriptions


async def _rehearse(store: Store, stripe: Stripe, customer: Known) -> Synced:
    look = billing.Look(customer, 0)
    subscriptions = await stripe.subscriptions(customer.stripe_id)
    return await store.read(billing.rehearse_look, look, subscriptions)


async def _customer(store: Store, stripe: Stripe, user_id: str) -> Known:
    """The customer whom a user is; made, where they are none yet or Stripe has deleted theirs."""
    known = await store.read(billing.customer_of, user_id)
    if known is not None and await stripe.exists(known.stripe_id):
        return known
    account = await store.read(accounts.find, user_id)
    gone = "" if known is None else known.stripe_id
    made = await stripe.make_customer(user_id, account.name, account.email, attempt=gone)
    return await store.write(billing.link, user_id, made, replaces=gone)


async def _find_lost(store: Store, stripe: Stripe, stripe_id: str) -> Known | None:
    """A customer of ours whose link was lost: we were killed after Stripe had made it, or a backup was restored."""
    user_id = await stripe.user_of(stripe_id)
    if not user_id or await store.read(billing.customer_of, user_id) is not None:
        return None
    try:
        await store.read(accounts.find, user_id)
    except NotFound:
        return None
    return await store.write(billing.link, user_id, stripe_id)


def _sell(tx: Tx, tier: str, price: str, interval: str) -> tiers.Described:
    return tiers.edit(tx, tier, price=price, interval=interval)
