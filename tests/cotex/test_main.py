"""The manners of the whole command line. What a single command does is tested beside it, by its name."""

import importlib
import itertools
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer.main
from actors import logged, push
from fakegithub import FakeGitHub
from receiver import Receiver
from tables import another_postgres

from cotex import main
from cotexd import __version__
from cotexd.errors import Kind
from cotexd.operations import cursors, repositories
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

HEAVY = {"sanic", "stripe", "peewee", "apscheduler", "httpx", "psycopg"}
ACCOUNT = {
    *("id", "name", "email", "tier", "tier_source", "repo_limit", "repo_count", "over_limit_since"),
    *("disabled", "created_at", "updated_at"),
}
REPOSITORY = {
    *("id", "user_id", "repo_name", "webhook_secret", "webhook_url", "status", "role", "filter"),
    *("last_event_at", "created_at", "updated_at"),
}
MEMBER = {"user_id", "name", "role", "since", "filter"}
TOKEN = {"label", "scopes", "created_at", "expires_at", "revoked_at"}
DEVICE = {
    *("device", "protocol", "cursor", "lag", "connected_since", "connections", "buffer", "address"),
    "seen_at",
}
TIER = {"name", "repos", "requests", "users", "prices"}
LEVEL = {"field", "value", "level"}
EVENT = {
    *("id", "seq", "delivery_id", "event_type", "repo_id", "repo_name", "branch", "headline", "created_at"),
    "repaired",
}
KEYS = {
    "init --user ada": {"data_dir", "database", "user"},
    "status": {"servers", "data_dir", "database", "totals"},
    "user add linus": ACCOUNT,
    "doctor": {"check", "status", "detail", "fix"},
    "user list": ACCOUNT,
    "user show ada": ACCOUNT,
    "user disable ada": ACCOUNT,
    "user enable ada": ACCOUNT,
    "user remove grace --yes": ACCOUNT,
    "user passwd ada --stdin --email ada@example.com": ACCOUNT,
    "user token ada": {"token", "label", "scopes", "user_id", "name", "expires_at"},
    "user tokens ada": TOKEN,
    "user devices ada": DEVICE,
    "user revoke ada --label ci": TOKEN,
    "repo add octo/docs --user ada": REPOSITORY,
    "repo list": REPOSITORY,
    "repo show octo/hello": REPOSITORY | {"members"},
    "repo pause octo/hello": REPOSITORY,
    "repo resume octo/hello": REPOSITORY,
    "repo filter octo/hello": REPOSITORY,
    "repo share octo/hello --with grace": MEMBER,
    "repo unshare octo/hello --with bob": MEMBER,
    "repo remove octo/hello --yes": REPOSITORY,
    "repo secret octo/hello": {"id", "repo_name", "old_secret_good_until", "webhook_secret", "ping"},
    "tier list": TIER,
    "tier show pro": TIER,
    "tier add big --repos 50": TIER,
    "tier edit pro --repos 20": TIER,
    "tier remove team --yes": TIER,
    "tier set ada pro": ACCOUNT | {"pauses_at", "paused", "resumed", "dry_run"},
    "billing status": {"enabled", "live", "customers", "paying", "late", "synced_at"},
    "webhook url octo/hello": {"url"},
    "webhook status": {
        *(
            "repo_name",
            "repo_id",
            "state",
            "problems",
            "hook_id",
            "url",
            "active",
            "events",
            "missing_events",
        ),
        *("secret", "reachable", "last_response", "last_delivery_at", "hooks", "repaired", "lost"),
        *("looked_at", "settled_at"),
    },
    "event list": EVENT,
    "event show 1": EVENT | {"verified", "summary", "payload"},
    "config show": {"key", "value", "origin", "about"},
    "config check": {"good", "file"},
    "config path": {"path", "exists"},
    "secret list": {"secrets", "signing_keys"},
    "secret set stripe-key": {"name", "about", "is_set", "since", "repo_name"},
    "secret remove stripe-key --yes": {"name", "is_set"},
    "secret rotate signing": {"kid", "state", "created_at"},
    "audit list": {"at", "actor", "via", "action", "target", "detail"},
    "log level debug": LEVEL,
    "log show": LEVEL,
    "log reset": LEVEL,
    "db status": {
        *("engine", "url", "schema", "size_bytes", "moved_to", "users", "repositories", "events", "oldest"),
        *("epoch", "head", "floor"),
    },
    "db migrate": {"migrated", "schema"},
    "db purge --yes": {"events", "before", "dry_run"},
    "db check": {"good", "problems", "events", "epoch", "head"},
}
AT_A_SERVER = {
    ("serve",),
    ("tail",),
    ("forward",),
    ("event", "send"),
    ("event", "trace"),
    ("db", "backup"),
    ("db", "restore"),
    ("db", "copy"),
    *(("webhook", word) for word in ("setup", "ping", "deliveries", "redeliver", "repair", "remove")),
    ("billing", "sync"),
    ("billing", "setup"),
}
"""what these show is tested beside them"""
REFUSALS = {
    "user show bob": 3,
    "event show 7": 3,
    "repo show octo/other": 3,
    "tier set ada gold": 3,
    "user add ada": 4,
    "repo add octo/hello": 4,
    "repo add OCTO/Hello --user ada": 4,
    "repo remove octo/hello": 2,
    "repo add hello": 2,
    "user add a/b": 2,
    "user token ada --expires soon": 2,
    "user token ada --expires 9999w": 2,
    "event list --limit 0": 2,
    "event send --repo octo/hello nowhere.json": 2,
    "user revoke ada": 2,
    "user revoke ada --label ci": 3,
    "user remove bob --yes": 3,
    "user remove ada": 2,
    "user passwd ada": 2,
    "user passwd ada --stdin": 2,
    "user token ada --scope everything": 2,
    "repo share octo/hello --with bob": 3,
    "repo unshare octo/hello --with ada": 3,
    "repo filter octo/hello --member bob": 3,
    "tier add pro --repos 1": 4,
    "tier remove pro": 2,
    "tier remove free --yes": 4,
    "tier set ada": 2,
    "secret set other": 3,
    "secret set stripe-key": 2,
    "secret remove stripe-key": 2,
    "secret rotate other": 2,
    "billing sync": 1,
    "event trace nowhere": 3,
    "secret set stripe-key --repo octo/hello": 2,
    "db restore nowhere.backup --yes": 3,
    "db copy": 2,
    "db copy --to mysql://db/cotex": 2,
    "db purge": 2,
    "webhook setup octo/other": 3,
    "webhook setup octo/hello": 5,
    "webhook setup octo/hello --all --events push": 2,
    "webhook ping octo/hello": 5,
    "webhook deliveries octo/hello": 5,
    "webhook redeliver octo/hello guid": 5,
    "webhook repair octo/hello": 5,
    "webhook repair --since soon": 2,
    "webhook remove octo/hello --yes": 5,
    "billing setup --amount 900 --currency usd": 2,
    "log level loud": 2,
    "audit list --limit 0": 2,
    "user shw ada": 2,
    "user show": 2,
    "frobnicate": 2,
    "event send --repo octo/hello": 6,
    "event send --repo octo/hello --url http://127.0.0.1:1": 6,
    "tail": 6,
    "tail --server http://127.0.0.1:1": 6,
    "user devices bob": 3,
    "forward --to http://127.0.0.1:1": 6,
    "forward --to nowhere": 2,
    "forward": 2,
}
LOOKS = [
    "init --user ada",
    "status",
    "doctor",
    "user add ada --if-not-exists",
    "user list",
    "user show ada",
    "repo add octo/hello --if-not-exists",
    "repo list",
    "repo show octo/hello",
    "repo remove octo/hello --dry-run",
    "repo secret octo/hello",
    "user tokens ada",
    "user devices ada",
    "user disable ada",
    "user enable ada",
    "user remove ada --dry-run",
    "tier list",
    "tier set ada pro --dry-run",
    "webhook url octo/hello",
    "webhook status",
    "secret list",
    "audit list",
    "billing status",
    "log show",
    "event list",
    "event show 1",
    "config show",
    "config check",
    "db status",
    "db migrate",
    "db check",
]
"""all that shows something, and makes no secret"""


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command by its words."""
    for name in main.COMMANDS:
        loaded = typer.main.get_command(importlib.import_module(f"cotex.{name}").app)
        if not hasattr(loaded, "commands"):
            yield (name,), loaded
            continue
        for word, command in loaded.commands.items():
            yield (name, word), command


COMMANDS = dict(commands())
EXAMPLES = {
    words: re.findall(r"^ *\$ (.+)$", command.epilog or "", re.MULTILINE)
    for words, command in {(): typer.main.get_command(main.app), **COMMANDS}.items()
}


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_the_help_of_a_command_ends_with_two_or_three_examples_of_it(cotex, words: tuple[str, ...]):
    shown = cotex(*words, "--help")
    assert (shown.code, shown.err) == (0, "")
    head, _, end = shown.out.rstrip("\n").rpartition("Examples:\n")
    assert head.startswith(f"Usage: {' '.join(('cotex', *words))} [OPTIONS]")
    examples = [line.strip() for line in end.splitlines()]
    assert 2 <= len(examples) <= 3
    assert examples == [f"$ {example}" for example in EXAMPLES[words]]
    assert all(" ".join(("cotex", *words)) in example for example in examples)


def case(example: str) -> Any:
    return pytest.param(example, marks=pytest.mark.postgres if "postgresql:" in example else ())


@pytest.mark.parametrize("example", [case(each) for examples in EXAMPLES.values() for each in examples])
def test_the_example_in_a_help_does_what_it_says(
    cotex, example: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command, *arguments = shlex.split(example)
    prepare(cotex, example)
    monkeypatch.chdir(tmp_path)
    Path("push.json").write_text('{"ref": "refs/heads/main", "commits": []}')
    Path("key.txt").write_text("sk_test_123\n")
    Path("token.txt").write_text("ghp_123\n")
    if re.search("[|<>]", example):
        environment = cotex.environment(PATH=f"{main_folder()}:{os.environ['PATH']}")
        subprocess.run(["sh", "-c", example], env=environment, check=True)
        return
    assert command == "cotex"
    if arguments[0] == "serve":
        # The port of the example may be taken here, and its database is somebody else's.
        stand_ins = {"9000": "0"}
        if "postgresql:" in example:
            stand_ins["postgresql://cotex@db/cotex"] = another_postgres(request)
        served = cotex.serve(*(stand_ins.get(argument, argument) for argument in arguments[1:]))
        assert served.end().code == 0
    elif arguments[0] == "tail":
        cotex.serve()
        tail = cotex.start(*arguments)
        if "--json" in arguments:
            tail.out.until('"live"')
        else:
            tail.err.until("Following")
        assert cotex("event", "send", "--repo", "octo/hello").code == 0
        done = tail.done()
        assert done.code == 0
        assert "pushed to" in done.out
    elif arguments[0] == "forward":
        cotex.serve()
        with Receiver() as receiver:
            arguments[arguments.index("--to") + 1] = receiver.url
            forward = cotex.start(*arguments)
            forward.err.until("Forwarding")
            assert cotex("event", "send", "--repo", "octo/hello").code == 0
            assert forward.done().code == 0
        assert len(receiver.got) == 1
    elif arguments[0] == "webhook" and arguments[1] != "url":
        with FakeGitHub() as github:
            environment = at_github(cotex, github, setting_up="setup" in arguments)
            done = cotex(*arguments, COTEX_PUBLIC_URL="https://cotex.example", **environment)
        assert done.code == 0, done.err
    elif arguments[:2] == ["event", "trace"]:
        guid = cotex("event", "list", "--json").json[0]["delivery_id"]
        assert cotex(*(guid if each == "GUID" else each for each in arguments)).code == 0
    elif arguments[0] == "billing" and arguments[1] != "status":
        from fakestripe import FakeStripe

        with FakeStripe(secret_key="sk_test_123") as stripe:
            environment = {"COTEX_STRIPE_API_URL": stripe.url, "COTEX_PUBLIC_URL": "https://cotex.example"}
            done = cotex(*arguments, COTEX_STRIPE_SECRET_KEY="sk_test_123", **environment)
        assert done.code == 0, done.err
    else:
        if arguments[:2] == ["event", "send"]:
            cotex.serve()
        elif arguments[:2] == ["db", "restore"]:
            assert cotex("db", "backup", arguments[2]).code == 0
        elif arguments[:2] == ["db", "copy"] and "postgresql:" in example:
            arguments[3] = another_postgres(request)
        done = cotex(*arguments)
        assert done.code == 0, done.err
        if "--json" in arguments:
            assert done.json is not None


def at_github(cotex, github: FakeGitHub, *, setting_up: bool) -> dict[str, str]:
    """octo/hello is there, with a hook unless that is to be made, and a delivery that did not arrive."""
    github.repository("octo/hello")
    tracked = cotex("repo", "show", "octo/hello", "--json").json
    if not setting_up:
        github.hook("octo/hello", f"https://cotex.example{tracked['webhook_url']}", "s", ("*",))
        github.happen("octo/hello", "push", push(), guid="0b989ba4-242f-11e5-81e1-c7b6966d2516")
    return {"COTEX_GITHUB_API_URL": github.url, "COTEX_GITHUB_TOKEN": github.token()}


def attached(cotex, user_id: str) -> None:
    """A device of the user's."""
    store = Store(cotex.database, cotex.data)
    store.run(partial(cursors.attach, device="laptop", cursor=None), user_id)
    store.close()


