import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from actors import WAIT, logged, push
from conftest import Clock, eventually
from lines import begun, happen, running

from cotexd.domain.selection import Selection
from cotexd.live import session as lives
from cotexd.live.connection import About
from cotexd.live.hub import Hub
from cotexd.live.poll import Poll
from cotexd.live.session import BOUND
from cotexd.operations import accounts, events, repositories, upkeep
from cotexd.operations.events import MAX_BACKLOG
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

STARS = Selection(events=frozenset({"star"}))
Told = tuple[list[dict], str]


@pytest.fixture
def database() -> str:
    """SQLite: what is collected does not depend on the database."""
    return ""


@pytest.fixture
async def hub(store: Store, hello: Tracked) -> AsyncIterator[Hub]:
    """A hub that opens when all that its users are told of octo/hello was told."""
    async with running(store) as opened:
        yield opened


def at(store: Store, seq: int) -> str:
    return f"{store.look(events.log).epoch}.{seq}"


def polling(hub: Hub, store: Store, repo: Tracked, **how) -> Poll:
    """A poll that has a place at the hub, as web gives it one."""
    poll = Poll(begun(hub, store, repo.user_id, answers=False, **how), hub, About("poll"))
    hub.attach(poll)
    return poll


async def answer(poll: Poll, seconds: float) -> Told:
    """Wait for its answer, and go, as web does."""
    try:
        messages, cursor = await asyncio.wait_for(poll.messages(seconds, poll.session.scanned), WAIT)
    finally:
        poll._hub.detach(poll)
    return [json.loads(message) for message in messages], cursor


async def waiting(hub: Hub, store: Store, repo: Tracked, **how) -> tuple[Poll, "asyncio.Task[Told]"]:
    """A poll that has found that there is nothing yet."""
    poll = polling(hub, store, repo, **how)
    task = asyncio.ensure_future(answer(poll, WAIT))
    await eventually(lambda: poll.session.live)
    return poll, task


def seqs(messages: list[dict]) -> list[int]:
    return [message["seq"] for message in messages]


# What there is.


@pytest.mark.parametrize("seconds", [0, WAIT])
async def test_it_answers_at_once_with_what_there_is(store: Store, hub: Hub, hello: Tracked, seconds: float):
    logged(store, hello, 3)
    messages, cursor = await answer(polling(hub, store, hello, after=1), seconds)
    assert [(each["type"], each["seq"], each["prev"]) for each in messages] == [
        ("github_event", 2, 1),
        ("github_event", 3, 2),
    ]
    assert cursor == at(store, 3)


async def test_who_follows_the_cursor_gets_everything_once_and_in_order(
    store: Store, hub: Hub, hello: Tracked
):
    logged(store, hello, 2 * MAX_BACKLOG + 5)
    found, cursor = [], at(store, 0)
    while cursor != at(store, 2 * MAX_BACKLOG + 5):
        messages, cursor = await answer(polling(hub, store, hello, after=cursor), WAIT)
        assert messages
        found += seqs(messages)
    assert found == list(range(1, 2 * MAX_BACKLOG + 6))


async def test_one_answer_is_no_longer_than_the_bound_and_the_next_goes_on(
    store: Store, hub: Hub, hello: Tracked
):
    commit = {"id": "a" * 40, "added": [f"{'x' * 60}/{file}" for file in range(250)]}
    logged(store, hello, 10, payload=push(1, commits=[commit]))
    found, cursor = [], at(store, 0)
    while len(found) < 10:
        messages, cursor = await answer(polling(hub, store, hello, after=cursor), WAIT)
        assert sum(len(json.dumps(each, separators=(",", ":"))) for each in messages) <= BOUND
        assert cursor == at(store, messages[-1]["seq"])
        found += seqs(messages)
    assert found == list(range(1, 11))


async def test_an_event_that_is_longer_than_the_bound_is_an_answer_of_its_own(
    store: Store, hub: Hub, hello: Tracked
):
    commit = {"id": "a" * 40, "added": [f"{'x' * 400}/{file}" for file in range(290)]}
    logged(store, hello, 2, payload=push(1, commits=[commit]))
    for seq in (1, 2):
        messages, cursor = await answer(polling(hub, store, hello, after=seq - 1), WAIT)
        assert (seqs(messages), cursor) == ([seq], at(store, seq))
        assert len(json.dumps(messages)) > BOUND


async def test_a_gap_is_an_answer_with_or_without_events(
    store: Store, hub: Hub, hello: Tracked, clock: Clock
):
    logged(store, hello, 3)
    clock.forward(timedelta(days=20))
    store.run(upkeep.purge, timedelta(days=14))
    messages, cursor = await answer(polling(hub, store, hello, after=1), WAIT)
    (gap,) = messages
    assert (gap["event"], gap["payload"]) == (
        "gap",
        {"reason": "expired", "asked": at(store, 1), "floor": 3, "missed": 2},
    )
    assert cursor == at(store, 3)
    logged(store, hello, 2)
    messages, cursor = await answer(polling(hub, store, hello, after=1), 0)
    assert [each.get("event") for each in messages] == ["gap", "push", "push"]
    assert cursor == at(store, 5)


