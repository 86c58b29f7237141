import signal

from cotexd import __version__
from cotexd.operations.repositories import Tracked


def test_without_a_server_it_says_how_to_start_one_and_what_there_is(cotex, octo: Tracked, database: str):
    done = cotex("status")
    assert done.code == 0
    assert "cotex serve" in done.err
    shown = dict(line.split("\t") for line in done.out.splitlines())
    assert shown["data"] == str(cotex.data)
    assert shown["database"] == ("PostgreSQL" if database else "SQLite")
    assert (shown["users"], shown["repositories"], shown["events"]) == ("1", "1", "1")
    assert shown["log"].endswith(".1")


def test_a_server_is_shown_with_what_runs_where(cotex, database: str):
    server = cotex.serve()
    found = cotex("status", "--json").json["servers"]
    assert [(each["url"], each["pid"], each["version"]) for each in found] == [
        (server.url, server.process.pid, __version__)
    ]
    shown = cotex("status")
    assert f"server\t{server.url}\n" in shown.out
    assert shown.err == ""


def test_a_server_that_was_stopped_is_not_shown(cotex, octo: Tracked):
    assert cotex.serve().end(signal.SIGTERM).code == 0
    assert cotex("status", "--json").json["servers"] == []


def test_watched_it_is_drawn_until_ctrl_c(cotex, octo: Tracked, database: str):
    server = cotex.serve()
    done = cotex.on_a_terminal("status", "--watch", answers={"refused": signal.SIGINT})
    assert done.code == 0
    for part in (
        server.url,
        "0, 0 of them catching up",
        "1; the furthest behind lacks 0",
        "0 jobs",
        "last asked never",
    ):
        assert part in done.err
    assert ("PostgreSQL" if database else "SQLite") in done.err


def test_watched_without_a_server_it_says_how_to_start_one(cotex, octo: Tracked):
    done = cotex.on_a_terminal("status", "--watch", answers={"refused": signal.SIGINT})
    assert "none: cotex serve" in done.err


def test_it_is_watched_on_a_terminal_only(cotex):
    done = cotex("status", "--watch")
    assert (done.code, "no terminal" in done.err) == (2, True)