def prepare(cotex, example: str) -> None:
    """What an example speaks of, but for what it is itself about to add."""
    if "user add" in example:
        return
    cotex("user", "add", "ada", "--email", "ada@example.com", "--tier", "pro")
    others = [name for name in ("bob", "eve", "grace") if re.search(rf"\b{name}\b", example)]
    for name in others:
        cotex("user", "add", name)
    if "repo add" in example:
        return
    cotex("repo", "add", "octo/hello", "--user", "ada")
    put_an_event(cotex)
    if others and "repo share" not in example and "user remove" not in example:
        cotex("repo", "share", "octo/hello", "--with", ",".join(others))
    if "tier add" not in example:
        cotex("tier", "add", "team", "--repos", "50")
    if "user revoke" in example:
        cotex("user", "token", "ada", "--label", "ci")


def main_folder() -> Path:
    """Where the command `cotex` lies."""
    return Path(sys.executable).parent


def put_an_event(cotex) -> None:
    store = Store("", cotex.data)
    logged(store, store.look(repositories.find, "octo/hello"), payload=push())
    store.close()


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("serve",)], ids=" ".join)
def test_every_command_that_shows_something_can_show_it_as_json(words: tuple[str, ...]):
    assert "--json" in {option for parameter in COMMANDS[words].params for option in parameter.opts}


