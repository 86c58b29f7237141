"""Checkout sessions, subscriptions, invoices, charges, and the portal."""

from stripe import params as p
from stripe.params import billing_portal as portal
from stripe.params import checkout

from . import shapes
from .account import merge_metadata
from .checkout import only, wanted
from .lives import OVER
from .refusal import Refused, invalid, missing
from .routing import Rooms, page, route
from .shapes import Object, listed

# Checkout sessions.


@route("POST", "/v1/checkout/sessions", checkout.SessionCreateParams)
def create_session(rooms: Rooms, _: str, given: Object) -> Object:
    return rooms.checkout.create(given)


@route("GET", "/v1/checkout/sessions", checkout.SessionListParams)
def list_sessions(rooms: Rooms, _: str, given: Object) -> Object:
    found = rooms.account.all("checkout.session")
    only(given, {"created", "customer", "ending_before", "limit", "starting_after", "status", "subscription"})
    for key in ("customer", "status", "subscription"):
        found = [one for one in found if given.get(key) in {None, one[key]}]
    return page(found, "/v1/checkout/sessions", given)


@route("GET", "/v1/checkout/sessions/{id}", checkout.SessionRetrieveParams)
def get_session(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("checkout.session", identity, "session")


@route("GET", "/v1/checkout/sessions/{id}/line_items", checkout.SessionListLineItemsParams)
def list_line_items(rooms: Rooms, identity: str, given: Object) -> Object:
    rooms.account.get("checkout.session", identity, "session")
    items = rooms.account.private[identity]["line_items"]
    return listed(f"/v1/checkout/sessions/{identity}/line_items", items)


@route("POST", "/v1/checkout/sessions/{id}/expire", checkout.SessionExpireParams)
def expire_session(rooms: Rooms, identity: str, given: Object) -> Object:
    session = rooms.account.get("checkout.session", identity, "session")
    rooms.checkout.expire(session)
    return session


# Subscriptions.


@route("POST", "/v1/subscriptions", p.SubscriptionCreateParams)
def create_subscription(rooms: Rooms, _: str, given: Object) -> Object:
    """Without a page, and so without a card: it is incomplete until somebody pays."""
    only(given, {"automatic_tax", "customer", "description", "items", "metadata", "payment_behavior"})
    if given.get("payment_behavior") != "default_incomplete":
        message = "This customer has no attached payment source or default payment method."
        raise invalid(message, "customer", "resource_missing")
    if "customer" not in given:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = rooms.account.customer(given["customer"])
    items = wanted(rooms.account, given.get("items", []), "items")
    if not items:
        raise invalid("Missing required param: items.", "items", "parameter_missing")
    return rooms.lives.begin(customer["id"], items, given, "absent")


@route("GET", "/v1/subscriptions", p.SubscriptionListParams)
def list_subscriptions(rooms: Rooms, _: str, given: Object) -> Object:
    """Without a status: all that are not canceled. A deleted customer's are found too, where one names them."""
    only(given, {"created", "customer", "ending_before", "limit", "price", "starting_after", "status"})
    if "customer" in given:
        rooms.account.get("customer", given["customer"], "customer", 400)
    found, status = rooms.account.all("subscription"), given.get("status")
    if status is None:
        found = [one for one in found if one["status"] != "canceled"]
    elif status == "ended":
        found = [one for one in found if one["status"] in OVER]
    elif status != "all":
        found = [one for one in found if one["status"] == status]
    found = [one for one in found if given.get("customer") in {None, one["customer"]}]
    if "price" in given:
        found = [
            one for one in found if given["price"] in {item["price"]["id"] for item in one["items"]["data"]}
        ]
    return page(found, "/v1/subscriptions", given)


@route("GET", "/v1/subscriptions/{id}", p.SubscriptionRetrieveParams)
def get_subscription(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("subscription", identity)


@route("POST", "/v1/subscriptions/{id}", p.SubscriptionUpdateParams)
def update_subscription(rooms: Rooms, identity: str, given: Object) -> Object:
    only(
        given,
        {
            "cancel_at_period_end",
            "description",
            "items",
            "metadata",
            "payment_behavior",
            "proration_behavior",
        },
    )
    subscription = rooms.account.get("subscription", identity)
    if subscription["status"] in OVER and given.keys() - {"metadata"}:
        message = "A canceled subscription can only update its cancellation_details and metadata."
        raise Refused(400, message)
    changes = [_change(rooms, subscription, place, line) for place, line in enumerate(given.get("items", []))]
    with rooms.account.changing("customer.subscription.updated", subscription):
        merge_metadata(subscription, given)
        if "description" in given:
            subscription["description"] = given["description"]
    if (
        "cancel_at_period_end" in given
        and given["cancel_at_period_end"] != subscription["cancel_at_period_end"]
    ):
        rooms.lives.cancel_later(subscription, wanted=given["cancel_at_period_end"])
    for place, price, quantity in changes:
        rooms.lives.change(subscription, place, price, quantity)
    return subscription


def _change(rooms: Rooms, subscription: Object, number: int, line: Object) -> tuple[int, Object, int]:
    """Which item becomes what."""
    path = f"items[{number}]"
    only(line, {"id", "price", "quantity"}, path)
    items = subscription["items"]["data"]
    place = next((place for place, item in enumerate(items) if item["id"] == line.get("id")), None)
    if "id" not in line:
        raise Refused(400, "fakestripe adds no items: name the one to change.", param=f"{path}[id]")
    if place is None:
        raise missing("subscription item", line["id"], f"{path}[id]", 400)
    item = items[place]
    quantity = line.get("quantity", item["quantity"])
    if "price" not in line:
        return place, item["price"], quantity
    ((price, _),) = wanted(rooms.account, [{"price": line["price"]}], "items")
    return place, price, quantity


@route("DELETE", "/v1/subscriptions/{id}", p.SubscriptionCancelParams)
def cancel_subscription(rooms: Rooms, identity: str, given: Object) -> Object:
    """One that is over is not found any more, though it can still be retrieved."""
    only(given, {"cancellation_details", "invoice_now", "prorate"})
    only(given.get("cancellation_details", {}), {"comment", "feedback"}, "cancellation_details")
    subscription = rooms.account.get("subscription", identity)
    if subscription["status"] in OVER:
        raise missing("subscription", identity, "id")
    subscription["cancellation_details"] |= given.get("cancellation_details", {})
    rooms.lives.end(subscription, "cancellation_requested")
    return subscription


@route("POST", "/v1/subscriptions/{id}/resume", p.SubscriptionResumeParams)
def resume_subscription(rooms: Rooms, identity: str, given: Object) -> Object:
    only(given, set())
    subscription = rooms.account.get("subscription", identity)
    if subscription["status"] != "paused":
        raise Refused(400, "Only paused subscriptions can be resumed.", code="")
    rooms.lives.resume(subscription)
    return subscription


# Invoices and charges.


@route("GET", "/v1/invoices", p.InvoiceListParams)
def list_invoices(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, {"created", "customer", "ending_before", "limit", "starting_after", "status", "subscription"})
    if "customer" in given:
        rooms.account.get("customer", given["customer"], "customer", 400)
    found = rooms.account.all("invoice")
    for key in ("customer", "status"):
        found = [one for one in found if given.get(key) in {None, one[key]}]
    if "subscription" in given:
        mine = given["subscription"]
        found = [one for one in found if one["parent"]["subscription_details"]["subscription"] == mine]
    return page(found, "/v1/invoices", given)


@route("GET", "/v1/invoices/{id}", p.InvoiceRetrieveParams)
def get_invoice(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("invoice", identity, "invoice")


@route("GET", "/v1/charges/{id}", p.ChargeRetrieveParams)
def get_charge(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("charge", identity)


# The portal.


@route("POST", "/v1/billing_portal/sessions", portal.SessionCreateParams)
def create_portal_session(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, {"customer", "locale", "return_url"})
    account = rooms.account
    if "customer" not in given:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    account.customer(given["customer"])
    identity = account.identity("bps_1", 23)
    url = f"{account.url}/p/session/{identity}"
    configuration = account.private["portal"].setdefault("configuration", account.identity("bpc_1", 23))
    return account.add(shapes.portal_session(identity, account.now(), given, configuration, url))
