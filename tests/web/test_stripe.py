import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import httpx
import pytest
from conftest import Server
from fakestripe import FakeStripe
from fakestripe.webhooks import sign
from structlog.testing import capture_logs

from cotexd.config import Settings
from cotexd.domain import scope
from cotexd.gateways.stripe import EVENTS, TOLERANCE
from cotexd.operations import accounts, billing, secrets, tiers, tokens
from cotexd.operations.accounts import Account
from cotexd.store import Tx
from cotexd.store.models import StripeEvent, User
from cotexd.web.stripe import MAX_BODY

SECRET = "whsec_of_this_endpoint"
BODY = b'{"id":"evt_1","type":"invoice.paid","data":{"object":{"customer":"cus_1"}}}'


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe() as started:
        yield started


@pytest.fixture
def settings(settings: Settings, fake: FakeStripe) -> Settings:
    """Pro is sold by the month, and Stripe's events are signed with SECRET."""
    return replace(
        settings,
        stripe_key=fake.secret_key,
        stripe_api_url=fake.url,
        stripe_webhook_secrets=(SECRET,),
        stripe_price=fake.price(900),
    )


@pytest.fixture
def unsold(settings: Settings) -> Settings:
    """Without a key: nothing is sold."""
    return replace(settings, stripe_key="", stripe_webhook_secrets=())


@pytest.fixture
def ada(server: Server, fake: FakeStripe) -> Account:
    """A user of the server to which Stripe sends its events."""
    fake.webhook(f"{server.url}/webhooks/stripe", secret=SECRET, events=[*EVENTS])
    return server.user("ada", tier="")


async def checkout(server: Server, user: Account, **options: Any) -> httpx.Response:
    return await server.request("POST", "/api/checkout", user, **options)


async def bought(server: Server, fake: FakeStripe, user: Account) -> str:
    """The id of a subscription that a user pays, and of which nothing has arrived yet."""
    answer = await checkout(server, user)
    assert answer.status_code == 200, answer.text
    return str(fake.pay(fake.all("checkout.session")[0]["id"])["subscription"])


async def post(server: Server, body: bytes, signature: str | None = None, **headers: str) -> httpx.Response:
    """An event as Stripe sends it, signed now unless told."""
    if signature is None:
        signature = sign(body.decode(), [SECRET], int(time.time()))
    sent = {"content-type": "application/json", "stripe-signature": signature, **headers}
    return await server.http.post(f"{server.url}/webhooks/stripe", content=body, headers=sent)


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def tier(server: Server, user: Account) -> tuple[str, str]:
    account = server.store.look(accounts.find, user.id)
    return account.tier, account.tier_source


def recorded(server: Server) -> int:
    return server.store.look(lambda _: StripeEvent.select().count())


# Checkout.


async def test_a_checkout_without_a_body_sells_a_month_of_pro(server: Server, fake: FakeStripe, ada: Account):
    answer = await checkout(server, ada)
    assert answer.status_code == 200
    (session,) = fake.all("checkout.session")
    assert answer.json() == {"url": session["url"]}
    assert session["client_reference_id"] == ada.id
    fake.pay(session["id"])
    assert all(attempt.accepted for attempt in await fake.deliver())
    assert tier(server, ada) == ("pro", "stripe")


async def test_a_checkout_sells_what_is_asked_for(server: Server, fake: FakeStripe, ada: Account):
    yearly = fake.price(9000, interval="year")
    server.store.run(tiers.edit, "pro", price=yearly, interval="year")
    answer = await checkout(server, ada, json={"tier": "pro", "interval": "year"})
    assert answer.status_code == 200
    subscription = fake.get(fake.pay(fake.all("checkout.session")[0]["id"])["subscription"])
    assert subscription["items"]["data"][0]["price"]["id"] == yearly


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"interval":"week"}', b'{"tier":5}', b"\xff"])
async def test_a_body_that_is_no_wish_is_refused(server: Server, fake: FakeStripe, ada: Account, body: bytes):
    assert said(await checkout(server, ada, content=body)) == (400, "invalid")
    assert fake.all("customer") == []


async def test_what_is_not_sold_is_refused_with_what_to_do(server: Server, ada: Account):
    answer = await checkout(server, ada, json={"tier": "free"})
    assert said(answer) == (409, "conflict")
    assert "cotex tier edit free --stripe-price" in answer.json()["hint"]


