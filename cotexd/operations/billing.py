"""Customers of Stripe's, and what they have paid for.

Stripe's answer is the truth; what is here is our last copy of it. Two looks at one customer can cross (fetch A, fetch
B, write B, write A): so each takes a generation before it fetches, and writes only if none younger has written. The
record of an event commits together with its effect, so that a duplicate does nothing, and a killed process repeats it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from cotexd.domain import tier as domain
from cotexd.domain.tier import Subscription
from cotexd.errors import Conflict, NotFound
from cotexd.operations import accounts, audit, tiers
from cotexd.store import Tx
from cotexd.store.models import Customer, StripeEvent, User

EVENTS_KEPT = timedelta(days=60)
"""Stripe repeats an event for three days"""


class Known(msgspec.Struct, frozen=True):
    """A customer as we know them."""

    user_id: str
    stripe_id: str
    had_trial: bool


class Look(msgspec.Struct, frozen=True):
    """A look at Stripe that has begun."""

    customer: Known
    generation: int


class Synced(msgspec.Struct, frozen=True):
    user: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


class Standing(msgspec.Struct, frozen=True):
    customers: int
    paying: int
    late: int
    synced_at: datetime | None
    """the oldest look that stands"""


def customer_of(_: Tx, user_id: str) -> Known | None:
    row = Customer.get_or_none(Customer.user_id == user_id)
    return None if row is None else _known(row)


def by_stripe_id(_: Tx, stripe_id: str) -> Known | None:
    row = Customer.get_or_none(Customer.stripe_id == stripe_id)
    return None if row is None else _known(row)


def everybody(_: Tx, after: str = "", limit: int = 100) -> list[Known]:
    """Customers by their user's id, from after one on."""
    rows = Customer.select().where(Customer.user_id > after).order_by(Customer.user_id).limit(limit)
    return [_known(row) for row in rows]


def link(tx: Tx, user_id: str, stripe_id: str, *, replaces: str = "") -> Known:
    """Keep which customer a user is, for good.

    :param replaces: the customer whom Stripe has deleted
    :raises NotFound: there is no such user
    :raises Conflict: the user is another customer, or the customer another user
    """
    account = accounts.find(tx, user_id)
    known = customer_of(tx, user_id)
    had_trial = known is not None and known.had_trial
    if known is not None and known.stripe_id == replaces != "":
        Customer.delete().where(Customer.user_id == user_id).execute()
        known = None
    other = by_stripe_id(tx, stripe_id)
    if (known is not None and known.stripe_id != stripe_id) or (
        other is not None and other.user_id != user_id
    ):
        raise Conflict("This customer at Stripe belongs to another user.")
    if known is None:
        Customer.insert(
            user_id=user_id, stripe_id=stripe_id, had_trial=had_trial, created_at=tx.now
        ).execute()
        audit.record(tx, "billing.link", account.name, customer=stripe_id)
    return Known(user_id, stripe_id, had_trial)


def begin_look(_: Tx, user_id: str) -> Look:
    """Take a generation, before Stripe is asked.

    :raises NotFound: the user was removed meanwhile
    """
    row = Customer.get_or_none(Customer.user_id == user_id)
    if row is None:
        raise NotFound("This user is no customer any more.")
    generation = row.generation + 1
    Customer.update(generation=generation).where(Customer.user_id == user_id).execute()
    return Look(_known(row), generation)


def end_look(
    tx: Tx, look: Look, subscriptions: Sequence[Subscription], event: tuple[str, str] | None = None
) -> Synced:
    """Take over what Stripe said, unless a younger look has written; record the event that asked for it.

    :param event: its id and type
    """
    user_id = look.customer.user_id
    if event is not None:
        record(tx, event)
    row = Customer.get_or_none(Customer.user_id == user_id, Customer.stripe_id == look.customer.stripe_id)
    if row is None:
        return Synced(user_id, "", "")
    before = accounts.find(tx, user_id)
    if row.written >= look.generation:
        return Synced(before.name, before.tier, before.tier)
    prices = tiers.by_price(tx)
    paid = domain.entitlement(subscriptions, prices, tx.now, tiers.grace_of(tx))
    live = sorted((each.status for each in subscriptions if each.status in domain.LIVE), key=_ORDER.index)
    Customer.update(
        written=look.generation,
        synced_at=tx.now,
        status=live[0] if live else None,
        had_trial=row.had_trial or any(each.had_trial for each in subscriptions),
    ).where(Customer.user_id == user_id).execute()
    outcome = tiers.entitle(tx, user_id, paid)
    if outcome.tier != before.tier:
        audit.record(tx, "billing.tier", before.name, before=before.tier, after=outcome.tier)
    return Synced(before.name, before.tier, outcome.tier)


def rehearse_look(tx: Tx, look: Look, subscriptions: Sequence[Subscription]) -> Synced:
    """What `end_look` would change."""
    row = User.get_by_id(look.customer.user_id)
    paid = domain.entitlement(subscriptions, tiers.by_price(tx), tx.now, tiers.grace_of(tx))
    all_tiers = {each.name: each for each in accounts.all_tiers(tx)}
    after, _ = domain.effective(all_tiers, row.admin_tier, paid.tier)
    return Synced(row.name, row.tier, after.name)


def is_recorded(_: Tx, event_id: str) -> bool:
    return bool(StripeEvent.select().where(StripeEvent.id == event_id).exists())


def record(tx: Tx, event: tuple[str, str]) -> None:
    """Note an event whose effect is in this transaction."""
    if not is_recorded(tx, event[0]):
        StripeEvent.insert(id=event[0], type=event[1], received_at=tx.now).execute()


def standing(_: Tx) -> Standing:
    oldest = Customer.select(Customer.synced_at).where(Customer.synced_at.is_null(False))
    first = oldest.order_by(Customer.synced_at).first()
    return Standing(
        customers=Customer.select().count(),
        paying=Customer.select().where(Customer.status.in_(("active", "trialing"))).count(),
        late=Customer.select().where(Customer.status == "past_due").count(),
        synced_at=None if first is None else first.synced_at,
    )


def forget_old(tx: Tx) -> int:
    return int(StripeEvent.delete().where(StripeEvent.received_at < tx.now - EVENTS_KEPT).execute())


_ORDER = ("active", "trialing", "past_due", "unpaid", "paused")


def _known(row: Customer) -> Known:
    return Known(row.user_id, row.stripe_id, row.had_trial)
