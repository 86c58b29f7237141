"""The fake is only worth what it is true to: the library's declarations, and Stripe's documented behaviour."""

import asyncio
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from fakestripe import FakeStripe
from fakestripe.shop import JANUARY, Shop

ROOT = Path(__file__).parents[1]

# The library hands httpx its form as `data`, which httpx would rather have as `content`.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe(clock=JANUARY.timestamp) as started:
        yield started


@pytest.fixture
def shop(fake: FakeStripe) -> Shop:
    return Shop(fake)


# The library, and the shapes.


async def test_the_official_library_works_against_it_asynchronously(fake: FakeStripe):
    v1 = fake.client().v1
    made = await v1.customers.create_async(
        {"email": "ada@example.com", "metadata": {"user_id": "ada", "x": "1"}}
    )
    changed = await v1.customers.update_async(made.id, {"name": "Ada", "metadata": {"x": "", "y": "2"}})
    assert changed.metadata is not None and changed.metadata.to_dict() == {"user_id": "ada", "y": "2"}
    assert (await v1.customers.retrieve_async(made.id)).name == "Ada"
    assert [one.id async for one in (await v1.customers.list_async({"limit": 1})).auto_paging_iter()] == [
        made.id
    ]
    assert (await v1.customers.delete_async(made.id)).deleted
    assert (await v1.customers.retrieve_async(made.id)).to_dict() == {
        "id": made.id,
        "object": "customer",
        "deleted": True,
    }


def holes(shape: type, thing: dict[str, Any], path: str) -> list[str]:
    """What the library declares of an object and it doesn't have, and what it has and isn't declared."""
    declared = {name: hint for name, hint in shape.__annotations__.items() if name != "OBJECT_NAME"}
    found = [f"{path}.{name} is not declared" for name in thing.keys() - declared.keys()]
    inner = getattr(shape, "_inner_class_types", {})
    for name, hint in declared.items():
        if name not in thing:
            if type(None) not in typing.get_args(hint):
                found.append(f"{path}.{name} is missing")
            continue
        value = thing[name]
        if value is None and type(None) not in typing.get_args(hint):
            found.append(f"{path}.{name} is null")
        for place, part in enumerate(value if isinstance(value, list) else [value]):
            if name in inner and isinstance(part, dict):
                found += holes(inner[name], part, f"{path}.{name}[{place}]")
        if isinstance(value, dict) and value.get("object") == "list":
            for place, part in enumerate(value["data"]):
                found += holes(SHAPES[part["object"]], part, f"{path}.{name}.data[{place}]")
        elif isinstance(value, dict) and isinstance(value.get("object"), dict):
            found += holes(SHAPES[value["object"]["object"]], value["object"], f"{path}.{name}.object")
        elif isinstance(value, dict) and value.get("object") in SHAPES:
            found += holes(SHAPES[value["object"]], value, f"{path}.{name}")
    return found


SHAPES: dict[str, type] = {
    "billing_portal.session": stripe.billing_portal.Session,
    "charge": stripe.Charge,
    "checkout.session": stripe.checkout.Session,
    "customer": stripe.Customer,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
    "invoice": stripe.Invoice,
    "item": stripe.LineItem,
    "line_item": stripe.InvoiceLineItem,
    "plan": stripe.Plan,
    "price": stripe.Price,
    "product": stripe.Product,
    "subscription": stripe.Subscription,
    "subscription_item": stripe.SubscriptionItem,
    "webhook_endpoint": stripe.WebhookEndpoint,
}