async def test_nobody_buys_without_signing_in(server: Server, fake: FakeStripe):
    for path in ("/api/checkout", "/api/billing/portal"):
        assert said(await server.request("POST", path)) == (401, "unauthorized")
    assert fake.requests == []


async def test_a_token_for_other_things_buys_nothing(server: Server, fake: FakeStripe, ada: Account):
    others = frozenset(scope.ALL) - {scope.BILLING_WRITE}
    for granted, status in ((others, 403), (frozenset({scope.BILLING_WRITE}), 200)):
        token = server.store.run(tokens.issue, "ada", scopes=granted).token
        headers = {"authorization": f"Bearer {token}"}
        answer = await server.request("POST", "/api/checkout", headers=headers)
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "insufficient_scope"
            assert fake.requests == []


async def test_whoever_has_a_subscription_is_shown_the_portal(server: Server, fake: FakeStripe, ada: Account):
    await bought(server, fake, ada)
    answer = await checkout(server, ada)
    assert said(answer) == (409, "already_subscribed")
    assert "/api/billing/portal" in answer.json()["hint"]
    opened = await server.request("POST", "/api/billing/portal", ada)
    assert opened.status_code == 200
    assert opened.json() == {"url": fake.all("billing_portal.session")[0]["url"]}


async def test_who_never_bought_has_no_portal(server: Server, ada: Account):
    assert said(await server.request("POST", "/api/billing/portal", ada)) == (404, "not_found")


async def test_without_a_key_billing_is_disabled_and_all_else_goes_on(servers, unsold: Settings):
    server = await servers(unsold)
    ada = server.user("ada", tier="free")
    for path in ("/api/checkout", "/api/billing/portal"):
        answer = await server.request("POST", path, ada)
        assert said(answer) == (503, "billing_disabled")
        assert "cotex secret set stripe-key" in answer.json()["hint"]
    assert said(await post(server, BODY)) == (503, "billing_disabled")
    server.store.run(tiers.set_tier, "ada", "pro")
    assert (await server.get("/api/me", ada)).json()["tier"] == "pro"


async def test_a_key_that_is_set_while_the_server_runs_is_in_force_at_once(
    servers, unsold: Settings, fake: FakeStripe
):
    server = await servers(unsold)
    ada = server.user("ada", tier="")
    assert said(await checkout(server, ada)) == (503, "billing_disabled")
    server.store.run(secrets.put, secrets.STRIPE_KEY, fake.secret_key)
    server.store.run(secrets.put, secrets.STRIPE_WEBHOOK, SECRET)
    fake.webhook(f"{server.url}/webhooks/stripe", secret=SECRET, events=[*EVENTS])
    await bought(server, fake, ada)
    await fake.deliver()
    assert tier(server, ada) == ("pro", "stripe")


