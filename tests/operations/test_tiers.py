import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from actors import logged

from cotexd.domain.tier import DEFAULT, GRACE, MAX_REPOS, Entitlement, Tier
from cotexd.errors import Conflict, Invalid, NotFound, OverLimit
from cotexd.operations import accounts, audit, events, notices, removal, repositories, tiers
from cotexd.operations.accounts import Account
from cotexd.operations.tiers import Outcome, Price
from cotexd.store import Store, Tx
from cotexd.store.models import User

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
PRO = Entitlement("pro")


def everything(tx: Tx) -> list[str]:
    """The database, all of it."""
    return [
        repr(tuple(row))
        for table in sorted(tx.database.get_tables())
        for row in tx.database.execute_sql(f'SELECT * FROM "{table}"')  # noqa: S608  # our own tables' names
    ]


def track(store: Store, user: Account, clock, *names: str) -> None:
    """Repositories that a user begins to track one after the other."""
    for name in names:
        store.run(repositories.add, user.id, name)
        clock.forward(SECOND)


def paused(store: Store, user: Account) -> list[str]:
    return [each.repo_name for each in store.look(repositories.all_of, user.id) if each.status == "paused"]


def told(store: Store, since: int = 0) -> list[str]:
    return [each.text for each in store.look(notices.after, since)]


def own_limit(_: Tx, user_id: str, repos: int | None) -> None:
    User.update(repo_limit=repos).where(User.id == user_id).execute()


@pytest.fixture
def over(store: Store, ada: Account, clock) -> Callable[[], Outcome]:
    """Pro for ada, who pays and tracks octo/1 … octo/5; called, her subscription ends: she is over the limit."""
    store.run(tiers.entitle, ada.id, PRO)
    track(store, ada, clock, *(f"octo/{number}" for number in range(1, 6)))
    return lambda: store.run(tiers.entitle, ada.id, Entitlement(None))


# Tiers as data.


def test_the_tiers_from_the_start_are_free_with_2_repositories_and_pro_with_10(store: Store):
    assert [(each.name, each.repos) for each in store.look(tiers.listing)] == [("free", 2), ("pro", 10)]


def test_tiers_are_listed_by_their_limit_with_how_many_are_on_them(store: Store, ada: Account):
    store.run(tiers.add, "tiny", 1)
    store.run(tiers.add, "team", 50, 600)
    store.run(tiers.set_tier, "ada", "team")
    listed = store.look(tiers.listing)
    assert [(each.name, each.users) for each in listed] == [("tiny", 0), ("free", 0), ("pro", 0), ("team", 1)]
    assert listed[-1] == store.look(tiers.show, "team") == tiers.Described("team", 50, 600, 1)


def test_a_tier_that_is_not_there_is_not_found(store: Store):
    for act in (
        lambda: store.look(tiers.show, "gold"),
        lambda: store.run(tiers.edit, "gold", repos=3),
        lambda: store.run(tiers.remove, "gold"),
    ):
        with pytest.raises(NotFound, match="gold"):
            act()


@pytest.mark.parametrize("name", ["", "-a", "Team", "a b", "té", "a" * 64, "team\n", "a/b"])
def test_what_cannot_be_a_tiers_name_is_refused(store: Store, name: str):
    with pytest.raises(Invalid):
        store.run(tiers.add, name, 5)


@pytest.mark.parametrize(("repos", "requests"), [(-1, None), (MAX_REPOS + 1, None), (5, -1), (5, 10**6 + 1)])
def test_what_cannot_be_a_limit_is_refused_of_a_new_tier_and_of_an_old_one(
    store: Store, repos: int, requests: int | None
):
    with pytest.raises(Invalid):
        store.run(tiers.add, "team", repos, requests)
    with pytest.raises(Invalid):
        store.run(tiers.edit, "pro", repos=repos, requests=requests)
    assert store.look(tiers.show, "pro") == tiers.Described("pro", 10)


def test_a_tier_is_added_once(store: Store):
    store.run(tiers.add, "team", 50)
    with pytest.raises(Conflict, match="team"):
        store.run(tiers.add, "team", 60)
    assert store.look(tiers.show, "team").repos == 50


def test_what_an_edit_does_not_name_stays_and_requests_are_given_back_to_the_configuration(store: Store):
    store.run(tiers.add, "team", 50, 600)
    assert store.run(tiers.edit, "team", repos=60).requests == 600
    assert store.run(tiers.edit, "team", requests=0) == tiers.Described("team", 60, None)


