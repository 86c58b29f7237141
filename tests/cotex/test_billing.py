import asyncio
from collections.abc import Iterator

import httpx
import pytest
from actors import WAIT
from fakestripe import FakeStripe
from stripe import StripeClient

from cotexd.operations.repositories import Tracked

SETUP = ("billing", "setup", "--amount", "900", "--currency", "usd")
HTTPS = {"COTEX_PUBLIC_URL": "https://cotex.example"}
NOWHERE = {"COTEX_STRIPE_API_URL": "http://127.0.0.1:1"}
KEY = {"COTEX_STRIPE_SECRET_KEY": "sk_test_of_the_tests"}


def test_without_a_key_nothing_is_sold_and_it_is_said_how_to_begin(cotex, database: str):
    done = cotex("billing", "status")
    assert done.code == 0
    assert "enabled\tno\n" in done.out
    assert "cotex secret set stripe-key" in done.err
    for line in ("sync", "setup --amount 900 --currency usd"):
        refused = cotex("billing", *line.split(), **HTTPS)
        assert (refused.code, refused.out) == (1, "")
        assert "cotex secret set stripe-key" in refused.err


@pytest.mark.parametrize(("key", "live"), [("sk_test_1", False), ("sk_live_1", True), ("rk_live_1", True)])
def test_status_says_whether_it_is_for_real(cotex, octo: Tracked, key: str, live: bool):
    cotex("secret", "set", "stripe-key", stdin=key)
    found = cotex("billing", "status", "--json").json
    assert (found["enabled"], found["live"], found["customers"]) == (True, live, 0)


def test_a_key_from_the_environment_goes_before_the_one_that_was_set(cotex):
    cotex("secret", "set", "stripe-key", stdin="sk_live_1")
    assert cotex("billing", "status", "--json", **KEY).json["live"] is False


def test_setup_wants_an_address_that_stripe_can_reach(cotex):
    for address in ("", "http://cotex.example"):
        done = cotex(
            "billing", "setup", "--amount", "900", "--currency", "usd", COTEX_PUBLIC_URL=address, **KEY
        )
        assert done.code == 2
        assert "COTEX_PUBLIC_URL" in done.err


@pytest.mark.parametrize(
    "line", ["--amount 0 --currency usd", "--amount 900 --currency dollar", "--amount 900"]
)
def test_setup_refuses_what_can_be_no_price(cotex, line: str):
    assert cotex("billing", "setup", *line.split(), **KEY, **HTTPS).code == 2


def test_where_stripe_does_not_answer_it_is_said_in_words_and_shows_no_key(cotex):
    done = cotex("billing", "setup", "--amount", "9", "--currency", "usd", **KEY, **HTTPS, **NOWHERE)
    assert done.code in {1, 6}
    assert "sk_test_of_the_tests" not in done.err
    assert len(done.err.splitlines()) <= 3


@pytest.fixture
def stripe():
    """A Stripe that knows the key, and how a command finds it."""
    with FakeStripe(secret_key="sk_test_of_the_tests") as fake:
        yield {"COTEX_STRIPE_API_URL": fake.url, **KEY, **HTTPS}


def test_setup_makes_what_is_missing_once_and_says_each_step(cotex, stripe: dict[str, str]):
    first = cotex(*SETUP, **stripe)
    assert (first.code, first.out) == (0, "")
    assert len(first.err.splitlines()) >= 3
    before = cotex("tier", "show", "pro", "--json").json["prices"]
    assert [(price["interval"], price["current"]) for price in before] == [("month", True)]
    again = cotex(*SETUP, "--json", **stripe)
    assert again.code == 0
    assert again.json["steps"]
    assert cotex("tier", "show", "pro", "--json").json["prices"] == before
    held = {each["name"]: each["is_set"] for each in cotex("secret", "list", "--json").json["secrets"]}
    assert held["stripe-webhook"] is True