@pytest.mark.parametrize("how", ["429", "500", "cut"])
async def test_a_checkout_while_stripe_is_away_can_be_tried_again(
    server: Server, fake: FakeStripe, ada: Account, how
):
    fake.fail(how, times=None)
    answer = await checkout(server, ada)
    assert said(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    fake.heal()
    if how != "500":
        assert (await checkout(server, ada)).status_code == 200


async def test_a_key_that_stripe_refuses_is_the_administrator_s_to_mend_and_is_not_shown(
    servers, settings: Settings, fake: FakeStripe
):
    server = await servers(replace(settings, stripe_key="sk_test_a_wrong_key"))
    answer = await checkout(server, server.user("ada", tier=""))
    assert said(answer) == (500, "failed")
    assert "wrong_key" not in answer.text


# The webhook.


async def test_an_event_has_its_effect_before_it_is_answered_and_clients_are_told(
    server: Server, fake: FakeStripe, ada: Account
):
    await bought(server, fake, ada)
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        attempts = await fake.deliver()
        assert {attempt.status for attempt in attempts} == {200}
        assert tier(server, ada) == ("pro", "stripe")
        told = await client.until(socket, lambda message: message.get("event") == "notice")
    assert told["payload"]["text"] == "Your tier is now pro: up to 10 repositories"
    assert recorded(server) == len(attempts)


async def test_a_duplicate_does_nothing(server: Server, fake: FakeStripe, ada: Account):
    await bought(server, fake, ada)
    (first, *_) = await fake.deliver()
    asked, rows = len(fake.requests), recorded(server)
    for _ in range(3):
        assert [attempt.status for attempt in await fake.resend(first.event)] == [200]
    assert (len(fake.requests), recorded(server)) == (asked, rows)


async def test_events_in_any_order_many_at_once_and_twice_end_alike(
    server: Server, fake: FakeStripe, ada: Account
):
    subscription = await bought(server, fake, ada)
    fake.cancel_at_period_end(subscription)
    fake.resume(subscription)
    fake.cancel_now(subscription)
    await fake.deliver(order="shuffled", duplicate=0.5, at_once=5, random=Random(7), attempts=3)
    assert tier(server, ada) == ("free", "default")


UNSIGNED = {
    "no signature": lambda: "",
    "a wrong secret": lambda: sign(BODY.decode(), ["whsec_another"], int(time.time())),
    "an old time": lambda: sign(BODY.decode(), [SECRET], int(time.time()) - TOLERANCE - 1),
    "a time to come": lambda: sign(BODY.decode(), [SECRET], int(time.time()) + TOLERANCE + 60),
    "no time": lambda: sign(BODY.decode(), [SECRET], int(time.time())).partition(",")[2],
    "nonsense": lambda: "t=1,v1=x,é",
}


@pytest.mark.parametrize("what", UNSIGNED)
async def test_what_stripe_has_not_signed_is_refused_and_changes_nothing(
    server: Server, fake: FakeStripe, ada: Account, what: str
):
    await bought(server, fake, ada)
    asked = len(fake.requests)
    answer = await server.http.post(
        f"{server.url}/webhooks/stripe",
        content=BODY,
        headers=[(b"stripe-signature", UNSIGNED[what]().encode())],
    )
    assert said(answer) == (400, "bad_event")
    assert (len(fake.requests), recorded(server)) == (asked, 0)
    assert tier(server, ada) == ("free", "default")


@pytest.mark.parametrize(
    "body", [BODY.replace(b"cus_1", b"cus_2"), BODY + b"\n", BODY[:-1], b"", b'{"\xff":1}']
)
async def test_an_altered_body_is_refused(server: Server, fake: FakeStripe, body: bytes):
    signature = sign(BODY.decode(), [SECRET], int(time.time()))
    assert said(await post(server, body, signature)) == (400, "bad_event")
    assert recorded(server) == 0


async def test_a_body_that_is_signed_and_no_event_is_refused(server: Server):
    assert said(await post(server, b'{"id":"evt_1"}')) == (400, "bad_event")


def of_size(size: int) -> bytes:
    """An event of so many bytes."""
    event = {"id": "evt_1", "type": "invoice.paid", "data": {"object": {}}, "padding": ""}
    return json.dumps({**event, "padding": "x" * (size - len(json.dumps(event)))}).encode()


async def test_a_body_over_a_megabyte_is_refused_and_one_of_a_megabyte_is_read(server: Server):
    assert MAX_BODY == len(of_size(MAX_BODY)) == 2**20
    assert (await post(server, of_size(MAX_BODY))).status_code == 200
    assert said(await post(server, of_size(MAX_BODY + 1))) == (413, "too_large")
    assert recorded(server) == 1


async def test_whoever_sent_too_much_is_told_that_the_connection_ends(server: Server):
    answer = await post(server, of_size(MAX_BODY + 1))
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


async def test_an_event_about_nobody_is_taken_and_asked_about_nothing(server: Server, fake: FakeStripe):
    fake.webhook(f"{server.url}/webhooks/stripe", secret=SECRET)
    fake.subscribe(fake.customer("ada@example.com"), fake.price())
    assert {attempt.status for attempt in await fake.deliver()} == {200}
    assert await fake.deliver() == []


async def test_two_secrets_hold_during_a_rotation(servers, settings: Settings, fake: FakeStripe):
    server = await servers(replace(settings, stripe_webhook_secrets=("whsec_new", SECRET)))
    for secret in (SECRET, "whsec_new"):
        body = BODY.replace(b"evt_1", f"evt_{secret}".encode())
        signature = sign(body.decode(), [secret], int(time.time()))
        assert (await post(server, body, signature)).status_code == 200
    assert recorded(server) == 2


async def test_while_stripe_is_away_an_event_is_sent_back_and_loses_nothing(
    server: Server, fake: FakeStripe, ada: Account
):
    await bought(server, fake, ada)
    fake.fail("500", times=None, path="/v1/subscriptions")
    attempts = await fake.deliver()
    assert {attempt.status for attempt in attempts} == {503}
    assert (tier(server, ada), recorded(server)) == (("free", "default"), 0)
    event = next(each for each in fake.events if each["type"] == "checkout.session.completed")
    answer = await post(server, json.dumps(event).encode())
    assert said(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    fake.heal()
    assert {attempt.status for attempt in await fake.deliver()} == {200}
    assert tier(server, ada) == ("pro", "stripe")
    assert recorded(server) == len(attempts)


REFUSE = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON stripe_event BEGIN SELECT RAISE(ABORT, 'no room'); END",
        "DROP TRIGGER refuse",
    ),
    "postgresql": (
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no room'; END $$; "
            "CREATE TRIGGER refuse BEFORE INSERT ON stripe_event FOR EACH ROW EXECUTE FUNCTION refuse()"
        ),
        "DROP TRIGGER refuse ON stripe_event",
    ),
}
"""by database: what makes the last write of an event fail, and what ends that"""


