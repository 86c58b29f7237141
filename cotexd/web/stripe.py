"""Billing over HTTP: checkout, portal, Stripe's webhook, and the pages to which its own pages lead back."""

import base64
import binascii
import html
from datetime import UTC, datetime
from typing import Literal

import msgspec
from sanic import HTTPResponse
from sanic.response import html as page

from cotexd.domain import scope
from cotexd.errors import CotexError, Failed, NotFound
from cotexd.flows import billing as flows
from cotexd.gateways import stripe as gateway
from cotexd.operations import accounts, billing
from cotexd.operations.accounts import Account
from cotexd.store import Tx
from cotexd.web import edge
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, body_of, parameter, read_bounded

MAX_BODY = 1024 * 1024
"""bytes of an event"""
PAGES_A_MINUTE = 30
"""of one address: each asks Stripe"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_PURPOSE = "billing page"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
 body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1.5rem}}
 body{{color:#1f2328;background:#fff}}
 h1{{font-size:1.5rem}} @media(prefers-color-scheme:dark){{body{{color:#e6edf3;background:#0d1117}}}}
</style>
<h1>{title}</h1><p>{text}</p><p>You can close this page and go back to CoTeX.</p></html>
"""


class Wanted(msgspec.Struct, frozen=True):
    tier: str = "pro"
    interval: Literal["month", "year"] = "month"


class Address(msgspec.Struct, frozen=True):
    url: str
    """of a page at Stripe"""


class Received(msgspec.Struct, frozen=True):
    received: bool


def mount(app: App) -> None:
    context = app.ctx
    store = context.store

    async def checkout(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.BILLING_WRITE)
        stripe = await context.stripe.stripe()
        wanted = body_of(request, Wanted) if request.body else Wanted()
        back = await _pages(request, caller.id)
        url = await flows.checkout(
            store, stripe, context.terms, caller.id, wanted.tier, wanted.interval, back
        )
        return answer(Address(url))

    async def portal(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.BILLING_WRITE)
        stripe = await context.stripe.stripe()
        back = await _pages(request, caller.id)
        return answer(Address(await flows.portal(store, stripe, caller.id, back)))

    async def receive(request: WebRequest) -> HTTPResponse:
        body = await read_bounded(request, MAX_BODY, "Stripe's events are shorter")
        secrets = await context.stripe.webhook_secrets()
        signature = request.headers.get("stripe-signature", "")
        event = gateway.read_event(body, signature, secrets, datetime.now(UTC))
        await flows.on_event(store, await context.stripe.stripe(), event)
        return answer(Received(received=True))

    async def done(request: WebRequest) -> HTTPResponse:
        account = await _looked_at(request)
        if account is None:
            return _told("Thank you", "What you have changed is in force within a few minutes.")
        return _told("Thank you", _standing(account))

    async def cancelled(request: WebRequest) -> HTTPResponse:
        account = await _looked_at(request)
        told = "Nothing was bought." if account is None else f"Nothing was bought. {_standing(account)}"
        return _told("Cancelled", told)

    async def _pages(request: WebRequest, user_id: str) -> flows.Pages:
        base = context.terms.public_url or f"{edge.scheme(request)}://{request.host}"
        who = await store.read(_reference, user_id)
        return flows.Pages(f"{base}/billing/done?who={who}", f"{base}/billing/cancelled?who={who}")

    async def _looked_at(request: WebRequest) -> Account | None:
        """The user whom a page is for, after a look at Stripe; None if it is nobody's."""
        context.limits.hit("pages", request.ctx.address, PAGES_A_MINUTE)
        try:
            user_id = await store.read(_referred_to, parameter(request, "who") or "")
            customer = await store.read(billing.customer_of, user_id)
            if customer is not None:
                await flows.sync(store, await context.stripe.stripe(), customer)
            return await store.read(accounts.find, user_id)
        except CotexError:
            # A page is not the place for it: the webhook and the reconciliation bring what this look could not.
            return None

    app.add_route(checkout, "/api/checkout", methods=["POST"], name="checkout")
    app.add_route(portal, "/api/billing/portal", methods=["POST"], name="portal")
    app.add_route(receive, "/webhooks/stripe", methods=["POST"], name="stripe", stream=True)
    app.add_route(done, "/billing/done", methods=["GET"], name="billing_done")
    app.add_route(cancelled, "/billing/cancelled", methods=["GET"], name="billing_cancelled")


def _reference(tx: Tx, user_id: str) -> str:
    """A user's id as only we can read it: for a link that tells how they stand."""
    return base64.urlsafe_b64encode(tx.vault.seal(user_id.encode(), _PURPOSE)).decode().rstrip("=")


def _referred_to(tx: Tx, reference: str) -> str:
    try:
        sealed = base64.urlsafe_b64decode(reference + "=" * (-len(reference) % 4))
        return tx.vault.open(sealed, _PURPOSE).decode()
    except (binascii.Error, ValueError, Failed):
        raise NotFound("This page is nobody's.") from None


def _standing(account: Account) -> str:
    used = f"{account.repo_count} of {account.repo_limit} repositories"
    return f"{account.name}, you are on the tier {account.tier}, and track {used}."


def _told(title: str, text: str) -> HTTPResponse:
    body = _PAGE.format(title=html.escape(title), text=html.escape(text))
    return page(body, headers={"content-security-policy": _POLICY})
