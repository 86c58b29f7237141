"""What the fake makes of a customer's life is what Stripe would, and its events tell all of it."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
from fakestripe import FakeStripe
from fakestripe.lives import OVER, OWING
from fakestripe.shop import JANUARY, Shop
from hypothesis import given, settings
from hypothesis import strategies as st

DAY = timedelta(days=1)


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe(clock=JANUARY.timestamp) as started:
        yield started


@pytest.fixture
def shop(fake: FakeStripe) -> Shop:
    return Shop(fake)


def kinds(fake: FakeStripe, since: int = 0) -> list[str]:
    return [event["type"] for event in fake.events[since:]]


def moment(timestamp: int) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d}"


def period(fake: FakeStripe, subscription: str) -> tuple[str, str]:
    item = fake.get(subscription)["items"]["data"][0]
    return moment(item["current_period_start"]), moment(item["current_period_end"])


def test_a_paid_session_makes_a_subscription_with_the_metadata_meant_for_it(fake: FakeStripe, shop: Shop):
    session = shop.checkout(metadata={"of": "the session"})
    assert (session.status, session.payment_status, session.subscription) == ("open", "unpaid", None)
    before = len(fake.events)
    fake.pay(session.id)
    told = kinds(fake, before)
    assert told[-1] == "checkout.session.completed"
    assert {"customer.subscription.created", "customer.subscription.updated", "invoice.paid"} <= set(told)
    done = shop.v1.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    subscription = shop.v1.subscriptions.list({"customer": shop.customer}).data[0]
    assert (subscription.id, subscription.status) == (done.subscription, "active")
    assert subscription.metadata.to_dict() == {"user_id": "ada"}
    invoice = shop.v1.invoices.list({"subscription": subscription.id}).data[0].to_dict()
    assert invoice["parent"]["subscription_details"]["subscription"] == subscription.id
    with pytest.raises(ValueError, match="complete"):
        fake.pay(session.id)


def test_a_declined_card_leaves_the_session_open_until_it_expires_after_a_day(fake: FakeStripe, shop: Shop):
    session, other = shop.checkout(), shop.checkout()
    assert fake.pay(session.id, "declined")["status"] == "open"
    assert shop.v1.checkout.sessions.expire(other.id).status == "expired"
    fake.advance_clock(DAY - timedelta(seconds=1))
    assert fake.get(session.id)["status"] == "open"
    fake.advance_clock(timedelta(seconds=1))
    assert fake.get(session.id)["status"] == "expired"
    assert kinds(fake)[-2:] == ["checkout.session.expired"] * 2
    assert fake.subscriptions(shop.customer) == []
    with pytest.raises(stripe.InvalidRequestError, match="can be expired"):
        shop.v1.checkout.sessions.expire(other.id)


def test_periods_follow_the_anchor_through_short_months(fake: FakeStripe, shop: Shop):
    subscription = shop.subscribed()
    assert period(fake, subscription) == ("2026-01-31", "2026-02-28")
    fake.advance_clock(31 * DAY)
    assert period(fake, subscription) == ("2026-02-28", "2026-03-31")
    assert shop.status(subscription) == "active"
    assert [invoice["billing_reason"] for invoice in fake.all("invoice")] == [
        "subscription_cycle",
        "subscription_create",
    ]


def test_a_trial_is_free_and_then_paid_or_paused_without_a_card(fake: FakeStripe, shop: Shop):
    paying = shop.subscribed(subscription_data={"trial_period_days": 14})
    cardless = shop.subscribed(
        payment_method_collection="if_required",
        subscription_data={
            "trial_period_days": 14,
            "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
        },
    )
    assert {shop.status(paying), shop.status(cardless)} == {"trialing"}
    assert {invoice["amount_paid"] for invoice in fake.all("invoice")} == {0}
    assert {session["payment_status"] for session in fake.all("checkout.session")} == {"no_payment_required"}
    fake.advance_clock(14 * DAY)
    assert (shop.status(paying), shop.status(cardless)) == ("active", "paused")
    assert fake.get(fake.get(paying)["latest_invoice"])["amount_paid"] == 1000
    assert Counter(kinds(fake))["customer.subscription.trial_will_end"] == 2
    assert "customer.subscription.paused" in kinds(fake)
    fake.resume(cardless)
    assert shop.status(cardless) == "paused", "it has no card to go on with"
    fake.recover(cardless)
    assert shop.status(cardless) == "active"
    assert kinds(fake)[-1] == "customer.subscription.resumed"


@pytest.mark.parametrize(
    ("after_retries", "end"), [("cancel", "canceled"), ("unpaid", "unpaid"), ("past_due", "past_due")]
)
def test_a_failed_payment_is_tried_again_after_3_5_and_7_days(after_retries: Any, end: str):
    with FakeStripe(clock=JANUARY.timestamp, after_retries=after_retries) as fake:
        shop = Shop(fake)
        subscription = shop.subscribed()
        fake.decline(subscription)
        fake.advance_clock(28 * DAY)
        assert shop.status(subscription) == "past_due"
        assert period(fake, subscription)[0] == "2026-02-28", "the unpaid period has begun"
        fake.advance_clock(15 * DAY - timedelta(seconds=1))
        assert shop.status(subscription) == "past_due"
        fake.advance_clock(timedelta(seconds=1))
        assert shop.status(subscription) == end
        failed = [event for event in fake.events if event["type"] == "invoice.payment_failed"]
        assert [moment(event["created"]) for event in failed] == [
            "2026-02-28",
            "2026-03-03",
            "2026-03-08",
            "2026-03-15",
        ]
        if end == "canceled":
            assert fake.get(subscription)["cancellation_details"]["reason"] == "payment_failed"
            assert kinds(fake)[-1] == "customer.subscription.deleted"
        else:
            fake.recover(subscription)
            assert shop.status(subscription) == "active"


def test_a_failure_that_asks_for_the_customer_says_so_and_a_good_card_recovers_it(
    fake: FakeStripe, shop: Shop
):
    subscription = shop.subscribed()
    before = len(fake.events)
    fake.fail_payment(subscription, asks=True)
    assert {"invoice.payment_action_required", "invoice.payment_failed"} <= set(kinds(fake, before))
    fake.retry(subscription)
    assert shop.status(subscription) == "past_due"
    assert fake.get(shop.customer)["delinquent"]
    assert fake.get(fake.get(subscription)["latest_invoice"])["attempt_count"] == 2
    fake.recover(subscription)
    assert shop.status(subscription) == "active"
    assert fake.get(subscription)["latest_invoice"] == fake.all("invoice")[0]["id"]
    assert not fake.get(shop.customer)["delinquent"]
    with pytest.raises(ValueError, match="active"):
        fake.recover(subscription)


def test_an_incomplete_subscription_expires_after_23_hours(fake: FakeStripe, shop: Shop):
    subscription = fake.subscribe(shop.customer, shop.price, incomplete=True, user_id="ada")
    paid = fake.subscribe(shop.customer, shop.price, incomplete=True, user_id="ada")
    fake.recover(paid)
    fake.advance_clock(timedelta(hours=22))
    fake.fail_payment(subscription)
    assert shop.status(subscription) == "incomplete"
    fake.advance_clock(timedelta(hours=1))
    assert shop.status(subscription) == "incomplete_expired"
    assert [invoice["status"] for invoice in fake.all("invoice")] == ["paid", "void"]
    assert [one.id for one in shop.v1.subscriptions.list({"status": "ended"}).data] == [subscription]
    assert [one.id for one in shop.v1.subscriptions.list({"status": "active"}).data] == [paid]


def test_cancelling_takes_effect_at_the_end_of_the_period_unless_it_is_taken_back(
    fake: FakeStripe, shop: Shop
):
    stays, goes, now = shop.subscribed(), shop.subscribed(), shop.subscribed()
    for subscription in (stays, goes):
        assert (
            shop.v1.subscriptions.update(subscription, {"cancel_at_period_end": True}).cancel_at is not None
        )
    fake.resume(stays)
    why: Any = {"cancellation_details": {"comment": "too dear"}}
    assert shop.v1.subscriptions.cancel(now, why).status == "canceled"
    assert fake.get(now)["cancellation_details"] == {
        "comment": "too dear",
        "feedback": None,
        "reason": "cancellation_requested",
    }
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.subscriptions.cancel(now)
    assert caught.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError, match="canceled subscription can only update"):
        shop.v1.subscriptions.update(now, {"cancel_at_period_end": False})
    assert (shop.status(stays), shop.status(goes)) == ("active", "active")
    fake.advance_clock(28 * DAY)
    assert (shop.status(stays), shop.status(goes)) == ("active", "canceled")
    assert (
        moment(fake.get(goes)["canceled_at"]) == "2026-01-31"
        and moment(fake.get(goes)["ended_at"]) == "2026-02-28"
    )
    listed = shop.v1.subscriptions.list({"customer": shop.customer})
    assert [one.id for one in listed.data] == [stays]
    assert len(shop.v1.subscriptions.list({"customer": shop.customer, "status": "all"}).data) == 3


def test_an_upgrade_tells_what_was_before(fake: FakeStripe, shop: Shop):
    subscription, yearly = shop.subscribed(), fake.price(10_000, interval="year")
    fake.upgrade(subscription, yearly, quantity=3)
    assert period(fake, subscription) == ("2026-01-31", "2027-01-31")
    updated = next(event for event in fake.events[::-1] if event["type"] == "customer.subscription.updated")
    assert updated["data"]["previous_attributes"]["items"]["data"][0]["price"]["id"] == shop.price
    assert fake.get(fake.get(subscription)["latest_invoice"])["amount_due"] == 30_000
    item = fake.get(subscription)["items"]["data"][0]["id"]
    shop.v1.subscriptions.update(subscription, {"items": [{"id": item, "price": shop.price, "quantity": 1}]})
    assert period(fake, subscription) == ("2026-01-31", "2026-02-28")


def test_a_debit_settles_or_bounces_days_after_the_session_is_complete(fake: FakeStripe, shop: Shop):
    good, bad = shop.checkout().id, shop.checkout().id
    for session in (good, bad):
        assert fake.pay(session, "delayed")["payment_status"] == "unpaid"
    fake.advance_clock(3 * DAY)
    fake.settle(good)
    assert kinds(fake)[-1] == "checkout.session.async_payment_succeeded"
    fake.bounce(bad)
    assert kinds(fake)[-1] == "checkout.session.async_payment_failed"
    assert [shop.status(fake.get(session)["subscription"]) for session in (good, bad)] == [
        "active",
        "past_due",
    ]
    with pytest.raises(ValueError, match="awaits no payment"):
        fake.settle(good)


def test_a_dispute_names_a_charge_and_only_the_charge_names_the_customer(fake: FakeStripe, shop: Shop):
    subscription = shop.subscribed()
    dispute = fake.get(fake.dispute(subscription, cancels=True))
    assert "customer" not in dispute
    assert shop.v1.charges.retrieve(dispute["charge"]).customer == shop.customer
    assert kinds(fake)[-2:] == ["charge.dispute.created", "customer.subscription.deleted"]
    with pytest.raises(ValueError, match="Nothing was charged"):
        fake.dispute(fake.subscribe(shop.customer, shop.price, incomplete=True))


def test_a_deleted_customer_has_nothing_and_can_buy_nothing(fake: FakeStripe, shop: Shop):
    subscription, session = shop.subscribed(), shop.checkout()
    fake.delete_customer(shop.customer)
    assert kinds(fake)[-2:] == ["customer.subscription.deleted", "customer.deleted"]
    assert shop.status(subscription) == "canceled"
    with pytest.raises(ValueError, match="deleted"):
        fake.pay(session.id)
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        shop.checkout()
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        shop.v1.billing_portal.sessions.create({"customer": shop.customer})


STEPS = st.sampled_from(
    [
        *("pay", "trial", "incomplete", "fail", "retry", "recover", "decline", "upgrade", "dispute"),
        *("cancel_now", "cancel_at_period_end", "pause", "resume", "day", "month"),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=25))
def test_whatever_a_customer_lives_through_the_events_tell_all_of_it(steps: list[tuple[str, int]]):
    fake = FakeStripe(clock=JANUARY.timestamp)
    customer, prices = fake.customer(), [fake.price(1000), fake.price(9000, interval="year")]
    for step, number in steps:
        subscriptions = fake.subscriptions(customer)
        subscription = subscriptions[number % len(subscriptions)]["id"] if subscriptions else ""
        before = fake.events
        try:
            match step:
                case "pay" | "trial" | "incomplete":
                    days = 5 if step == "trial" else 0
                    fake.subscribe(
                        customer, prices[number % 2], trial_days=days, incomplete=step == "incomplete"
                    )
                case "day" | "month":
                    fake.advance_clock(timedelta(days=number if step == "day" else 31))
                case _ if not subscription:
                    continue
                case "upgrade":
                    fake.upgrade(subscription, prices[number % 2])
                case "fail":
                    fake.fail_payment(subscription, asks=number == 0)
                case _:
                    getattr(fake, step)(subscription)
        except ValueError:
            assert fake.events == before, "what could not happen left a trace"
    told: dict[str, dict[str, Any]] = {}
    for event in fake.events:
        if event["type"].startswith("customer.subscription."):
            told[event["data"]["object"]["id"]] = event["data"]["object"]
    for subscription in fake.subscriptions(customer):
        assert told.pop(subscription["id"]) == subscription
        owes = {"draft", "open"} & {
            invoice["status"]
            for invoice in fake.all("invoice")
            if invoice["parent"]["subscription_details"]["subscription"] == subscription["id"]
        }
        assert subscription["status"] not in OWING or owes
        assert (subscription["ended_at"] is not None) == (subscription["status"] in OVER)
    assert told == {}
    created = [event["created"] for event in fake.events]
    assert created == sorted(created)
