import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakestripe import FakeStripe
from fakestripe.webhooks import sign
from hypothesis import given
from hypothesis import strategies as st

from cotexd.errors import CotexError, Failed, Unavailable
from cotexd.gateways.stripe import EVENTS, TOLERANCE, BadEvent, Event, Offer, Stripe, read_event

SECRET = "whsec_of_this_endpoint"
BODY = b'{"id":"evt_1","type":"invoice.paid","data":{"object":{"object":"invoice","id":"in_1","customer":"cus_1"}}}'


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe() as started:
        yield started


@pytest.fixture
def stripe(fake: FakeStripe) -> Stripe:
    return Stripe(fake.secret_key, fake.url)


def header(*secrets: str, body: bytes = BODY, off: int = 0) -> str:
    """A signature of this moment, or of one that is off by some seconds: the library looks at the real clock."""
    return sign(body.decode(), list(secrets or (SECRET,)), int(time.time()) + off)


def read(body: bytes = BODY, signature: str | None = None, *secrets: str) -> Event:
    signature = header(body=body) if signature is None else signature
    return read_event(body, signature, secrets or (SECRET,), datetime.now(UTC))


def signed(value: Any) -> Event:
    return read(value if isinstance(value, bytes) else json.dumps(value).encode())


def offer(price: str, **more: Any) -> Offer:
    given = {
        "price": price,
        "quantity": 1,
        "trial_days": 0,
        "promotion_codes": False,
        "automatic_tax": False,
        "done_url": "https://cotex.example.com/billing/done",
        "cancelled_url": "https://cotex.example.com/billing/cancelled",
    }
    return Offer(**{**given, **more})


# The signature.


def test_a_signed_event_says_whom_it_is_about():
    assert read() == Event("evt_1", "invoice.paid", "cus_1")


def test_a_header_with_a_signature_of_another_scheme_beside_ours_is_good():
    assert ",v0=" in header()
    assert read().id == "evt_1"


def test_a_wrong_secret_is_refused():
    with pytest.raises(BadEvent, match="does not match"):
        read(BODY, header("whsec_another"))


def test_without_any_secret_nothing_is_good():
    with pytest.raises(BadEvent, match="does not match"):
        read_event(BODY, header(), (), datetime.now(UTC))


@pytest.mark.parametrize("place", range(0, len(BODY), 7))
def test_an_altered_body_is_refused(place: int):
    altered = bytearray(BODY)
    altered[place] ^= 1
    with pytest.raises(BadEvent):
        read(bytes(altered), header())


def test_even_a_space_more_is_another_body():
    with pytest.raises(BadEvent, match="does not match"):
        read(BODY + b" ", header())


@pytest.mark.parametrize("off", [-TOLERANCE - 1, TOLERANCE + 60, -86_400, 86_400])
def test_a_time_too_far_off_is_refused_whether_old_or_in_the_future(off: int):
    with pytest.raises(BadEvent, match="too far off"):
        read(BODY, header(off=off))


@pytest.mark.parametrize("off", [-TOLERANCE, TOLERANCE])
def test_a_time_that_is_off_by_no_more_than_the_tolerance_is_good(off: int, monkeypatch: pytest.MonkeyPatch):
    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr("time.time", now.timestamp)
    assert read_event(BODY, header(off=off), (SECRET,), now).id == "evt_1"
    with pytest.raises(BadEvent, match="too far off"):
        read_event(BODY, header(off=off + (1 if off > 0 else -1)), (SECRET,), now)


def test_the_time_is_signed_and_cannot_be_renewed():
    _, _, signatures = header(off=-3600).partition(",")
    with pytest.raises(BadEvent, match="does not match"):
        read(BODY, f"t={int(time.time())},{signatures}")


@pytest.mark.parametrize(
    "signature",
    ["", "v1=00", "t=", "t=,v1=00", "t=now,v1=00", "t=-1,v1=00", "t=1.5,v1=00", "t=\u0661,v1=00", "t=1,t=1,v1=00",
     "t=" + "9" * 13, "t=" + "9" * 5000],
)  # fmt: skip
def test_a_signature_without_a_time_or_with_two_is_refused(signature: str):
    with pytest.raises(BadEvent, match="no time"):
        read(BODY, signature)


def test_a_time_without_a_signature_is_refused():
    with pytest.raises(BadEvent, match="does not match"):
        read(BODY, f"t={int(time.time())}")


