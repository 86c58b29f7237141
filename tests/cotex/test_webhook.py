import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest
from actors import WAIT
from hooked import PUBLIC, World

from cotex import client
from cotexd.flows import hooks as flows
from cotexd.operations import events, hooks, repositories, secrets
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Event

if TYPE_CHECKING:
    from conftest import Cotex, Done, Running


def test_the_address_is_the_only_result(cotex, octo: Tracked):
    done = cotex("webhook", "url", "octo/hello", COTEX_PUBLIC_URL="https://cotex.example/")
    assert (done.out, done.err) == (f"https://cotex.example{octo.webhook_url}\n", "")
    as_json = cotex("webhook", "url", octo.id, "--json", COTEX_PUBLIC_URL="https://cotex.example")
    assert as_json.json == {"url": done.out.strip()}


def test_without_a_public_address_it_is_said_that_github_cannot_reach_this_one(cotex, octo: Tracked):
    done = cotex("webhook", "url", "octo/hello", COTEX_PORT="8123")
    assert done.out == f"http://127.0.0.1:8123{octo.webhook_url}\n"
    assert "public_url is not set" in done.err


def test_without_a_public_address_it_is_that_of_the_server_that_runs(cotex, octo: Tracked):
    server = cotex.serve()
    assert cotex("webhook", "url", "octo/hello").out == f"{server.url}{octo.webhook_url}\n"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_is_posted_to_the_address_arrives(server, cotex):
    repo = server.track(server.user("ada"))
    address = (await cotex.beside("webhook", "url", "octo/hello")).out.strip()
    sent = client.deliver, address, b'{"ref": "refs/heads/main"}', repo.webhook_secret
    answer = await asyncio.to_thread(*sent, event_type="push", delivery_id="1")
    assert answer.seq == 1


def test_an_unknown_repository_is_not_found(cotex, octo: Tracked):
    assert cotex("webhook", "url", "octo/other").code == 3


class AtGitHub:
    """`cotex …` on the folder of a World, with its token."""

    def __init__(self, cotex: "Cotex", world: World) -> None:
        self._cotex = cotex
        self.environment = {
            "COTEX_PUBLIC_URL": PUBLIC,
            "COTEX_GITHUB_TOKEN": world.token,
            "COTEX_GITHUB_API_URL": world.github.url,
            "COTEX_REPAIR_INTERVAL": "1",
        }

    def __call__(self, *arguments: str, stdin: str = "", **more: str) -> "Done":
        return self._cotex(*arguments, stdin=stdin, **{**self.environment, **more})

    def serve(self) -> "Running":
        return self._cotex.serve(**self.environment)


@pytest.fixture
def command(cotex, world: World) -> AtGitHub:
    return AtGitHub(cotex, world)


@pytest.fixture
def untouched(world: World) -> Tracked:
    """octo/hello, which has no hook at GitHub."""
    world.github.repository("octo/hello")
    return world.store.run(repositories.add, world.ada.id, "octo/hello")


def test_setup_says_what_it_made(command: AtGitHub, world: World, untouched: Tracked):
    done = command("webhook", "setup", "octo/hello", "--events", "push,pull_request", "--json")
    assert done.code == 0, done.err
    (hook,) = world.github.hooks("octo/hello")
    assert done.json == {
        "repo_name": "octo/hello",
        "hook_id": hook.id,
        "url": PUBLIC + untouched.webhook_url,
        "events": ["push", "pull_request"],
        "created": True,
        "changed": [],
        "ping": "unseen",
    }
    assert "is made" in done.err
    assert hook.secret not in done.out + done.err


def test_setup_waits_for_the_ping_where_a_server_runs(command: AtGitHub, world: World, untouched: Tracked):
    world.is_reached_at(command.serve().url)
    done = command("webhook", "setup", "octo/hello", "--all", "--json")
    assert done.json["ping"] == "arrived"
    assert done.json["events"] == ["*"]


def test_setup_neither_resolves_nor_calls_the_address(command: AtGitHub, untouched: Tracked):
    done = command("webhook", "setup", "octo/hello", "--url", "https://no-such-host.invalid/", "--json")
    assert (done.code, done.json["url"]) == (0, f"https://no-such-host.invalid{untouched.webhook_url}")


def test_setup_needs_an_address(command: AtGitHub, untouched: Tracked):
    done = command("webhook", "setup", "octo/hello", COTEX_PUBLIC_URL="")
    assert done.code == 2
    assert "--url" in done.err


@pytest.mark.parametrize("url", ["cotex.example.com", "ftp://cotex.example.com", "https://"])
def test_setup_refuses_what_is_no_address(command: AtGitHub, untouched: Tracked, url: str):
    assert command("webhook", "setup", "octo/hello", "--url", url).code == 2


def test_setup_tells_what_github_refuses(command: AtGitHub, untouched: Tracked):
    done = command("webhook", "setup", "octo/hello", "--url", "http://localhost:8080")
    assert done.code == 2
    assert "public Internet" in done.err