def test_every_object_has_the_shape_that_the_library_declares(fake: FakeStripe, shop: Shop):
    paid = shop.subscribed(automatic_tax={"enabled": True}, customer_update={"address": "auto"})
    shop.subscribed(subscription_data={"trial_period_days": 7})
    shop.checkout()
    fake.webhook("http://127.0.0.1:1/")
    shop.v1.billing_portal.sessions.create({"customer": shop.customer})
    fake.dispute(paid)
    fake.pause(paid)
    fake.resume(paid)
    fake.fail_payment(paid)
    session = fake.all("checkout.session")[0]["id"]
    assert shop.v1.checkout.sessions.retrieve(session, {"expand": ["line_items"]}).line_items is not None
    seen = set()
    for kind, shape in SHAPES.items():
        for thing in fake.all(kind):
            assert holes(shape, thing, kind) == []
            seen.add(kind)
    assert SHAPES.keys() - seen == {"item", "line_item", "plan", "subscription_item"}
    item = shop.v1.checkout.sessions.line_items.list(session).data[0].to_dict()
    assert holes(stripe.LineItem, item, "item") == []
    told = {event["type"] for event in fake.events}
    assert told <= set(typing.get_args(typing.get_type_hints(stripe.Event)["type"]))


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"colour": "red"}, "colour"),
        ({"subscription_data": {"metdata": {"a": "b"}}}, "subscription_data[metdata]"),
        ({"line_items": [{"prize": "price_1"}]}, "line_items[0][prize]"),
    ],
)
def test_a_parameter_that_the_library_does_not_declare_is_refused_at_every_depth(
    shop: Shop, given: dict, param: str
):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.checkout(**given)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (
        400,
        "parameter_unknown",
        param,
    )
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"line_items": [{"price": "price_1", "quantity": 1}]}, "resource_missing", "line_items[0][price]"),
        ({"customer": "cus_1"}, "resource_missing", "customer"),
        ({"line_items": None}, "parameter_missing", "line_items"),
        ({"success_url": None}, "parameter_missing", "success_url"),
        ({"mode": None}, "parameter_missing", "mode"),
        ({"mode": "subscribe"}, None, "mode"),
        ({"success_url": "done"}, "url_invalid", "success_url"),
        ({"subscription_data": {"trial_period_days": 0}}, None, "subscription_data[trial_period_days]"),
        ({"automatic_tax": {"enabled": True}}, "customer_tax_location_invalid", "automatic_tax"),
        ({"customer_email": "eve@example.com"}, None, "customer"),
        ({"client_reference_id": "a" * 201}, None, "client_reference_id"),
    ],
)
def test_checkout_refuses_by_name(shop: Shop, given: dict, code: str | None, param: str):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.checkout(**given)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)
    assert shop.fake.all("checkout.session") == []