def test_the_keys_of_every_document_are_watched_over():
    watched = {tuple(line.split()[:1]) for line in KEYS} | {tuple(line.split()[:2]) for line in KEYS}
    assert COMMANDS.keys() - AT_A_SERVER <= watched


@pytest.mark.parametrize("line", KEYS)
def test_json_is_one_document_with_stable_keys(cotex, octo: Tracked, line: str):
    cotex("user", "token", "ada", "--label", "ci")
    cotex("tier", "add", "team", "--repos", "5")
    for name in ("bob", "grace"):
        cotex("user", "add", name)
    cotex("repo", "share", "octo/hello", "--with", "bob")
    cotex("log", "level", "debug", "--user", "ada")
    attached(cotex, octo.user_id)
    done = cotex(*line.split(), "--json", stdin="correct horse battery\n")
    assert done.code == 0, done.err
    found = done.json
    if line == "log reset":
        assert found == []
    else:
        assert set(found[0] if isinstance(found, list) else found) == KEYS[line]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[-1] == "remove"], ids=" ".join)
def test_what_destroys_data_asks_and_can_show_first_what_it_would_do(words: tuple[str, ...]):
    options = {option for parameter in COMMANDS[words].params for option in parameter.opts}
    assert {"--yes", "--dry-run"} <= options


