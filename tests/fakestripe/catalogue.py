"""Customers, products and prices; webhook endpoints and events."""

import re
from urllib.parse import urlsplit

from stripe import params as p

from . import shapes
from .account import Account, merge_metadata
from .checkout import only
from .lives import OVER
from .params import required
from .refusal import Refused, invalid
from .routing import Rooms, page, route
from .shapes import Object

EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")

CUSTOMER = {"address", "description", "email", "metadata", "name", "phone", "preferred_locales", "tax_exempt"}
PRODUCT = {"active", "description", "id", "images", "metadata", "name", "shippable", "statement_descriptor"}
PRODUCT |= {"tax_code", "unit_label", "url"}
PRICE = {"active", "currency", "lookup_key", "metadata", "nickname", "product", "product_data", "recurring"}
PRICE |= {"tax_behavior", "transfer_lookup_key", "unit_amount"}

# Customers.


@route("POST", "/v1/customers", p.CustomerCreateParams)
def create_customer(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, CUSTOMER)
    _check_email(given)
    account = rooms.account
    prefix = account.identity("", 8).upper()
    made = shapes.customer(account.identity("cus_", 14), account.now(), given, prefix)
    account.emit("customer.created", account.add(made))
    return made


@route("GET", "/v1/customers", p.CustomerListParams)
def list_customers(rooms: Rooms, _: str, given: Object) -> Object:
    email = given.get("email")
    found = [one for one in rooms.account.all("customer") if not one.get("deleted")]
    return page([one for one in found if email in {None, one["email"]}], "/v1/customers", given)


@route("GET", "/v1/customers/{id}", p.CustomerRetrieveParams)
def get_customer(rooms: Rooms, identity: str, given: Object) -> Object:
    """A deleted one too: what is left of it says so."""
    return rooms.account.get("customer", identity)


@route("POST", "/v1/customers/{id}", p.CustomerUpdateParams)
def update_customer(rooms: Rooms, identity: str, given: Object) -> Object:
    only(given, CUSTOMER)
    _check_email(given)
    customer = _living(rooms.account, identity)
    with rooms.account.changing("customer.updated", customer):
        merge_metadata(customer, given)
        customer |= {key: value for key, value in given.items() if key != "metadata"}
    return customer


@route("DELETE", "/v1/customers/{id}", p.CustomerDeleteParams)
def delete_customer(rooms: Rooms, identity: str, given: Object) -> Object:
    """Its subscriptions end at once, and nothing of it but its id is left."""
    account = rooms.account
    customer = _living(account, identity)
    for subscription in account.subscriptions_of(identity):
        if subscription["status"] not in OVER:
            rooms.lives.end(subscription, "cancellation_requested")
    account.emit("customer.deleted", customer)
    return account.add({"id": identity, "object": "customer", "deleted": True})


def _living(account: Account, identity: str) -> Object:
    customer = account.get("customer", identity)
    if customer.get("deleted"):
        raise Refused(404, f"No such customer: '{identity}'", code="resource_missing", param="id")
    return customer


def _check_email(given: Object) -> None:
    if given.get("email") is not None and not EMAIL.fullmatch(given["email"]):
        raise invalid(f"Invalid email address: {given['email']}", "email", "email_invalid")


# Products.


@route("POST", "/v1/products", p.ProductCreateParams)
def create_product(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, PRODUCT)
    account = rooms.account
    identity = given.get("id") or account.identity("prod_", 14)
    if identity in account.objects["product"]:
        raise invalid(f"Product already exists: {identity}.", "id", "resource_already_exists")
    made = account.add(shapes.product(identity, account.now(), given))
    account.emit("product.created", made)
    return made


@route("GET", "/v1/products", p.ProductListParams)
def list_products(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, {"active", "created", "ending_before", "ids", "limit", "starting_after"})
    found = [one for one in rooms.account.all("product") if given.get("active") in {None, one["active"]}]
    ids = given.get("ids")
    return page([one for one in found if ids is None or one["id"] in ids], "/v1/products", given)


