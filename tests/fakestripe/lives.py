"""The lives of subscriptions: what follows from a payment, from its failing, and from time passing."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Literal

from . import money, shapes
from .account import Account, Due
from .periods import end_of, seconds
from .shapes import Object

RETRIES = tuple(seconds(timedelta(days=days)) for days in (3, 5, 7))
"""after the first, second and third failure of an invoice; the fourth ends it"""
INCOMPLETE = seconds(timedelta(hours=23))
WARNING = seconds(timedelta(days=3))
"""before a trial ends"""

AfterRetries = Literal["cancel", "unpaid", "past_due"]
Card = Literal["good", "declined", "authenticate", "processing", "absent"]

OVER = {"canceled", "incomplete_expired"}
OWING = {"incomplete", "past_due", "unpaid"}


class Lives:
    def __init__(self, account: Account, after_retries: AfterRetries) -> None:
        self._account = account
        self._after_retries = after_retries
        account.sources.append(self._due)

    # The beginning.

    def begin(
        self,
        customer_id: str,
        wanted: list[tuple[Object, int]],
        given: Object,
        card: Card = "good",
        trial_end: int | None = None,
    ) -> Object:
        """A new subscription with its first invoice, tried at once."""
        account, now = self._account, self._account.now()
        identity = account.identity("sub_1", 23)
        items = [
            shapes.subscription_item(account.identity("si_", 14), now, identity, price, quantity)
            for price, quantity in wanted
        ]
        subscription = shapes.subscription(identity, now, customer_id, items, given)
        account.private[identity]["card"] = card
        if trial_end:
            subscription |= {"status": "trialing", "trial_start": now, "trial_end": trial_end}
            subscription["billing_cycle_anchor"] = trial_end
            for item in items:
                item["current_period_end"] = trial_end
        else:
            _next_period(subscription, now)
        account.add(subscription)
        invoice = self._bill(subscription, "subscription_create")
        account.emit("customer.subscription.created", subscription)
        self.attempt(invoice)
        return subscription

    # Paying.

    def attempt(self, invoice: Object) -> None:
        """Try to collect it; what comes of it is the card's."""
        subscription = self.subscription_of(invoice)
        card: Card = self._account.private[subscription["id"]]["card"]
        if invoice["amount_due"] == 0 or card == "good":
            self._paid(invoice, subscription)
        elif card == "processing":
            invoice["next_payment_attempt"] = None
            self._turn(subscription, "active")
        elif card != "absent" or subscription["status"] != "incomplete":
            self._failed(invoice, subscription, card)

    def subscription_of(self, invoice: Object) -> Object:
        return self._account.get("subscription", invoice["parent"]["subscription_details"]["subscription"])

    def owed(self, subscription: Object) -> list[Object]:
        """Its invoices that are not paid, the oldest first."""
        return [
            invoice
            for invoice in reversed(self._account.all("invoice"))
            if invoice["status"] in {"draft", "open"}
            and invoice["parent"]["subscription_details"]["subscription"] == subscription["id"]
        ]

    def _bill(self, subscription: Object, reason: str) -> Object:
        account = self._account
        customer = account.get("customer", subscription["customer"])
        number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}"
        customer["next_invoice_sequence"] += 1
        customer["currency"] = subscription["currency"]
        identity = account.identity("in_1", 23)
        invoice = money.invoice(identity, account.now(), subscription, reason, customer, number)
        account.add(invoice)
        subscription["latest_invoice"] = identity
        account.emit("invoice.created", invoice)
        if subscription["status"] == "unpaid":
            invoice |= {"status": "draft", "auto_advance": False}
        else:
            account.emit("invoice.finalized", invoice)
        return invoice

    def _paid(self, invoice: Object, subscription: Object) -> None:
        account, now = self._account, self._account.now()
        if invoice["amount_due"]:
            intent = account.identity("pi_3", 23)
            charge = account.add(money.charge(account.identity("ch_3", 23), now, invoice, intent))
            account.private[subscription["id"]]["charge"] = charge["id"]
            account.emit("charge.succeeded", charge)
            invoice["attempt_count"] += 1
        invoice |= {"status": "paid", "attempted": True, "next_payment_attempt": None, "auto_advance": False}
        invoice |= {"amount_paid": invoice["amount_due"], "amount_remaining": 0}
        invoice["status_transitions"]["paid_at"] = now
        account.emit("invoice.paid", invoice)
        account.emit("invoice.payment_succeeded", invoice)
        self._delinquent(subscription, owes=False)
        if subscription["latest_invoice"] != invoice["id"]:
            return
        if subscription["status"] in OWING:
            self._turn(subscription, "active")
        elif subscription["status"] == "paused":
            with account.changing("customer.subscription.updated", subscription):
                subscription |= {"status": "active", "status_details": None}
            account.emit("customer.subscription.resumed", subscription)

    def _failed(self, invoice: Object, subscription: Object, card: Card) -> None:
        account = self._account
        invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
        lives_on = subscription["status"] in {"active", "trialing", "past_due"}
        tried = invoice["attempt_count"]
        again = account.now() + RETRIES[tried - 1] if lives_on and tried <= len(RETRIES) else None
        invoice["next_payment_attempt"] = again
        if card == "authenticate":
            account.emit("invoice.payment_action_required", invoice)
        account.emit("invoice.payment_failed", invoice)
        self._delinquent(subscription, owes=True)
        if not lives_on:
            return
        self._turn(subscription, "past_due")
        if again is None and self._after_retries == "cancel":
            self.end(subscription, "payment_failed")
        elif again is None:
            self._turn(subscription, self._after_retries)

    def _delinquent(self, subscription: Object, *, owes: bool) -> None:
        customer = self._account.get("customer", subscription["customer"])
        if not customer.get("deleted"):
            with self._account.changing("customer.updated", customer):
                customer["delinquent"] = owes

    def _turn(self, subscription: Object, status: str) -> None:
        with self._account.changing("customer.subscription.updated", subscription):
            subscription["status"] = status

    # The next period.

    def cycle(self, subscription: Object, *, early: bool = False) -> None:
        """A period ends, and the next is billed; `early`: now, whatever its date."""
        account, now = self._account, self._account.now()
        was_trialing = subscription["status"] == "trialing"
        if not early and subscription["cancel_at"] is not None and subscription["cancel_at"] <= now:
            self.end(subscription, "cancellation_requested")
            return
        without_card = was_trialing and account.private[subscription["id"]]["card"] == "absent"
        missing = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if without_card and missing == "cancel":
            self.end(subscription, "payment_failed")
            return
        if without_card and missing == "pause":
            self.pause(subscription, "trial_end_without_payment_method")
            return
        with account.changing("customer.subscription.updated", subscription):
            if early:
                subscription["billing_cycle_anchor"] = now
            if was_trialing:
                subscription |= {"status": "active", "trial_end": min(subscription["trial_end"], now)}
            _next_period(subscription, now)
            if subscription["cancel_at_period_end"]:
                subscription["cancel_at"] = period_end(subscription)
            invoice = self._bill(subscription, "subscription_cycle")
        if subscription["status"] != "unpaid":
            self.attempt(invoice)

    def change(self, subscription: Object, place: int, price: Object, quantity: int) -> None:
        """Another price or number of seats; another interval begins a new period, and bills it."""
        item = subscription["items"]["data"][place]
        longer = _interval(item["price"]) != _interval(price)
        with self._account.changing("customer.subscription.updated", subscription):
            item |= {"price": price, "plan": shapes.plan(price), "quantity": quantity}
            subscription["currency"] = price["currency"]
            if not longer or subscription["status"] not in {"active", "past_due"}:
                return
            subscription["billing_cycle_anchor"] = self._account.now()
            _next_period(subscription, self._account.now())
            invoice = self._bill(subscription, "subscription_update")
        self.attempt(invoice)

    # The end, and what is near it.

    def cancel_later(self, subscription: Object, *, wanted: bool) -> None:
        with self._account.changing("customer.subscription.updated", subscription):
            subscription["cancel_at_period_end"] = wanted
            subscription["cancel_at"] = period_end(subscription) if wanted else None
            subscription["canceled_at"] = self._account.now() if wanted else None
            subscription["cancellation_details"]["reason"] = "cancellation_requested" if wanted else None

    def end(self, subscription: Object, reason: str) -> None:
        now = self._account.now()
        incomplete = subscription["status"] == "incomplete"
        subscription["status"] = "incomplete_expired" if incomplete else "canceled"
        subscription |= {"canceled_at": subscription["canceled_at"] or now, "ended_at": now}
        subscription["cancellation_details"]["reason"] = reason
        for invoice in self.owed(subscription):
            invoice |= {"auto_advance": False, "next_payment_attempt": None}
        self._account.emit("customer.subscription.deleted", subscription)

    def pause(self, subscription: Object, why: str = "pause_requested") -> None:
        with self._account.changing("customer.subscription.updated", subscription):
            subscription["status"] = "paused"
            paused = {
                "subscription": {"type": why},
                "transitioned_at": self._account.now(),
                "type": "subscription",
            }
            subscription["status_details"] = {"paused": paused}
        self._account.emit("customer.subscription.paused", subscription)

    def resume(self, subscription: Object) -> None:
        """A paused one goes on when the invoice of its new period is paid."""
        with self._account.changing("customer.subscription.updated", subscription):
            subscription["billing_cycle_anchor"] = self._account.now()
            _next_period(subscription, self._account.now())
            invoice = self._bill(subscription, "subscription_update")
        self.attempt(invoice)

    # What time brings.

    def _due(self) -> Iterator[Due]:
        for subscription in self._account.all("subscription"):
            status = subscription["status"]
            known = self._account.private[subscription["id"]]
            if status == "incomplete":
                yield subscription["created"] + INCOMPLETE, partial(self._expire, subscription)
            if status == "trialing" and not known.get("warned"):
                yield subscription["trial_end"] - WARNING, partial(self._warn, subscription)
            if status in {"trialing", "active", "past_due", "unpaid"}:
                end, cancel_at = period_end(subscription), subscription["cancel_at"]
                yield min(end, cancel_at or end), partial(self.cycle, subscription)
        for invoice in self._account.all("invoice"):
            if invoice["next_payment_attempt"] is not None and invoice["status"] == "open":
                yield invoice["next_payment_attempt"], partial(self.attempt, invoice)

    def _warn(self, subscription: Object) -> None:
        self._account.private[subscription["id"]]["warned"] = True
        self._account.emit("customer.subscription.trial_will_end", subscription)

    def _expire(self, subscription: Object) -> None:
        for invoice in self.owed(subscription):
            invoice |= {"status": "void", "auto_advance": False, "next_payment_attempt": None}
            invoice["status_transitions"]["voided_at"] = self._account.now()
            self._account.emit("invoice.voided", invoice)
        with self._account.changing("customer.subscription.updated", subscription):
            subscription |= {"status": "incomplete_expired", "ended_at": self._account.now()}


def period_end(subscription: Object) -> int:
    """Since basil the items have periods, and the subscription has none."""
    return int(min(item["current_period_end"] for item in subscription["items"]["data"]))


def _interval(price: Object) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def _next_period(subscription: Object, now: int) -> None:
    for item in subscription["items"]["data"]:
        interval, count = _interval(item["price"])
        item["current_period_start"] = now
        item["current_period_end"] = end_of(subscription["billing_cycle_anchor"], interval, count, now)
