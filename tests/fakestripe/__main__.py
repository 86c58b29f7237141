"""`python -m tests.fakestripe`: Stripe on this machine, for a demonstration. Open its address in a browser."""

import argparse
import asyncio
import secrets
import sys

from .fake import SECRET_KEY, FakeStripe

WEBHOOK_SECRET = "whsec_fakestripe"

POLL = 0.2
RETRY = 5.0
"""seconds"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakestripe", description=__doc__)
    parser.add_argument("--port", type=int, default=12111, help="of this Stripe, on 127.0.0.1")
    parser.add_argument("--webhook", default="", metavar="URL", help="where events are sent")
    parser.add_argument("--webhook-secret", default=WEBHOOK_SECRET, metavar="SECRET", help="what signs them")
    parser.add_argument("--secret-key", default=SECRET_KEY, metavar="KEY", help="what the API is asked with")
    options = parser.parse_args()
    # Another run has other ids: what a program remembers of the last one must not be somebody else's now.
    stripe = FakeStripe(port=options.port, secret_key=options.secret_key, seed=secrets.randbits(64))
    try:
        stripe.start()
    except OSError as error:
        sys.exit(f"Port {options.port} can't be had ({error.strerror}): name another by --port.")
    say(f"Stripe's API and pages: {stripe.url}  (Ctrl-C ends it)\n")
    say(f"  export COTEX_STRIPE_API_URL={stripe.url}")
    say(f"  export COTEX_STRIPE_SECRET_KEY={stripe.secret_key}")
    if options.webhook:
        say(
            f"  export COTEX_STRIPE_WEBHOOK_SECRET={stripe.webhook(options.webhook, secret=options.webhook_secret)}"
        )
    say(f"\n  a monthly price of 10 USD: {stripe.price(1000)}")
    say(f"  a yearly price of 100 USD: {stripe.price(10000, interval='year')}\n")
    try:
        asyncio.run(send(stripe))
    except KeyboardInterrupt:
        stripe.stop()
        say("Stopped.")


async def send(stripe: FakeStripe) -> None:
    """Events as they happen; those that were not accepted, again and again."""
    while True:
        stripe.advance_clock()
        attempts = await stripe.deliver()
        for attempt in attempts:
            say(f"{attempt.type} {attempt.event} → {attempt.status or 'no answer'}")
        await asyncio.sleep(POLL if all(attempt.accepted for attempt in attempts) else RETRY)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
