"""A Stripe of the tests' own: it keeps state, speaks Stripe's HTTP, and sends signed events as badly as asked.

The official `stripe` library talks to it over `base_addresses={"api": fake.url}`. What the world does to a customer
(pay, decline, dispute, let time pass) is done by the test, through the object that it holds:

    with FakeStripe() as stripe:
        stripe.webhook("http://127.0.0.1:8080/webhooks/stripe")
        ...                                      # the program under test makes a Checkout session
        stripe.pay(session_id)
        await stripe.deliver(order="shuffled", duplicate=0.3, drop=0.1, random=Random(seed))

The way of a request: http.py (sockets) → door.py (key, version, faults, idempotency) → form.py and params.py (what was
meant) → api.py (the routes) → checkout.py, lives.py (what it does) → account.py (the objects, in shapes.py's shapes;
the events) → webhooks.py (their delivery).

What it is not: there is no money. Prorations, taxes, discounts and coupons change no amount; an invoice is finalized
when it is made and not an hour later; a failed payment is tried again after 3, 5 and 7 days. What it doesn't know it
refuses by name, and takes no parameter that the library doesn't declare.
"""

from .fake import FakeStripe
from .faults import Hold, Request
from .webhooks import Attempt

__all__ = ["Attempt", "FakeStripe", "Hold", "Request"]