@pytest.mark.parametrize("line", REFUSALS)
def test_a_refusal_has_its_exit_code_and_at_most_three_lines_beside_the_results(
    cotex, octo: Tracked, line: str
):
    done = cotex(*line.split())
    assert done.code == REFUSALS[line]
    assert done.out == ""
    said = [part for part in done.err.splitlines() if part.strip()]
    assert 1 <= len(said) <= 3
    assert "Traceback" not in done.err


def test_over_a_limit_is_refused_with_5_and_says_how_to_go_on(cotex, octo: Tracked):
    cotex("repo", "add", "octo/docs")
    done = cotex("repo", "add", "octo/more")
    assert done.code == 5
    assert "cotex tier set" in done.err


def test_a_failure_of_the_appliance_itself_is_1(cotex, octo: Tracked):
    (cotex.data / "cotexd.key").unlink()
    done = cotex("user", "list")
    assert done.code == 1
    assert "COTEX_KEY" in done.err


def test_every_kind_of_error_has_an_exit_code():
    assert set(main.EXIT) == set(Kind)
    assert set(main.EXIT.values()) | {0, main.INTERRUPTED} == {0, 1, 2, 3, 4, 5, 6, 130}


@pytest.mark.parametrize(
    "line", ["user list", "repo list", "event list", "tier list", "user show ada", "db status"]
)
def test_results_go_to_standard_output_alone(cotex, octo: Tracked, line: str):
    done = cotex(*line.split())
    assert done.code == 0
    assert done.out
    assert done.err == ""


