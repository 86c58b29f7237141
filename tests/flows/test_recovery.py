"""What GitHub could not deliver is fetched: a real server, and GitHub's API as it is described, faked."""

import asyncio
import dataclasses
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from actors import push
from conftest import Serve, Server, eventually, serving
from hooked import PUBLIC, World

from cotexd.domain.filter import Filter
from cotexd.errors import NotFound
from cotexd.flows import recovery as flows
from cotexd.flows.recovery import Repaired
from cotexd.gateways.github import Limited
from cotexd.operations import accounts, events, hooks, recovery, repositories, secrets, upkeep
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Event, LogState

NOW = timedelta(0)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Server]:
    """The server, for a while, and GitHub reaches it."""
    async with serving(world.settings) as server:
        world.is_reached_at(server.url)
        yield server
    world.is_down()


async def repair(world: World, tracked: Tracked, **options: Any) -> Repaired:
    async with world.at_github() as (store, access):
        return await flows.repair(store, await access.github(tracked.id), tracked.id, (PUBLIC,), **options)


async def test_what_came_while_the_server_was_down_is_in_clients_hands_after_its_start(
    world: World, servers: Serve
):
    repos = [f"octo/repo-{number}" for number in range(20)]
    for name in repos:
        world.track(name)
    guids = [guid for name in repos for guid in world.happen(50, name)]
    assert len(guids) == 1000
    server = await servers(world.settings)
    client = world.client(server.url, cursor=f"{world.store.look(events.log).epoch}.0")
    async with client.connected() as socket:
        while len(client.applied) < 1000:
            await client.take(socket)
    assert world.logged() == Counter(guids)
    assert [each["seq"] for each in client.applied] == sorted({each["seq"] for each in client.applied})
    assert {each["payload"]["id"] for each in client.applied} == set(guids)


async def test_a_repaired_event_is_marked_and_keeps_the_time_at_which_it_happened(
    world: World, servers: Serve
):
    world.track()
    # A star's own time is not looked at: the attempt to deliver it is when it happened.
    then = datetime.now(UTC).replace(microsecond=0)
    world.github.happen("octo/hello", "star", {"action": "created"}, at=then)
    server = await servers(world.settings)
    client = world.client(server.url, cursor=f"{world.store.look(events.log).epoch}.0")
    async with client.connected() as socket:
        while not client.applied:
            await client.take(socket)
        world.is_reached_at(server.url)
        await asyncio.to_thread(world.happen)
        while len(client.applied) < 2:
            await client.take(socket)
    first, second = client.applied
    assert first["repaired"] is True
    assert datetime.fromisoformat(first["timestamp"]) == then
    assert datetime.fromisoformat(first["payload"]["timestamp"]) == then
    assert "repaired" not in second
    (live, repaired) = (await server.get("/api/github-events", world.ada)).json()
    assert (live["repaired"], repaired["repaired"]) == (False, True)
    assert datetime.fromisoformat(repaired["created_at"]) == then


async def test_within_a_repository_the_oldest_comes_first(world: World):
    tracked = world.track()
    guids = world.happen(30)
    assert (await repair(world, tracked)).recovered == 30
    rows = world.store.look(lambda _: [row.delivery_id for row in Event.select().order_by(Event.seq)])
    assert rows == guids


async def test_what_is_there_already_is_not_taken_twice(world: World, servers: Serve):
    tracked = world.track()
    server = await servers(dataclasses.replace(world.settings, github_token=""))
    guids = []
    for number in range(20):
        world.github.route(PUBLIC, server.url if number % 2 else None)
        guids += await asyncio.to_thread(world.happen)
    found = await repair(world, tracked)
    assert (found.checked, found.missing, found.recovered) == (20, 10, 10)
    assert world.logged() == Counter(guids)
    assert (await repair(world, tracked)).missing == 0


async def test_where_a_redelivery_succeeded_nothing_is_missing(world: World, servers: Serve):
    tracked = world.track()
    (guid,) = world.happen()
    server = await servers(dataclasses.replace(world.settings, github_token=""))
    world.is_reached_at(server.url)
    hook_id = world.hooks["octo/hello"]
    repo, hook = world.github.find_hook(hook_id)
    world.github.redeliver(repo, hook, hook.attempts[0])
    await asyncio.to_thread(world.github.settle)
    assert world.logged() == Counter([guid])
    assert (await repair(world, tracked)).missing == 0


