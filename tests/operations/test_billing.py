from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotexd.domain.tier import GRACE, Subscription
from cotexd.errors import Conflict, NotFound
from cotexd.operations import accounts, audit, billing, tiers, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.billing import EVENTS_KEPT, Known, Standing, Synced
from cotexd.store import Store, Tx
from cotexd.store.models import Customer, StripeEvent

DAY = timedelta(days=1)
EVENT = ("evt_1", "customer.subscription.updated")


def subscription(clock, status: str = "active", price: str = "price_pro", **more: bool) -> Subscription:
    return Subscription("sub_1", status, (price,), clock(), clock() + 30 * DAY, **more)


def recorded(_: Tx) -> list[str]:
    return [row.id for row in StripeEvent.select().order_by(StripeEvent.id)]


def row_of(_: Tx, user_id: str) -> dict[str, object]:
    return dict(Customer.get(Customer.user_id == user_id).__data__)


@pytest.fixture
def customer(store: Store, ada: Account) -> Known:
    """What ada is at Stripe, where pro is sold at price_pro."""
    store.run(tiers.edit, "pro", price="price_pro")
    return store.run(billing.link, ada.id, "cus_ada")


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve", email="ada@example.com")


# Who is which customer.


def test_a_customer_is_found_by_the_user_and_by_stripes_id(store: Store, ada: Account, customer: Known):
    assert customer == Known(ada.id, "cus_ada", had_trial=False)
    assert store.look(billing.customer_of, ada.id) == store.look(billing.by_stripe_id, "cus_ada") == customer


def test_nobody_is_a_customer_before_a_link(store: Store, ada: Account):
    assert store.look(billing.customer_of, ada.id) is None
    assert store.look(billing.by_stripe_id, "cus_ada") is None


def test_linking_again_is_the_same_link(store: Store, ada: Account, customer: Known):
    assert store.run(billing.link, ada.id, "cus_ada") == customer
    assert [each.action for each in store.look(audit.listing, limit=10)].count("billing.link") == 1


def test_a_user_who_is_a_customer_does_not_become_another(store: Store, ada: Account, customer: Known):
    with pytest.raises(Conflict):
        store.run(billing.link, ada.id, "cus_other")
    assert store.look(billing.customer_of, ada.id) == customer


def test_a_customer_does_not_become_another_users(store: Store, eve: Account, customer: Known):
    with pytest.raises(Conflict):
        store.run(billing.link, eve.id, "cus_ada")
    assert store.look(billing.customer_of, eve.id) is None


def test_a_deleted_customer_is_replaced(store: Store, ada: Account, customer: Known):
    assert store.run(billing.link, ada.id, "cus_new", replaces="cus_ada").stripe_id == "cus_new"
    assert store.look(billing.by_stripe_id, "cus_ada") is None


def test_what_replaces_another_than_ours_is_refused(store: Store, ada: Account, customer: Known):
    with pytest.raises(Conflict):
        store.run(billing.link, ada.id, "cus_new", replaces="cus_older")
    assert store.look(billing.customer_of, ada.id) == customer


def test_who_had_a_trial_had_it_as_the_customer_that_replaces_theirs_too(
    store: Store, ada: Account, customer: Known, clock
):
    look = store.run(billing.begin_look, ada.id)
    store.run(billing.end_look, look, [subscription(clock, "canceled", had_trial=True)])
    assert store.run(billing.link, ada.id, "cus_new", replaces="cus_ada").had_trial
    assert store.look(billing.by_stripe_id, "cus_new") == Known(ada.id, "cus_new", had_trial=True)


def test_twenty_who_link_different_customers_to_one_user_at_once_link_one(
    store: Store, ada: Account, database: str, tmp_path: Path
):
    def link(number: int) -> bool:
        own = Store(database, tmp_path / "data")
        try:
            own.run(billing.link, ada.id, f"cus_{number}")
        except Conflict:
            return False
        else:
            return True
        finally:
            own.close()

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(link, range(20))) == 1


def test_everybody_is_listed_part_by_part(store: Store, clock):
    made = [store.run(accounts.create, f"user{number}").id for number in range(5)]
    for user_id in made:
        store.run(billing.link, user_id, f"cus_{user_id}")
    seen: list[str] = []
    while part := store.look(billing.everybody, seen[-1] if seen else "", 2):
        assert len(part) <= 2
        seen += [each.user_id for each in part]
    assert seen == sorted(made)


# Looks.


