import json
from pathlib import Path

import pytest

from cotexd.domain.vault import new_key


def rows(cotex, **environment: str) -> dict[str, dict[str, str]]:
    return {row["key"]: row for row in cotex("config", "show", "--json", **environment).json}


@pytest.fixture
def file(cotex) -> Path:
    """The configuration file beside the data."""
    cotex.data.mkdir(mode=0o700)
    return cotex.data / "cotex.toml"


def test_show_says_where_every_value_came_from(cotex, file: Path):
    file.write_text('port = 9001\n[log]\nlevel = "error"\n')
    shown = rows(cotex, COTEX_PORT="9002")
    assert (shown["port"]["value"], shown["port"]["origin"]) == ("9002", "COTEX_PORT")
    assert (shown["log.level"]["value"], shown["log.level"]["origin"]) == ("error", str(file))
    assert (shown["host"]["value"], shown["host"]["origin"]) == ("127.0.0.1", "default")
    assert all(row["about"] for row in shown.values())


def test_show_piped_is_a_line_an_option(cotex):
    lines = cotex("config", "show").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(rows(cotex))
    assert {len(line.split("\t")) for line in lines} == {4}


def test_a_secret_may_lie_in_a_file_of_its_own_and_is_never_shown(cotex, tmp_path: Path):
    key = tmp_path / "key"
    key.write_text(new_key() + "\n")
    shown = rows(cotex, COTEX_KEY_FILE=str(key))
    assert (shown["key"]["value"], shown["key"]["origin"]) == ("***", "COTEX_KEY_FILE")
    assert cotex("user", "add", "ada", COTEX_KEY_FILE=str(key)).code == 0
    assert not (cotex.data / "cotexd.key").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hunter2@127.0.0.1:1/cotex",
        "postgresql://ada@127.0.0.1:1/cotex?password=hunter2",
        "postgresql:ada:hunter2@127.0.0.1:1/cotex",
        "postgresql:/ada:hunter2@127.0.0.1:1/cotex",
        "postgresql://ada:hunter2/x@127.0.0.1:1/cotex",
        "postgresql://ada:hunter2#x@127.0.0.1:1/cotex",
        "host=127.0.0.1 port=1 password=hunter2",
        "ada:hunter2@127.0.0.1:1/cotex",
        "mysql://ada:hunter2@127.0.0.1:1/cotex",
    ],
)
def test_no_database_s_password_is_shown_however_its_address_is_mistyped(cotex, url: str):
    for line in (["config", "show"], ["config", "show", "--json"], ["db", "status"], ["--debug", "status"]):
        done = cotex(*line, COTEX_DATABASE=url)
        assert "hunter2" not in done.out + done.err, line


def test_all_that_is_wrong_is_said_at_once_and_what_was_meant(cotex, file: Path):
    file.write_text('prot = 1\nretention = "soon"\n[log]\nlevl = "info"\n')
    done = cotex("config", "check", COTEX_DRAIN_SECONDS="soon", COTEX_DATABSE="x")
    assert (done.code, done.out) == (2, "")
    for problem in (
        "Did you mean port?",
        "retention must be a duration",
        "Did you mean log.level?",
        "drain_seconds must be a duration",
        "Did you mean COTEX_DATABASE?",
    ):
        assert problem in done.err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("COTEX_PUBLIC_URL", "http://[::1"),
        ("COTEX_PUBLIC_URL", "cotex.example"),
        ("COTEX_PUBLIC_URL", "https://cotex.example:port"),
        ("COTEX_DATABASE", "postgresql://[::1/cotex"),
        ("COTEX_DATA_DIR", "~nobody-at-all/cotex"),
        ("COTEX_CONFIG", "~nobody-at-all/cotex.toml"),
        ("COTEX_CONFIG", "/"),
        ("COTEX_KEY_FILE", "/"),
        ("COTEX_PORT", "²"),
        ("COTEX_RETENTION", "366d"),
    ],
)
def test_a_value_that_is_none_is_refused_in_words_by_every_command(cotex, variable: str, value: str):
    for line in ("config check", "user list"):
        if (variable, line) == ("COTEX_DATABASE", "config check"):
            continue  # only who opens it knows
        done = cotex(*line.split(), **{variable: value})
        assert (done.code, done.out) == (2, "")


def test_check_says_that_all_is_good_and_of_which_file(cotex, file: Path):
    assert cotex("config", "check", "--json").json == {"good": True, "file": None}
    file.write_text("port = 9001\n")
    assert cotex("config", "check", "--json").json == {"good": True, "file": str(file)}
    assert str(file) in cotex("config", "check").err


def test_path_says_where_the_file_is_or_would_be(cotex, file: Path):
    assert cotex("config", "path", "--json").json == {"path": str(file), "exists": False}
    file.write_text("")
    assert cotex("config", "path", "--json").json["exists"] is True
    assert cotex("config", "path").out == f"{file}\n"
    assert json.dumps(str(file)) in cotex("--config", str(file), "config", "path", "--json").out


def test_looking_at_the_settings_makes_nothing(cotex):
    for word in ("show", "check", "path"):
        assert cotex("config", word).code == 0
    assert not cotex.data.exists()
