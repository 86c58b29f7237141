import json
import time

import httpx
import pytest
from actors import WAIT

from cotexd.operations.repositories import Tracked


def test_a_level_is_set_shown_and_taken_back(cotex, database: str):
    assert cotex("log", "level", "debug", "--user", "ada").code == 0
    assert cotex("log", "level", "warning", "--json").json == cotex("log", "show", "--json").json
    shown = {(each["field"], each["value"]): each["level"] for each in cotex("log", "show", "--json").json}
    assert shown == {("user", "ada"): "debug", ("all", ""): "warning"}
    assert cotex("log", "reset").code == 0
    assert cotex("log", "show", "--json").json == []


@pytest.mark.parametrize("line", ["loud", "debug --user ", "debug --repo " + "x" * 201])
def test_what_can_be_no_level_is_refused(cotex, line: str):
    assert cotex("log", "level", *line.split(" ")).code == 2
    assert cotex("log", "show", "--json").json == []


def test_of_several_fields_all_are_set_or_none(cotex):
    assert cotex("log", "level", "debug", "--user", "ada", "--repo", "x" * 201).code == 2
    assert cotex("log", "show", "--json").json == []


def test_a_running_server_logs_at_the_new_level_without_a_restart(cotex, octo: Tracked):
    server = cotex.serve(COTEX_LOG_LEVEL="info", COTEX_LOG_FORMAT="json")
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        client.get("/before")
        cotex("log", "level", "debug")
        until = time.monotonic() + WAIT
        while not any("/after" in line for line in server.err.said) and time.monotonic() < until:
            client.get("/after")
    said = [json.loads(line) for line in server.end().err.splitlines() if line.startswith("{")]
    assert "/after" in {line.get("path") for line in said}
    assert "/before" not in {line.get("path") for line in said}