def test_a_tier_that_is_not_there_is_not_sold_and_nothing_is_made_at_stripe(cotex, stripe: dict[str, str]):
    assert cotex(*SETUP, "--tier", "gold", **stripe).code == 3
    there = StripeClient(
        KEY["COTEX_STRIPE_SECRET_KEY"], base_addresses={"api": stripe["COTEX_STRIPE_API_URL"]}
    )
    assert there.v1.products.list().data == []


def test_a_look_at_a_stripe_without_customers_changes_nothing(cotex, octo: Tracked, stripe: dict[str, str]):
    for flags in (["--dry-run"], []):
        done = cotex("billing", "sync", *flags, "--json", **stripe)
        assert done.json == {"checked": 0, "changed": [], "dry_run": bool(flags)}


def test_a_key_that_stripe_does_not_know_is_said_in_words_and_not_shown(cotex, stripe: dict[str, str]):
    done = cotex("billing", "setup", "--amount", "9", "--currency", "usd", **{
        **stripe, "COTEX_STRIPE_SECRET_KEY": "sk_test_another",
    })  # fmt: skip
    assert done.code == 1
    assert "cotex secret set stripe-key" in done.err
    assert "sk_test_another" not in done.err


# Beside a server, and customers who pay.


SECRET = "whsec_of_the_tests"


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe(secret_key="sk_test_of_the_tests") as started:
        yield started


@pytest.fixture
def selling(cotex, fake: FakeStripe) -> dict[str, str]:
    """Pro is sold; the environment of a server and of the commands beside it."""
    assert cotex("tier", "edit", "pro", "--stripe-price", fake.price()).code == 0
    return {"COTEX_STRIPE_API_URL": fake.url, "COTEX_STRIPE_WEBHOOK_SECRET": SECRET, **KEY}


def buy(cotex, server, fake: FakeStripe) -> str:
    """The id of a subscription that ada buys from a server."""
    token = cotex("user", "token", "ada").out.strip()
    headers = {"authorization": f"Bearer {token}"}
    answer = httpx.post(f"{server.url}/api/checkout", headers=headers, timeout=WAIT, trust_env=False)
    assert answer.status_code == 200, answer.text
    return str(fake.pay(fake.all("checkout.session")[0]["id"])["subscription"])


def shown(cotex) -> tuple[str, str, int]:
    user = cotex("user", "show", "ada", "--json").json
    return user["tier"], user["tier_source"], user["repo_limit"]


def test_sync_sets_the_tier_by_what_stripe_says_and_a_dry_run_only_says_it(
    cotex, octo: Tracked, fake: FakeStripe, selling: dict[str, str], database: str
):
    server = cotex.serve(**selling)
    subscription = buy(cotex, server, fake)
    for flags, before, after in (
        (["--dry-run"], "free", "free"),
        ([], "free", "pro"),
    ):
        assert shown(cotex)[0] == before
        done = cotex("billing", "sync", *flags, "--json", **selling)
        assert done.json == {
            "checked": 1,
            "changed": [{"user": "ada", "from": "free", "to": "pro"}],
            "dry_run": bool(flags),
        }
        assert shown(cotex)[0] == after
    assert shown(cotex) == ("pro", "stripe", 10)
    assert cotex("billing", "sync", "--json", **selling).json["changed"] == []
    standing = cotex("billing", "status", "--json", **selling).json
    assert (standing["customers"], standing["paying"], standing["late"]) == (1, 1, 0)
    fake.cancel_now(subscription)
    done = cotex("billing", "sync", **selling)
    assert (done.code, done.out) == (0, "ada\tpro\tfree\n")
    assert "1 customers looked at, 1 were changed." in done.err


def test_sync_while_stripe_is_away_is_said_in_words_and_changes_nothing(
    cotex, octo: Tracked, fake: FakeStripe, selling: dict[str, str]
):
    buy(cotex, cotex.serve(**selling), fake)
    cotex("billing", "sync", **selling)
    fake.stop()
    done = cotex("billing", "sync", **selling)
    assert done.code != 0
    assert done.out == ""
    assert "Stripe cannot be reached" in done.err
    assert shown(cotex)[0] == "pro"


