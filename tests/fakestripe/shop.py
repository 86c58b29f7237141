"""Who acts in the tests of the fake itself: a program that sells, and an endpoint that is told."""

from datetime import UTC, datetime
from typing import Any, Self

import stripe

from .door import Answer
from .fake import FakeStripe
from .server import Server

JANUARY = datetime(2026, 1, 31, 12, tzinfo=UTC)
"""the last day of a long month before a short one"""


class Shop:
    """A program that sells a monthly price, by the official library."""

    def __init__(self, fake: FakeStripe) -> None:
        self.fake = fake
        self.v1 = fake.client().v1
        self.customer = fake.customer("ada@example.com", user_id="ada")
        self.price = fake.price(1000)

    def checkout(self, **more: Any) -> stripe.checkout.Session:
        asked = {
            "mode": "subscription",
            "customer": self.customer,
            "client_reference_id": "ada",
            "line_items": [{"price": self.price, "quantity": 1}],
            "subscription_data": {"metadata": {"user_id": "ada"}},
            "success_url": "https://example.com/done?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://example.com/cancelled",
            **more,
        }
        wanted: Any = {name: value for name, value in asked.items() if value is not None}
        return self.v1.checkout.sessions.create(wanted)

    def subscribed(self, **more: Any) -> str:
        return str(self.fake.pay(self.checkout(**more).id)["subscription"])

    def status(self, subscription: str) -> str:
        return self.v1.subscriptions.retrieve(subscription).status


class Receiver:
    """A webhook endpoint: it checks what it is sent by the official library, and answers as it is told."""

    def __init__(self) -> None:
        self.secret = ""
        self.received: list[stripe.Event] = []
        self.signatures: list[str] = []
        self.answers: list[int] = []
        """what to answer next; after them, 200"""
        self._server = Server(0, self._respond)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhooks/stripe"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _respond(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        self.signatures.append(headers["stripe-signature"])
        event = stripe.Webhook.construct_event(
            body, headers["stripe-signature"], self.secret, 300, api_key="k"
        )
        self.received.append(event)
        return Answer(self.answers.pop(0) if self.answers else 200, b"{}")

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.received]
