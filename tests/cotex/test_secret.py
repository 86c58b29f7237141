import pytest


def held(cotex) -> dict[str, bool]:
    return {each["name"]: each["is_set"] for each in cotex("secret", "list", "--json").json["secrets"]}


def test_list_says_what_may_be_set_and_what_is(cotex, database: str):
    assert held(cotex) == {"stripe-key": False, "stripe-webhook": False, "github-token": False}
    assert cotex("secret", "set", "stripe-key", stdin="sk_test_1\n").code == 0
    assert held(cotex)["stripe-key"] is True
    assert cotex("secret", "list").out.startswith("stripe-key\t-\tyes\t")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_value_is_never_shown_not_even_when_it_is_set(cotex, flags: list[str]):
    said = [
        cotex("secret", "set", "stripe-key", *flags, stdin="sk_test_1\n"),
        cotex("secret", "list", *flags),
    ]
    assert not [done for done in said if "sk_test_1" in done.out + done.err]


def test_on_a_terminal_a_value_is_asked_for_and_not_shown(cotex):
    shown = cotex.on_a_terminal(
        "secret", "set", "stripe-key", answers={"Value of stripe-key: ": "sk_test_1\n"}
    )
    assert shown.code == 0
    assert "sk_test_1" not in shown.err
    assert held(cotex)["stripe-key"] is True


@pytest.mark.parametrize("typed", ["", "\n", "x" * 501, "a\x00b"])
def test_what_can_be_no_secret_is_refused_and_the_one_before_is_kept(cotex, typed: str):
    cotex("secret", "set", "stripe-key", stdin="sk_test_1\n")
    before = cotex("secret", "list", "--json")
    assert cotex("secret", "set", "stripe-key", stdin=typed).code == 2
    assert cotex("secret", "list", "--json") == before


def test_an_unknown_secret_is_not_found_before_its_value_is_asked_for(cotex):
    shown = cotex.on_a_terminal("secret", "set", "other", answers={"Value of other: ": "x\n"})
    assert shown.code == 3
    assert "stripe-key" in shown.err
    assert "Value of" not in shown.err


def test_remove_forgets_only_if_it_is_meant(cotex):
    cotex("secret", "set", "stripe-key", stdin="sk_test_1\n")
    assert cotex("secret", "remove", "stripe-key").code == 2
    assert held(cotex)["stripe-key"] is True
    assert cotex("secret", "remove", "stripe-key", "--yes").code == 0
    assert held(cotex)["stripe-key"] is False
    assert cotex("secret", "remove", "other", "--yes").code == 3


def test_rotating_puts_the_standby_key_into_use_and_keeps_the_one_before(cotex):
    first = {each["state"]: each["kid"] for each in cotex("secret", "rotate", "signing", "--json").json}
    second = {each["state"]: each["kid"] for each in cotex("secret", "rotate", "signing", "--json").json}
    assert set(first) == set(second) == {"standby", "in use", "previous"}
    assert second["in use"] == first["standby"]
    assert second["previous"] == first["in use"]
    assert {each["kid"] for each in cotex("secret", "list", "--json").json["signing_keys"]} == set(
        second.values()
    )


async def test_a_rotation_is_in_force_in_the_running_server(server, cotex):
    kids = [each["kid"] for each in (await cotex.beside("secret", "rotate", "signing", "--json")).json]
    published = (await server.get("/auth/v1/.well-known/jwks.json")).json()["keys"]
    assert {key["kid"] for key in published} == set(kids)
