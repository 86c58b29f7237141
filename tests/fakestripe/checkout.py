"""Checkout: a session is open until it is paid or expires; the subscription comes into being when it is paid."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

from . import shapes
from .account import Account, Due
from .lives import Card, Lives
from .params import required
from .periods import DAY, seconds
from .refusal import Refused, invalid
from .shapes import Object

SHORTEST = seconds(timedelta(minutes=30))
LONGEST = seconds(timedelta(hours=24))
LONGEST_TRIAL = 730
REFERENCE = 200

KNOWN = {
    "allow_promotion_codes",
    "automatic_tax",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
}
KNOWN |= {
    "customer",
    "customer_email",
    "customer_update",
    "expires_at",
    "line_items",
    "locale",
    "metadata",
    "mode",
}
KNOWN |= {"payment_method_collection", "subscription_data", "success_url", "ui_mode"}

How = Literal["card", "delayed", "declined"]


class Checkout:
    def __init__(self, account: Account, lives: Lives) -> None:
        self._account = account
        self._lives = lives
        account.sources.append(self._due)

    def create(self, given: Object) -> Object:
        """:raises Refused: what Stripe refuses of it"""
        only(given, KNOWN)
        if given.get("mode") != "subscription":
            if "mode" not in given:
                raise required("mode")
            raise Refused(400, "fakestripe has only `subscription` mode.", param="mode")
        if given.get("ui_mode", "hosted_page") != "hosted_page":
            raise Refused(400, "fakestripe has only hosted pages.", param="ui_mode")
        self._check(given)
        wanted = self._wanted(given)
        now = self._account.now()
        given = {"expires_at": now + LONGEST, **given}
        trial = self._trial_end(given)
        total = 0 if trial else sum(price["unit_amount"] * quantity for price, quantity in wanted)
        identity = self._account.identity("cs_test_a1", 56)
        url = f"{self._account.url}/c/pay/{identity}"
        currency = wanted[0][0]["currency"]
        session = shapes.checkout_session(identity, now, given, total, currency, url)
        items = [
            shapes.line_item(self._account.identity("li_1", 23), price, quantity, self._name(price))
            for price, quantity in wanted
        ]
        self._account.private[identity] = {"wanted": wanted, "given": given, "line_items": items}
        return self._account.add(session)

    def complete(self, session: Object, how: How) -> None:
        """The customer pays: by card, or by a debit that is settled days later; or the card is declined.

        :raises ValueError: it is not open
        """
        if session["status"] != "open":
            raise ValueError(f"A session that is {session['status']} can't be paid.")
        if how == "declined":
            return
        account = self._account
        known = account.private[session["id"]]
        customer = self._customer(session)
        given, trial_end = known["given"], self._trial_end(known["given"])
        data = {**given.get("subscription_data", {}), "automatic_tax": given.get("automatic_tax", {})}
        without = trial_end is not None and session["payment_method_collection"] == "if_required"
        card: Card = "processing" if how == "delayed" else "absent" if without else "good"
        subscription = self._lives.begin(customer["id"], known["wanted"], data, card, trial_end)
        if session["automatic_tax"]["enabled"]:
            session["automatic_tax"]["status"] = "complete"
        status = "no_payment_required" if trial_end else "unpaid" if how == "delayed" else "paid"
        details = {"email": customer["email"] or "guest@example.com", "name": customer["name"]}
        session |= {
            "status": "complete",
            "payment_status": status,
            "customer": customer["id"],
            "customer_details": {
                "address": customer["address"],
                "business_name": None,
                "individual_name": None,
                "phone": customer["phone"],
                "tax_exempt": customer["tax_exempt"],
                "tax_ids": [],
                **details,
            },
            "subscription": subscription["id"],
            "invoice": subscription["latest_invoice"],
            "url": None,
        }
        account.emit("checkout.session.completed", session)

    def settle(self, session: Object, *, paid: bool) -> None:
        """The debit of a session paid by one arrives, or bounces.

        :raises ValueError: it awaits none
        """
        if session["status"] != "complete" or session["payment_status"] != "unpaid":
            raise ValueError("The session awaits no payment.")
        subscription = self._account.get("subscription", session["subscription"])
        invoice = self._account.get("invoice", session["invoice"])
        self._account.private[subscription["id"]]["card"] = "good" if paid else "declined"
        self._lives.attempt(invoice)
        if paid:
            session["payment_status"] = "paid"
        outcome = "succeeded" if paid else "failed"
        self._account.emit(f"checkout.session.async_payment_{outcome}", session)

    def expire(self, session: Object) -> None:
        if session["status"] != "open":
            raise Refused(
                400,
                'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a '
                f"status of `{session['status']}`.",
            )
        session |= {"status": "expired", "url": None}
        self._account.emit("checkout.session.expired", session)

    def _due(self) -> Iterator[Due]:
        for session in self._account.all("checkout.session"):
            if session["status"] == "open":
                yield session["expires_at"], partial(self.expire, session)

    def _customer(self, session: Object) -> Object:
        account = self._account
        if session["customer"] is not None:
            try:
                return account.customer(session["customer"])
            except Refused as error:
                raise ValueError("The customer of the session is deleted.") from error
        email = session["customer_email"] or "guest@example.com"
        prefix = account.identity("", 8).upper()
        made = shapes.customer(account.identity("cus_", 14), account.now(), {"email": email}, prefix)
        account.emit("customer.created", account.add(made))
        return made

    def _check(self, given: Object) -> None:
        if "success_url" not in given:
            raise required("success_url")
        for name in ("success_url", "cancel_url"):
            if name in given and not _is_url(given[name]):
                raise invalid("Not a valid URL", name, "url_invalid")
        if "customer" in given and "customer_email" in given:
            message = "You may only specify one of these parameters: customer, customer_email."
            raise invalid(message, "customer")
        if "customer_update" in given and "customer" not in given:
            raise invalid("`customer_update` can only be used with `customer`.", "customer_update")
        if len(given.get("client_reference_id", "")) > REFERENCE:
            message = f"Invalid string; must be at most {REFERENCE} characters"
            raise invalid(message, "client_reference_id")
        customer = self._account.customer(given["customer"]) if "customer" in given else None
        if given.get("automatic_tax", {}).get("enabled") and customer and not customer["address"]:
            updates = given.get("customer_update", {})
            if "auto" not in {updates.get("address"), updates.get("shipping")}:
                raise invalid(
                    "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid "
                    "address to the Customer or set either `customer_update[address]` to 'auto' or "
                    "`customer_update[shipping]` to 'auto' to save the address entered in Checkout to the Customer.",
                    "automatic_tax",
                    "customer_tax_location_invalid",
                )
        now, expires_at = self._account.now(), given.get("expires_at")
        if expires_at is not None and expires_at > now + LONGEST:
            message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
            raise invalid(message, "expires_at")
        if expires_at is not None and expires_at < now + SHORTEST:
            message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
            raise invalid(message, "expires_at")

    def _wanted(self, given: Object) -> list[tuple[Object, int]]:
        if not given.get("line_items"):
            raise required("line_items")
        return wanted(self._account, given["line_items"], "line_items")

    def _trial_end(self, given: Object) -> int | None:
        data = given.get("subscription_data", {})
        only(data, {"description", "metadata", "trial_period_days", "trial_end", "trial_settings"})
        days: int | None = data.get("trial_period_days")
        end: int | None = data.get("trial_end")
        param = "subscription_data[trial_period_days]"
        if days is not None and end is not None:
            raise invalid("You may only specify one of trial_end and trial_period_days.", param)
        if days is not None and days < 1:
            raise invalid("The minimum number of trial period days is 1.", param)
        if days is not None and days > LONGEST_TRIAL:
            raise invalid(f"The maximum number of trial period days is {LONGEST_TRIAL}.", param)
        return end if days is None else self._account.now() + days * DAY

    def _name(self, price: Object) -> str:
        return str(self._account.get("product", price["product"])["name"])


def wanted(account: Account, lines: list[Object], param: str) -> list[tuple[Object, int]]:
    """The prices and quantities of line items, or a subscription's.

    :raises Refused: a price that is unknown, inactive or not recurring; no quantity
    """
    found = []
    for place, line in enumerate(lines):
        path = f"{param}[{place}]"
        only(line, {"price", "quantity", "id"}, path)
        if "price" not in line:
            raise required(f"{path}[price]")
        price = account.get("price", line["price"], f"{path}[price]", 400)
        if not price["active"]:
            message = "The price specified is inactive. This field only accepts active prices."
            raise invalid(message, f"{path}[price]")
        if price["recurring"] is None:
            raise invalid(
                "You must provide at least one recurring price in `subscription` mode when using prices.",
                f"{path}[price]",
            )
        if param == "line_items" and "quantity" not in line:
            raise invalid(f"Quantity is required. Add `quantity` to `{path}`", f"{path}[quantity]")
        found.append((price, line.get("quantity", 1)))
    if len({price["currency"] for price, _ in found}) > 1:
        raise invalid("All prices of one subscription must have the same currency.", param)
    return found


def only(given: Object, known: set[str], path: str = "") -> None:
    """:raises Refused: Stripe knows the parameter, this fake doesn't: better said than ignored"""
    for key in given:
        if key not in known:
            param = f"{path}[{key}]" if path else key
            raise Refused(400, f"fakestripe does not know what `{param}` does.", param=param)


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