def test_a_body_that_is_not_utf_8_is_refused():
    with pytest.raises(BadEvent, match="not an event"):
        read(b'{"id":"\xff"}', header())


def test_two_secrets_hold_during_a_rotation_on_either_side():
    old, new = "whsec_old", "whsec_new"
    for by in ([old], [new], [old, new]):
        assert read(BODY, header(*by), old, new).id == "evt_1"
        assert read(BODY, header(*by), by[-1]).id == "evt_1"
    with pytest.raises(BadEvent):
        read(BODY, header("whsec_third"), old, new)


@given(st.text(max_size=80), st.binary(max_size=80))
def test_nothing_unsigned_is_ever_good(signature: str, body: bytes):
    with pytest.raises(BadEvent):
        read(body, signature)


# What an event says.


@pytest.mark.parametrize(
    ("about", "customer"),
    [
        ({"object": "customer", "id": "cus_1"}, "cus_1"),
        ({"object": "subscription", "id": "sub_1", "customer": "cus_1"}, "cus_1"),
        ({"object": "invoice", "customer": {"id": "cus_1", "object": "customer", "deleted": True}}, "cus_1"),
        ({"object": "checkout.session", "customer": None}, ""),
        ({"object": "dispute", "id": "du_1", "charge": "ch_1"}, ""),
        ({"object": "charge", "customer": ""}, ""),
        ({}, ""),
    ],
)
def test_the_customer_is_found_wherever_an_event_has_it(about: dict[str, Any], customer: str):
    found = signed({"id": "evt_1", "type": "a.b", "data": {"object": about}})
    assert found.customer == customer


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"{", b"nonsense", {}, {"id": "evt_1"}, {"id": 1, "type": "a", "data": {"object": {}}},
     {"id": "evt_1", "type": "a.b", "data": {}}, {"id": "evt_1", "type": "a.b", "data": {"object": "in_1"}},
     {"id": "evt_1", "type": "a.b", "data": {"object": {"customer": 5}}}, b"[" * 100_000],
)  # fmt: skip
def test_what_is_signed_and_no_event_is_refused(value: Any):
    with pytest.raises(BadEvent, match="not an event"):
        signed(value)


# What goes wrong is in the catalogue.


async def every_call(stripe: Stripe) -> list[CotexError]:
    """What each call of the gateway raises."""
    raised = []
    for call in (
        stripe.make_customer("u", "ada", ""),
        stripe.user_of("cus_1"),
        stripe.exists("cus_1"),
        stripe.subscriptions("cus_1"),
        stripe.checkout("u", "cus_1", offer("price_1")),
        stripe.portal("cus_1", "https://cotex.example.com/billing/done"),
        stripe.price("price_1"),
        stripe.make_price("pro", 900, "usd", "month"),
        anext(stripe.endpoints()),
        stripe.make_endpoint("https://cotex.example.com/webhooks/stripe"),
        stripe.mend_endpoint("we_1"),
    ):
        with pytest.raises(CotexError) as error:
            await call
        raised.append(error.value)
    return raised


async def test_a_key_that_stripe_does_not_know_is_ours_to_mend_and_never_shown(fake: FakeStripe):
    for error in await every_call(Stripe("sk_test_a_wrong_key", fake.url)):
        assert type(error) is Failed
        assert "cotex secret set stripe-key" in error.hint
        assert "wrong_key" not in error.message + error.hint


@pytest.mark.parametrize("how", ["429", "500", "503", "cut"])
async def test_what_passes_is_unavailable(fake: FakeStripe, stripe: Stripe, how):
    fake.fail(how, times=None)
    with pytest.raises(Unavailable):
        await stripe.subscriptions(fake.customer())
    with pytest.raises(Unavailable):
        await stripe.make_customer("u", "ada", "ada@example.com")


async def test_when_stripe_is_not_there_every_call_is_unavailable(fake: FakeStripe, stripe: Stripe):
    fake.stop()
    assert {type(error) for error in await every_call(stripe)} == {Unavailable}


async def test_a_connection_that_is_cut_once_is_tried_again(fake: FakeStripe, stripe: Stripe):
    customer = fake.customer()
    fake.fail("cut")
    assert await stripe.subscriptions(customer) == ()


async def test_a_customer_whose_answer_was_lost_is_made_once(fake: FakeStripe, stripe: Stripe):
    fake.fail("cut_after")
    made = await stripe.make_customer("u", "ada", "ada@example.com")
    assert [each["id"] for each in fake.all("customer")] == [made]