def test_a_tier_that_nobody_is_on_is_removed(store: Store):
    store.run(tiers.add, "team", 50)
    store.run(tiers.remove, "team")
    assert [each.name for each in store.look(tiers.listing)] == ["free", "pro"]


def test_the_default_tier_stays(store: Store):
    with pytest.raises(Conflict):
        store.run(tiers.remove, DEFAULT)


def test_a_tier_that_somebody_is_on_or_pays_for_is_not_removed(store: Store, ada: Account):
    store.run(tiers.add, "team", 50)
    store.run(tiers.set_tier, "ada", "team")
    store.run(tiers.entitle, ada.id, PRO)
    for tier in ("team", "pro"):
        with pytest.raises(Conflict):
            store.run(tiers.remove, tier)


def test_a_tier_that_has_a_price_is_not_removed(store: Store):
    store.run(tiers.edit, "pro", price="price_1")
    with pytest.raises(Conflict):
        store.run(tiers.remove, "pro")


def test_a_tier_whose_last_user_was_removed_can_be_removed(store: Store, ada: Account):
    store.run(tiers.add, "team", 50)
    store.run(tiers.set_tier, "ada", "team")
    store.run(removal.remove_user, "ada")
    store.run(tiers.remove, "team")
    assert "team" not in [each.name for each in store.look(tiers.listing)]


# Prices.


def test_a_tier_is_sold_by_the_month_and_by_the_year(store: Store):
    store.run(tiers.edit, "pro", price="price_month")
    store.run(tiers.edit, "pro", price="price_year", interval="year")
    assert store.look(tiers.price_of, "pro", "month") == "price_month"
    assert store.look(tiers.price_of, "pro", "year") == "price_year"
    assert store.look(tiers.price_of, "free", "month") is None


def test_a_new_price_is_sold_and_the_one_before_goes_on_to_entitle(store: Store, clock):
    store.run(tiers.edit, "pro", price="price_1")
    clock.forward(DAY)
    changed = store.run(tiers.edit, "pro", price="price_2")
    assert changed.prices == (Price("price_2", "month", True), Price("price_1", "month", False))
    assert store.look(tiers.price_of, "pro", "month") == "price_2"
    assert store.look(tiers.by_price) == {"price_1": Tier("pro", 10), "price_2": Tier("pro", 10)}


def test_an_earlier_price_can_be_sold_again(store: Store):
    for price in ("price_1", "price_2", "price_1"):
        store.run(tiers.edit, "pro", price=price)
    assert store.look(tiers.price_of, "pro", "month") == "price_1"
    assert len(store.look(tiers.show, "pro").prices) == 2


def test_a_price_is_one_tiers_for_good(store: Store):
    store.run(tiers.add, "team", 50)
    store.run(tiers.edit, "pro", price="price_1")
    store.run(tiers.edit, "pro", price="price_2")
    for price in ("price_1", "price_2"):
        with pytest.raises(Conflict, match="pro"):
            store.run(tiers.edit, "team", price=price)


@pytest.mark.parametrize("price", ["", "prod_1", "price_", "price_a b", "price_é", "price_" + "a" * 201])
def test_what_cannot_be_a_price_is_refused(store: Store, price: str):
    with pytest.raises(Invalid):
        store.run(tiers.edit, "pro", price=price)


def test_what_cannot_be_an_interval_is_refused(store: Store):
    with pytest.raises(Invalid, match="week"):
        store.run(tiers.edit, "pro", price="price_1", interval="week")


def test_a_refused_price_leaves_the_limits_as_they_were(store: Store):
    with pytest.raises(Invalid):
        store.run(tiers.edit, "pro", repos=3, price="prod_1")
    assert store.look(tiers.show, "pro").repos == 10


# Who is on which.


def test_another_tier_has_another_limit_and_the_user_is_told(store: Store, ada: Account):
    outcome = store.run(tiers.set_tier, "ada", "pro")
    assert outcome == Outcome("pro", "admin", 10, 0, None, None)
    assert told(store) == ["Your tier is now pro: up to 10 repositories"]
    account = store.look(accounts.find, "ada")
    assert (account.tier, account.tier_source, account.repo_limit) == ("pro", "admin", 10)