def test_setup_twice_changes_nothing(command: AtGitHub, untouched: Tracked):
    first = command("webhook", "setup", "octo/hello", "--json").json
    second = command("webhook", "setup", "octo/hello", "--json").json
    assert second == {**first, "created": False}


def test_setup_follows_the_configuration_when_the_server_moves(
    command: AtGitHub, world: World, untouched: Tracked
):
    command("webhook", "setup", "octo/hello")
    moved = command(
        "webhook", "setup", "octo/hello", "--json", COTEX_PUBLIC_URL="https://new.example.com"
    ).json
    assert (moved["created"], moved["changed"]) == (False, ["URL"])
    (hook,) = world.github.hooks("octo/hello")
    assert hook.url == f"https://new.example.com{untouched.webhook_url}"


def test_a_token_for_one_repository_is_set_from_standard_input(
    command: AtGitHub, world: World, untouched: Tracked
):
    own = world.github.token(repos={"octo/hello"})
    assert command("secret", "set", "github-token", "--repo", "octo/hello", stdin=own).code == 0
    done = command("webhook", "setup", "octo/hello", "--json", COTEX_GITHUB_TOKEN="")
    assert done.code == 0, done.err
    assert command("secret", "remove", "github-token", "--repo", "octo/hello", "--yes").code == 0
    assert command("webhook", "setup", "octo/hello", COTEX_GITHUB_TOKEN="").code == 5


def test_status_is_a_list_of_all_or_of_one(command: AtGitHub, world: World):
    world.track()
    world.store.run(repositories.add, world.ada.id, "octo/docs")
    everything = command("webhook", "status", "--json").json
    assert [(each["repo_name"], each["state"]) for each in everything] == [
        ("octo/docs", "unknown"),
        ("octo/hello", "ok"),
    ]
    assert command("webhook", "status", "octo/hello", "--json").json == everything[1:]


def test_repair_fetches_what_is_missing_and_says_how_much(command: AtGitHub, world: World):
    world.track()
    guids = world.happen(5)
    rehearsed = command("webhook", "repair", "--dry-run", "--json").json
    assert (rehearsed["missing"], rehearsed["recovered"], rehearsed["dry_run"]) == (5, 0, True)
    done = command("webhook", "repair", "octo/hello", "--since", "3d", "--json")
    counts = {"checked": 5, "missing": 5, "recovered": 5, "requested": 0, "lost": 0}
    assert done.json == {
        **counts,
        "dry_run": False,
        "repositories": [{"repo_name": "octo/hello", **counts, "problem": None}],
    }
    assert world.logged() == Counter(guids)


def test_repair_reaches_the_clients_of_a_server_that_runs(command: AtGitHub, world: World):
    tracked = world.track()
    command.environment["COTEX_REPAIR_INTERVAL"] = "86400"
    server = command.serve()
    wait_until(lambda: world.store.look(hooks.known, tracked.id).looked_at is not None)
    guids = world.happen(3)
    token = command("user", "token", "ada").out.strip()
    epoch = world.store.look(events.log).epoch
    assert command("webhook", "repair", "--json").json["recovered"] == 3
    listed = httpx.get(
        f"{server.url}/api/events?after={epoch}.0&wait=10", headers={"authorization": f"Bearer {token}"}
    ).json()["messages"]
    assert {each["payload"]["id"] for each in listed} == set(guids)
    assert all(each["repaired"] for each in listed)


def test_repair_leaves_out_what_has_no_hook_and_says_so(command: AtGitHub, world: World):
    world.track()
    world.store.run(repositories.add, world.ada.id, "octo/docs")
    world.happen(2)
    done = command("webhook", "repair", "--json")
    assert (done.code, done.json["recovered"]) == (0, 2)
    docs, _ = done.json["repositories"]
    assert docs["problem"]
    assert command("webhook", "repair", "octo/docs").code == 3


def test_repair_of_all_goes_on_after_one_that_fails_and_ends_with_1(command: AtGitHub, world: World):
    world.track("octo/docs")
    world.track()
    world.happen(2)
    docs = world.store.look(repositories.find, "octo/docs")
    world.store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_wrong", repo_id=docs.id)
    done = command("webhook", "repair", "--json")
    assert (done.code, done.json["recovered"]) == (1, 2)
    assert "does not know the token" in done.json["repositories"][0]["problem"]


def test_repair_waits_where_github_limits_it(command: AtGitHub, world: World):
    world.track()
    world.happen(10)
    world.github.limit(remaining=6, reset_in=2)
    done = command("webhook", "repair", "--json")
    assert done.json["recovered"] == 10
    assert "GitHub limits us" in done.err


def test_a_server_that_is_killed_in_the_middle_of_a_repair_goes_on_at_its_next_start(
    command: AtGitHub, world: World
):
    world.track()
    guids = world.happen(200)
    for some in (20, 70, 120):
        server = command.serve()
        wait_until(lambda: len(world.logged()) >= some)  # noqa: B023  # it is waited for here
        server.end(signal.SIGKILL)
        assert len(world.logged()) < len(guids)
    command.serve()
    wait_until(lambda: world.logged() == Counter(guids))
    rows = world.store.look(lambda _: [row.delivery_id for row in Event.select().order_by(Event.seq)])
    assert rows == guids