@route("GET", "/v1/products/{id}", p.ProductRetrieveParams)
def get_product(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("product", identity)


@route("POST", "/v1/products/{id}", p.ProductUpdateParams)
def update_product(rooms: Rooms, identity: str, given: Object) -> Object:
    only(given, {*PRODUCT, "default_price"} - {"id"})
    product = rooms.account.get("product", identity)
    if given.get("default_price"):
        rooms.account.get("price", given["default_price"], "default_price", 400)
    with rooms.account.changing("product.updated", product):
        merge_metadata(product, given)
        product |= {key: value for key, value in given.items() if key != "metadata"}
        product["updated"] = rooms.account.now()
    return product


# Prices.


@route("POST", "/v1/prices", p.PriceCreateParams)
def create_price(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, PRICE)
    account = rooms.account
    if ("product" in given) == ("product_data" in given):
        raise invalid("You must specify either `product` or `product_data`.", "product", "parameter_missing")
    if "unit_amount" not in given:
        raise required("unit_amount")
    if given["unit_amount"] is None or given["unit_amount"] < 0:
        message = "This value must be greater than or equal to 0."
        raise invalid(message, "unit_amount", "parameter_invalid_integer")
    _claim(account, given)
    if "product" in given:
        product = account.get("product", given["product"], "product", 400)["id"]
    else:
        product = create_product(rooms, "", given["product_data"])["id"]
    made = account.add(shapes.price(account.identity("price_1", 23), account.now(), given, product))
    account.emit("price.created", made)
    return made


@route("GET", "/v1/prices", p.PriceListParams)
def list_prices(rooms: Rooms, _: str, given: Object) -> Object:
    found = rooms.account.all("price")
    for key in ("active", "currency", "product", "type"):
        found = [one for one in found if given.get(key) in {None, one[key]}]
    if "lookup_keys" in given:
        found = [one for one in found if one["lookup_key"] in given["lookup_keys"]]
    if interval := given.get("recurring", {}).get("interval"):
        found = [one for one in found if one["recurring"] and one["recurring"]["interval"] == interval]
    return page(found, "/v1/prices", given)


@route("GET", "/v1/prices/{id}", p.PriceRetrieveParams)
def get_price(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("price", identity, "price")


@route("POST", "/v1/prices/{id}", p.PriceUpdateParams)
def update_price(rooms: Rooms, identity: str, given: Object) -> Object:
    """What it costs can't be changed: for that there are new prices."""
    only(given, {"active", "lookup_key", "metadata", "nickname", "tax_behavior", "transfer_lookup_key"})
    price = rooms.account.get("price", identity, "price")
    _claim(rooms.account, given, price)
    with rooms.account.changing("price.updated", price):
        merge_metadata(price, given)
        price |= {
            key: value for key, value in given.items() if key not in {"metadata", "transfer_lookup_key"}
        }
    return price


def _claim(account: Account, given: Object, mine: Object | None = None) -> None:
    """A lookup key is one price's; another has to be made to give it up."""
    key = given.get("lookup_key")
    for other in account.all("price"):
        if key and other["lookup_key"] == key and other is not mine:
            if not given.get("transfer_lookup_key"):
                message = f"A price (`{other['id']}`) already uses that lookup key."
                raise invalid(message, "lookup_key", "resource_already_exists")
            with account.changing("price.updated", other):
                other["lookup_key"] = None


# Webhook endpoints and events.


@route("POST", "/v1/webhook_endpoints", p.WebhookEndpointCreateParams)
def create_endpoint(rooms: Rooms, _: str, given: Object) -> Object:
    only(given, {"api_version", "description", "enabled_events", "metadata", "url"})
    _check_url(given)
    made = rooms.outbox.register(given, version=given.get("api_version"))
    return {**made, "secret": rooms.outbox.secret_of(made["id"])}


@route("GET", "/v1/webhook_endpoints", p.WebhookEndpointListParams)
def list_endpoints(rooms: Rooms, _: str, given: Object) -> Object:
    return page(rooms.account.all("webhook_endpoint"), "/v1/webhook_endpoints", given)


@route("GET", "/v1/webhook_endpoints/{id}", p.WebhookEndpointRetrieveParams)
def get_endpoint(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("webhook_endpoint", identity, "webhook_endpoint")


@route("POST", "/v1/webhook_endpoints/{id}", p.WebhookEndpointUpdateParams)
def update_endpoint(rooms: Rooms, identity: str, given: Object) -> Object:
    endpoint = rooms.account.get("webhook_endpoint", identity, "webhook_endpoint")
    _check_url(given)
    merge_metadata(endpoint, given)
    endpoint |= {key: given[key] for key in ("description", "enabled_events", "url") if key in given}
    if "disabled" in given:
        endpoint["status"] = "disabled" if given["disabled"] else "enabled"
    return endpoint


@route("DELETE", "/v1/webhook_endpoints/{id}", p.WebhookEndpointDeleteParams)
def delete_endpoint(rooms: Rooms, identity: str, given: Object) -> Object:
    rooms.account.get("webhook_endpoint", identity, "webhook_endpoint")
    del rooms.account.objects["webhook_endpoint"][identity]
    return {"id": identity, "object": "webhook_endpoint", "deleted": True}


@route("GET", "/v1/events", p.EventListParams)
def list_events(rooms: Rooms, _: str, given: Object) -> Object:
    found = rooms.account.events()
    kinds = given.get("types") or ([given["type"]] if given.get("type") else None)
    if kinds is not None:
        found = [one for one in found if any(_matches(one["type"], kind) for kind in kinds)]
    if "delivery_success" in given:
        found = [one for one in found if (one["pending_webhooks"] == 0) == given["delivery_success"]]
    return page(found, "/v1/events", given)


@route("GET", "/v1/events/{id}", p.EventRetrieveParams)
def get_event(rooms: Rooms, identity: str, given: Object) -> Object:
    return rooms.account.get("event", identity)


def _matches(kind: str, wanted: str) -> bool:
    return kind == wanted or (wanted.endswith("*") and kind.startswith(wanted[:-1]))


def _check_url(given: Object) -> None:
    """Loopback is taken, where Stripe insists on an address of the world."""
    if "url" in given and urlsplit(given["url"]).scheme not in {"http", "https"}:
        raise invalid(
            "Invalid URL: An explicit scheme (such as https) must be provided.", "url", "url_invalid"
        )
