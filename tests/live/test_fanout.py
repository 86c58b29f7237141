import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from actors import WAIT, push
from conftest import Server, eventually, inside
from lines import Line

from cotexd.live.fanout import FEW, Fanout
from cotexd.live.ring import ROOM, Ring
from cotexd.operations.accounts import Account

MANY = FEW + 4


class Peer:
    """A transport, and the other end of its socket. To a Fanout it is its own connection."""

    def __init__(self, transport: asyncio.Transport, theirs: socket.socket) -> None:
        self.transport = transport
        self._theirs = theirs

    async def receives(self, size: int) -> bytes:
        loop, found = asyncio.get_running_loop(), b""
        async with asyncio.timeout(WAIT):
            while len(found) < size:
                found += await loop.sock_recv(self._theirs, 1 << 20)
        return found


@pytest.fixture
async def peers() -> AsyncIterator[list[Peer]]:
    made = []
    for _ in range(MANY):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        transport.set_write_buffer_limits(high=0, low=0)
        made.append(Peer(transport, theirs))
    yield made
    for each in made:
        each.transport.abort()
        each._theirs.close()


def fanned(ring: Ring | None, peers: list[Peer]) -> Fanout:
    fanout = Fanout(ring)
    for each in peers:
        fanout.add(each, each.transport)  # type: ignore[arg-type]
    return fanout


@pytest.fixture(params=["by one call", "by a write each"])
def way(request: pytest.FixtureRequest, ring: Ring) -> Ring | None:
    return ring if request.param == "by one call" else None


async def test_all_get_the_same_bytes_in_their_order(way: Ring | None, peers: list[Peer]):
    fanout = fanned(way, peers)
    sent = [bytes([number]) * 1000 for number in range(9)]
    for data in sent:
        fanout.write(data)
    assert len(fanout._slots) == (MANY if way else 0)
    for each in peers:
        assert await each.receives(9000) == b"".join(sent)


async def test_who_takes_a_part_gets_the_rest_later_and_nothing_overtakes_it(
    way: Ring | None, peers: list[Peer]
):
    fanout = fanned(way, peers)
    sent = [bytes([number]) * ROOM for number in range(40)]
    for data in sent:
        fanout.write(data)
    assert all(each.transport.get_write_buffer_size() for each in peers)
    for each in peers:
        assert await each.receives(40 * ROOM) == b"".join(sent)


async def test_what_is_longer_than_there_is_room_for_is_written(ring: Ring, peers: list[Peer]):
    fanned(ring, peers).write(b"l" * (ROOM + 1))
    for each in peers:
        assert await each.receives(ROOM + 1) == b"l" * (ROOM + 1)


async def test_who_was_taken_out_gets_nothing_more_and_gives_its_place_back(ring: Ring, peers: list[Peer]):
    fanout = fanned(ring, peers)
    fanout.write(b"1")
    assert fanout.discard(peers[0])  # type: ignore[arg-type]
    assert not fanout.discard(peers[0])  # type: ignore[arg-type]
    fanout.write(b"2")
    peers[0].transport.write(b"end")
    assert await peers[0].receives(4) == b"1end"
    assert await peers[1].receives(2) == b"12"
    assert len(ring._free) == 1


async def test_one_that_is_lost_is_found_out_by_its_transport(ring: Ring, peers: list[Peer]):
    lost = asyncio.Event()

    class Losing(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            lost.set()

    peers[2].transport.set_protocol(Losing())
    peers[2].transport.pause_reading()
    fanout = fanned(ring, peers)
    peers[2]._theirs.close()
    fanout.write(b"x")
    await asyncio.wait_for(lost.wait(), WAIT)
    assert await peers[3].receives(1) == b"x"


async def test_transports_that_are_no_sockets_are_written_to(ring: Ring):
    lines = [Line() for _ in range(MANY)]
    fanout = Fanout(ring)
    for each in lines:
        fanout.add(each, each)  # type: ignore[arg-type]
    fanout.write(b"x")
    assert [bytes(each.taken) for each in lines] == [b"x"] * MANY


async def test_many_clients_of_a_user_get_each_event_once_and_in_order_whoever_is_slow(
    server: Server, ada: Account
):
    repo = server.track(ada)
    clients = [server.client(ada) for _ in range(MANY)]
    large = push(commits=[{"id": "0" * 40, "added": [f"{'x' * 90}/{number}" for number in range(300)]}])
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(each.connected(max_queue=1)) for each in clients]
        for each, open_ in zip(clients, sockets, strict=True):
            await each.until_live(open_)
        for number in range(1, 120):
            assert (await server.github.deliver(repo, large if number % 2 else push())).status_code == 200
            for each, open_ in zip(clients[1:], sockets[1:], strict=True):
                await each.until_applied(open_, number)
        await clients[0].until_applied(sockets[0], 119)
    assert [each.seqs for each in clients] == [list(range(1, 120))] * MANY
    await eventually(lambda: not len(inside().hub))
