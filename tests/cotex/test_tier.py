import pytest

from cotexd.operations.repositories import Tracked


def tiers(cotex) -> dict[str, dict]:
    return {each["name"]: each for each in cotex("tier", "list", "--json").json}


def statuses(cotex) -> dict[str, str]:
    return {each["repo_name"]: each["status"] for each in cotex("repo", "list", "--json").json}


def test_list_shows_every_tier_with_its_limits_the_smallest_first(cotex, database: str):
    assert [(name, tier["repos"]) for name, tier in tiers(cotex).items()] == [("free", 2), ("pro", 10)]
    cotex("tier", "add", "team", "--repos", "5", "--requests", "1200")
    cotex("user", "add", "ada", "--tier", "team")
    assert list(tiers(cotex)) == ["free", "team", "pro"]
    assert cotex("tier", "show", "team", "--json").json == tiers(cotex)["team"]
    assert (tiers(cotex)["team"]["requests"], tiers(cotex)["team"]["users"]) == (1200, 1)


def test_a_tier_is_added_once_unless_if_not_exists(cotex):
    first = cotex("tier", "add", "team", "--repos", "5", "--json")
    assert cotex("tier", "add", "team", "--repos", "7").code == 4
    assert cotex("tier", "add", "team", "--repos", "7", "--if-not-exists", "--json") == first


@pytest.mark.parametrize(
    "line", ["Big --repos 5", "b/g --repos 5", "big --repos -1", "big --repos 999999999", "big"]
)
def test_what_can_be_no_tier_is_refused(cotex, line: str):
    assert cotex("tier", "add", *line.split()).code == 2
    assert list(tiers(cotex)) == ["free", "pro"]


def test_an_edited_tier_holds_at_once_for_who_is_on_it(cotex, octo: Tracked):
    assert cotex("tier", "edit", "free", "--repos", "7", "--requests", "30").code == 0
    assert cotex("user", "show", "ada", "--json").json["repo_limit"] == 7
    assert tiers(cotex)["free"]["requests"] == 30
    cotex("tier", "edit", "free", "--requests", "0")
    assert tiers(cotex)["free"]["requests"] is None


def test_a_tier_has_a_price_at_stripe_and_keeps_the_ones_that_were_sold(cotex):
    for price in ("price_1", "price_2"):
        assert cotex("tier", "edit", "pro", "--stripe-price", price).code == 0
    prices = {each["id"]: each["current"] for each in tiers(cotex)["pro"]["prices"]}
    assert prices == {"price_2": True, "price_1": False}
    assert cotex("tier", "edit", "free", "--stripe-price", "price_1").code == 4
    assert cotex("tier", "edit", "free", "--stripe-price", "9.00").code == 2


def test_only_a_tier_that_nobody_is_on_is_removed(cotex, octo: Tracked):
    cotex("tier", "add", "team", "--repos", "5")
    cotex("tier", "set", "ada", "team")
    for flag in ("--yes", "--dry-run"):
        assert cotex("tier", "remove", "team", flag).code == 4
    cotex("tier", "set", "ada", "pro")
    assert cotex("tier", "remove", "team", "--dry-run").code == 0
    assert "team" in tiers(cotex)
    assert cotex("tier", "remove", "team").code == 2
    assert cotex("tier", "remove", "team", "--yes").code == 0
    assert list(tiers(cotex)) == ["free", "pro"]


def test_set_puts_a_user_on_a_tier_and_says_what_that_means(cotex, octo: Tracked):
    done = cotex("tier", "set", "ada", "pro")
    assert (done.code, done.out) == (0, "")
    assert done.err == "ada is on pro (admin); was on free.\n1 of 10 repositories.\n"
    assert cotex("user", "show", "ada", "--json").json["repo_limit"] == 10


def test_auto_takes_the_administrator_s_word_back(cotex, octo: Tracked):
    cotex("tier", "set", "ada", "pro")
    assert cotex("tier", "set", "ada", "--auto").code == 0
    shown = cotex("user", "show", "ada", "--json").json
    assert (shown["tier"], shown["tier_source"]) == ("free", "default")
    assert cotex("tier", "set", "ada", "pro", "--auto").code == 2


