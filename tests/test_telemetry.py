import json
import os
import subprocess
import sys
import textwrap

import pytest

SECRET = "a secret that must not be seen"


def lines(level: str, form: str, script: str, **environment: str) -> list[str]:
    """What a process of its own writes to standard error."""
    program = textwrap.dedent(f"""
        import logging, structlog
        from cotexd import telemetry
        telemetry.set_up({level!r}, {form!r})
        log = structlog.get_logger("cotexd.test")
    """) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_for_a_machine_every_line_is_one_json_object(form: str):
    (line,) = lines("info", form, """log.info("store_open", head=7, name="o/r\\nx")""")
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "store_open", "head": 7, "name": "o/r\nx", "level": "info", "logger": "cotexd.test",
    }  # fmt: skip


def test_what_is_less_severe_than_asked_is_not_written():
    script = """
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)(name)
    """
    for level, written in (("debug", 4), ("info", 3), ("warning", 2), ("error", 1)):
        assert len(lines(level, "json", script)) == written


def test_the_lines_of_libraries_have_the_same_form():
    script = """logging.getLogger("some.library").warning("it is %s", "late")"""
    (found,) = map(json.loads, lines("info", "json", script))
    assert (found["event"], found["level"], found["logger"]) == ("it is late", "warning", "some.library")


def test_libraries_speak_up_only_when_something_is_wrong():
    script = """
        for name in ("apscheduler", "sanic.root", "websockets", "asyncio"):
            logging.getLogger(name).info("all day")
            logging.getLogger(name).warning("wrong")
    """
    assert [json.loads(line)["event"] for line in lines("debug", "json", script)] == ["wrong"] * 4


def test_what_is_bound_to_a_request_is_on_each_of_its_lines():
    script = """
        structlog.contextvars.bind_contextvars(request_id="r1")
        log.info("ours")
        logging.getLogger("some.library").warning("theirs")
    """
    assert [json.loads(line)["request_id"] for line in lines("info", "json", script)] == ["r1", "r1"]


FAILING = f"""
    def fail(key):
        return 1 / len(key[:0])
    try:
        fail({SECRET[::-1]!r}[::-1])
    except ZeroDivisionError:
        log.exception("failed")
"""


def test_a_failure_is_one_line_with_its_traceback():
    (found,) = map(json.loads, lines("info", "json", FAILING))
    assert "ZeroDivisionError" in found["exception"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_does_not_show_the_values_that_were_at_hand(form: str):
    written = "\n".join(lines("info", form, FAILING))
    assert "ZeroDivisionError" in written
    assert SECRET not in written


def test_text_that_goes_to_no_terminal_has_no_colour():
    (line,) = lines("info", "text", """log.info("store_open", head=7)""")
    assert "\x1b" not in line
    assert "store_open" in line
    assert "head=7" in line