async def test_what_github_was_once_answered_200_for_is_fetched_again_after_a_restore(
    world: World, servers: Serve, tmp_path: Path, database: str
):
    if database:
        pytest.skip("a copy of the folder is a backup of SQLite only")
    world.track()
    async with running(world):
        before = await asyncio.to_thread(world.happen, 3)
        await eventually(lambda: len(world.logged()) == 3)
    world.store.close()
    shutil.copytree(world.settings.data_dir, tmp_path / "backup")
    async with running(world):
        after = await asyncio.to_thread(world.happen, 5)
    assert [each.status_code for each in world.github.deliveries(world.hooks["octo/hello"])] == [200] * 8
    for file in world.settings.data_dir.iterdir():
        file.unlink()
    for file in (tmp_path / "backup").iterdir():
        shutil.copy2(file, world.settings.data_dir)
    world.store = Store(world.settings.database, world.settings.data_dir)
    assert world.logged() == Counter(before)
    await servers(world.settings)
    await eventually(lambda: world.logged() == Counter(before + after))


@pytest.mark.parametrize("how", ["null", "empty", "gone"])
async def test_what_github_does_not_show_any_more_it_sends_again(world: World, servers: Serve, how: str):
    world.track()
    guids = world.happen(6)
    world.github.forget_payloads(world.hooks["octo/hello"], guids[::2], how)
    server = await servers(world.settings)
    world.is_reached_at(server.url)
    await eventually(lambda: world.logged() == Counter(guids))
    rows = world.store.look(lambda _: list(Event.select()))
    assert all(row.sent_at is not None for row in rows)
    assert {row.delivery_id for row in rows if row.verified == "sha256"} == set(guids[::2])
    assert world.github.asked()["POST attempts"] == 3


async def test_what_can_not_be_had_any_more_is_given_up_and_counted_once(world: World):
    tracked = world.track()
    guids = world.happen(4)
    world.github.forget_payloads(world.hooks["octo/hello"], guids[:1], "null", redeliver=False)
    found = await repair(world, tracked)
    assert (found.missing, found.recovered, found.lost) == (4, 3, 1)
    assert world.store.look(recovery.unknown, tracked.id, set(guids)) == set()
    # Who asks by hand has it tried again.
    again = await repair(world, tracked)
    assert (again.missing, again.recovered, again.lost) == (1, 0, 1)
    assert world.store.look(hooks.known, tracked.id).lost == 1


async def test_a_payload_that_would_be_refused_is_given_up(world: World):
    tracked = world.track()
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    world.github.happen("octo/hello", "push", deep)
    found = await repair(world, tracked)
    assert (found.missing, found.lost) == (1, 1)


async def test_what_is_filtered_or_purged_does_not_come_back(world: World):
    tracked = world.track()
    world.store.run(repositories.set_filter, world.ada.id, tracked.id, Filter(events=("push",)))
    async with running(world):
        await asyncio.to_thread(world.github.happen, "octo/hello", "star", {})
        await asyncio.to_thread(world.happen)
    world.store.run(upkeep.purge, NOW)
    found = await repair(world, tracked)
    assert (found.checked, found.missing) == (2, 0)


async def test_what_happened_before_the_repository_was_tracked_stays_there(world: World):
    tracked = world.track()
    world.happen(2, at=datetime.now(UTC) - timedelta(hours=1))
    guids = world.happen(1)
    found = await repair(world, tracked)
    assert found.recovered == 1
    assert world.logged() == Counter(guids)


async def test_an_old_delivery_that_was_sent_again_by_hand_stays_there_too(world: World):
    tracked = world.track()
    world.happen(1, at=datetime.now(UTC) - timedelta(hours=1))
    repo, hook = world.github.find_hook(world.hooks["octo/hello"])
    world.github.redeliver(repo, hook, hook.attempts[0])
    await asyncio.to_thread(world.github.settle)
    assert (await repair(world, tracked)).missing == 0


async def test_a_ping_is_no_event(world: World):
    tracked = world.track()
    world.github.ping(*world.github.find_hook(world.hooks["octo/hello"]))
    await asyncio.to_thread(world.github.settle)
    assert (await repair(world, tracked)).checked == 0


@pytest.mark.parametrize("limited", ["primary", "secondary"])
async def test_a_rate_limit_is_waited_for(world: World, servers: Serve, limited: str):
    world.track()
    guids = world.happen(10)
    if limited == "primary":
        world.github.limit(remaining=6, reset_in=2)
    else:
        world.github.secondary_limit(times=3, retry_after=1)
    await servers(world.settings)
    await eventually(lambda: world.logged() == Counter(guids))


async def test_who_asks_by_hand_is_told_when_to_come_again_and_keeps_what_there_is(world: World):
    tracked = world.track()
    world.happen(20)
    world.github.limit(remaining=10, reset_in=60)
    with pytest.raises(Limited) as raised:
        await repair(world, tracked)
    assert 50 < raised.value.wait <= 61
    assert 0 < len(world.logged()) < 20
    world.github.limit(remaining=5000, reset_in=60)
    there = len(world.logged())
    assert (await repair(world, tracked)).recovered == 20 - there