async def test_what_fails_between_the_answer_of_stripe_and_the_commit_is_done_whole_by_the_next_delivery(
    server: Server, fake: FakeStripe, ada: Account
):
    def execute(tx: Tx, statement: str) -> None:
        tx.database.execute_sql(statement)

    await bought(server, fake, ada)
    refuse, allow = REFUSE[server.store.dialect.name]
    server.store.run(execute, refuse)
    with capture_logs() as logged:
        attempts = await fake.deliver()
    assert [each["event"] for each in logged].count("request_failed") == len(attempts)
    assert {attempt.status for attempt in attempts} <= {500, 503}
    assert (tier(server, ada), recorded(server)) == (("free", "default"), 0)
    server.store.run(execute, allow)
    assert {attempt.status for attempt in await fake.deliver()} == {200}
    assert (tier(server, ada), recorded(server)) == (("pro", "stripe"), len(attempts))


async def test_fifty_who_add_repositories_at_once_while_a_subscription_ends_never_pass_the_limit(
    server: Server, fake: FakeStripe, ada: Account
):
    subscription = await bought(server, fake, ada)
    await fake.deliver()
    fake.cancel_now(subscription)
    adding = [
        server.request("POST", "/api/repos", ada, json={"repo_name": f"octo/{number}"})
        for number in range(50)
    ]
    answers, _ = await asyncio.gather(asyncio.gather(*adding), fake.deliver())
    added = [answer for answer in answers if answer.status_code == 201]
    assert {said(answer) for answer in answers} <= {(201, ""), (403, "over_limit"), (429, "rate_limited")}
    account = server.store.look(accounts.find, ada.id)
    assert account.repo_count == len(added) <= 10
    assert (account.tier, account.over_limit_since is not None) == ("free", len(added) > 2)


# The pages to which Stripe's lead back.


async def page(server: Server, fake: FakeStripe, which: str) -> httpx.Response:
    """Open the page to which the newest session leads."""
    return await server.http.get(fake.all("checkout.session")[0][f"{which}_url"])


async def test_the_page_after_paying_looks_at_stripe_and_says_where_the_user_stands(
    server: Server, fake: FakeStripe, ada: Account
):
    await bought(server, fake, ada)
    shown = await page(server, fake, "success")
    assert shown.status_code == 200
    assert shown.headers["content-type"].startswith("text/html")
    assert "ada, you are on the tier pro, and track 0 of 10 repositories." in shown.text
    assert tier(server, ada) == ("pro", "stripe")


async def test_the_page_after_cancelling_says_that_nothing_was_bought(
    server: Server, fake: FakeStripe, ada: Account
):
    await checkout(server, ada)
    shown = await page(server, fake, "cancel")
    assert shown.status_code == 200
    assert "Nothing was bought. ada, you are on the tier free, and track 0 of 2 repositories." in shown.text