def test_a_key_that_is_set_from_standard_input_is_in_force_in_the_running_server_and_never_shown(
    cotex, octo: Tracked, fake: FakeStripe
):
    cotex("tier", "edit", "pro", "--stripe-price", fake.price())
    server = cotex.serve(COTEX_STRIPE_API_URL=fake.url)
    done = [
        cotex.process("secret", "set", "stripe-key", stdin="sk_test_of_the_tests\n"),
        cotex("secret", "list"),
        cotex("secret", "list", "--json"),
        cotex("billing", "status", "--json"),
        cotex("config", "show", "--json"),
        cotex("audit", "list", "--json"),
    ]
    assert {each.code for each in done} == {0}
    buy(cotex, server, fake)
    ended = server.end()
    assert not [each for each in (*done, ended) if "sk_test_of_the_tests" in each.out + each.err]


async def test_a_server_that_is_killed_between_the_answer_and_the_commit_ends_alike_when_told_again(
    cotex, octo: Tracked, fake: FakeStripe, selling: dict[str, str], database: str
):
    first = await asyncio.to_thread(cotex.serve, **selling)
    fake.webhook(f"{first.url}/webhooks/stripe", secret=SECRET)
    await asyncio.to_thread(buy, cotex, first, fake)
    with fake.hold(path="/v1/subscriptions", times=None) as hold:
        delivering = asyncio.ensure_future(fake.deliver())
        await asyncio.to_thread(hold.wait)
        first.process.kill()
        hold.release()
        assert not any(attempt.accepted for attempt in await delivering)
    assert shown(cotex)[0] == "free"
    port = first.url.rpartition(":")[2]
    await asyncio.to_thread(cotex.serve, **{**selling, "COTEX_PORT": port})
    assert all(attempt.accepted for attempt in await fake.deliver())
    assert shown(cotex) == ("pro", "stripe", 10)


def test_an_administrator_s_tier_survives_a_subscription_s_end_and_auto_gives_it_back(
    cotex, octo: Tracked, fake: FakeStripe, selling: dict[str, str]
):
    subscription = buy(cotex, cotex.serve(**selling), fake)
    cotex("billing", "sync", **selling)
    cotex("tier", "set", "ada", "pro")
    fake.cancel_now(subscription)
    cotex("billing", "sync", **selling)
    assert shown(cotex) == ("pro", "admin", 10)
    would_be = cotex("tier", "set", "ada", "--auto", "--dry-run", "--json").json
    assert (would_be["tier"], shown(cotex)[0]) == ("free", "pro")
    assert cotex("tier", "set", "ada", "--auto").code == 0
    assert shown(cotex) == ("free", "default", 2)


def test_setup_sells_what_checkout_sells_and_mends_an_endpoint_that_was_turned_off(
    cotex, octo: Tracked, fake: FakeStripe
):
    environment = {"COTEX_STRIPE_API_URL": fake.url, **KEY, **HTTPS}
    assert cotex(*SETUP, **environment).code == 0
    price = cotex("tier", "show", "pro", "--json").json["prices"][0]["id"]
    assert fake.get(price)["unit_amount"] == 900
    (endpoint,) = fake.all("webhook_endpoint")
    assert endpoint["url"] == "https://cotex.example/webhooks/stripe"
    fake.client().v1.webhook_endpoints.update(endpoint["id"], {"disabled": True})
    done = cotex(*SETUP, **environment)
    assert "mended" in done.err
    assert fake.all("webhook_endpoint")[0]["status"] == "enabled"
    assert "whsec_" not in done.out + done.err


def test_a_yearly_price_is_set_up_beside_the_monthly_one(cotex, fake: FakeStripe):
    environment = {"COTEX_STRIPE_API_URL": fake.url, **KEY, **HTTPS}
    for amount, interval in (("900", "month"), ("9000", "year")):
        line = ("--amount", amount, "--currency", "EUR", "--interval", interval)
        assert cotex("billing", "setup", *line, **environment).code == 0
    prices = cotex("tier", "show", "pro", "--json").json["prices"]
    assert {each["interval"]: each["current"] for each in prices} == {"month": True, "year": True}
    assert len(fake.all("webhook_endpoint")) == 1
