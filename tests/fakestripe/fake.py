"""What a test holds: Stripe itself, and the hand that moves its customers' lives."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from datetime import timedelta
from random import Random
from types import TracebackType
from typing import Any, Self

from stripe import StripeClient

from . import catalogue, checkout, money, pages
from .account import Account
from .checkout import Checkout
from .door import Answer, Door
from .faults import Fault, Faults, Hold, Request
from .faults import How as Failing
from .lives import OVER, OWING, AfterRetries, Card, Lives
from .periods import DAY
from .routing import Rooms
from .server import Server
from .shapes import Object
from .webhooks import Attempt, Chance, Order, Outbox

SECRET_KEY = "sk_test_51FakeStripe"
DISPUTE_DUE = 7 * DAY


class FakeStripe:
    """Everything that it returns is a copy of an object as Stripe shows it; ids go in, ids or copies come out.

    What can't happen to a thing in the state it is in raises ValueError; an id that isn't there, Refused.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        secret_key: str = SECRET_KEY,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        after_retries: AfterRetries = "cancel",
    ) -> None:
        self._port = port
        self._account = Account(clock, seed)
        self._lives = Lives(self._account, after_retries)
        self._checkout = Checkout(self._account, self._lives)
        self._outbox = Outbox(self._account)
        self._rooms = Rooms(self._account, self._lives, self._checkout, self._outbox)
        self._faults = Faults()
        self._door = Door(self._rooms, self._faults, secret_key)
        self._server: Server | None = None
        self._random = Random(seed)

    # Being there.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after a stop() on the same port again."""
        self._server = Server(self._port, self._respond)
        self._port = self._server.server_address[1]
        self._account.url = self.url
        self._server.start()

    def stop(self) -> None:
        """Be unreachable; what is known is kept."""
        self._faults.stop()
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def secret_key(self) -> str:
        return self._door.secret_key

    @secret_key.setter
    def secret_key(self, value: str) -> None:
        self._door.secret_key = value

    def client(self, secret_key: str = "", **options: Any) -> StripeClient:
        """The official library, pointed here. Its asynchronous half belongs to the loop that first uses it."""
        return StripeClient(secret_key or self.secret_key, base_addresses={"api": self.url}, **options)

    # Looking.

    @property
    def now(self) -> int:
        return self._account.now()

    @property
    def requests(self) -> list[Request]:
        """All that arrived at the API, the oldest first."""
        return list(self._door.requests)

    @property
    def events(self) -> list[Object]:
        """All events, the oldest first."""
        with self._account.lock:
            return deepcopy(list(self._account.objects["event"].values()))

    @property
    def undelivered(self) -> list[Object]:
        """The events that deliver() would send, once for each endpoint."""
        with self._account.lock:
            return deepcopy([pending.event for pending in self._outbox.pending])

    @property
    def lost(self) -> list[Object]:
        """The events that were dropped, or given up after three days."""
        with self._account.lock:
            return deepcopy(self._outbox.lost)

    def get(self, identity: str) -> Object:
        """Any object, by its id."""
        with self._account.lock:
            for things in self._account.objects.values():
                if identity in things:
                    return deepcopy(things[identity])
        raise KeyError(identity)

    def all(self, kind: str) -> list[Object]:
        """The objects of a kind ("subscription", "checkout.session", "invoice", …), the newest first."""
        with self._account.lock:
            return deepcopy(self._account.all(kind))

    def subscriptions(self, customer: str) -> list[Object]:
        """All of a customer's, whatever their status, the newest first."""
        with self._account.lock:
            return deepcopy(self._account.subscriptions_of(customer))

    # Setting up, without HTTP.

    def price(
        self,
        amount: int = 1000,
        *,
        interval: str = "month",
        currency: str = "usd",
        product: str = "",
        lookup_key: str | None = None,
    ) -> str:
        """The id of a new recurring price; of a new product, unless one is named."""
        given: Object = {"unit_amount": amount, "currency": currency, "recurring": {"interval": interval}}
        given |= {"product": product} if product else {"product_data": {"name": f"Product of {amount}"}}
        given["lookup_key"] = lookup_key
        with self._account.lock:
            return str(catalogue.create_price(self._rooms, "", given)["id"])

    def customer(self, email: str | None = None, **metadata: str) -> str:
        """The id of a new customer."""
        given = {"email": email, "metadata": metadata}
        with self._account.lock:
            return str(catalogue.create_customer(self._rooms, "", given)["id"])

    def webhook(self, url: str, *, secret: str = "", events: list[str] | None = None) -> str:
        """The secret of a new webhook endpoint, as made in the Dashboard; without `events`, it is sent all of them."""
        with self._account.lock:
            made = self._outbox.register({"url": url, "enabled_events": events or ["*"]}, secret)
            return self._outbox.secret_of(made["id"])

    def roll_secret(self, endpoint: str) -> str:
        """A new secret for a webhook endpoint; for a day both sign."""
        with self._account.lock:
            return self._outbox.roll(endpoint)

    def subscribe(
        self,
        customer: str,
        price: str,
        *,
        quantity: int = 1,
        trial_days: int = 0,
        incomplete: bool = False,
        **metadata: str,
    ) -> str:
        """The id of a new subscription made past Checkout; `incomplete`: its first payment awaits the customer."""
        with self._account.lock:
            self._account.customer(customer)
            wanted = checkout.wanted(self._account, [{"price": price, "quantity": quantity}], "items")
            end = self.now + trial_days * DAY if trial_days else None
            card: Card = "absent" if incomplete else "good"
            return str(self._lives.begin(customer, wanted, {"metadata": metadata}, card, end)["id"])

    # What a customer does.

    def pay(self, session: str, how: checkout.How = "card") -> Object:
        """Complete a Checkout session by "card" or by a debit ("delayed": settle() or bounce() it), or be "declined".

        :raises ValueError: it is not open, or its customer is deleted
        """
        with self._account.lock:
            found = self._account.get("checkout.session", session)
            self._checkout.complete(found, how)
            return deepcopy(found)

    def settle(self, session: str) -> None:
        """The debit of a session that was paid by "delayed" arrives."""
        with self._account.lock:
            self._checkout.settle(self._account.get("checkout.session", session), paid=True)

    def bounce(self, session: str) -> None:
        """The debit of a session that was paid by "delayed" comes back: its subscription is past due."""
        with self._account.lock:
            self._checkout.settle(self._account.get("checkout.session", session), paid=False)

    def expire(self, session: str) -> None:
        with self._account.lock:
            self._checkout.expire(self._account.get("checkout.session", session))

    def decline(self, subscription: str, *, asks: bool = False) -> None:
        """From now on its card is declined (or `asks` for the customer's confirmation): felt at the next payment."""
        with self._account.lock:
            self._account.get("subscription", subscription)
            self._account.private[subscription]["card"] = "authenticate" if asks else "declined"

    def fail_payment(self, subscription: str, *, asks: bool = False) -> None:
        """Its card is declined now: the next period begins at once, unpaid; one that owes is tried again, in vain."""
        with self._account.lock:
            found = self._living(subscription, {"active", "trialing", *OWING})
            self.decline(subscription, asks=asks)
            if found["status"] in OWING:
                self._lives.attempt(self._oldest_owed(found))
            else:
                self._lives.cycle(found, early=True)

    def retry(self, subscription: str) -> None:
        """What it owes is tried again, with the card as it is."""
        with self._account.lock:
            self._lives.attempt(self._oldest_owed(self._living(subscription, OWING)))

    def recover(self, subscription: str) -> None:
        """The customer gives a card that works, and all that is owed is paid; a paused one goes on."""
        with self._account.lock:
            found = self._living(subscription, {*OWING, "paused"})
            self._account.private[subscription]["card"] = "good"
            for invoice in self._lives.owed(found):
                self._lives.attempt(invoice)
            if found["status"] == "paused":
                self._lives.resume(found)

    def cancel_now(self, subscription: str) -> None:
        with self._account.lock:
            self._lives.end(self._living(subscription), "cancellation_requested")

    def cancel_at_period_end(self, subscription: str) -> None:
        with self._account.lock:
            self._lives.cancel_later(self._living(subscription), wanted=True)

    def pause(self, subscription: str) -> None:
        with self._account.lock:
            self._lives.pause(self._living(subscription, {"active", "trialing"}))

    def resume(self, subscription: str) -> None:
        """Unpause a paused one; take back the cancellation of another."""
        with self._account.lock:
            found = self._living(subscription)
            if found["status"] == "paused":
                self._lives.resume(found)
            else:
                self._lives.cancel_later(found, wanted=False)

    def upgrade(self, subscription: str, price: str, *, quantity: int = 1) -> None:
        """Change the price (or seats) of its first item, up or down."""
        with self._account.lock:
            found = self._living(subscription)
            self._lives.change(found, 0, self._account.get("price", price), quantity)

    def dispute(self, subscription: str, *, cancels: bool = False) -> str:
        """The id of a dispute about its last charge; `cancels`: as with the setting that ends disputed subscriptions.

        :raises ValueError: nothing was charged
        """
        account = self._account
        with account.lock:
            found = account.get("subscription", subscription)
            if "charge" not in account.private[subscription]:
                raise ValueError("Nothing was charged that could be disputed.")
            charge = account.get("charge", account.private[subscription]["charge"])
            charge["disputed"] = True
            identity = account.identity("du_1", 23)
            made = account.add(money.dispute(identity, account.now(), charge, account.now() + DISPUTE_DUE))
            account.emit("charge.dispute.created", made)
            if cancels and found["status"] not in OVER:
                self._lives.end(found, "payment_disputed")
            return identity

    def delete_customer(self, customer: str) -> None:
        with self._account.lock:
            catalogue.delete_customer(self._rooms, customer, {})

    def advance_clock(self, by: timedelta = timedelta()) -> None:
        """Let time pass: renewals, ends of trials and of sessions, retries, cancellations, each at its own moment.

        Where the test moves a `clock` that it has given, without `by`: catch up with it.
        """
        with self._account.lock:
            self._account.advance(by)

    def _living(self, subscription: str, statuses: set[str] | None = None) -> Object:
        found = self._account.get("subscription", subscription)
        if found["status"] in OVER or (statuses is not None and found["status"] not in statuses):
            raise ValueError(f"That can't happen to a subscription that is {found['status']}.")
        return found

    def _oldest_owed(self, subscription: Object) -> Object:
        return self._lives.owed(subscription)[0]

    # Bad days.

    def fail(
        self, how: Failing, *, times: int | None = 1, method: str = "", path: str = "", seconds: float = 0.0
    ) -> Fault:
        """The next `times` requests (None: all) whose path begins so fail; faults.How says how."""
        fault = Fault(how, times, method, path, seconds)
        self._faults.plan(fault)
        return fault

    def heal(self) -> None:
        """Nothing fails any more, and what is slow goes on."""
        self._faults.heal()

    def hold(
        self, *, method: str = "", path: str = "", times: int | None = 1
    ) -> AbstractContextManager[Hold]:
        """Keep back the answers of the next `times` requests, made already, until release() or the end of the block."""
        return self._faults.holding(Hold(method, path, times))

    # Events on their way.

    async def deliver(
        self,
        *,
        order: Order = "created",
        drop: Chance = 0.0,
        duplicate: Chance = 0.0,
        delay: Chance = 0.0,
        random: Random | None = None,
        attempts: int = 1,
        at_once: int = 1,
        signed_at: float | None = None,
    ) -> list[Attempt]:
        """Send what waits. What is delayed, or was not answered with a 2xx, waits for the next call.

        A Chance is a probability, or a function that is given the event. `attempts`: rounds, in which those are sent
        again that failed. `at_once`: how many are under way together. `signed_at`: the time that is signed, else now.
        """
        return await self._outbox.deliver(
            order=order,
            drop=drop,
            duplicate=duplicate,
            delay=delay,
            random=random or self._random,
            attempts=attempts,
            at_once=at_once,
            signed_at=signed_at,
        )

    async def resend(self, event: str) -> list[Attempt]:
        """Send one event again to every endpoint, as from the Dashboard."""
        with self._account.lock:
            self._outbox.queue(self._account.get("event", event))
        return await self.deliver(delay=lambda waiting: waiting["id"] != event)

    # HTTP.

    def _respond(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        if target.startswith("/v1/"):
            return self._door.answer(method, target, headers, body)
        return pages.answer(self, method, target, body)