async def test_a_price_that_is_not_there_is_said_in_words(fake: FakeStripe, stripe: Stripe):
    with pytest.raises(CotexError, match="price") as error:
        await stripe.checkout("u", fake.customer(), offer("price_1"))
    assert error.value.code == "not_found"
    with pytest.raises(CotexError) as error:
        await stripe.price("price_1")
    assert error.value.code == "not_found"


async def test_what_stripe_refuses_of_a_request_is_failed(fake: FakeStripe, stripe: Stripe):
    with pytest.raises(Failed, match="Stripe refuses"):
        await stripe.checkout("u", fake.customer(), offer(fake.price(), trial_days=1000))


# Customers.


async def test_a_customer_is_made_with_the_user_s_id(fake: FakeStripe, stripe: Stripe):
    made = await stripe.make_customer("user-1", "ada", "ada@example.com")
    shown = fake.get(made)
    assert (shown["metadata"], shown["name"], shown["email"]) == (
        {"user_id": "user-1"},
        "ada",
        "ada@example.com",
    )
    assert await stripe.user_of(made) == "user-1"
    assert await stripe.exists(made)


async def test_a_customer_without_an_address_is_made(fake: FakeStripe, stripe: Stripe):
    assert fake.get(await stripe.make_customer("user-1", "ada", ""))["email"] is None


async def test_asking_twice_makes_one_customer_and_another_user_or_attempt_another(
    fake: FakeStripe, stripe: Stripe
):
    first = await stripe.make_customer("user-1", "ada", "ada@example.com")
    assert await stripe.make_customer("user-1", "ada", "ada@example.com") == first
    again = await stripe.make_customer("user-1", "ada", "ada@example.com", attempt=first)
    other = await stripe.make_customer("user-2", "ada", "ada@example.com")
    assert len({first, again, other}) == len(fake.all("customer")) == 3


async def test_a_deleted_customer_does_not_exist_and_is_nobody(fake: FakeStripe, stripe: Stripe):
    made = await stripe.make_customer("user-1", "ada", "")
    fake.delete_customer(made)
    for gone in (made, "cus_never"):
        assert not await stripe.exists(gone)
        assert await stripe.user_of(gone) == ""


async def test_a_customer_of_somebody_else_s_making_is_nobody(fake: FakeStripe, stripe: Stripe):
    assert await stripe.user_of(fake.customer("ada@example.com")) == ""


# Subscriptions.


async def test_a_subscription_is_read_whole(fake: FakeStripe, stripe: Stripe):
    customer, price = fake.customer(), fake.price()
    identity = fake.subscribe(customer, price)
    (found,) = await stripe.subscriptions(customer)
    assert (found.id, found.status, found.prices) == (identity, "active", (price,))
    assert found.period_start == datetime.fromtimestamp(fake.get(identity)["created"], UTC)
    assert timedelta(days=28) <= found.period_end - found.period_start <= timedelta(days=31)
    assert not found.had_trial
    fake.cancel_at_period_end(identity)
    assert (await stripe.subscriptions(customer))[0].cancel_at_period_end


async def test_a_trial_is_remembered_after_it_has_ended(fake: FakeStripe, stripe: Stripe):
    customer = fake.customer()
    fake.cancel_now(fake.subscribe(customer, fake.price(), trial_days=7))
    (found,) = await stripe.subscriptions(customer)
    assert (found.status, found.had_trial) == ("canceled", True)


async def test_only_the_customer_s_own_are_read(fake: FakeStripe, stripe: Stripe):
    price = fake.price()
    fake.subscribe(fake.customer("ada@example.com"), price)
    assert await stripe.subscriptions(fake.customer("ada@example.com")) == ()


async def test_more_subscriptions_than_a_page_holds_are_all_read(fake: FakeStripe, stripe: Stripe):
    customer, price = fake.customer(), fake.price()
    made = [fake.subscribe(customer, price) for _ in range(205)]
    fake.cancel_now(made[0])
    found = await stripe.subscriptions(customer)
    assert [each.id for each in found] == made[::-1]
    assert found[-1].status == "canceled"
    asked = [each.params.get("starting_after") for each in fake.requests if each.path == "/v1/subscriptions"]
    assert asked == [None, made[105], made[5]]


async def test_a_page_that_fails_fails_the_whole_rather_than_leave_some_out(fake: FakeStripe, stripe: Stripe):
    customer, price = fake.customer(), fake.price()
    for _ in range(101):
        fake.subscribe(customer, price)
    with fake.hold(path="/v1/subscriptions") as first:
        asking = asyncio.ensure_future(stripe.subscriptions(customer))
        await asyncio.to_thread(first.wait)
        fake.fail("500", times=None)
        first.release()
        with pytest.raises(Unavailable):
            await asking