# What comes.


async def test_it_waits_for_the_first_event_and_answers_with_it(store: Store, hub: Hub, hello: Tracked):
    _, task = await waiting(hub, store, hello, after=0)
    assert not task.done()
    await happen(store, hello)
    messages, cursor = await task
    assert (seqs(messages), cursor) == ([1], at(store, 1))


async def test_what_another_user_gets_ends_no_wait(store: Store, hub: Hub, hello: Tracked):
    eve = store.run(accounts.create, "eve")
    other = store.run(repositories.add, eve.id, "octo/other")
    _, task = await waiting(hub, store, hello, after=0)
    await happen(store, other)
    await happen(store, hello)
    messages, _ = await task
    assert seqs(messages) == [2]


async def test_a_notice_ends_no_wait_and_is_in_no_answer(store: Store, hub: Hub, hello: Tracked):
    poll, task = await waiting(hub, store, hello, after=0)
    poll.told("Done")
    poll.drain(1.0)
    await happen(store, hello)
    messages, _ = await task
    assert [each["type"] for each in messages] == ["github_event"]


async def test_where_nothing_comes_the_answer_is_empty(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 2)
    for seconds in (0, 0.05):
        assert await answer(polling(hub, store, hello, after=2), seconds) == ([], at(store, 2))


# What was not selected.


async def test_the_cursor_covers_what_was_not_selected(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 2)
    logged(store, hello, event="star")
    logged(store, hello, 2)
    messages, cursor = await answer(polling(hub, store, hello, after=0, selection=STARS), WAIT)
    assert (seqs(messages), cursor) == ([3], at(store, 5))


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_an_empty_answer_moves_the_cursor_over_what_was_not_selected(
    store: Store, hub: Hub, hello: Tracked, seconds: float
):
    logged(store, hello, 2 * MAX_BACKLOG)
    told = await answer(polling(hub, store, hello, after=0, selection=STARS), seconds)
    assert told == ([], at(store, 2 * MAX_BACKLOG))


async def test_what_comes_and_was_not_selected_moves_the_cursor_and_ends_no_wait(
    store: Store, hub: Hub, hello: Tracked
):
    poll, task = await waiting(hub, store, hello, after=0, selection=STARS)
    await happen(store, hello)
    await happen(store, hello)
    await eventually(lambda: poll.session.scanned == 2)
    assert not task.done()
    await happen(store, hello, event="star")
    messages, cursor = await task
    assert (seqs(messages), cursor) == ([3], at(store, 3))


# The end.


@pytest.mark.parametrize("code", [lives.FORBIDDEN, lives.RESTARTING])
async def test_closing_ends_it_with_what_there_is(store: Store, hub: Hub, hello: Tracked, code: int):
    logged(store, hello, 2)
    poll, task = await waiting(hub, store, hello, after=2)
    poll.close(code, "")
    assert await task == ([], at(store, 2))
    assert len(hub) == 0


async def test_a_token_that_ends_ends_the_wait(store: Store, hub: Hub, hello: Tracked):
    poll, task = await waiting(hub, store, hello, after=0)
    poll.session._expires = 0.0
    assert await task == ([], at(store, 0))


async def test_nobody_who_waits_is_closed_for_silence_or_pinged(store: Store, hub: Hub, hello: Tracked):
    poll, task = await waiting(hub, store, hello, after=0)
    for second in range(0, 3000, 5):
        poll.tick(poll.session._ticked + 5, poll.session._expiry - timedelta(seconds=second))
    assert not task.done()
    await happen(store, hello)
    assert seqs((await task)[0]) == [1]


async def test_for_who_has_gone_nothing_more_is_read(store: Store, hub: Hub, hello: Tracked):
    logged(store, hello, 15 * MAX_BACKLOG)
    poll = polling(hub, store, hello, after=0, selection=STARS)
    task = asyncio.ensure_future(answer(poll, WAIT))
    await eventually(lambda: poll.session.scanned > 0)
    reached = poll.session.scanned
    task.cancel()
    await asyncio.wait([task])
    assert await answer(polling(hub, store, hello, after=15 * MAX_BACKLOG - 1), WAIT)
    assert poll.session.scanned <= reached + MAX_BACKLOG


async def test_what_comes_after_the_answer_was_made_is_in_the_next(store: Store, hub: Hub, hello: Tracked):
    poll, task = await waiting(hub, store, hello, after=0)
    await asyncio.gather(*(happen(store, hello) for _ in range(20)))
    messages, cursor = await task
    assert cursor == at(store, messages[-1]["seq"])
    assert poll.session.scanned == messages[-1]["seq"]
    rest, _ = (
        await answer(polling(hub, store, hello, after=cursor), 0) if len(messages) < 20 else ([], cursor)
    )
    assert seqs(messages) + seqs(rest) == list(range(1, 21))
