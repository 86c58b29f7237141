import io
import re
import signal
from datetime import UTC, datetime

import pytest
from actors import logged, push

from cotex import view
from cotexd.errors import Invalid
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3|4|9|10)[0-7](?:;[0-9;]*)?m|\x1b\[[0-9;]*[34]8;")
"""a foreground or background in ECMA-48's SGR"""
HOSTILE = "\x1b]0;owned\x07 \x9b2J \x08\x08 \u202egnp.exe \r\nrm -rf"


def test_piped_a_list_is_lines_with_tabs_and_nothing_else(cotex, octo: Tracked):
    done = cotex.process("tier", "list")
    assert [line.split("\t")[:2] for line in done.out.splitlines()] == [["free", "2"], ["pro", "10"]]
    forced = cotex.process("user", "list", FORCE_COLOR="1", TERM="xterm-256color", CLICOLOR_FORCE="1")
    assert "\x1b" not in forced.out + forced.err
    assert forced.out.split("\t")[0] == "ada"


def test_on_a_terminal_a_list_is_a_table_with_headings(cotex, octo: Tracked):
    shown = cotex.on_a_terminal("user", "list")
    assert shown.code == 0
    heading, row = (line for line in shown.out.splitlines() if line.strip())
    assert "repositories" in heading
    assert "ada" in row
    assert "\t" not in shown.out


def test_the_names_of_facts_are_aligned_on_a_terminal_and_followed_by_a_tab_when_piped(cotex, octo: Tracked):
    piped, shown = cotex("user", "show", "ada").out, cotex.on_a_terminal("user", "show", "ada").out
    facts = dict(line.split("\t") for line in piped.splitlines())
    width = max(map(len, facts))
    assert shown.splitlines() == [f"{name:{width}}  {value}" for name, value in facts.items()]


@pytest.mark.parametrize("line", ["user list", "config show", "user show bob", "user shw", "--help"])
def test_no_color_means_no_colour(cotex, octo: Tracked, line: str):
    shown = cotex.on_a_terminal(*line.split(), NO_COLOR="1")
    assert shown.out.strip()
    assert not COLOUR.search(shown.out)


def test_json_is_the_same_on_a_terminal_and_piped(cotex, octo: Tracked):
    shown = cotex.on_a_terminal("user", "list", "--json")
    assert shown.out.replace("\r\n", "\n") == cotex("user", "list", "--json").out


def test_what_destroys_data_asks_on_the_terminal_and_yes_does_it(cotex, octo: Tracked):
    shown = cotex.on_a_terminal("repo", "remove", "octo/hello", answers={"octo/hello": "y\n"})
    assert shown.code == 0
    assert "?" in shown.err
    assert cotex("repo", "list", "--json").json == []


@pytest.mark.parametrize("answer", ["n\n", "\n", signal.SIGINT])
def test_any_other_answer_destroys_nothing(cotex, octo: Tracked, answer: str | signal.Signals):
    shown = cotex.on_a_terminal("repo", "remove", "octo/hello", answers={"octo/hello": answer})
    assert shown.code == 130 if answer is signal.SIGINT else shown.code != 0
    assert "Traceback" not in shown.err
    assert [each["id"] for each in cotex("repo", "list", "--json").json] == [octo.id]


def test_the_question_is_no_result(cotex, octo: Tracked):
    line = ("repo", "remove", "octo/hello", "--json")
    done = cotex.on_a_terminal(*line, answers={"octo/hello": "y\n"}, piped=True)
    assert done.code == 0
    assert done.json["id"] == octo.id


@pytest.mark.parametrize("flag", ["--yes", "-y"])
def test_yes_answers_before_it_is_asked(cotex, octo: Tracked, flag: str):
    shown = cotex.on_a_terminal("repo", "remove", "octo/hello", flag)
    assert shown.code == 0
    assert "?" not in shown.err


def test_without_a_terminal_and_without_yes_what_destroys_data_refuses(cotex, octo: Tracked):
    done = cotex("repo", "remove", "octo/hello", stdin="y\n")
    assert done.code == 2
    assert "--yes" in done.err
    assert [each["id"] for each in cotex("repo", "list", "--json").json] == [octo.id]


def test_confirm_is_silent_with_yes_and_refuses_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    view.confirm("Sure?", yes=True)
    with pytest.raises(Invalid, match="no terminal"):
        view.confirm("Sure?", yes=False)


@pytest.mark.parametrize(("line", "lines"), [("event list", 2), ("event show hostile", 11)])
def test_what_comes_from_outside_cannot_command_a_terminal(cotex, octo: Tracked, line: str, lines: int):
    store = Store("", cotex.data)
    issue = {"action": "opened", "issue": {"title": HOSTILE, "state": "open"}, "sender": {"login": HOSTILE}}
    logged(store, octo, payload=push() | issue, event="issues", guid="hostile")
    store.close()
    done = cotex(*line.split())
    assert done.code == 0
    assert "owned" in done.out
    assert not set("\x1b\x07\x9b\x08\u202e\r") & set(done.out)
    assert len(done.out.splitlines()) == lines


def test_an_error_is_as_harmless(cotex, octo: Tracked):
    done = cotex("user", "show", HOSTILE)
    assert done.code == 3
    assert not set("\x1b\x07\x9b\x08\u202e\r") & set(done.err)


@pytest.mark.parametrize("text", ["octo/hello", "Grüße, 世界", "e\u0301", "👩‍💻 flags 🏳️‍🌈", "10\u00a0000"])
def test_text_that_harms_nothing_is_left_as_it_is(text: str):
    assert view.printable(text) == text


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (True, "yes"), (False, "no"), (0, "0"), ("", ""), ("a\tb", "a\ufffdb")]
)
def test_a_cell_is_one_word_of_a_line(capsys: pytest.CaptureFixture[str], value: object, shown: str):
    view.table(("one",), [(value,)])
    assert capsys.readouterr().out == f"{shown}\n"


def test_times_are_shown_in_the_zone_of_whoever_looks(cotex, octo: Tracked):
    shown = {
        zone: cotex.process("user", "show", "ada", TZ=zone).out.partition("since\t")[2]
        for zone in ("UTC", "UTC-5")
    }
    there, here = (datetime.strptime(each.strip(), "%Y-%m-%d %H:%M:%S") for each in shown.values())  # noqa: DTZ007  # no zone is shown
    assert (here - there).total_seconds() == 5 * 3600
    assert there.replace(tzinfo=UTC) <= datetime.now(UTC)


def test_examples_are_the_end_of_a_help():
    assert view.examples("cotex a", "cotex b").splitlines()[1:] == ["Examples:", "  $ cotex a", "  $ cotex b"]


def test_a_stream_is_one_document_a_line_at_once(capsys: pytest.CaptureFixture[str]):
    view.line({"a": 1})
    view.line('{"b":2}')
    assert capsys.readouterr().out == '{"a":1}\n{"b":2}\n'


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([0, 0], "··"), ([1, 0, 8], "▁·█"), ([1, 2, 3, 4, 5, 6, 7, 8], "▁▂▃▄▅▆▇█"), ([1000, 1], "█▁")],
)
def test_a_sparkline_has_a_bar_for_each_value(values: list[int], drawn: str):
    assert view.sparkline(values) == drawn
