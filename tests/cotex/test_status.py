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