def test_the_same_tier_again_is_no_news(store: Store, ada: Account):
    assert store.run(tiers.set_tier, "ada", "free").tier == "free"
    assert told(store) == []


def test_an_unknown_tier_or_user_changes_nothing(store: Store, ada: Account):
    before = store.look(everything)
    with pytest.raises(NotFound, match="gold"):
        store.run(tiers.set_tier, "ada", "gold")
    with pytest.raises(NotFound, match="eve"):
        store.run(tiers.set_tier, "eve", "pro")
    assert store.look(everything) == before


def test_auto_gives_the_matter_back_to_stripe(store: Store, ada: Account):
    store.run(tiers.add, "team", 50)
    store.run(tiers.entitle, ada.id, PRO)
    assert store.run(tiers.set_tier, "ada", "team").tier_source == "admin"
    assert store.run(tiers.set_tier, "ada", None) == Outcome("pro", "stripe", 10, 0, None, None)
    store.run(tiers.entitle, ada.id, Entitlement(None))
    assert store.run(tiers.set_tier, "ada", None) == Outcome("free", "default", 2, 0, None, None)


def test_a_subscription_raises_above_the_administrators_tier_and_its_end_leads_back_there(
    store: Store, ada: Account
):
    store.run(tiers.add, "team", 50)
    store.run(tiers.set_tier, "ada", "pro")
    assert store.run(tiers.entitle, ada.id, Entitlement("team")).tier == "team"
    assert store.run(tiers.entitle, ada.id, Entitlement(None)) == Outcome("pro", "admin", 10, 0, None, None)


def test_a_tier_that_a_user_was_made_with_is_the_administrators(store: Store):
    eve = store.run(accounts.create, "eve", tier="pro")
    assert eve.tier_source == "admin"
    assert store.run(tiers.entitle, eve.id, Entitlement(None)).tier == "pro"


def test_a_dry_run_says_what_would_be_and_changes_nothing(store: Store, ada: Account, clock):
    store.run(tiers.set_tier, "ada", "pro")
    track(store, ada, clock, *(f"octo/{number}" for number in range(5)))
    before = store.look(everything)
    would_be = store.rehearse(tiers.set_tier, "ada", "free")
    assert store.look(everything) == before
    assert would_be == store.run(tiers.set_tier, "ada", "free")
    assert (would_be.tier, would_be.pauses_at) == ("free", clock() + GRACE)


def test_a_dry_run_of_what_is_refused_is_refused_and_leaves_the_store_usable(store: Store, ada: Account):
    with pytest.raises(NotFound):
        store.rehearse(tiers.set_tier, "ada", "gold")
    assert store.run(tiers.set_tier, "ada", "pro").tier == "pro"


def test_without_a_grace_a_dry_run_names_what_would_be_paused(store: Store, over, ada: Account):
    store.run(tiers.set_grace, timedelta(0))
    would_be = store.rehearse(tiers.entitle, ada.id, Entitlement(None))
    assert would_be.paused == ("octo/3", "octo/4", "octo/5")
    assert paused(store, ada) == []


# Over the limit.


def test_who_falls_below_what_they_track_loses_nothing_and_has_a_dated_grace(
    store: Store, over, ada: Account, clock
):
    before = store.look(notices.last_id)
    outcome = over()
    assert outcome == Outcome("free", "default", 2, 5, clock(), clock() + GRACE)
    assert store.look(accounts.find, "ada").over_limit_since == clock()
    assert paused(store, ada) == []
    assert told(store, before) == [
        "Your tier is now free: up to 2 repositories",
        f"You track 5 repositories, and free allows 2: from {clock() + GRACE:%Y-%m-%d} on the newest 3 are paused",
    ]


def test_after_the_grace_and_not_a_second_before_the_newest_above_the_limit_are_paused(
    store: Store, over, ada: Account, clock
):
    over()
    clock.forward(GRACE - SECOND)
    assert store.run(tiers.settle_due) == 0
    assert paused(store, ada) == []
    clock.forward(SECOND)
    before = store.look(notices.last_id)
    assert store.run(tiers.settle_due) == 1
    assert paused(store, ada) == ["octo/3", "octo/4", "octo/5"]
    reason = "is paused: you track more than your tier allows. GitHub keeps its events for 3 days"
    assert told(store, before) == [f"Repository octo/{number} {reason}" for number in (3, 4, 5)]
    assert store.look(accounts.find, "ada").repo_count == 5