def test_a_look_takes_over_what_stripe_said(store: Store, ada: Account, customer: Known, clock):
    look = store.run(billing.begin_look, ada.id)
    synced = store.run(billing.end_look, look, [subscription(clock)])
    assert synced == Synced("ada", "free", "pro")
    assert synced.changed
    account = store.look(accounts.find, "ada")
    assert (account.tier, account.tier_source) == ("pro", "stripe")
    row = store.look(row_of, ada.id)
    assert (row["status"], row["synced_at"], row["had_trial"]) == ("active", clock(), False)


def test_a_change_is_in_the_audit_trail_and_a_look_that_changes_nothing_is_not(
    store: Store, ada: Account, customer: Known, clock
):
    for _ in range(2):
        store.run(billing.end_look, store.run(billing.begin_look, ada.id), [subscription(clock)])
    noted = [each for each in store.look(audit.listing, limit=20) if each.action == "billing.tier"]
    assert [(each.target, each.detail) for each in noted] == [("ada", {"before": "free", "after": "pro"})]


def test_of_two_looks_that_cross_the_younger_one_stands(store: Store, ada: Account, customer: Known, clock):
    older = store.run(billing.begin_look, ada.id)
    younger = store.run(billing.begin_look, ada.id)
    store.run(billing.end_look, younger, [subscription(clock, "canceled")])
    assert store.run(billing.end_look, older, [subscription(clock)]) == Synced("ada", "free", "free")
    assert store.look(accounts.find, "ada").tier == "free"


def test_two_looks_that_do_not_cross_both_write(store: Store, ada: Account, customer: Known, clock):
    for status, tier in (("active", "pro"), ("canceled", "free"), ("trialing", "pro")):
        look = store.run(billing.begin_look, ada.id)
        assert store.run(billing.end_look, look, [subscription(clock, status)]).after == tier


def test_an_older_look_writes_while_a_younger_one_has_not(store: Store, ada: Account, customer: Known, clock):
    older = store.run(billing.begin_look, ada.id)
    store.run(billing.begin_look, ada.id)
    assert store.run(billing.end_look, older, [subscription(clock)]).after == "pro"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.integers(0, 5), max_size=24))
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_however_looks_cross_what_stands_is_never_older_than_what_stood(
    store: Store, customer: Known, clock, moves: list[int]
):
    """Stripe's state is a number that grows; a look fetches it some time after it began, and writes later still."""
    truth, stood = 0, 0
    flying: dict[int, tuple[billing.Look, int]] = {}
    for place in moves:
        truth += 1
        if place not in flying:
            flying[place] = (store.run(billing.begin_look, customer.user_id), truth)
            continue
        look, fetched = flying.pop(place)
        store.run(billing.end_look, look, [subscription(clock, price=f"price_{fetched}")])
        written = store.look(row_of, customer.user_id)["written"]
        now_stands = fetched if written == look.generation else stood
        assert now_stands >= stood
        stood = now_stands


def test_a_look_at_a_customer_who_was_replaced_meanwhile_writes_nothing(
    store: Store, ada: Account, customer: Known, clock
):
    look = store.run(billing.begin_look, ada.id)
    store.run(billing.link, ada.id, "cus_new", replaces="cus_ada")
    assert not store.run(billing.end_look, look, [subscription(clock)], EVENT).changed
    assert store.look(accounts.find, "ada").tier == "free"
    assert store.look(recorded) == ["evt_1"]


def test_a_price_that_no_tier_knows_entitles_to_nothing(store: Store, ada: Account, customer: Known, clock):
    look = store.run(billing.begin_look, ada.id)
    assert not store.run(billing.end_look, look, [subscription(clock, price="price_x")]).changed


def test_another_price_of_the_tier_drops_nobody(store: Store, ada: Account, customer: Known, clock):
    store.run(billing.end_look, store.run(billing.begin_look, ada.id), [subscription(clock)])
    store.run(tiers.edit, "pro", price="price_new")
    look = store.run(billing.begin_look, ada.id)
    assert store.run(billing.end_look, look, [subscription(clock)]).after == "pro"


def test_a_late_payment_keeps_the_tier_until_its_grace_is_over(
    store: Store, ada: Account, customer: Known, clock
):
    look = store.run(billing.begin_look, ada.id)
    assert store.run(billing.end_look, look, [subscription(clock, "past_due")]).after == "pro"
    assert store.look(billing.standing).late == 1
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    assert store.look(accounts.find, "ada").tier == "free"


