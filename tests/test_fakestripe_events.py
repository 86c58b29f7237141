"""The fake's events arrive as Stripe's do, and as badly as a test asks for."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import stripe
from fakestripe import FakeStripe
from fakestripe.shop import JANUARY, Receiver, Shop

DAY = timedelta(days=1)


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe(clock=JANUARY.timestamp) as started:
        yield started


@pytest.fixture
def shop(fake: FakeStripe) -> Shop:
    return Shop(fake)


@pytest.fixture
def receiver(fake: FakeStripe) -> Iterator[Receiver]:
    with Receiver() as made:
        made.secret = fake.webhook(made.url)
        yield made


def kinds(fake: FakeStripe, since: int = 0) -> list[str]:
    return [event["type"] for event in fake.events[since:]]


def test_an_endpoint_tells_its_secret_once(fake: FakeStripe):
    v1 = fake.client().v1
    wanted: Any = {"url": "https://example.com/hook", "enabled_events": ["invoice.paid"]}
    made = v1.webhook_endpoints.create(wanted)
    assert made.secret is not None and made.secret.startswith("whsec_")
    assert "secret" not in v1.webhook_endpoints.retrieve(made.id).to_dict()
    assert "secret" not in v1.webhook_endpoints.list().data[0].to_dict()
    assert v1.webhook_endpoints.update(made.id, {"disabled": True}).status == "disabled"
    with pytest.raises(stripe.InvalidRequestError, match=r"enabled_events\[0\]"):
        v1.webhook_endpoints.create({**wanted, "enabled_events": ["invoice.payed"]})
    assert v1.webhook_endpoints.delete(made.id).deleted
    assert v1.webhook_endpoints.list().data == []


async def test_events_arrive_signed_in_order_and_again_until_they_are_accepted(
    fake: FakeStripe, shop: Shop, receiver: Receiver
):
    await fake.deliver()
    receiver.received.clear()
    before = len(fake.events)
    subscription = shop.subscribed()
    told = kinds(fake, before)
    receiver.answers = [500]
    attempts = await fake.deliver()
    assert [attempt.status for attempt in attempts] == [500, *[200] * (len(told) - 1)]
    assert [event["type"] for event in fake.undelivered] == told[:1]
    assert fake.undelivered[0]["pending_webhooks"] == 1
    await fake.deliver()
    assert receiver.types == [*told, told[0]]
    assert fake.undelivered == []
    assert {event["pending_webhooks"] for event in fake.events[before:]} == {0}
    created = next(event for event in receiver.received if event.type == "customer.subscription.created")
    assert created.data.object["status"] == "incomplete", "as it was then"
    assert shop.status(subscription) == "active"
    listed = shop.v1.events.list({"type": "customer.subscription.created"}).data
    assert [event.id for event in listed] == [created.id]
    assert listed[0].request is not None and listed[0].request.id is None
    await fake.resend(created.id)
    assert receiver.received[-1].id == created.id
    fake.advance_clock(30 * DAY)
    assert shop.v1.events.list({"type": "customer.subscription.created"}).data == []


async def test_what_is_not_accepted_for_three_days_is_given_up(fake: FakeStripe, receiver: Receiver):
    fake.customer()
    receiver.answers = [503] * 4
    assert len(await fake.deliver(attempts=2)) == 2
    fake.advance_clock(3 * DAY)
    await fake.deliver()
    assert len(fake.undelivered) == 1
    fake.advance_clock(DAY)
    await fake.deliver()
    assert fake.undelivered == [] and [event["type"] for event in fake.lost] == ["customer.created"]


@pytest.mark.parametrize("seed", range(3))
async def test_deliveries_are_duplicated_delayed_disordered_and_lost_as_the_seed_says(
    fake: FakeStripe, receiver: Receiver, seed: int
):
    made = [fake.customer(f"{number}@example.com") for number in range(40)]
    chances: Any = {"duplicate": 0.3, "drop": 0.2, "delay": 0.2, "at_once": 4}
    sent = await fake.deliver(order="shuffled", random=Random(seed), **chances)
    arrived = Counter(event.data.object["id"] for event in receiver.received)
    late = {event["data"]["object"]["id"] for event in fake.undelivered}
    lost = {event["data"]["object"]["id"] for event in fake.lost}
    assert len(sent) == arrived.total()
    assert late and lost and max(arrived.values()) == 2
    assert sorted([*arrived, *late, *lost]) == sorted(made), "each is one of the three"
    assert list(arrived) != [identity for identity in made if identity in arrived]
    with FakeStripe(clock=JANUARY.timestamp) as other:
        assert other.webhook(receiver.url) == receiver.secret
        for number in range(40):
            other.customer(f"{number}@example.com")
        again = await other.deliver(order="shuffled", random=Random(seed), **chances)
        assert [attempt.event for attempt in again] == [attempt.event for attempt in sent]


async def test_a_test_may_choose_which_events_are_lost_or_twice(
    fake: FakeStripe, shop: Shop, receiver: Receiver
):
    before = len(fake.events)
    fake.cancel_now(fake.subscribe(shop.customer, shop.price))
    told = kinds(fake, before)
    await fake.deliver(
        order="reversed",
        drop=lambda event: event["type"] == "invoice.paid",
        duplicate=lambda event: event["type"] == "customer.subscription.deleted",
    )
    wanted = [kind for kind in told[::-1] if kind != "invoice.paid"]
    assert Counter(receiver.types) == Counter([*wanted, "customer.subscription.deleted"])
    assert receiver.types[:2] == ["customer.subscription.deleted"] * 2


async def test_a_rolled_secret_and_its_successor_both_sign_for_a_day(fake: FakeStripe, receiver: Receiver):
    endpoint, old = fake.all("webhook_endpoint")[0]["id"], receiver.secret
    new = fake.roll_secret(endpoint)
    for secret in (old, new):
        fake.customer()
        receiver.secret = secret
        assert (await fake.deliver())[0].accepted
    assert receiver.signatures[-1].count("v1=") == 2
    fake.advance_clock(DAY)
    fake.customer()
    assert (await fake.deliver())[0].accepted
    assert receiver.signatures[-1].count("v1=") == 1


async def test_an_endpoint_is_sent_what_it_asked_for(fake: FakeStripe, receiver: Receiver):
    endpoint = fake.all("webhook_endpoint")[0]["id"]
    wanted: Any = {"enabled_events": ["customer.deleted"]}
    fake.client().v1.webhook_endpoints.update(endpoint, wanted)
    fake.delete_customer(fake.customer())
    await fake.deliver()
    assert receiver.types == ["customer.deleted"]
    fake.client().v1.webhook_endpoints.update(endpoint, {"disabled": True})
    fake.delete_customer(fake.customer())
    assert await fake.deliver() == []
    assert receiver.received[0].data.object["object"] == "customer"