async def test_the_pages_survive_stripe_being_away(server: Server, fake: FakeStripe, ada: Account):
    await bought(server, fake, ada)
    urls = [fake.all("checkout.session")[0][f"{which}_url"] for which in ("success", "cancel")]
    fake.stop()
    done, cancelled = [await server.http.get(url) for url in urls]
    assert (done.status_code, cancelled.status_code) == (200, 200)
    assert "in force within a few minutes" in done.text
    assert "Nothing was bought." in cancelled.text


@pytest.mark.parametrize("who", ["", "?who=", "?who=nobody", "?who=AAAA", "?who=%FF", "?who=" + "A" * 2000])
async def test_the_pages_say_nothing_of_anybody_to_whom_no_link_was_given(
    server: Server, fake: FakeStripe, ada: Account, who: str
):
    await bought(server, fake, ada)
    for path in ("/billing/done", "/billing/cancelled"):
        shown = await server.get(path + who)
        assert shown.status_code == 200
        assert "ada" not in shown.text
    assert tier(server, ada) == ("free", "default")


async def test_an_altered_link_is_nobody_s(server: Server, fake: FakeStripe, ada: Account):
    await bought(server, fake, ada)
    url = fake.all("checkout.session")[0]["success_url"]
    assert ada.id not in url
    for altered in (
        url[:-5] + ("A" if url[-5] != "A" else "B") + url[-4:],
        url.replace("who=", "who=" + ada.id),
    ):
        shown = await server.http.get(altered)
        assert shown.status_code == 200
        assert "ada" not in shown.text


async def test_a_name_is_shown_as_text(server: Server, fake: FakeStripe, ada: Account):
    def rename(_: Tx) -> None:
        User.update(name="<script>alert('ada')</script>").where(User.id == ada.id).execute()

    await checkout(server, ada)
    server.store.run(rename)
    for which in ("success", "cancel"):
        shown = await page(server, fake, which)
        assert "<script>" not in shown.text
        assert "&lt;script&gt;" in shown.text
        assert "default-src 'none'" in shown.headers["content-security-policy"]


async def test_the_pages_are_limited_for_one_address(server: Server, minute):
    answers = [await server.get("/billing/done") for _ in range(31)]
    assert [answer.status_code for answer in answers] == [200] * 30 + [429]


async def test_stripe_s_pages_lead_back_to_the_public_address(servers, settings: Settings, fake: FakeStripe):
    server = await servers(replace(settings, public_url="https://cotex.example.com"))
    user = server.user("ada", tier="")
    await bought(server, fake, user)
    (session,) = fake.all("checkout.session")
    assert session["success_url"].startswith("https://cotex.example.com/billing/done?who=")
    assert session["cancel_url"].startswith("https://cotex.example.com/billing/cancelled?who=")
    await server.request("POST", "/api/billing/portal", user)
    (opened,) = fake.all("billing_portal.session")
    assert opened["return_url"].startswith("https://cotex.example.com/billing/done?who=")


async def test_the_terms_of_the_configuration_are_those_of_the_session(
    servers, settings: Settings, fake: FakeStripe
):
    server = await servers(
        replace(settings, trial_days=14, promotion_codes=True, automatic_tax=True, seats=3)
    )
    subscription = fake.get(await bought(server, fake, server.user("ada", tier="")))
    (session,) = fake.all("checkout.session")
    assert session["allow_promotion_codes"] is True
    assert session["automatic_tax"]["enabled"] is True
    assert subscription["status"] == "trialing"
    assert subscription["items"]["data"][0]["quantity"] == 3


async def test_a_price_in_the_configuration_is_sold_and_stays_known_when_another_follows(
    servers, settings: Settings, fake: FakeStripe
):
    server = await servers(settings)
    ada = server.user("ada", tier="")
    await bought(server, fake, ada)
    await server.appliance.stop()
    again = await servers(replace(settings, stripe_price=fake.price(1900)))
    known = again.store.look(billing.customer_of, ada.id)
    assert known is not None
    fake.webhook(f"{again.url}/webhooks/stripe", secret=SECRET)
    fake.cancel_at_period_end(fake.subscriptions(known.stripe_id)[0]["id"])
    await fake.deliver()
    assert tier(again, ada) == ("pro", "stripe")