def test_what_the_limit_does_and_undoes_is_in_the_audit_trail(store: Store, over, ada: Account, clock):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    store.run(tiers.set_tier, "ada", "pro")
    noted = [(each.action, each.target) for each in store.look(audit.listing, limit=100)]
    assert [target for action, target in reversed(noted) if action == "repo.limit"] == [
        "octo/3", "octo/4", "octo/5",
    ]  # fmt: skip
    assert sorted(target for action, target in noted if action == "repo.unlimit") == [
        "octo/3", "octo/4", "octo/5",
    ]  # fmt: skip


def test_settling_twice_does_and_says_nothing_more(store: Store, over, ada: Account, clock):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    before = store.look(notices.last_id)
    assert store.run(tiers.settle_due) == 0
    outcome = store.run(tiers.settle, ada.id)
    assert (outcome.paused, outcome.resumed) == ((), ())
    assert told(store, before) == []


def test_the_grace_is_the_configured_one(store: Store, over, clock):
    store.run(tiers.set_grace, 2 * DAY)
    assert over().pauses_at == clock() + 2 * DAY
    assert store.look(tiers.grace_of) == 2 * DAY


def test_a_grace_that_is_not_configured_is_of_seven_days(store: Store):
    assert store.look(tiers.grace_of) == GRACE == 7 * DAY


def test_without_a_grace_the_newest_are_paused_at_once(store: Store, over, ada: Account, clock):
    store.run(tiers.set_grace, timedelta(0))
    outcome = over()
    assert outcome.paused == ("octo/3", "octo/4", "octo/5")
    assert outcome.pauses_at == clock()


def test_nothing_is_added_while_over_the_limit(store: Store, over, ada: Account):
    over()
    with pytest.raises(OverLimit, match="free"):
        store.run(repositories.add, ada.id, "octo/6")


def test_a_repository_paused_by_the_limit_refuses_deliveries(store: Store, over, ada: Account, clock):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    for name, is_paused in (("octo/2", False), ("octo/5", True)):
        hook = store.look(repositories.hook_of, store.look(repositories.find, name).id)
        assert hook is not None
        assert hook.paused is is_paused


@pytest.mark.parametrize("way", ["upgrade", "subscription", "raised limit", "own limit"])
def test_they_are_resumed_by_themselves_as_soon_as_there_is_room(
    store: Store, over, ada: Account, clock, way: str
):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    before = store.look(notices.last_id)
    if way == "upgrade":
        store.run(tiers.set_tier, "ada", "pro")
    elif way == "subscription":
        store.run(tiers.entitle, ada.id, PRO)
    elif way == "raised limit":
        store.run(tiers.edit, "free", repos=5)
    else:
        store.run(own_limit, ada.id, 5)
        store.run(tiers.settle, ada.id)
    assert paused(store, ada) == []
    for number in (3, 4, 5):
        assert f"Repository octo/{number} is within the limit of your tier again" in told(store, before)
    assert store.look(accounts.find, "ada").over_limit_since is None


def test_a_little_more_room_resumes_the_oldest_of_them(store: Store, over, ada: Account, clock):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    store.run(tiers.edit, "free", repos=4)
    assert paused(store, ada) == ["octo/5"]
    store.run(tiers.edit, "free", repos=1)
    assert paused(store, ada) == ["octo/2", "octo/3", "octo/4", "octo/5"]


def test_a_removal_makes_room_for_the_oldest_that_is_paused(store: Store, over, ada: Account, clock):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    store.run(repositories.remove, ada.id, store.look(repositories.find, "octo/1").id)
    assert paused(store, ada) == ["octo/4", "octo/5"]
    store.run(repositories.remove, ada.id, store.look(repositories.find, "octo/5").id)
    assert paused(store, ada) == ["octo/4"]
    store.run(repositories.remove, ada.id, store.look(repositories.find, "octo/2").id)
    assert paused(store, ada) == []
    assert store.look(accounts.find, "ada").over_limit_since is None


def test_a_lowered_limit_of_a_tier_gives_its_users_a_grace(store: Store, ada: Account, clock):
    track(store, ada, clock, "octo/1", "octo/2")
    store.run(tiers.edit, "free", repos=1)
    assert store.look(accounts.find, "ada").over_limit_since == clock()
    clock.forward(GRACE)
    assert store.run(tiers.settle_due) == 1
    assert paused(store, ada) == ["octo/2"]


