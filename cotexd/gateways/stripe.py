"""Stripe's API, in the few calls that billing needs. The library is imported on the first of them: it is slow to.

What comes back is values of ours. What goes wrong is in the catalogue: Unavailable where trying again helps, Failed
where the account or its settings are not as they must be.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from cotexd.domain.tier import Subscription
from cotexd.errors import Failed, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    import stripe as library
    from stripe.params import WebhookEndpointCreateParams, WebhookEndpointUpdateParams
    from stripe.params.checkout import SessionCreateParams, SessionCreateParamsSubscriptionData

TOLERANCE = 300
"""seconds by which a webhook's time may be off, both ways"""
TIMEOUT = 10.0
"""seconds"""
PAGE = 100
EVENTS: Final = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
)

T = TypeVar("T")


class Event(msgspec.Struct, frozen=True):
    """A webhook's event: a trigger to look, and no more."""

    id: str
    type: str
    customer: str


class Offer(msgspec.Struct, frozen=True):
    """What a Checkout session sells."""

    price: str
    quantity: int
    trial_days: int
    promotion_codes: bool
    automatic_tax: bool
    done_url: str
    cancelled_url: str


class Priced(msgspec.Struct, frozen=True):
    id: str
    product: str
    amount: int
    currency: str
    interval: str


class Endpoint(msgspec.Struct, frozen=True):
    id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    secret: str = ""
    """only where it was just made"""


class BadEvent(Invalid):
    code = "bad_event"


class _Expanded(msgspec.Struct, frozen=True):
    id: str = ""


