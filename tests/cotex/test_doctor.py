"""`cotex doctor`, as it is typed: each row by its name, with what it finds and how to mend it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakestripe import FakeStripe
from hooked import PUBLIC, World

from cotexd.flows.doctor import CHECKS
from cotexd.operations import backups, repositories, secrets
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

if TYPE_CHECKING:
    from conftest import Cotex

KEY = "sk_test_" + "x" * 24


def rows(cotex: "Cotex", *flags: str, code: int = 0, **environment: str) -> dict[str, dict[str, str]]:
    done = cotex("doctor", "--json", *flags, **environment)
    assert done.code == code, done.out + done.err
    assert [each["check"] for each in done.json] == list(CHECKS)
    assert all(set(each) == {"check", "status", "detail", "fix"} for each in done.json)
    return {each["check"]: each for each in done.json}


def test_on_an_empty_machine_every_check_has_a_row_and_nothing_fails(cotex):
    found = rows(cotex)
    assert {name for name, row in found.items() if row["status"] == "warn"} == {
        *("server", "public_url", "tls", "websocket", "github", "backup"),
    }
    assert found["server"]["fix"] == "cotex serve"
    assert found["github"]["fix"].endswith("cotex secret set github-token")


def test_for_people_it_is_a_table(cotex):
    done = cotex("doctor")
    assert [line.split("\t")[0] for line in done.out.splitlines()] == list(CHECKS)


def test_what_is_wrong_with_the_configuration_is_a_row_and_nothing_else_is_looked_at(cotex):
    found = rows(cotex, code=1, COTEX_PORT="http")
    assert found["configuration"]["status"] == "fail"
    assert "COTEX_PORT" in found["configuration"]["detail"]
    assert {row["status"] for name, row in found.items() if name != "configuration"} == {"warn"}


@pytest.mark.parametrize("name", ["", "cotexd.key", "cotexd.db"])
def test_what_others_can_look_into_fails_and_is_closed_by_fix(cotex, octo: Tracked, name: str):
    (cotex.data / name).chmod(0o755 if not name else 0o644)
    found = rows(cotex, code=1)
    assert found["files"]["status"] == "fail"
    assert "chmod" in found["files"]["fix"]
    assert found["database"]["status"] == "fail"
    found = rows(cotex, "--fix")
    assert (found["files"]["status"], found["database"]["status"]) == ("ok", "ok")
    assert rows(cotex)["files"]["status"] == "ok"


def test_a_damaged_database_fails(cotex, octo: Tracked):
    file = cotex.data / "cotexd.db"
    whole = bytearray(file.read_bytes())
    whole[-4096:] = b"\xff" * 4096
    file.write_bytes(whole)
    found = rows(cotex, code=1)
    assert found["database"]["status"] == "fail"


def test_a_database_that_has_moved_fails_and_says_where_to(cotex, octo: Tracked, tmp_path: Path):
    assert cotex("db", "copy", "--to", f"sqlite:///{tmp_path / 'new.db'}").code == 0
    done = cotex("doctor", "--json")
    (found,) = [each for each in done.json if each["check"] == "database"]
    assert (done.code, found["status"]) == (1, "fail")
    assert "new.db" in found["detail"]
    assert "cotex db copy --undo" in found["fix"]


def test_a_database_that_is_away_fails_and_the_rest_is_told(cotex):
    away = "postgresql://nobody@127.0.0.1:9/none"
    found = rows(cotex, code=1, COTEX_DATABASE=away)
    assert found["database"]["status"] == "fail"
    assert found["schema"]["detail"].startswith("not checked")
    assert found["configuration"]["status"] == "ok"


def test_a_newer_schema_fails(cotex, octo: Tracked):
    store = Store("", cotex.data)
    store.run(lambda tx: tx.change("UPDATE schema_version SET version = 99"))
    store.close()
    found = rows(cotex, code=1)
    assert "99" in found["database"]["detail"]


def test_a_server_that_runs_is_seen_from_outside_with_its_handshake(cotex):
    server = cotex.serve()
    found = rows(cotex, COTEX_PUBLIC_URL=server.url)
    seen = ("server", "public_url", "websocket", "tls")
    assert [found[name]["status"] for name in seen] == ["ok", "ok", "ok", "warn"]


def test_another_server_of_ours_at_the_public_address_fails(cotex, tmp_path: Path):
    # Its keys are made at its first start.
    cotex.serve().end()
    theirs = type(cotex)(tmp_path / "theirs", "")
    server = theirs.serve()
    try:
        found = rows(cotex, code=1, COTEX_PUBLIC_URL=server.url)
    finally:
        theirs.stop()
    assert "another cotexd" in found["public_url"]["detail"]


class _Stranger(BaseHTTPRequestHandler):
    """Something else, or a proxy that passes no upgrades."""

    health: bytes = b"<html>"

    def do_GET(self) -> None:
        self.send_response_only(200 if self.path == "/health" else 426)
        self.send_header("Content-Length", str(len(self.health)))
        self.end_headers()
        self.wfile.write(self.health)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        """Nobody reads it."""


@pytest.fixture
def stranger() -> Iterator[HTTPServer]:
    class Handler(_Stranger):
        pass

    with HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def test_what_is_not_cotexd_at_the_public_address_fails(cotex, stranger: HTTPServer):
    url = f"http://127.0.0.1:{stranger.server_port}"
    found = rows(cotex, code=1, COTEX_PUBLIC_URL=url)
    assert "is not cotexd" in found["public_url"]["detail"]


def test_what_passes_no_upgrade_fails(cotex, stranger: HTTPServer):
    url = f"http://127.0.0.1:{stranger.server_port}"
    found = rows(cotex, code=1, COTEX_PUBLIC_URL=url)
    assert found["websocket"]["status"] == "fail"
    assert "426" in found["websocket"]["detail"]


def test_a_public_address_where_nobody_answers_fails(cotex):
    found = rows(cotex, code=1, COTEX_PUBLIC_URL="https://127.0.0.1:9")
    assert found["public_url"]["status"] == "fail"
    assert {found["tls"]["status"], found["websocket"]["status"]} == {"warn"}


@pytest.fixture
def github(world: World) -> dict[str, str]:
    return {"COTEX_GITHUB_API_URL": world.github.url, "COTEX_GITHUB_TOKEN": world.token}


def test_a_hook_that_is_as_it_must_be_is_ok_and_one_that_is_not_is_named(cotex, world: World, github):
    world.track()
    url = {"COTEX_PUBLIC_URL": PUBLIC}
    assert rows(cotex, code=1, **url, **github)["github"]["status"] == "ok"
    world.github.hooks("octo/hello")[0].active = False
    found = rows(cotex, code=1, **url, **github)["github"]
    assert found["status"] == "fail"
    assert "octo/hello" in found["detail"]
    assert found["fix"] == "cotex webhook setup octo/hello"


def test_the_clock_is_compared_with_githubs(cotex, world: World, github):
    world.track()
    assert "GitHub's" in rows(cotex, **github)["clock"]["detail"]
    away = {**github, "COTEX_GITHUB_API_URL": "http://127.0.0.1:9"}
    assert rows(cotex, **away)["clock"]["status"] == "warn"


def test_a_token_that_github_does_not_know_fails_and_is_to_be_set(cotex, world: World, github):
    world.track()
    for wrong in ("ghp_wrong", "gh\u00fc"):
        found = rows(cotex, code=1, **{**github, "COTEX_GITHUB_TOKEN": wrong})["github"]
        assert found["status"] == "fail"
        assert "cotex secret set github-token" in found["fix"]


def test_a_repository_that_github_cannot_be_asked_about_does_not_hide_another(cotex, world: World, github):
    world.track()
    world.track("octo/docs")
    world.github.hooks("octo/docs")[0].active = False
    docs = world.store.look(repositories.find, "octo/docs")
    world.store.run(secrets.put, secrets.GITHUB_TOKEN, world.token, repo_id=docs.id)
    found = rows(cotex, code=1, COTEX_PUBLIC_URL=PUBLIC, **{**github, "COTEX_GITHUB_TOKEN": ""})["github"]
    assert "octo/docs: The hook is not active" in found["detail"]
    assert "octo/hello: There is no token" in found["detail"]


def test_stripe_without_an_endpoint_fails_and_with_one_is_ok(cotex):
    with FakeStripe(secret_key=KEY) as stripe:
        environment = {
            "COTEX_STRIPE_API_URL": stripe.url,
            "COTEX_STRIPE_SECRET_KEY": KEY,
            "COTEX_PUBLIC_URL": "https://127.0.0.1:9",
        }
        assert "signing secret" in rows(cotex, code=1, **environment)["stripe"]["detail"]
        environment["COTEX_STRIPE_WEBHOOK_SECRET"] = "whsec_x"
        assert "no endpoint" in rows(cotex, code=1, **environment)["stripe"]["detail"]
        made = cotex("billing", "setup", "--amount", "900", "--currency", "usd", **environment)
        assert made.code == 0, made.err
        assert rows(cotex, code=1, **environment)["stripe"]["status"] == "ok"
        environment["COTEX_STRIPE_SECRET_KEY"] = "sk_test_wrong"
        assert "does not know the key" in rows(cotex, code=1, **environment)["stripe"]["detail"]


def test_nothing_that_is_shown_holds_a_secret(cotex, world: World, github):
    tracked = world.track()
    shown = cotex("doctor", "--json", COTEX_PUBLIC_URL=PUBLIC, **github).out
    assert world.token not in shown
    assert tracked.webhook_secret not in shown


def test_the_age_of_the_last_backup_is_told(cotex, octo: Tracked):
    store = Store("", cotex.data)
    store.run(backups.note)
    store.close()
    assert rows(cotex)["backup"]["status"] == "ok"