async def test_a_paused_repository_is_left_alone_and_repaired_when_it_is_resumed(
    world: World, servers: Serve
):
    tracked = world.track()
    world.store.run(repositories.pause, world.ada.id, tracked.id)
    server = await servers(dataclasses.replace(world.settings, repair_interval=timedelta(hours=1)))
    world.is_reached_at(server.url)
    guids = await asyncio.to_thread(world.happen, 3)
    assert [each.status_code for each in world.github.deliveries(world.hooks["octo/hello"])] == [403] * 3
    asked = len(world.github.requests)
    world.store.run(repositories.resume, world.ada.id, tracked.id)
    await eventually(lambda: world.logged() == Counter(guids))
    assert len(world.github.requests) > asked


async def test_nothing_is_learnt_of_a_hook_by_its_id_in_a_header(world: World, servers: Serve):
    """Mallory signs with the secret of her own repository, and names the hook of ada's private one."""
    world.track()
    mallory = world.store.run(accounts.create, "mallory")
    hers = world.store.run(repositories.add, mallory.id, "mallory/trap")
    world.github.repository("mallory/trap")
    guids = world.happen(3)
    server = await servers(world.settings)
    header = {"x-github-hook-id": str(world.hooks["octo/hello"])}
    await server.github.deliver(hers, push(), headers=header)
    await eventually(lambda: set(guids) <= world.logged().keys())
    page = (await server.get("/api/github-events", mallory)).json()
    assert [each["repo_id"] for each in page] == [hers.id]


async def test_who_tracks_a_repository_by_its_name_gets_nothing_of_a_hook_that_is_another_users(
    world: World, servers: Serve
):
    world.track()
    mallory = world.store.run(accounts.create, "mallory")
    hers = world.store.run(repositories.add, mallory.id, "octo/hello")
    guids = world.happen(3)
    server = await servers(world.settings)
    await eventually(lambda: set(guids) <= world.logged().keys())
    with pytest.raises(NotFound):
        await repair(world, hers)
    assert (await server.get("/api/github-events", mallory)).json() == []


async def test_a_look_at_which_nothing_has_changed_costs_github_nothing(world: World, servers: Serve):
    world.track()
    world.happen(3)
    await servers(world.settings)
    await eventually(lambda: len(world.logged()) == 3)
    await eventually(lambda: world.github.asked()["GET deliveries"] >= 3)
    world.github.limit(remaining=100, reset_in=3600)
    seen = world.github.asked()["GET deliveries"]
    await eventually(lambda: world.github.asked()["GET deliveries"] >= seen + 2)
    assert world.github.remaining == 100


async def test_a_dry_run_says_what_is_missing_and_fetches_nothing(world: World):
    tracked = world.track()
    world.happen(3)
    found = await repair(world, tracked, dry_run=True)
    assert (found.missing, found.recovered) == (3, 0)
    assert world.logged() == Counter()


async def test_how_far_back_is_looked_can_be_said(world: World):
    tracked = world.track()
    world.happen(3)
    found = await repair(world, tracked, since=datetime.now(UTC) + timedelta(hours=1))
    assert found.checked == 0


async def test_a_repository_that_was_renamed_at_github_is_found(world: World):
    tracked = world.track()
    guids = world.happen(3)
    world.github.rename("octo/hello", "octo/hi")
    assert (await repair(world, tracked)).recovered == 3
    assert world.logged() == Counter(guids)


async def test_a_look_at_the_last_hour_leaves_what_is_older_to_the_next(world: World):
    tracked = world.track()
    world.store.run(lambda tx: tx.change("UPDATE repository SET created_at = 0"))
    (old,) = world.happen(1, at=datetime.now(UTC) - timedelta(hours=20))
    (young,) = world.happen(1)
    found = await repair(world, tracked, since=datetime.now(UTC) - timedelta(hours=1))
    assert (found.recovered, set(world.logged())) == (1, {young})
    assert world.store.look(hooks.known, tracked.id).settled_at is None
    assert (await repair(world, tracked)).recovered == 1
    assert set(world.logged()) == {old, young}


async def test_one_that_can_not_be_fetched_keeps_no_other_back(world: World):
    tracked = world.track()
    guids = world.happen(9)
    oldest = world.github.deliveries(world.hooks["octo/hello"])[-1]
    world.github.fail("GET", f"/deliveries/{oldest.id}$", times=3)
    found = await repair(world, tracked)
    assert (found.missing, found.recovered) == (9, 8)
    known = world.store.look(hooks.known, tracked.id)
    assert "problem of its own" in known.problem
    assert known.settled_at <= oldest.delivered_at
    assert (await repair(world, tracked)).recovered == 1
    assert world.logged() == Counter(guids)


