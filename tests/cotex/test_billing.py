import pytest
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