def test_a_trial_that_was_had_stays_had(store: Store, ada: Account, customer: Known, clock):
    look = store.run(billing.begin_look, ada.id)
    store.run(billing.end_look, look, [subscription(clock, "trialing", had_trial=True)])
    store.run(billing.end_look, store.run(billing.begin_look, ada.id), [])
    known = store.look(billing.customer_of, ada.id)
    assert known is not None
    assert known.had_trial


def test_the_administrators_tier_survives_every_look(store: Store, ada: Account, customer: Known, clock):
    store.run(tiers.set_tier, "ada", "pro")
    for found in ([subscription(clock)], [subscription(clock, "canceled")], []):
        look = store.run(billing.begin_look, ada.id)
        assert store.run(billing.end_look, look, found) == Synced("ada", "pro", "pro")
    assert store.look(accounts.find, "ada").tier_source == "admin"


def test_a_rehearsed_look_says_what_would_change_and_changes_nothing(
    store: Store, ada: Account, customer: Known, clock
):
    look = billing.Look(customer, 0)
    before = store.look(row_of, ada.id)
    assert store.look(billing.rehearse_look, look, [subscription(clock)]) == Synced("ada", "free", "pro")
    assert store.look(row_of, ada.id) == before
    assert store.look(accounts.find, "ada").tier == "free"


def test_the_status_that_people_see_is_the_best_one(store: Store, ada: Account, customer: Known, clock):
    found = [subscription(clock, each) for each in ("canceled", "unpaid", "past_due", "incomplete_expired")]
    store.run(billing.end_look, store.run(billing.begin_look, ada.id), found)
    assert store.look(row_of, ada.id)["status"] == "past_due"
    store.run(billing.end_look, store.run(billing.begin_look, ada.id), [subscription(clock, "canceled")])
    assert store.look(row_of, ada.id)["status"] is None


# Events.


def test_an_event_and_its_effect_are_written_together(store: Store, ada: Account, customer: Known, clock):
    look = store.run(billing.begin_look, ada.id)

    def killed_before_the_commit(tx: Tx) -> None:
        billing.end_look(tx, look, [subscription(clock)], EVENT)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run(killed_before_the_commit)
    assert not store.look(billing.is_recorded, "evt_1")
    assert store.look(accounts.find, "ada").tier == "free"
    store.run(billing.end_look, look, [subscription(clock)], EVENT)
    assert store.look(billing.is_recorded, "evt_1")
    assert store.look(accounts.find, "ada").tier == "pro"


def test_an_event_whose_look_was_overtaken_is_recorded(store: Store, ada: Account, customer: Known, clock):
    older, younger = (store.run(billing.begin_look, ada.id) for _ in range(2))
    store.run(billing.end_look, younger, [], ("evt_2", EVENT[1]))
    store.run(billing.end_look, older, [subscription(clock)], EVENT)
    assert store.look(recorded) == ["evt_1", "evt_2"]


def test_an_event_is_recorded_once(store: Store, clock):
    store.run(billing.record, EVENT)
    clock.forward(DAY)
    store.run(billing.record, EVENT)
    assert store.look(recorded) == ["evt_1"]


def test_events_are_forgotten_long_after_stripe_repeats_them(store: Store, clock):
    store.run(billing.record, EVENT)
    clock.forward(EVENTS_KEPT)
    store.run(upkeep.forget_old)
    assert store.look(recorded) == ["evt_1"]
    clock.forward(timedelta(microseconds=1))
    store.run(upkeep.forget_old)
    assert store.look(recorded) == []


# How it stands.


def test_how_billing_stands_counts_customers_and_says_how_old_the_oldest_look_is(
    store: Store, ada: Account, eve: Account, customer: Known, clock
):
    assert store.look(billing.standing) == Standing(1, 0, 0, None)
    store.run(billing.end_look, store.run(billing.begin_look, ada.id), [subscription(clock)])
    first = clock()
    clock.forward(DAY)
    store.run(billing.link, eve.id, "cus_eve")
    look = store.run(billing.begin_look, eve.id)
    store.run(billing.end_look, look, [subscription(clock, "past_due")])
    assert store.look(billing.standing) == Standing(2, 1, 1, first)


def test_nobody_who_is_no_user_is_linked(store: Store):
    with pytest.raises(NotFound, match="nobody"):
        store.run(billing.link, "nobody", "cus_1")
    assert store.look(billing.by_stripe_id, "cus_1") is None