def test_debug_shows_the_traceback_of_a_refusal(cotex):
    plain, debugged = cotex("user", "show", "bob"), cotex("--debug", "user", "show", "bob")
    assert "Traceback" not in plain.err
    assert "Traceback (most recent call last)" in debugged.err
    assert debugged.err.endswith(plain.err)
    assert debugged.code == plain.code == 3


@pytest.mark.parametrize("words", ["user show", "repo show", "event show", "webhook url", "user token"])
def test_a_name_that_is_no_text_is_not_found(cotex, octo: Tracked, words: str):
    done = cotex(*words.split(), os.fsdecode(b"\xff"))
    assert len(done.err.splitlines()) <= 3
    assert done.code in {2, 3}


def test_an_error_that_nobody_foresaw_is_still_no_traceback_unless_asked_for(cotex, octo: Tracked):
    """What stands in the database is not what any version of ours wrote."""
    store = Store("", cotex.data)
    store.run(lambda tx: tx.database.execute_sql("UPDATE event SET summary = ?", (b"not JSON",)))
    store.close()
    done, debugged = cotex.process("event", "list"), cotex.process("--debug", "event", "list")
    assert done.code == debugged.code == 1
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 3
    assert "Traceback" in debugged.err


def test_whoever_has_read_enough_ends_a_command_without_an_error(cotex, octo: Tracked):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [main_folder() / "cotex", "user", "list"],
        env=cotex.environment(),
        stdout=writes,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, b"")