async def test_nobody_who_is_gone_has_a_subscription(fake: FakeStripe, stripe: Stripe):
    customer = fake.customer()
    fake.subscribe(customer, fake.price())
    fake.delete_customer(customer)
    assert all(each.status == "canceled" for each in await stripe.subscriptions(customer))
    assert await stripe.subscriptions("cus_never") == ()


# Checkout and portal.


async def test_a_checkout_session_maps_all_that_comes_of_it_to_the_user(fake: FakeStripe, stripe: Stripe):
    customer, price = fake.customer(), fake.price()
    url = await stripe.checkout("user-1", customer, offer(price, quantity=3, trial_days=14))
    (session,) = fake.all("checkout.session")
    assert url == session["url"]
    assert (session["client_reference_id"], session["customer"], session["mode"]) == (
        "user-1", customer, "subscription",
    )  # fmt: skip
    assert session["success_url"] == "https://cotex.example.com/billing/done"
    assert session["cancel_url"] == "https://cotex.example.com/billing/cancelled"
    subscription = fake.get(fake.pay(session["id"])["subscription"])
    assert subscription["metadata"] == {"user_id": "user-1"}
    assert subscription["status"] == "trialing"
    assert subscription["items"]["data"][0]["quantity"] == 3


async def test_promotion_codes_and_automatic_tax_are_asked_for_only_where_they_are_wanted(
    fake: FakeStripe, stripe: Stripe
):
    customer, price = fake.customer(), fake.price()
    await stripe.checkout("user-1", customer, offer(price))
    await stripe.checkout("user-1", customer, offer(price, promotion_codes=True, automatic_tax=True))
    with_them, without = fake.all("checkout.session")
    assert with_them["allow_promotion_codes"] is True
    assert with_them["automatic_tax"]["enabled"] is True
    assert not without["allow_promotion_codes"]
    assert without["automatic_tax"]["enabled"] is False


async def test_the_portal_is_the_customer_s_own_and_leads_back(fake: FakeStripe, stripe: Stripe):
    customer = fake.customer()
    url = await stripe.portal(customer, "https://cotex.example.com/billing/done")
    (session,) = fake.all("billing_portal.session")
    assert (session["url"], session["customer"]) == (url, customer)
    assert session["return_url"] == "https://cotex.example.com/billing/done"


# What `cotex billing setup` makes.


async def test_a_price_is_made_once_with_its_product(fake: FakeStripe, stripe: Stripe):
    made = await stripe.make_price("pro", 900, "eur", "month")
    assert (made.amount, made.currency, made.interval) == (900, "eur", "month")
    assert await stripe.make_price("pro", 900, "eur", "month") == await stripe.price(made.id) == made
    assert fake.get(made.product)["metadata"] == {"tier": "pro"}
    yearly = await stripe.make_price("pro", 9000, "eur", "year")
    assert yearly.interval == "year"
    assert len(fake.all("price")) == 2


async def test_an_endpoint_is_made_for_all_events_and_tells_its_secret_once(fake: FakeStripe, stripe: Stripe):
    made = await stripe.make_endpoint("https://cotex.example.com/webhooks/stripe")
    assert made.secret.startswith("whsec_")
    assert set(made.events) == set(EVENTS)
    (listed,) = [each async for each in stripe.endpoints()]
    assert (listed.id, listed.secret, listed.enabled) == (made.id, "", True)


async def test_an_endpoint_that_is_off_or_misses_events_is_mended(fake: FakeStripe, stripe: Stripe):
    made = await stripe.make_endpoint("https://cotex.example.com/webhooks/stripe")
    fake.client().v1.webhook_endpoints.update(made.id, {"enabled_events": ["invoice.paid"], "disabled": True})
    mended = await stripe.mend_endpoint(made.id)
    assert mended.enabled
    assert set(mended.events) == set(EVENTS)


# The library.


def test_the_library_is_not_imported_until_it_is_used():
    code = """
import sys
import cotexd.appliance, cotexd.gateways.stripe
assert "stripe" not in sys.modules
cotexd.gateways.stripe.Stripe("sk_test_1")
assert "stripe" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_does_not_import_the_library_to_begin():
    code = "import sys, cotex.main; assert 'stripe' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
