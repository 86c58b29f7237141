from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain.tier import (
    DEFAULT,
    GRACE,
    LIVE,
    NOTHING,
    SEEDS,
    Entitlement,
    Subscription,
    Tier,
    effective,
    entitlement,
    rank,
    repo_limit,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FREE, PRO = SEEDS
TEAM = Tier("team", repos=50)
TIERS = {tier.name: tier for tier in (FREE, PRO, TEAM)}
PRICES = {"price_pro": PRO, "price_pro_before": PRO, "price_team": TEAM}


def subscription(status: str = "active", *prices: str, began: datetime = NOW) -> Subscription:
    return Subscription("sub_1", status, prices or ("price_pro",), began, began + timedelta(days=30))


def entitled(*subscriptions: Subscription, now: datetime = NOW, grace: timedelta = GRACE) -> Entitlement:
    return entitlement(subscriptions, PRICES, now, grace)


def test_a_tier_limits_repositories():
    assert repo_limit(FREE, None) == 2


@pytest.mark.parametrize("own", [0, 1, 7])
def test_a_users_own_limit_goes_before_the_tiers(own: int):
    assert repo_limit(FREE, own) == own


def test_a_new_user_has_the_smallest_tier_that_is_there_from_the_start():
    assert min(SEEDS, key=rank).name == DEFAULT


def test_who_has_neither_the_administrators_word_nor_a_subscription_has_the_default():
    assert effective(TIERS, None, None) == (FREE, "default")


def test_a_subscription_raises_above_the_default():
    assert effective(TIERS, None, "pro") == (PRO, "stripe")


def test_the_administrators_tier_is_a_floor_that_a_subscription_raises_and_never_lowers():
    assert effective(TIERS, "pro", None) == (PRO, "admin")
    assert effective(TIERS, "pro", "free") == (PRO, "admin")
    assert effective(TIERS, "pro", "team") == (TEAM, "stripe")


def test_where_both_say_the_same_it_is_the_administrators():
    assert effective(TIERS, "pro", "pro") == (PRO, "admin")


def test_an_administrator_can_put_a_user_below_the_default():
    tiers = {**TIERS, "none": Tier("none", 0)}
    assert effective(tiers, "none", None) == (tiers["none"], "admin")
    assert effective(tiers, "none", "pro") == (PRO, "stripe")


def test_a_paid_tier_that_is_no_more_counts_for_nothing():
    assert effective(TIERS, None, "gold") == (FREE, "default")


def test_a_paid_tier_that_allows_less_than_the_default_lowers_nobody():
    assert effective({**TIERS, "pro": Tier("pro", 1)}, None, "pro") == (FREE, "default")


@given(st.sampled_from([None, *TIERS]), st.sampled_from([None, *TIERS]))
def test_a_subscription_never_makes_the_limit_smaller(admin: str | None, paid: str | None):
    assert effective(TIERS, admin, paid)[0].repos >= effective(TIERS, admin, None)[0].repos


@pytest.mark.parametrize("status", ["active", "trialing"])
def test_whoever_pays_or_tries_is_entitled_until_stripe_says_otherwise(status: str):
    assert entitled(subscription(status)) == Entitlement("pro", None)


@pytest.mark.parametrize(
    "status", ["incomplete", "incomplete_expired", "canceled", "unpaid", "paused", "of_the_future", ""]
)
def test_any_other_status_entitles_to_nothing(status: str):
    assert entitled(subscription(status)) == NOTHING


def test_a_late_payment_keeps_the_tier_through_the_grace_and_not_a_second_longer():
    late = subscription("past_due")
    assert entitled(late, now=NOW) == Entitlement("pro", NOW + GRACE)
    assert entitled(late, now=NOW + GRACE - SECOND) == Entitlement("pro", NOW + GRACE)
    assert entitled(late, now=NOW + GRACE) == NOTHING
    assert entitled(late, now=NOW + GRACE + SECOND) == NOTHING


def test_without_a_grace_a_late_payment_loses_the_tier_at_once():
    assert entitled(subscription("past_due"), grace=timedelta(0)) == NOTHING


def test_nobody_without_a_subscription_is_entitled():
    assert entitled() == NOTHING


def test_a_price_that_we_never_sold_entitles_to_nothing():
    assert entitled(subscription("active", "price_of_another_product")) == NOTHING


def test_a_price_that_was_sold_earlier_entitles_as_it_did():
    assert entitled(subscription("active", "price_pro_before")) == Entitlement("pro")


def test_a_known_price_among_others_entitles():
    assert entitled(subscription("active", "price_support", "price_pro", "price_t_shirt")) == Entitlement(
        "pro"
    )


def test_of_several_prices_in_one_subscription_the_best_counts():
    assert entitled(subscription("active", "price_team", "price_pro")) == Entitlement("team")


def test_of_several_subscriptions_the_best_counts():
    both = subscription(), subscription("trialing", "price_team")
    assert entitled(*both) == entitled(*reversed(both)) == Entitlement("team")


def test_a_subscription_that_ended_or_never_began_takes_nothing_from_one_that_is_paid():
    for over in ("canceled", "incomplete_expired", "incomplete", "unpaid"):
        both = subscription(over, "price_team"), subscription()
        assert entitled(*both) == entitled(*reversed(both)) == Entitlement("pro")


def test_a_paid_subscription_goes_before_a_late_one_of_the_same_tier():
    both = subscription("past_due"), subscription("active", "price_pro_before")
    assert entitled(*both) == entitled(*reversed(both)) == Entitlement("pro", None)


def test_of_two_late_payments_for_one_tier_the_one_that_is_late_for_less_long_counts():
    older = subscription("past_due", began=NOW - 5 * timedelta(days=1))
    younger = subscription("past_due", began=NOW - timedelta(days=1))
    until = younger.period_start + GRACE
    assert entitled(older, younger) == entitled(younger, older) == Entitlement("pro", until)


STATUSES = ["active", "past_due", "unpaid", "incomplete_expired", "canceled"]
SUBSCRIPTIONS = st.lists(
    st.builds(
        subscription,
        st.sampled_from(STATUSES),
        st.sampled_from([*PRICES, "price_unknown"]),
        began=st.integers(0, 20).map(lambda days: NOW - timedelta(days=days)),
    ),
    max_size=5,
)


@given(SUBSCRIPTIONS, st.randoms(use_true_random=False))
def test_the_order_in_which_stripe_lists_subscriptions_decides_nothing(subscriptions, random):
    shuffled = random.sample(subscriptions, len(subscriptions))
    assert entitled(*shuffled) == entitled(*subscriptions)


@given(SUBSCRIPTIONS, SUBSCRIPTIONS)
def test_one_more_subscription_never_takes_away(some, more):
    def limit(found: Entitlement) -> int:
        return TIERS[found.tier].repos if found.tier else 0

    assert limit(entitled(*some, *more)) >= max(limit(entitled(*some)), limit(entitled(*more)))


def test_a_subscription_that_may_come_back_to_life_is_one_that_is_there():
    assert {"active", "trialing", "past_due", "unpaid", "paused"} == LIVE