def modules_of(cotex, *arguments: str) -> set[str]:
    """The packages that are loaded when a command has ended."""
    program = (
        "import sys\nfrom cotex.main import main\n"
        "try: main()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=cotex.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_help_imports_none_of_the_heavy_libraries(cotex):
    loaded = modules_of(cotex, "--help")
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("line", ["user list", "config show"])
def test_a_command_imports_only_what_it_needs(cotex, line: str):
    assert modules_of(cotex, *line.split()) & HEAVY <= {"peewee", "psycopg"}


def test_the_version_is_the_package_s(cotex):
    assert cotex("--version") == cotex("--version", "status")
    assert cotex("--version").out == f"cotex {__version__}\n"


def test_without_a_command_the_help_is_shown_and_that_is_a_usage_error(cotex):
    done = cotex()
    assert done.code == 2
    assert "Usage: cotex" in done.out + done.err


def test_a_flag_for_the_data_folder_goes_before_the_environment(cotex, tmp_path: Path):
    assert cotex("--data-dir", str(tmp_path / "other"), "user", "add", "ada").code == 0
    assert (tmp_path / "other" / "cotexd.db").exists()
    assert not cotex.data.exists()


def test_without_a_word_of_it_the_data_lies_where_the_platform_keeps_data(cotex, tmp_path: Path):
    environment = {"XDG_DATA_HOME": str(tmp_path / "share"), "HOME": str(tmp_path), "COTEX_DATA_DIR": ""}
    bare = {
        name: value for name, value in cotex.environment(**environment).items() if name != "COTEX_DATA_DIR"
    }
    done = subprocess.run(
        [main_folder() / "cotex", "config", "path"],
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = Path(done.stdout.strip()).parent
    assert folder.is_relative_to(tmp_path)
    assert folder.name == "cotex"


@pytest.mark.parametrize(
    "line",
    [
        "init",
        "status",
        "user list",
        "repo list",
        "tier list",
        "event list",
        "db status",
        "db migrate",
        "tail",
    ],
)
def test_a_command_makes_folder_key_and_schema_if_they_are_missing(cotex, line: str):
    assert cotex(*line.split()).code == (6 if line == "tail" else 0)
    assert stat.S_IMODE(cotex.data.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in cotex.data.iterdir()}
    assert {"cotexd.db", "cotexd.key"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_the_first_commands_at_once_make_one_folder_one_key_and_one_schema(cotex):
    started = [cotex.start("user", "add", f"user-{number}") for number in range(4)]
    assert [each.done().code for each in started] == [0, 0, 0, 0]
    assert [each["name"] for each in cotex("user", "list", "--json").json] == [f"user-{n}" for n in range(4)]


@pytest.mark.parametrize(
    ("name", "mode"), [("", 0o755), ("", 0o710), ("cotexd.key", 0o640), ("cotexd.db", 0o604)]
)
def test_what_others_can_read_is_an_error_with_the_command_that_mends_it(
    cotex, octo: Tracked, name: str, mode: int
):
    (cotex.data / name).chmod(mode)
    done = cotex("user", "list")
    assert (done.code, done.out) == (1, "")
    mend = done.err.partition("Close it: ")[2].strip()
    assert mend.startswith("chmod ")
    subprocess.run(mend, shell=True, check=True)  # noqa: S602  # as a person pastes it
    assert cotex("user", "list").code == 0


def test_no_secret_or_token_is_in_any_output_but_the_one_that_makes_it(cotex):
    given = "given by hand, not made here"
    cotex("user", "add", "ada")
    made = cotex("repo", "add", "octo/hello", "--json").json["webhook_secret"]
    cotex("repo", "add", "octo/docs", "--secret-stdin", stdin=given + "\n")
    rotated = cotex("repo", "secret", "octo/hello", "--rotate", "--json").json["webhook_secret"]
    token = cotex("user", "token", "ada").out.strip()
    put_an_event(cotex)
    key = (cotex.data / "cotexd.key").read_text().strip()
    cotex("secret", "set", "stripe-key", stdin="sk_test_of_the_tests\n")
    cotex("user", "passwd", "ada", "--email", "ada@example.com", "--stdin", stdin="correct horse battery\n")
    secrets = {given, made, rotated, token, key, "sk_test_of_the_tests", "correct horse battery"}
    assert len(secrets) == 7
    assert all(secrets)
    for line, json, debug in itertools.product([*LOOKS, *REFUSALS], ([], ["--json"]), ([], ["--debug"])):
        done = cotex(*debug, *line.split(), *json)
        assert not [secret for secret in secrets if secret in done.out + done.err], (line, json, debug)


def test_ids_work_where_names_do(cotex, octo: Tracked):
    by_name, by_id = cotex("user", "show", "ada", "--json"), cotex("user", "show", octo.user_id, "--json")
    assert by_name == by_id
    by_name, by_id = cotex("repo", "show", "octo/hello"), cotex("repo", "show", octo.id)
    assert by_name == by_id
    assert by_name.code == 0


@pytest.mark.parametrize(
    "line",
    [
        "repo show octo/hello",
        "repo secret octo/hello --rotate",
        "repo remove octo/hello --yes",
        "webhook url octo/hello",
        "event list --repo octo/hello",
        "event send --repo octo/hello",
    ],
)
def test_an_ambiguous_name_is_refused_and_lists_what_it_could_be(cotex, octo: Tracked, line: str):
    cotex("user", "add", "grace")
    other = cotex("repo", "add", "octo/hello", "--user", "grace", "--json").json["id"]
    done = cotex(*line.split())
    assert (done.code, done.out) == (4, "")
    assert f"{octo.id} (ada's)" in done.err
    assert f"{other} (grace's)" in done.err
    assert len(cotex("repo", "list", "--json").json) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(cotex, shell: str):
    assert complete(cotex, shell, "cotex us") == ["user"]
    assert complete(cotex, shell, "cotex user sh") == ["show"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_names_of_users_repositories_and_tiers(cotex, octo: Tracked, shell: str):
    assert complete(cotex, shell, "cotex user show a") == ["ada"]
    assert complete(cotex, shell, "cotex repo show oc") == ["octo/hello"]
    assert complete(cotex, shell, "cotex tier set ada p") == ["pro"]


def complete(cotex, shell: str, typed: str) -> list[str]:
    """What a shell is told that the last word could be."""
    done = cotex.process(
        _COTEX_COMPLETE=f"complete_{shell}",
        COMP_WORDS=typed,
        COMP_CWORD=str(typed.count(" ")),
        _TYPER_COMPLETE_ARGS=typed,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    if shell == "zsh":
        return re.findall(r'\("([^"]+)"', done.out)
    return [line.split("\t")[0] for line in done.out.splitlines() if line.strip()]


def test_a_command_that_is_interrupted_says_so_with_130(cotex, octo: Tracked):
    cotex.serve()
    tail = cotex.start("tail")
    tail.err.until("Following")
    done = tail.end(signal.SIGINT)
    assert done.code == 130
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 3


def test_the_core_path_is_the_same_on_both_databases(cotex, database: str):
    assert cotex("user", "add", "ada").code == 0
    tracked = cotex("repo", "add", "octo/hello", "--json").json
    cotex.serve()
    assert cotex("event", "send", "--repo", "octo/hello").code == 0
    assert [each["repo_id"] for each in cotex("event", "list", "--json").json] == [tracked["id"]]
    assert cotex("event", "show", "1", "--json").json["payload"]["ref"]
    assert cotex("user", "show", "ada", "--json").json["repo_count"] == 1
    assert len(cotex("status", "--json").json["servers"]) == 1
    assert cotex("repo", "remove", "octo/hello", "--yes").code == 0
    assert cotex("repo", "list", "--json").json == []
    assert cotex("user", "show", "bob").code == 3
    assert cotex("user", "add", "ada").code == 4


def test_a_command_yields_to_a_server_which_yields_to_nobody(cotex, octo: Tracked):
    own = os.nice(0)
    server = cotex.serve()
    tail = cotex.start("tail")
    tail.err.until("Following")
    found = [os.getpriority(os.PRIO_PROCESS, each.process.pid) for each in (server, tail)]
    assert found == [own, own + main.NICE]