class _About(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(default="", name="object")
    id: str = ""
    customer: str | _Expanded | None = None


class _Data(msgspec.Struct, frozen=True):
    about: _About = msgspec.field(name="object")


class _Envelope(msgspec.Struct, frozen=True):
    id: str
    type: str
    data: _Data


def read_event(body: bytes, signature: str, secrets: tuple[str, ...], now: datetime) -> Event:
    """Check a webhook's signature over the raw bytes, and read whom it is about.

    :raises BadEvent: no secret makes this signature, its time is off by more than TOLERANCE, or it is no event
    """
    moments = [part[2:] for part in signature.split(",") if part.startswith("t=")]
    if len(moments) != 1 or not moments[0].isascii() or not moments[0].isdigit() or len(moments[0]) > 12:
        raise BadEvent("The signature has no time.")
    # The library looks at the past only.
    if abs(int(moments[0]) - now.timestamp()) > TOLERANCE:
        raise BadEvent("The signature's time is too far off.")
    try:
        text = body.decode()
        if not any(_is_signed(text, signature, secret) for secret in secrets):
            raise BadEvent("The signature does not match.")
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        raise BadEvent("The body is not an event.") from None
    about = envelope.data.about
    customer = about.id if about.kind == "customer" else about.customer
    if isinstance(customer, _Expanded):
        customer = customer.id
    return Event(envelope.id, envelope.type, customer or "")


class Stripe:
    """One account at Stripe."""

    def __init__(self, key: str, api_url: str = "") -> None:
        """:param api_url: another address that speaks Stripe's API; "" is Stripe's own"""
        import stripe as library

        self._client = library.StripeClient(
            key,
            base_addresses={"api": api_url} if api_url else None,
            max_network_retries=1,
            http_client=library.HTTPXClient(timeout=TIMEOUT, allow_sync_methods=True),
        )

    async def make_customer(self, user_id: str, name: str, email: str, *, attempt: str = "") -> str:
        """The id of a new customer; the same one, if it is asked for again within the hour.

        :param attempt: what makes it another request, where the customer made before is gone
        """
        params: library.params.CustomerCreateParams = {"name": name, "metadata": {"user_id": user_id}}
        if email:
            params["email"] = email
        key = _key("customer", user_id, name, email, attempt)
        made = await self._ask(self._client.v1.customers.create_async(params, {"idempotency_key": key}))
        return str(made.id)

    async def user_of(self, customer: str) -> str:
        """The user whom we wrote into a customer when we made it; "" for a customer of somebody else's making."""
        try:
            found = await self._ask(self._client.v1.customers.retrieve_async(customer))
        except NotFound:
            return ""
        return _read(found.to_dict(), _CustomerObject).metadata.get("user_id", "")

    async def exists(self, customer: str) -> bool:
        try:
            found = await self._ask(self._client.v1.customers.retrieve_async(customer))
        except NotFound:
            return False
        return not getattr(found, "deleted", False)

    async def subscriptions(self, customer: str) -> tuple[Subscription, ...]:
        """All that a customer has or had; none of one who is gone."""
        found: list[Subscription] = []
        after: str | None = None
        try:
            while True:
                params: library.params.SubscriptionListParams = {
                    "customer": customer,
                    "status": "all",
                    "limit": PAGE,
                }
                if after:
                    params["starting_after"] = after
                page = await self._ask(self._client.v1.subscriptions.list_async(params))
                found.extend(_subscription(each.to_dict()) for each in page.data)
                if not page.has_more or not page.data:
                    return tuple(found)
                after = page.data[-1].id
        except NotFound:
            return ()

    async def checkout(self, user_id: str, customer: str, offer: Offer) -> str:
        """The address of a Checkout session that sells `offer`."""
        subscription: SessionCreateParamsSubscriptionData = {"metadata": {"user_id": user_id}}
        if offer.trial_days:
            subscription["trial_period_days"] = offer.trial_days
        params: SessionCreateParams = {
            "mode": "subscription",
            "customer": customer,
            "client_reference_id": user_id,
            "line_items": [{"price": offer.price, "quantity": offer.quantity}],
            "subscription_data": subscription,
            "success_url": offer.done_url,
            "cancel_url": offer.cancelled_url,
            "allow_promotion_codes": offer.promotion_codes,
        }
        if offer.automatic_tax:
            params["automatic_tax"] = {"enabled": True}
            params["customer_update"] = {"address": "auto"}
        made = await self._ask(self._client.v1.checkout.sessions.create_async(params))
        return str(made.url)

    async def expire_checkouts(self, customer: str) -> None:
        """End the sessions that a customer has left open: two that are both paid would be two subscriptions."""
        params: library.params.checkout.SessionListParams = {
            "customer": customer,
            "status": "open",
            "limit": PAGE,
        }
        page = await self._ask(self._client.v1.checkout.sessions.list_async(params))
        for each in page.data:
            try:
                await self._ask(self._client.v1.checkout.sessions.expire_async(each.id))
            except Failed:
                continue  # paid, or over, in this moment: the next look at Stripe tells

    async def portal(self, customer: str, return_url: str) -> str:
        """The address of the page where a customer changes and cancels."""
        made = await self._ask(
            self._client.v1.billing_portal.sessions.create_async(
                {"customer": customer, "return_url": return_url}
            )
        )
        return str(made.url)

    async def price(self, price: str) -> Priced:
        """:raises NotFound: there is no such price"""
        return _priced((await self._ask(self._client.v1.prices.retrieve_async(price))).to_dict())

    async def make_price(self, tier: str, amount: int, currency: str, interval: str) -> Priced:
        """A product for a tier, and its price; those that were made before, if they are there."""
        lookup = f"cotexd-{tier}-{interval}-{amount}-{currency}"
        known = await self._ask(
            self._client.v1.prices.list_async({"lookup_keys": [lookup], "active": True, "limit": 1})
        )
        if known.data:
            return _priced(known.data[0].to_dict())
        product = await self._ask(
            self._client.v1.products.create_async(
                {"name": f"CoTeX {tier}", "metadata": {"tier": tier}},
                {"idempotency_key": _key("product", lookup)},
            )
        )
        params: library.params.PriceCreateParams = {
            "product": product.id,
            "unit_amount": amount,
            "currency": currency,
            "lookup_key": lookup,
            "recurring": {"interval": "year" if interval == "year" else "month"},
        }
        made = await self._ask(
            self._client.v1.prices.create_async(
                params, {"idempotency_key": _key("price", lookup, product.id)}
            )
        )
        return _priced(made.to_dict())

    async def endpoints(self) -> AsyncIterator[Endpoint]:
        page = await self._ask(self._client.v1.webhook_endpoints.list_async({"limit": PAGE}))
        for each in page.data:
            yield _endpoint(each.to_dict())

    async def make_endpoint(self, url: str) -> Endpoint:
        params: WebhookEndpointCreateParams = {"url": url, "enabled_events": [*EVENTS]}
        return _endpoint((await self._ask(self._client.v1.webhook_endpoints.create_async(params))).to_dict())

    async def mend_endpoint(self, endpoint: str) -> Endpoint:
        params: WebhookEndpointUpdateParams = {"enabled_events": [*EVENTS], "disabled": False}
        mended = await self._ask(self._client.v1.webhook_endpoints.update_async(endpoint, params))
        return _endpoint(mended.to_dict())

    async def _ask(self, call: Awaitable[T]) -> T:
        with _understood():
            return await call


def _key(*parts: str) -> str:
    """An idempotency key, another one each hour: Stripe repeats under one for a day what it answered, a failure too."""
    parts = (*parts, str(int(time.time() // 3600)))
    return f"cotexd-{parts[0]}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


@contextmanager
def _understood() -> Iterator[None]:
    import stripe as library

    try:
        yield
    except library.AuthenticationError:
        raise Failed(
            "Stripe does not know the key.", hint="Set the right one: cotex secret set stripe-key"
        ) from None
    except library.PermissionError:
        raise Failed(
            "Stripe's key may not do this.",
            hint="A restricted key needs customers, Checkout, portal, subscriptions.",
        ) from None
    except library.InvalidRequestError as error:
        if error.code == "resource_missing":
            raise NotFound(f"Stripe has no such thing: {error.param or 'the object'}.") from None
        raise Failed(f"Stripe refuses: {error.user_message or error.code or 'the request'}.") from None
    except (library.RateLimitError, library.APIConnectionError, library.APIError):
        raise Unavailable(
            "Stripe cannot be reached right now.", hint="Nothing was changed. Try again soon."
        ) from None
    except library.StripeError as error:
        raise Failed(f"Stripe refuses: {error.user_message or type(error).__name__}.") from None


def _is_signed(body: str, signature: str, secret: str) -> bool:
    import stripe as library

    try:
        return bool(library.WebhookSignature.verify_header(body, signature, secret, TOLERANCE))
    except library.SignatureVerificationError:
        return False


class _CustomerObject(msgspec.Struct, frozen=True):
    id: str
    metadata: dict[str, str] = {}


class _Price(msgspec.Struct, frozen=True):
    id: str


class _Item(msgspec.Struct, frozen=True):
    price: _Price
    current_period_start: int
    current_period_end: int


class _Items(msgspec.Struct, frozen=True):
    data: tuple[_Item, ...]


class _SubscriptionObject(msgspec.Struct, frozen=True):
    id: str
    status: str
    items: _Items
    trial_start: int | None = None
    cancel_at_period_end: bool = False


class _Recurring(msgspec.Struct, frozen=True):
    interval: str


class _PriceObject(msgspec.Struct, frozen=True):
    id: str
    product: str
    currency: str
    unit_amount: int | None = None
    recurring: _Recurring | None = None


class _EndpointObject(msgspec.Struct, frozen=True):
    id: str
    url: str
    enabled_events: tuple[str, ...]
    status: str = "enabled"
    secret: str | None = None


def _subscription(raw: object) -> Subscription:
    found = _read(raw, _SubscriptionObject)
    items = found.items.data
    return Subscription(
        id=found.id,
        status=found.status,
        prices=tuple(item.price.id for item in items),
        period_start=_moment(min((item.current_period_start for item in items), default=0)),
        period_end=_moment(max((item.current_period_end for item in items), default=0)),
        had_trial=found.trial_start is not None,
        cancel_at_period_end=found.cancel_at_period_end,
    )


def _priced(raw: object) -> Priced:
    found = _read(raw, _PriceObject)
    interval = found.recurring.interval if found.recurring else ""
    return Priced(found.id, found.product, found.unit_amount or 0, found.currency, interval)


def _endpoint(raw: object) -> Endpoint:
    found = _read(raw, _EndpointObject)
    return Endpoint(found.id, found.url, found.enabled_events, found.status == "enabled", found.secret or "")


def _read(raw: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Failed(f"Stripe's answer is not of the form that this version knows: {error}.") from None


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
