"""What a browser sees: the Checkout page, the portal, and a page on which a demonstration moves lives by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from .door import Answer
from .lives import OVER, period_end
from .refusal import Refused
from .shapes import Object

if TYPE_CHECKING:
    from .fake import FakeStripe

Act = Callable[["FakeStripe", str], object]

ACTS: dict[str, Act] = {
    "fail": lambda fake, identity: fake.fail_payment(identity),
    "recover": lambda fake, identity: fake.recover(identity),
    "pause": lambda fake, identity: fake.pause(identity),
    "resume": lambda fake, identity: fake.resume(identity),
    "cancel": lambda fake, identity: fake.cancel_at_period_end(identity),
    "end": lambda fake, identity: fake.cancel_now(identity),
    "dispute": lambda fake, identity: fake.dispute(identity),
    "delete": lambda fake, identity: fake.delete_customer(identity),
    "day": lambda fake, _: fake.advance_clock(timedelta(days=1)),
    "month": lambda fake, _: fake.advance_clock(timedelta(days=31)),
}
LABELS = {
    "fail": "Fail the payment",
    "recover": "Give a good card",
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel at the period's end",
    "end": "Cancel now",
    "dispute": "Dispute",
    "delete": "Delete the customer",
}


def answer(fake: FakeStripe, method: str, target: str, body: bytes) -> Answer:
    """A page, or what follows from its button."""
    path = target.partition("?")[0].strip("/").split("/")
    try:
        match method, path:
            case "GET", [""]:
                return _page("fakestripe", _overview(fake))
            case "GET", ["c", "pay", session]:
                return _page("Checkout", _checkout(fake.get(session)))
            case "POST", ["c", "pay", session]:
                return _pay(fake, session, parse_qs(body.decode())["act"][0])
            case "GET", ["p", "session", portal]:
                return _page("Billing portal", _portal(fake, fake.get(portal)))
            case "POST", ["p", "session", portal, ("cancel" | "resume") as act, subscription]:
                if fake.get(subscription)["customer"] != fake.get(portal)["customer"]:
                    return _page("Not found", "<p>It is another customer's.</p>", 404)
                ACTS[act](fake, subscription)
                return _redirect(f"/p/session/{portal}")
            case "POST", ["act", act, identity] if act in ACTS:
                ACTS[act](fake, identity)
                return _redirect("/")
    except KeyError:
        return _page("Not found", "<p>There is no such thing.</p>", 404)
    except (Refused, ValueError) as error:
        return _page("Not possible", f"<p>{escape(str(error))}</p><p><a href='/'>Back</a></p>", 409)
    return _page("Not found", "<p>There is no such page.</p>", 404)


def _checkout(session: Object) -> str:
    if session["status"] != "open":
        return f"<p>This session is {session['status']}.</p>"
    amount = _money(session["amount_total"], session["currency"])
    return (
        f"<p>To pay: <b>{amount}</b></p><form method=post>"
        "<button name=act value=pay>Pay</button> <button name=act value=decline>Decline</button></form>"
    )


def _pay(fake: FakeStripe, identity: str, act: str) -> Answer:
    session = fake.get(identity)
    if act == "pay":
        fake.pay(identity)
        return _redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", identity))
    return _redirect(session["cancel_url"] or f"/c/pay/{identity}")


def _portal(fake: FakeStripe, portal: Object) -> str:
    rows = []
    for found in fake.subscriptions(portal["customer"]):
        row = f"<p>{_described(found)} "
        if found["status"] not in OVER:
            act, label = ("resume", "Keep it") if found["cancel_at_period_end"] else ("cancel", "Cancel")
            address = f"/p/session/{portal['id']}/{act}/{found['id']}"
            row += f"<form method=post action='{address}'><button>{label}</button></form>"
        rows.append(row)
    back = portal["return_url"]
    return "".join(rows) + (f"<p><a href='{escape(back)}'>Back</a></p>" if back else "")


def _overview(fake: FakeStripe) -> str:
    clock = datetime.fromtimestamp(fake.now, UTC)
    parts = [f"<p>Stripe's clock: {clock:%Y-%m-%d %H:%M} UTC {_button('day', '-', 'A day passes')}"]
    parts.append(f"{_button('month', '-', '31 days pass')}</p>")
    for customer in fake.all("customer"):
        if customer.get("deleted"):
            continue
        parts.append(
            f"<h2>{escape(customer['email'] or customer['id'])}</h2>{_button('delete', customer['id'])}"
        )
        for found in fake.subscriptions(customer["id"]):
            parts.append(f"<p>{_described(found)}</p>")
            if found["status"] not in OVER:
                acts = ("fail", "recover", "pause", "resume", "cancel", "end", "dispute")
                parts += [_button(act, found["id"]) for act in acts]
    parts.append("<h2>Events</h2><ol reversed>" + _items(fake.events[::-1][:50]) + "</ol>")
    return "".join(parts)


def _items(events: Iterable[Object]) -> str:
    return "".join(f"<li>{event['type']} <small>{event['data']['object']['id']}</small>" for event in events)


def _described(subscription: Object) -> str:
    end = datetime.fromtimestamp(period_end(subscription), UTC)
    price = subscription["items"]["data"][0]["price"]
    text = f"{subscription['id']}: <b>{subscription['status']}</b>, "
    text += f"{_money(price['unit_amount'], price['currency'])} a {price['recurring']['interval']}, "
    text += f"until {end:%Y-%m-%d}"
    return text + (" (then it ends)" if subscription["cancel_at_period_end"] else "")


def _money(amount: int, currency: str) -> str:
    return f"{amount / 100:.2f} {currency.upper()}"


def _button(act: str, identity: str, label: str = "") -> str:
    return f"<form method=post action='/act/{act}/{identity}'><button>{label or LABELS[act]}</button></form> "


def _page(title: str, inside: str, status: int = 200) -> Answer:
    style = (
        "body{font:16px sans-serif;max-width:46em;margin:3em auto}form{display:inline}button{font:inherit}"
    )
    text = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style><h1>{title}</h1>{inside}"
    return Answer(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


def _redirect(location: str) -> Answer:
    return Answer(303, b"", {"Location": location, "Content-Type": "text/plain"})