def test_an_unknown_id_in_an_address_is_404_and_a_wrong_key_is_401(fake: FakeStripe):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        fake.client().v1.subscriptions.retrieve("sub_1")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.AuthenticationError) as refused:
        fake.client("sk_test_anotherone").v1.customers.list()
    assert refused.value.http_status == 401
    assert refused.value.user_message == "Invalid API Key provided: sk_test_******rone"
    assert httpx.get(f"{fake.url}/v1/customers", trust_env=False).status_code == 401


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"validate=yes", "Invalid boolean"),
        (b"balance=much", "Invalid integer"),
        (b"email=ada", "Invalid email address"),
        (b"email=", "passed an empty string"),
        (b"metadata=x", "flat set of key-value pairs"),
        (b"name=%ff", "not UTF-8"),
        (b"name[=x", "Invalid parameter name"),
        (b"tax_exempt=maybe", "must be one of exempt, none or reverse"),
    ],
)
def test_a_text_that_is_not_what_was_meant_is_refused(fake: FakeStripe, body: bytes, said: str):
    headers = {"authorization": f"Bearer {fake.secret_key}"}
    answer = httpx.post(f"{fake.url}/v1/customers", content=body, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert said in answer.json()["error"]["message"]
    with pytest.raises(stripe.InvalidRequestError, match="API version"):
        fake.client(stripe_version="2020-08-27").v1.customers.list()


def test_lists_are_paged_filtered_and_expanded(fake: FakeStripe, shop: Shop):
    made = [fake.customer(f"{number}@example.com") for number in range(25)]
    first = shop.v1.customers.list({"limit": 10})
    assert first.has_more and [one.id for one in first.data] == made[:14:-1]
    assert [one.id for one in first.auto_paging_iter()] == [*reversed(made), shop.customer]
    assert [one.id for one in shop.v1.customers.list({"email": "7@example.com"}).data] == [made[7]]
    with pytest.raises(stripe.InvalidRequestError, match="less than or equal to 100"):
        shop.v1.customers.list({"limit": 101})

    pro = shop.v1.prices.list({"active": True, "type": "recurring"}).data[0]
    yearly = fake.price(10_000, interval="year", product=str(pro.product), lookup_key="pro-year")
    assert [one.id for one in shop.v1.prices.list({"lookup_keys": ["pro-year", "other"]}).data] == [yearly]
    assert [one.id for one in shop.v1.prices.list({"product": str(pro.product)}).data] == [yearly, pro.id]
    twin: Any = {"currency": "usd", "unit_amount": 1, "product": pro.product, "lookup_key": "pro-year"}
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        shop.v1.prices.create(twin)
    taken = shop.v1.prices.create({**twin, "transfer_lookup_key": True})
    assert (taken.lookup_key, shop.v1.prices.retrieve(yearly).lookup_key) == ("pro-year", None)
    shop.v1.prices.update(taken.id, {"active": False})
    shop.v1.prices.update(yearly, {"active": False})
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        shop.checkout(line_items=[{"price": yearly, "quantity": 1}])
    assert [one.id for one in shop.v1.prices.list({"active": True}).data] == [pro.id]

    subscription = shop.subscribed()
    found = shop.v1.subscriptions.retrieve(subscription, {"expand": ["customer", "items.data.price.product"]})
    assert found.to_dict()["customer"]["email"] == "ada@example.com"
    assert found.to_dict()["items"]["data"][0]["price"]["product"]["name"] == "Product of 1000"
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        shop.v1.subscriptions.retrieve(subscription, {"expand": ["colour"]})


# Keys, faults, and answers that come late.


def test_one_idempotency_key_is_one_request_for_a_day(fake: FakeStripe, shop: Shop):
    def create(email: str) -> stripe.Customer:
        return shop.v1.customers.create({"email": email}, {"idempotency_key": "the-key"})

    first = create("ada@example.com")
    second = create("ada@example.com")
    assert (second.id, len(fake.all("customer"))) == (first.id, 2)
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert second.last_response.headers["Original-Request"] == fake.requests[-2].id
    with pytest.raises(stripe.IdempotencyError, match="same parameters") as caught:
        create("eve@example.com")
    assert caught.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        shop.v1.products.create({"name": "Pro"}, {"idempotency_key": "the-key"})
    fake.advance_clock(timedelta(days=1))
    assert create("eve@example.com").id != first.id


def test_a_failure_is_remembered_under_its_key_and_a_refused_parameter_is_not(fake: FakeStripe, shop: Shop):
    def create(**more: Any) -> stripe.Customer:
        return shop.v1.customers.create({"email": "ada@example.com", **more}, {"idempotency_key": "the-key"})

    for how, status in (("503", 503), ("429", 429)):
        fake.fail(how)
        with pytest.raises(stripe.StripeError) as caught:
            create()
        assert caught.value.http_status == status
    with pytest.raises(stripe.InvalidRequestError):
        create(colour="red")
    fake.fail("500", method="POST", path="/v1/customers")
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            create()
        assert failed.value.http_status == 500
    assert len(fake.all("customer")) == 1
    assert [request.status for request in fake.requests] == [503, 429, 400, 500, 500]


def test_an_answer_that_is_cut_off_was_given_and_the_library_s_retry_gets_it(fake: FakeStripe):
    v1 = fake.client(max_network_retries=1).v1
    fake.fail("cut_after", method="POST")
    made = v1.customers.create({"email": "ada@example.com"})
    assert [one["id"] for one in fake.all("customer")] == [made.id]
    first, second = fake.requests
    assert (first.status, second.status) == (0, 200)
    assert first.key == second.key != ""
    fake.fail("cut", times=None)
    with pytest.raises(stripe.APIConnectionError):
        fake.client().v1.customers.list()
    fake.heal()
    fake.stop()
    with pytest.raises(stripe.APIConnectionError):
        fake.client().v1.customers.list()
    fake.start()
    assert [one.id for one in v1.customers.list().data] == [made.id]


async def test_a_limit_is_429_with_its_reason_and_a_slow_answer_comes(fake: FakeStripe, shop: Shop):
    fake.fail("429", path="/v1/subscriptions")
    with pytest.raises(stripe.RateLimitError) as caught:
        await shop.v1.subscriptions.list_async({"customer": shop.customer})
    assert caught.value.headers["stripe-rate-limited-reason"] == "global-rate"
    fake.fail("slow", seconds=0.05)
    assert (await shop.v1.subscriptions.list_async({"customer": shop.customer})).data == []


async def test_a_held_answer_is_as_old_as_its_making(fake: FakeStripe, shop: Shop):
    with fake.hold(method="GET", path="/v1/subscriptions") as hold:
        stale = asyncio.create_task(shop.v1.subscriptions.list_async({"customer": shop.customer}))
        await asyncio.to_thread(hold.wait)
        shop.subscribed()
        assert len((await shop.v1.subscriptions.list_async({"customer": shop.customer})).data) == 1
        hold.release()
        assert (await stale).data == []


async def test_a_key_whose_request_is_under_way_is_in_use(fake: FakeStripe, shop: Shop):
    slow = fake.fail("slow", seconds=20, method="POST")
    first = asyncio.create_task(shop.v1.customers.create_async({}, {"idempotency_key": "k"}))
    await asyncio.to_thread(slow.wait)
    with pytest.raises(stripe.APIError) as caught:
        await shop.v1.customers.create_async({}, {"idempotency_key": "k"})
    assert caught.value.http_status == 409
    fake.heal()
    assert (await shop.v1.customers.create_async({}, {"idempotency_key": "other"})).id != (await first).id


# By hand.


async def test_a_browser_pays_declines_and_cancels(fake: FakeStripe, shop: Shop):
    session = shop.checkout()
    async with httpx.AsyncClient(trust_env=False) as browser:
        assert session.url is not None
        assert "10.00 USD" in (await browser.get(session.url)).text
        declined = await browser.post(session.url, data={"act": "decline"})
        assert (declined.status_code, declined.headers["location"]) == (303, "https://example.com/cancelled")
        paid = await browser.post(session.url, data={"act": "pay"})
        assert paid.headers["location"] == f"https://example.com/done?session={session.id}"
        assert (await browser.post(session.url, data={"act": "pay"})).status_code == 409
        portal = shop.v1.billing_portal.sessions.create(
            {"customer": shop.customer, "return_url": "https://e.com"}
        )
        page = (await browser.get(portal.url)).text
        action = re.search(r"action='([^']+/cancel/[^']+)'", page)
        assert action is not None and "https://e.com" in page
        assert (await browser.post(fake.url + action[1])).status_code == 303
        (subscription,) = fake.subscriptions(shop.customer)
        assert subscription["cancel_at_period_end"]
        assert (await browser.post(f"{fake.url}/act/fail/{subscription['id']}")).status_code == 303
        assert "past_due" in (await browser.get(fake.url)).text
        assert (await browser.get(f"{fake.url}/c/pay/cs_1")).status_code == 404


def test_the_command_says_what_to_set_and_serves():
    command = [
        sys.executable,
        "-m",
        "tests.fakestripe",
        "--port",
        "0",
        "--webhook",
        "http://127.0.0.1:1/webhooks/stripe",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while "yearly" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        exports = dict(re.findall(r"export (\w+)=(\S+)", said))
        assert exports.keys() == {
            "COTEX_STRIPE_API_URL",
            "COTEX_STRIPE_SECRET_KEY",
            "COTEX_STRIPE_WEBHOOK_SECRET",
        }
        client = stripe.StripeClient(
            exports["COTEX_STRIPE_SECRET_KEY"], base_addresses={"api": exports["COTEX_STRIPE_API_URL"]}
        )
        assert {price.id for price in client.v1.prices.list().data} == set(re.findall(r"price_\w+", said))
        process.terminate()


def test_it_is_one_package_under_either_name():
    import tests.fakestripe

    with tests.fakestripe.FakeStripe() as other:
        assert other.client().v1.customers.list().data == []