def test_deliveries_say_what_the_log_has(command: AtGitHub, world: World):
    world.track()
    (guid,) = world.happen()
    (listed,) = command("webhook", "deliveries", "octo/hello", "--json").json
    assert (listed["delivery_id"], listed["in_log"], listed["status"]) == (
        guid,
        False,
        "failed to connect to host",
    )
    command("webhook", "repair")
    (listed,) = command("webhook", "deliveries", "octo/hello", "--json").json
    assert listed["in_log"] is True


def test_a_delivery_is_sent_again(command: AtGitHub, world: World):
    world.track()
    guid, _ = world.happen(2)
    command.environment["COTEX_REPAIR_INTERVAL"] = "86400"
    world.github.fail("GET", "/hooks$", times=3)
    world.is_reached_at(command.serve().url)
    wait_until(lambda: len(world.github.requests) >= 3)
    assert command("webhook", "redeliver", "octo/hello", guid, "--json").json["delivery_id"] == guid
    wait_until(lambda: world.logged() == Counter([guid]))
    assert command("webhook", "redeliver", "octo/hello", "nobody").code == 3


def test_ping_says_whether_it_arrived(command: AtGitHub, world: World, monkeypatch: pytest.MonkeyPatch):
    world.track()
    world.is_reached_at(command.serve().url)
    assert command("webhook", "ping", "octo/hello", "--json").json == {"ping": "arrived"}
    world.is_down()
    monkeypatch.setattr(flows, "PING_WITHIN", 0.5)
    done = command("webhook", "ping", "octo/hello", "--json")
    assert (done.code, done.json) == (6, {"ping": "missing"})


def test_remove_deletes_the_hook_and_nothing_here(command: AtGitHub, world: World):
    world.track()
    assert command("webhook", "remove", "octo/hello").code == 2
    shown = command("webhook", "remove", "octo/hello", "--dry-run", "--json").json
    assert shown["removed"] is False
    done = command("webhook", "remove", "octo/hello", "--yes", "--json").json
    assert done == {**shown, "removed": True}
    assert world.github.hooks("octo/hello") == []
    assert command("repo", "show", "octo/hello").code == 0
    assert command("webhook", "remove", "octo/hello", "--yes").code == 3


def test_a_secret_is_rotated_here_and_at_github_by_one_command(command: AtGitHub, world: World):
    world.is_reached_at(command.serve().url)
    tracked = world.track()
    assert command("webhook", "setup", "octo/hello", "--json").json["ping"] == "arrived"
    done = command("repo", "secret", "octo/hello", "--rotate", "--json")
    assert (done.code, done.json["ping"], done.json["webhook_secret"]) == (0, "arrived", "")
    assert done.json["old_secret_good_until"] is not None
    (hook,) = world.github.hooks("octo/hello")
    assert hook.secret == world.store.look(repositories.secret_of, tracked.id) != tracked.webhook_secret


def test_a_rotation_that_does_not_reach_github_is_finished_by_the_same_command(
    command: AtGitHub, world: World, untouched: Tracked
):
    command("webhook", "setup", "octo/hello")
    world.github.fail("PATCH", "/config$", cut=True)
    assert command("repo", "secret", "octo/hello", "--rotate").code == 6
    halfway = world.store.look(repositories.secret_of, untouched.id)
    assert command("repo", "secret", "octo/hello", "--rotate").code == 0
    (hook,) = world.github.hooks("octo/hello")
    assert hook.secret == halfway == world.store.look(repositories.secret_of, untouched.id)


def test_a_secret_can_be_rotated_without_github(command: AtGitHub, world: World, untouched: Tracked):
    command("webhook", "setup", "octo/hello")
    done = command("repo", "secret", "octo/hello", "--rotate", "--only-here", COTEX_GITHUB_TOKEN="")
    assert done.code == 0
    assert done.out.strip() == world.store.look(repositories.secret_of, untouched.id)


@pytest.mark.parametrize("wrong", ["token", "scope", "private", "archived", "away"])
def test_what_github_refuses_says_what_to_do(command: AtGitHub, world: World, untouched: Tracked, wrong: str):
    environment, code, said = {}, 5, "cotex secret set github-token"
    if wrong == "token":
        environment["COTEX_GITHUB_TOKEN"] = "ghp_wrong"
    elif wrong == "scope":
        environment["COTEX_GITHUB_TOKEN"] = world.github.token(scopes=("gist",))
    elif wrong == "private":
        environment["COTEX_GITHUB_TOKEN"] = world.github.token(repos={"octo/other"})
        code, said = 3, "private"
    elif wrong == "archived":
        world.github.repository("octo/hello", archived=True)
        said = "Unarchive it"
    else:
        environment["COTEX_GITHUB_API_URL"] = "http://127.0.0.1:9"
        code, said = 6, "cannot be reached"
    done = command("webhook", "setup", "octo/hello", **environment)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert not any(token in done.err for token in world.github.tokens)


def wait_until(done: Callable[[], bool]) -> None:
    """For what another process does."""
    ends = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.02)
