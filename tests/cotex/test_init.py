import signal

import pytest

from cotexd.operations.repositories import Tracked


def test_it_makes_what_a_server_needs_and_says_what_is_next(cotex):
    done = cotex("init")
    assert (done.code, done.out) == (0, "")
    assert "cotexd.key" in done.err
    assert "cotex serve" in done.err
    assert {path.name for path in cotex.data.iterdir()} >= {"cotexd.db", "cotexd.key"}


def test_it_takes_every_answer_as_a_flag(cotex, database: str):
    done = cotex("init", "--user", "ada", "--email", "ada@example.com", "--tier", "pro", "--json")
    assert done.code == 0
    assert done.json["user"]["email"] == "ada@example.com"
    assert done.json["user"]["tier"] == "pro"
    assert done.json["database"] == ("PostgreSQL" if database else "SQLite")


def test_it_is_safe_to_run_twice(cotex):
    first = cotex("init", "--user", "ada", "--json")
    key = (cotex.data / "cotexd.key").read_bytes()
    assert cotex("init", "--user", "ada", "--email", "other@example.com", "--json") == first
    assert (cotex.data / "cotexd.key").read_bytes() == key


def test_without_a_terminal_it_asks_nothing(cotex):
    assert cotex("init", stdin="ada\n", COTEX_LOG_LEVEL="info").code == 0
    assert cotex("user", "list", "--json").json == []


def test_on_a_terminal_it_asks_for_the_first_user(cotex):
    shown = cotex.on_a_terminal("init", answers={"first user": "ada\n"})
    assert shown.code == 0
    assert [each["name"] for each in cotex("user", "list", "--json").json] == ["ada"]


def test_an_empty_answer_is_no_user(cotex):
    assert cotex.on_a_terminal("init", answers={"first user": "\n"}).code == 0
    assert cotex("user", "list", "--json").json == []


def test_where_there_is_a_user_it_asks_nobody(cotex, octo: Tracked):
    shown = cotex.on_a_terminal("init")
    assert shown.code == 0
    assert "first user" not in shown.err


def test_its_question_is_no_result(cotex):
    done = cotex.on_a_terminal("init", "--json", answers={"first user": "ada\n"}, piped=True)
    assert done.json["user"]["name"] == "ada"


def test_ctrl_c_at_its_question_is_130_and_the_next_run_goes_on(cotex):
    shown = cotex.on_a_terminal("init", answers={"first user": signal.SIGINT})
    assert shown.code == 130
    assert "Traceback" not in shown.err
    assert cotex("init", "--user", "ada").code == 0


@pytest.mark.parametrize(
    ("flags", "code"),
    [(["--user", "a b"], 2), (["--user", "ada", "--tier", "gold"], 3), (["--email", "x"], 0)],
)
def test_what_cannot_be_a_user_is_refused(cotex, flags: list[str], code: int):
    assert cotex("init", *flags).code == code
    assert cotex("user", "list", "--json").json == []