def test_who_is_put_below_what_they_track_is_told_when_it_is_paused_and_loses_nothing(cotex, octo: Tracked):
    cotex("tier", "set", "ada", "pro")
    for name in ("octo/two", "octo/three"):
        cotex("repo", "add", name)
    done = cotex("tier", "set", "ada", "free", "--json").json
    assert (done["repo_count"], done["repo_limit"], done["paused"]) == (3, 2, [])
    assert done["pauses_at"] > done["over_limit_since"]
    assert set(statuses(cotex).values()) == {"active"}
    assert "paused from" in cotex("tier", "set", "ada", "free").err


def test_dry_run_says_what_would_be_and_changes_nothing(cotex, octo: Tracked):
    assert "would be on pro" in cotex("tier", "set", "ada", "pro", "--dry-run").err
    assert cotex("user", "show", "ada", "--json").json["tier"] == "free"
    assert [each["action"] for each in cotex("audit", "list", "--action", "tier.", "--json").json] == []


def test_dry_run_shows_as_json_what_would_be(cotex, octo: Tracked):
    would_be = cotex("tier", "set", "ada", "pro", "--dry-run", "--json").json
    done = cotex("tier", "set", "ada", "pro", "--json").json
    assert {**would_be, "updated_at": "", "dry_run": False} == {**done, "updated_at": ""}


def test_an_unknown_user_or_tier_is_not_found_in_a_dry_run_too(cotex, octo: Tracked):
    for flags in ([], ["--dry-run"]):
        assert cotex("tier", "set", "bob", "pro", *flags).code == 3
        done = cotex("tier", "set", "ada", "gold", *flags)
        assert done.code == 3
        assert "cotex tier list" in done.err
    assert cotex("user", "show", "ada", "--json").json["tier"] == "free"


async def test_a_new_tier_is_in_force_in_the_running_server_and_its_user_is_told(server, cotex):
    ada = server.user("ada", tier="free")
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        await cotex.beside("tier", "set", "ada", "pro")
        told = await client.until(socket, lambda message: message.get("event") == "notice")
    assert "pro" in told["payload"]["text"]


def test_a_user_is_shown_with_all_that_their_tier_means(cotex, octo: Tracked):
    def facts() -> tuple[object, ...]:
        user = cotex("user", "show", "ada", "--json").json
        named = ("tier", "tier_source", "repo_limit", "repo_count")
        return (*(user[name] for name in named), user["over_limit_since"] is not None)

    assert facts() == ("free", "default", 2, 1, False)
    cotex("tier", "set", "ada", "pro")
    assert facts() == ("pro", "admin", 10, 1, False)
    cotex("tier", "edit", "pro", "--repos", "0")
    assert facts() == ("pro", "admin", 0, 1, True)


def test_the_outcome_of_set_has_the_same_names_whether_it_is_done_or_only_shown(cotex, octo: Tracked):
    for flags in (["--dry-run"], []):
        found = cotex("tier", "set", "ada", "pro", *flags, "--json").json
        assert found.keys() >= {
            "name", "tier", "tier_source", "repo_limit", "repo_count", "over_limit_since",
            "pauses_at", "paused", "resumed", "dry_run",
        }  # fmt: skip
        assert (found["tier"], found["tier_source"], found["repo_limit"]) == ("pro", "admin", 10)


def test_a_dry_run_of_auto_says_where_it_would_lead(cotex, octo: Tracked):
    cotex("tier", "set", "ada", "pro")
    done = cotex("tier", "set", "ada", "--auto", "--dry-run")
    assert done.err == "ada would be on free (default); was on pro.\n1 of 2 repositories.\n"
    assert cotex("user", "show", "ada", "--json").json["tier"] == "pro"


def test_set_wants_a_tier_or_auto_and_not_neither(cotex, octo: Tracked):
    done = cotex("tier", "set", "ada")
    assert done.code == 2
    assert "--auto" in done.err


def test_a_tier_is_sold_by_the_month_and_by_the_year(cotex):
    cotex("tier", "edit", "pro", "--stripe-price", "price_month")
    done = cotex("tier", "edit", "pro", "--stripe-price", "price_year", "--interval", "year", "--json")
    assert {each["interval"]: each["id"] for each in done.json["prices"]} == {
        "month": "price_month", "year": "price_year",
    }  # fmt: skip
    assert cotex("tier", "edit", "pro", "--stripe-price", "price_x", "--interval", "week").code == 2
    assert "price_month a month" in cotex("tier", "list").out
