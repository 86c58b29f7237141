"""Webhooks at GitHub: made, found, mended, given a new secret. GitHub is faked, the server is real."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from conftest import Serve, Server, eventually
from fakegithub import Hook
from hooked import PUBLIC, World

from cotexd.errors import CotexError, NotFound, Unreachable
from cotexd.flows import hooks as flows
from cotexd.flows.hooks import SetUp
from cotexd.operations import hooks, repositories
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

OTHER = "https://other.example.com"


@pytest.fixture
def tracked(world: World) -> Tracked:
    """octo/hello is at GitHub and here, and has no hook."""
    world.github.repository("octo/hello")
    return world.store.run(repositories.add, world.ada.id, "octo/hello")


@pytest.fixture
async def server(world: World, servers: Serve) -> Server:
    """GitHub reaches it; what is tried at GitHub, the tests try."""
    running: Server = await servers(dataclasses.replace(world.settings, github_token=""))
    world.is_reached_at(running.url)
    return running


async def set_up(
    world: World, tracked: Tracked, *, base: str = PUBLIC, events: tuple[str, ...] = ()
) -> SetUp:
    async with world.at_github() as (store, access):
        return await flows.set_up(
            store, await access.github(tracked.id), tracked.id, base, events, bases=(PUBLIC,)
        )


def the_hook(world: World) -> Hook:
    (hook,) = world.github.hooks("octo/hello")
    return hook


async def test_a_hook_is_made_as_it_must_be_and_its_ping_arrives(
    world: World, tracked: Tracked, server: Server
):
    done = await set_up(world, tracked)
    hook = the_hook(world)
    assert (done.hook_id, done.url, done.created, done.ping) == (hook.id, hook.url, True, "arrived")
    assert (hook.url, hook.secret) == (PUBLIC + tracked.webhook_url, tracked.webhook_secret)
    assert (hook.events, hook.content_type, hook.insecure_ssl, hook.active) == (("*",), "json", "0", True)
    await world.happens()
    assert world.github.deliveries(hook.id)[0].status_code == 200


async def test_doing_it_twice_changes_nothing(world: World, tracked: Tracked, server: Server):
    first = await set_up(world, tracked, events=("push", "issues"))
    before = dataclasses.replace(the_hook(world))
    world.github.requests.clear()
    second = await set_up(world, tracked, events=("issues", "push"))
    assert (second.hook_id, second.created, second.changed) == (first.hook_id, False, ())
    assert dataclasses.replace(the_hook(world), attempts=before.attempts) == before
    assert {each.method for each in world.github.requests} == {"GET", "POST"}
    assert world.github.asked()["POST pings"] == 1


@pytest.mark.parametrize(
    ("wrong", "mended"),
    [
        ({"events": ("issues",)}, "events"),
        ({"content_type": "form"}, "content type"),
        ({"insecure_ssl": "1"}, "TLS verification"),
        ({"active": False}, "active"),
        ({"secret": ""}, "secret"),
        ({"secret": "another"}, "secret"),
    ],
)
async def test_a_hook_that_somebody_made_is_found_and_mended(
    world: World, tracked: Tracked, server: Server, wrong: dict, mended: str
):
    url = PUBLIC + tracked.webhook_url
    given = {"secret": tracked.webhook_secret, "events": ("push",), **wrong}
    hook_id = world.github.hook("octo/hello", url, **given)
    await world.happens()
    done = await set_up(world, tracked, events=("push",))
    assert (done.hook_id, done.created) == (hook_id, False)
    assert mended in done.changed
    hook = the_hook(world)
    assert (hook.events, hook.content_type, hook.insecure_ssl) == (("push",), "json", "0")
    assert (hook.active, hook.secret, done.ping) == (True, tracked.webhook_secret, "arrived")


async def test_a_hook_keeps_its_events_where_none_are_named(world: World, tracked: Tracked, server: Server):
    world.github.hook("octo/hello", PUBLIC + tracked.webhook_url, tracked.webhook_secret, ("push", "release"))
    done = await set_up(world, tracked)
    assert set(done.events) == {"push", "release"}


async def test_a_hook_moves_with_the_server(world: World, tracked: Tracked, server: Server):
    first = await set_up(world, tracked)
    world.github.route(OTHER, server.url)
    done = await set_up(world, tracked, base=OTHER)
    assert (done.hook_id, done.changed) == (first.hook_id, ("URL",))
    assert the_hook(world).url == OTHER + tracked.webhook_url
    again = await set_up(world, tracked, base=OTHER)
    assert again.changed == ()


async def test_a_hook_that_calls_where_the_server_was_is_mended_and_no_second_one_made(
    world: World, tracked: Tracked, server: Server
):
    hook_id = world.github.hook("octo/hello", OTHER + tracked.webhook_url, tracked.webhook_secret, ("push",))
    done = await set_up(world, tracked)
    assert (done.hook_id, done.created, done.ping) == (hook_id, False, "arrived")
    assert "URL" in done.changed
    assert the_hook(world).url == PUBLIC + tracked.webhook_url


async def test_other_peoples_hooks_are_left_alone(world: World, tracked: Tracked, server: Server):
    theirs = world.github.hook("octo/hello", "https://ci.example.com/hook", "theirs")
    done = await set_up(world, tracked)
    assert done.hook_id != theirs
    assert {each.secret for each in world.github.hooks("octo/hello")} == {"theirs", tracked.webhook_secret}


@pytest.mark.parametrize("cut", ["GET", "POST", "PATCH", "ping"])
async def test_what_was_interrupted_is_finished_by_the_next_run(
    world: World, tracked: Tracked, server: Server, cut: str
):
    if cut == "PATCH":
        world.github.hook("octo/hello", PUBLIC + tracked.webhook_url, "another")
        world.github.fail("PATCH", "", cut=True)
    elif cut == "ping":
        world.github.fail("POST", "/pings$", cut=True)
    else:
        world.github.fail(cut, "/hooks$", times=3, cut=True)
    with pytest.raises(Unreachable):
        await set_up(world, tracked)
    for fault in world.github._faults:
        fault.left = 0
    done = await set_up(world, tracked)
    assert (done.hook_id, done.ping) == (the_hook(world).id, "arrived")
    await world.happens()
    assert world.github.deliveries(done.hook_id)[0].status_code == 200


async def test_a_hook_that_was_made_before_we_were_killed_is_found(
    world: World, tracked: Tracked, server: Server
):
    """GitHub has made it, and nobody has noted it here."""
    hook_id = world.github.hook("octo/hello", PUBLIC + tracked.webhook_url, tracked.webhook_secret, ("*",))
    done = await set_up(world, tracked)
    assert (done.hook_id, len(world.github.hooks("octo/hello"))) == (hook_id, 1)


async def test_where_no_server_runs_no_ping_is_waited_for(world: World, tracked: Tracked):
    assert (await set_up(world, tracked)).ping == "unseen"


async def test_a_ping_that_does_not_arrive_is_said(
    world: World, tracked: Tracked, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flows, "PING_WITHIN", 0.5)
    world.is_down()
    said: list[str] = []
    async with world.at_github() as (store, access):
        github = await access.github(tracked.id)
        done = await flows.set_up(store, github, tracked.id, PUBLIC, say=said.append)
    assert done.ping == "missing"
    assert "failed to connect" in said[-1]


async def test_what_was_missed_until_it_was_set_up_again_is_looked_for(
    world: World, tracked: Tracked, servers: Serve
):
    running = await servers(dataclasses.replace(world.settings, repair_interval=timedelta(hours=1)))
    world.is_reached_at(running.url)
    hook_id = world.github.hook("octo/hello", PUBLIC + tracked.webhook_url, "wrong", ("*",))
    guid = await world.happens()
    assert world.github.deliveries(hook_id)[0].status_code == 401
    await set_up(world, tracked)
    await eventually(lambda: guid in world.logged())


async def rotate(world: World, tracked: Tracked, overlap: timedelta = timedelta(hours=24)) -> str:
    async with world.at_github() as (store, access):
        github = await access.github(tracked.id)
        return await flows.rotate(store, github, tracked.id, overlap, bases=(PUBLIC,))


async def test_a_new_secret_refuses_no_delivery(world: World, tracked: Tracked, server: Server):
    """GitHub sends without a pause, while the secret changes here and there."""
    done = await set_up(world, tracked)
    stop = asyncio.Event()

    async def send() -> None:
        while not stop.is_set():
            await world.happens()

    sending = asyncio.create_task(send())
    assert await rotate(world, tracked) == "arrived"
    stop.set()
    await sending
    hook = the_hook(world)
    assert hook.secret == world.store.look(repositories.secret_of, tracked.id) != tracked.webhook_secret
    assert {each.status_code for each in world.github.deliveries(done.hook_id)} == {200}


async def test_the_old_secret_ends_with_its_overlap_and_not_at_the_ping(
    world: World, tracked: Tracked, server: Server
):
    await set_up(world, tracked)
    await rotate(world, tracked)
    assert world.store.look(repositories.secret_state, tracked.id)["old_secret_good_until"] is not None
    known = world.store.look(repositories.hook_of, tracked.id)
    assert known is not None
    assert tracked.webhook_secret in known.secrets


async def test_a_rotation_that_was_interrupted_goes_on_with_the_same_secret(
    world: World, tracked: Tracked, server: Server
):
    done = await set_up(world, tracked)
    world.github.fail("PATCH", "/config$", cut=True)
    with pytest.raises(Unreachable):
        await rotate(world, tracked)
    new = world.store.look(repositories.secret_of, tracked.id)
    assert the_hook(world).secret == tracked.webhook_secret != new
    await world.happens()
    assert world.github.deliveries(done.hook_id)[0].status_code == 200
    assert await rotate(world, tracked) == "arrived"
    assert the_hook(world).secret == new == world.store.look(repositories.secret_of, tracked.id)


async def test_a_rotation_of_a_hook_that_was_made_by_hand_goes_on_with_the_same_secret_too(
    world: World, server: Server
):
    tracked = world.track()
    world.store.run(hooks.note, tracked.id, world.hooks["octo/hello"])
    for _ in range(2):
        world.github.fail("PATCH", "/config$", cut=True)
        with pytest.raises(Unreachable):
            await rotate(world, tracked)
        await world.happens()
    assert {each.status_code for each in world.github.deliveries(world.hooks["octo/hello"])} == {200}
    assert await rotate(world, tracked) == "arrived"


async def test_a_rotation_whose_ping_was_interrupted_can_be_run_again(
    world: World, tracked: Tracked, server: Server
):
    done = await set_up(world, tracked)
    world.github.fail("POST", "/pings$", cut=True)
    with pytest.raises(Unreachable):
        await rotate(world, tracked)
    assert await rotate(world, tracked) == "arrived"
    await world.happens()
    assert world.github.deliveries(done.hook_id)[0].status_code == 200


async def test_a_paused_repository_is_not_broken(world: World, tracked: Tracked, server: Server):
    await set_up(world, tracked)
    world.store.run(repositories.pause, world.ada.id, tracked.id)
    world.github.find_hook(the_hook(world).id)[1].attempts[-1].status_code = 403
    assert (await standing(world, tracked)).state == "ok"


async def test_where_no_hook_is_known_nothing_is_rotated(world: World, tracked: Tracked):
    with pytest.raises(NotFound, match="no hook"):
        await rotate(world, tracked)
    assert world.store.look(repositories.secret_of, tracked.id) == tracked.webhook_secret


async def standing(world: World, tracked: Tracked) -> flows.Standing:
    async with world.at_github() as (store, access):
        return await flows.standing(store, await access.github(tracked.id), tracked.id, (PUBLIC,))


async def test_a_hook_that_works_is_ok(world: World, tracked: Tracked, server: Server):
    done = await set_up(world, tracked)
    found = await standing(world, tracked)
    assert (found.state, found.hook_id, found.secret, found.reachable) == ("ok", done.hook_id, "agrees", True)
    assert (found.problems, found.hooks, found.last_response) == ((), 1, "200 active")


async def test_a_repository_without_a_hook_says_how_to_make_one(world: World, tracked: Tracked):
    found = await standing(world, tracked)
    assert (found.state, found.hook_id) == ("missing", None)
    assert "cotex webhook setup octo/hello" in found.problems[0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"active": False}, "not active"),
        ({"content_type": "form"}, "forms"),
        ({"insecure_ssl": "1"}, "certificate"),
        ({"secret": "another"}, "secret"),
        ({"secret": ""}, "secret"),
    ],
)
async def test_what_is_wrong_with_a_hook_is_said(
    world: World, tracked: Tracked, server: Server, wrong: dict, said: str
):
    given = {"secret": tracked.webhook_secret, "events": ("push",), **wrong}
    world.github.hook("octo/hello", PUBLIC + tracked.webhook_url, **given)
    await world.happens()
    found = await standing(world, tracked)
    assert found.state == "broken"
    assert any(said in each for each in found.problems)


async def test_events_that_the_filter_wants_and_github_does_not_send_are_named(
    world: World, tracked: Tracked, server: Server
):
    await set_up(world, tracked, events=("push",))
    wanted = repositories.Filter(events=("push", "release"))
    world.store.run(repositories.set_filter, world.ada.id, tracked.id, wanted)
    found = await standing(world, tracked)
    assert found.missing_events == ("release",)
    assert found.state == "broken"


async def test_a_server_that_github_does_not_reach_is_said(world: World, tracked: Tracked):
    world.github.hook("octo/hello", PUBLIC + tracked.webhook_url, tracked.webhook_secret, ("*",))
    world.happen()
    found = await standing(world, tracked)
    assert found.reachable is False
    assert any("does not reach" in each for each in found.problems)


async def test_a_repository_near_githubs_limit_of_hooks_is_warned_of(
    world: World, tracked: Tracked, server: Server
):
    await set_up(world, tracked, events=("push",))
    for number in range(17):
        world.github.hook("octo/hello", f"https://ci.example.com/{number}")
    found = await standing(world, tracked)
    assert any("18 hooks" in each for each in found.problems)


async def test_attempts_are_listed_with_whether_the_log_has_them(
    world: World, tracked: Tracked, server: Server
):
    done = await set_up(world, tracked)
    await asyncio.to_thread(world.github.settle)
    here = await asyncio.to_thread(world.happen)
    world.is_down()
    lost = world.happen()
    async with world.at_github() as (store, access):
        github, known = await access.github(tracked.id), store.look(hooks.known, tracked.id)
        hook = await github.hook("octo/hello", done.hook_id)
        found = await flows.listing(store, github, known, hook, 2)
    assert [(each.delivery_id, each.in_log) for each in found] == [(lost[0], False), (here[0], True)]
    assert [each.status_code for each in found] == [0, 200]


@pytest.mark.parametrize(
    ("url", "bases", "ours"),
    [
        (f"{PUBLIC}{{path}}", (PUBLIC,), True),
        (f"{PUBLIC}:443{{path}}", (PUBLIC,), True),
        ("https://COTEX.example.com{path}", (PUBLIC,), True),
        (f"{OTHER}{{path}}", (PUBLIC,), False),
        (f"{OTHER}{{path}}", (), True),
        (f"{PUBLIC}{{path}}x", (), False),
        (f"{PUBLIC}/api/webhooks/github/another", (PUBLIC,), False),
        ("http://cotex.example.com{path}", (PUBLIC,), False),
        (f"{PUBLIC}{{path}}?x=1", (PUBLIC,), False),
        ("https://[{path}", (PUBLIC,), False),
    ],
)
def test_a_hook_is_ours_by_the_address_that_it_calls(
    store: Store, hello: Tracked, url: str, bases: tuple[str, ...], ours: bool
):
    known = store.look(hooks.known, hello.id)
    assert flows.is_ours(url.format(path=known.path), known, bases) is ours


def test_why_github_could_not_be_asked_is_how_it_stands(store: Store, hello: Tracked):
    found = flows.unasked(store.look(hooks.known, hello.id), CotexError("It is away."))
    assert (found.state, found.problems) == ("unknown", ("It is away.",))
