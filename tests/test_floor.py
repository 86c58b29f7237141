"""What a client is told when the retention takes events that it has not got, or that were never its."""

import asyncio
from datetime import timedelta

from actors import logged, push
from conftest import Server, eventually, inside

from cotexd.operations import events, upkeep
from cotexd.store import Store

FILES = [f"src/some/folder/with/a/long/name/file-{number}.txt" for number in range(290)]
MANY = 300
"""events of some 30 KB: more than all buffers between a server and a client take"""


def purge(store: Store) -> None:
    while store.run(upkeep.purge, timedelta(0)):
        pass


async def test_a_long_poll_from_below_the_floor_goes_on_from_its_own_cursor_where_nothing_of_its_is_gone(
    server: Server,
):
    ada, eve = server.user("ada"), server.user("eve")
    hers, others = server.track(ada), server.track(eve, "octo/other")
    epoch = server.store.look(events.log).epoch
    logged(server.store, hers)
    logged(server.store, others, 2)
    purge(server.store)
    logged(server.store, hers)
    answer = await server.get(f"/api/events?after={epoch}.1&wait=5", ada)
    (message,) = answer.json()["messages"]
    assert (message["seq"], message["prev"]) == (4, 1)


async def test_a_connected_client_whose_backlog_is_purged_is_told_exactly_what_it_missed(server: Server):
    ada = server.user("ada")
    repo = server.track(ada)
    client = server.client(ada)
    big = push()
    big["commits"][0]["added"] = FILES
    async with client.connected(max_queue=1) as socket:
        await client.until_live(socket)
        for _ in range(MANY // 100):
            await asyncio.to_thread(logged, server.store, repo, 100, payload=big)
        await eventually(lambda: inside().hub.head == MANY and not behind()[0].session.live)
        await asyncio.to_thread(purge, server.store)
        logged(server.store, repo)
        await client.until(socket, lambda message: message.get("seq") == MANY + 1)
    # Batch by batch, as the purge came.
    assert client.gaps
    assert {gap["reason"] for gap in client.gaps} == {"expired"}
    assert client.gaps[-1]["floor"] == MANY
    had = client.seqs[:-1]
    assert had == sorted(set(had))
    assert len(had) + sum(gap["missed"] for gap in client.gaps) == MANY


def behind() -> list:
    return inside().hub._all()