def test_the_only_one_allowed_is_one_repository(store: Store, ada: Account, clock):
    track(store, ada, clock, "octo/1", "octo/2")
    store.run(tiers.add, "tiny", 1)
    store.run(tiers.set_tier, "ada", "tiny")
    assert told(store)[-2] == "Your tier is now tiny: up to 1 repository"


# Falling in and out.


def test_falling_in_and_out_does_not_renew_the_grace(store: Store, over, ada: Account, clock):
    began = over().over_limit_since
    for _ in range(3):
        clock.forward(DAY)
        assert store.run(tiers.entitle, ada.id, PRO).over_limit_since is None
        clock.forward(DAY)
        again = store.run(tiers.entitle, ada.id, Entitlement(None))
        assert (again.over_limit_since, again.pauses_at) == (began, began + GRACE)
    clock.forward(DAY)
    assert store.run(tiers.settle_due) == 1
    assert paused(store, ada) == ["octo/3", "octo/4", "octo/5"]


def test_who_falls_out_again_after_the_grace_has_run_out_is_paused_at_once(
    store: Store, over, ada: Account, clock
):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    store.run(tiers.entitle, ada.id, PRO)
    clock.forward(DAY)
    assert over().paused == ("octo/3", "octo/4", "octo/5")


def test_who_has_been_within_the_limit_for_as_long_as_a_grace_has_a_new_one(
    store: Store, over, ada: Account, clock
):
    over()
    clock.forward(DAY)
    store.run(tiers.entitle, ada.id, PRO)
    clock.forward(GRACE)
    assert over().pauses_at == clock() + GRACE


def test_falling_out_again_is_told_with_the_date_that_was_told_before(
    store: Store, over, ada: Account, clock
):
    ends = over().pauses_at
    clock.forward(DAY)
    store.run(tiers.entitle, ada.id, PRO)
    before = store.look(notices.last_id)
    over()
    assert f"from {ends:%Y-%m-%d} on the newest 3 are paused" in told(store, before)[-1]


# The owner's pause and the limit's.


def test_the_limits_end_does_not_lift_the_owners_pause(store: Store, over, ada: Account, clock):
    store.run(repositories.pause, ada.id, store.look(repositories.find, "octo/5").id)
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    store.run(tiers.entitle, ada.id, PRO)
    assert paused(store, ada) == ["octo/5"]


def test_an_owner_cannot_lift_the_limits_pause(store: Store, over, ada: Account, clock):
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    with pytest.raises(OverLimit, match="octo/5"):
        store.run(repositories.resume, ada.id, store.look(repositories.find, "octo/5").id)
    assert paused(store, ada) == ["octo/3", "octo/4", "octo/5"]


def test_an_owner_who_lifts_their_own_pause_leaves_the_limits_in_force(
    store: Store, over, ada: Account, clock
):
    five = store.look(repositories.find, "octo/5").id
    store.run(repositories.pause, ada.id, five)
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    before = store.look(notices.last_id)
    assert store.run(repositories.resume, ada.id, five).status == "paused"
    assert "Repository octo/5 is resumed" not in told(store, before)
    store.run(tiers.entitle, ada.id, PRO)
    assert paused(store, ada) == []


# Whose time has come.


def test_settle_due_finds_exactly_those_whose_time_has_come(store: Store, clock):
    def user(name: str, tracks: int, paid: Entitlement) -> Account:
        made = store.run(accounts.create, name)
        store.run(tiers.entitle, made.id, PRO)
        track(store, made, clock, *(f"{name}/{number}" for number in range(tracks)))
        store.run(tiers.entitle, made.id, paid)
        return made

    start = clock()
    user("within", 2, Entitlement(None))
    user("paying", 5, PRO)
    user("late", 0, Entitlement("pro", start + 3 * DAY))
    user("late-and-over", 4, Entitlement("pro", start + 3 * DAY))
    user("over", 3, Entitlement(None))
    removed = user("removed", 3, Entitlement(None))
    store.run(removal.remove_user, removed.id)
    assert store.run(tiers.settle_due) == 0
    clock.now = start + 3 * DAY
    assert store.run(tiers.settle_due) == 2
    assert {each.name: each.tier for each in store.look(accounts.all_of_them)} == {
        "within": "free", "paying": "pro", "late": "free", "late-and-over": "free", "over": "free",
    }  # fmt: skip
    clock.now = start + GRACE + timedelta(minutes=1)
    assert store.run(tiers.settle_due) == 1
    assert paused(store, store.look(accounts.find, "over")) == ["over/2"]
    clock.now = start + 3 * DAY + GRACE
    assert store.run(tiers.settle_due) == 1
    assert paused(store, store.look(accounts.find, "late-and-over")) == ["late-and-over/2", "late-and-over/3"]
    assert store.run(tiers.settle_due) == 0