async def test_a_token_that_may_only_read_fetches_what_is_shown(world: World):
    tracked = world.track()
    guids = world.happen(6)
    world.github.forget_payloads(world.hooks["octo/hello"], guids[:1])
    world.token = world.github.fine_grained(webhooks="read")
    found = await repair(world, tracked)
    assert (found.missing, found.recovered, found.requested, found.lost) == (6, 5, 0, 0)
    assert "may not do this" in world.store.look(hooks.known, tracked.id).problem
    world.token = world.github.token()
    assert (await repair(world, tracked)).requested == 1


async def test_a_hook_that_goes_in_the_middle_of_a_look_makes_nothing_lost(world: World):
    tracked = world.track()
    world.happen(3)
    hook_id = world.hooks["octo/hello"]
    world.github.forget_payloads(hook_id, how="gone", redeliver=False)
    world.github.fail("GET", f"/hooks/{hook_id}$", status=404, times=9)
    with pytest.raises(NotFound):
        await repair(world, tracked)
    assert world.store.look(hooks.known, tracked.id).lost == 0


async def test_one_tokens_limit_does_not_hold_up_the_others(world: World, servers: Serve):
    other = world.github.token()
    for number in range(3):
        tracked = world.track(f"octo/repo-{number}")
        world.happen(2, f"octo/repo-{number}")
        if number == 0:
            world.store.run(secrets.put, secrets.GITHUB_TOKEN, other, repo_id=tracked.id)
    limited = {"Retry-After": "3600"}
    world.github.fail("GET", "/repos/octo/repo-0/", status=403, times=99, headers=limited)
    await servers(world.settings)
    await eventually(lambda: len(world.logged()) == 4)


async def test_many_pages_are_gone_through(world: World):
    tracked = world.track()
    guids = world.happen(250)
    assert (await repair(world, tracked)).recovered == 250
    assert world.logged() == Counter(guids)
    assert world.github.asked()["GET deliveries"] == 3


async def test_how_far_all_is_settled_is_kept(world: World, servers: Serve):
    tracked = world.track()
    world.happen(150)
    await servers(world.settings)
    await eventually(lambda: world.store.look(hooks.known, tracked.id).settled_at is not None)
    known = world.store.look(hooks.known, tracked.id)
    newest = world.github.deliveries(world.hooks["octo/hello"])[0].delivered_at
    assert abs(known.settled_at - newest) < timedelta(milliseconds=2)


async def test_while_something_is_unsettled_the_mark_stays_before_it(world: World):
    tracked = world.track()
    guids = world.happen(4)
    world.github.forget_payloads(world.hooks["octo/hello"], guids[1:2])
    found = await repair(world, tracked)
    assert (found.recovered, found.requested) == (3, 1)
    attempt = next(
        each for each in world.github.deliveries(world.hooks["octo/hello"]) if each.guid == guids[1]
    )
    known = world.store.look(hooks.known, tracked.id)
    assert known.settled_at <= attempt.delivered_at
    assert world.store.look(recovery.unknown, tracked.id, set(guids)) == {guids[1]}


async def test_without_a_hook_that_calls_this_server_nothing_is_fetched(world: World):
    tracked = world.store.run(repositories.add, world.ada.id, "octo/hello")
    world.github.repository("octo/hello")
    world.github.hook("octo/hello", f"https://elsewhere.example{tracked.webhook_url}", "s")
    world.happen(2)
    with pytest.raises(NotFound, match="no hook"):
        await repair(world, tracked)
    assert world.logged() == Counter()


async def test_github_that_stumbles_is_asked_again(world: World):
    tracked = world.track()
    world.happen(3)
    world.github.fail("GET", "/deliveries$", status=502, times=1)
    world.github.fail("GET", r"/deliveries/\d+$", times=1, cut=True)
    assert (await repair(world, tracked)).recovered == 3


async def test_what_fails_is_said_and_tried_again(world: World, servers: Serve):
    tracked = world.track()
    guids = world.happen(3)
    world.github.revoke(world.token)
    await servers(world.settings)
    await eventually(lambda: bool(world.store.look(hooks.known, tracked.id).problem))
    assert "token" in world.store.look(hooks.known, tracked.id).problem
    world.github.tokens[world.token] = world.github.tokens[world.github.token()]
    await eventually(lambda: world.logged() == Counter(guids))
    await eventually(lambda: world.store.look(hooks.known, tracked.id).problem == "")


async def test_what_two_servers_look_for_comes_once(world: World, servers: Serve, database: str):
    if not database:
        pytest.skip("two servers share PostgreSQL")
    for number in range(5):
        world.track(f"octo/repo-{number}")
    guids = [guid for number in range(5) for guid in world.happen(20, f"octo/repo-{number}")]
    await asyncio.gather(servers(world.settings), servers(world.settings))
    await eventually(lambda: world.logged().keys() == set(guids))
    assert world.logged() == Counter(guids)
    assert world.store.look(lambda _: LogState.get_by_id(1).head) == 100