def test_a_late_payment_keeps_the_tier_to_the_last_second(store: Store, ada: Account, clock):
    until = clock() + GRACE
    store.run(tiers.entitle, ada.id, Entitlement("pro", until))
    clock.now = until - SECOND
    assert store.run(tiers.settle_due) == 0
    assert store.look(accounts.find, "ada").tier == "pro"
    clock.now = until
    assert store.run(tiers.settle_due) == 1
    account = store.look(accounts.find, "ada")
    assert (account.tier, account.tier_source) == ("free", "default")


def test_a_user_with_a_limit_of_their_own_is_found_by_that(store: Store, ada: Account, clock):
    store.run(own_limit, ada.id, 3)
    track(store, ada, clock, "octo/1", "octo/2", "octo/3")
    store.run(own_limit, ada.id, 1)
    store.run(tiers.settle, ada.id)
    clock.forward(GRACE)
    assert store.run(tiers.settle_due) == 1
    assert paused(store, ada) == ["octo/2", "octo/3"]


def test_users_that_are_many_are_settled_in_batches_until_nobody_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch, clock
):
    monkeypatch.setattr(tiers, "_BATCH", 2)
    for number in range(5):
        made = store.run(accounts.create, f"user{number}")
        store.run(tiers.entitle, made.id, Entitlement("pro", clock() + DAY))
    clock.forward(DAY)
    assert [store.run(tiers.settle_due) for _ in range(4)] == [2, 2, 1, 0]


# Many at once.


def test_fifty_who_add_at_the_limit_at_once_add_exactly_as_many_as_are_left(
    store: Store, ada: Account, database: str, tmp_path: Path
):
    store.run(tiers.entitle, ada.id, PRO)
    for number in range(7):
        store.run(repositories.add, ada.id, f"octo/before-{number}")

    def add(number: int) -> bool:
        own = Store(database, tmp_path / "data")
        try:
            own.run(repositories.add, ada.id, f"octo/{number}")
        except OverLimit:
            return False
        else:
            return True
        finally:
            own.close()

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(add, range(50))) == 3
    assert store.look(accounts.find, "ada").repo_count == 10


async def test_fifty_who_add_while_the_tier_falls_leave_nothing_above_the_limit_unpaused(
    store: Store, ada: Account
):
    store.run(tiers.entitle, ada.id, PRO)
    store.run(tiers.set_grace, timedelta(0))
    store.start(lambda _: None, lambda: None)
    try:
        adding = [store.write(repositories.add, ada.id, f"octo/{number}") for number in range(50)]
        adding.insert(25, store.write(tiers.entitle, ada.id, Entitlement(None)))  # type: ignore[arg-type]  # another answer
        results = await asyncio.gather(*adding, return_exceptions=True)
        assert {type(each) for each in results if isinstance(each, Exception)} == {OverLimit}
        seen = await store.read(repositories.all_of, ada.id)
        assert len(seen) == 10
        assert [each.status for each in seen].count("active") == 2
    finally:
        await store.stop()


def test_an_outcome_can_be_shown_as_json(store: Store, over):
    shown = msgspec.json.decode(msgspec.json.encode(over()))
    assert shown.keys() == {
        "tier", "tier_source", "repo_limit", "repo_count", "over_limit_since", "pauses_at", "paused", "resumed",
    }  # fmt: skip


def test_events_of_a_paused_repository_that_came_before_stay(store: Store, over, ada: Account, clock):
    five = store.look(repositories.find, "octo/5")
    logged(store, five, 3)
    over()
    clock.forward(GRACE)
    store.run(tiers.settle_due)
    assert store.look(events.log).head == 3
