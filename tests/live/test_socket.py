import asyncio
import contextlib
import json
import socket as sockets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from actors import WAIT, Bare, logged, push
from conftest import Server, eventually, inside
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from cotexd.live.session import BAD_MESSAGE, BOUND, FORBIDDEN
from cotexd.live.socket import MAX_MESSAGE, Socket, frame
from cotexd.operations import accounts, events
from cotexd.operations.accounts import Account
from cotexd.store.models import Device

PONG = b'{"type":"client_event","event":"pong"}'


@pytest.fixture
def database() -> str:
    """SQLite: bytes on a socket do not depend on the database."""
    return ""


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def mistakes() -> Iterator[list[dict[str, Any]]]:
    """What the event loop was told of that nobody has caught; there must be nothing."""
    loop, found = asyncio.get_event_loop_policy().get_event_loop(), []
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(None)
    assert found == []


def bare(server: Server, user: Account, query: str = "?v=2") -> Bare:
    return Bare(server.url, server.token(user), query)


def attached() -> list[Socket]:
    """The sockets as the server holds them."""
    return inside().hub._all()


async def answers(client: Bare) -> None:
    """The connection lives."""
    client.send(Opcode.PING, b"are you there")
    assert await client.receive(Opcode.PONG) == b"are you there"


async def ended(client: Bare) -> None:
    """The server lets go of the connection; what it says before is passed over."""
    with pytest.raises((EOFError, ConnectionError)):
        await client.receive(Opcode.CONT)


def cursors(server: Server) -> dict[str, int]:
    rows = server.store.look(lambda _: list(Device.select().where(Device.kind == "device")))
    return {row.name: row.cursor for row in rows}


def acknowledging(seq: int) -> bytes:
    return b'{"type":"client_event","event":"ack","seq":%d}' % seq


# Frames out.


@pytest.mark.parametrize(
    ("opcode", "size"),
    [(Opcode.PING, 0), (Opcode.PING, 125), *((Opcode.TEXT, size) for size in (0, 125, 126, 65535, 65536))],
)
def test_a_frame_is_that_of_rfc_6455(opcode: Opcode, size: int):
    payload = b"x" * size
    written = frame(opcode, payload)
    assert written == Frame(opcode, payload).serialize(mask=False)
    reader = StreamReader()
    reader.feed_data(written)
    with pytest.raises(StopIteration) as read:
        next(Frame.parse(reader.read_exact, mask=False))
    assert (read.value.value.opcode, read.value.value.data) == (opcode, payload)


# Frames in.


async def test_a_ping_is_answered_with_its_own_payload(server: Server, ada: Account):
    async with bare(server, ada).connected() as client:
        for payload in (b"", b"x", b"\x00\xff" * 62, b"z" * 125):
            client.send(Opcode.PING, payload)
            assert await client.receive(Opcode.PONG) == payload


async def test_a_message_may_come_in_fragments_with_a_ping_between_them(server: Server, ada: Account):
    repo = server.track(ada)
    async with bare(server, ada, "?v=2&device=laptop").connected() as client:
        await client.receive()
        for seq in logged(server.store, repo, 3):
            while json.loads(await client.receive()).get("seq") != seq:
                pass
        ack = acknowledging(2)
        client.send(Opcode.TEXT, ack[:9], fin=False)
        client.send(Opcode.CONT, b"", fin=False)
        client.send(Opcode.PING, b"between")
        client.send(Opcode.CONT, ack[9:20], fin=False)
        assert await client.receive(Opcode.PONG) == b"between"
        client.send(Opcode.CONT, ack[20:])
        await eventually(lambda: cursors(server) == {"laptop": 2})


async def test_a_message_may_come_byte_by_byte(server: Server, ada: Account):
    async with bare(server, ada).connected() as client:
        for byte in Frame(Opcode.PING, b"slowly").serialize(mask=True):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.receive(Opcode.PONG) == b"slowly"


async def test_the_longest_message_is_taken(server: Server, ada: Account):
    async with bare(server, ada).connected() as client:
        client.send(Opcode.TEXT, PONG.ljust(MAX_MESSAGE))
        client.send(Opcode.TEXT, PONG, fin=False)
        client.send(Opcode.CONT, b" " * (MAX_MESSAGE - len(PONG)))
        await answers(client)


def sent(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=True)


LONG = b"x" * (MAX_MESSAGE + 1)
WRONG: dict[str, tuple[bytes, int]] = {
    "too long": (sent(Opcode.TEXT, LONG), CloseCode.MESSAGE_TOO_BIG),
    "said to be too long": (b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"mask", CloseCode.MESSAGE_TOO_BIG),
    "too long in fragments": (
        sent(Opcode.TEXT, LONG[:9], fin=False) + sent(Opcode.CONT, LONG[9:]),
        CloseCode.MESSAGE_TOO_BIG,
    ),
    "not masked": (Frame(Opcode.TEXT, PONG).serialize(mask=False), CloseCode.PROTOCOL_ERROR),
    "a reserved bit": (b"\xc1\x80mask", CloseCode.PROTOCOL_ERROR),
    "an unknown opcode": (b"\x83\x80mask", CloseCode.PROTOCOL_ERROR),
    "a long ping": (b"\x89\xfe\x00\x80mask" + b"x" * 128, CloseCode.PROTOCOL_ERROR),
    "a ping in fragments": (b"\x09\x80mask", CloseCode.PROTOCOL_ERROR),
    "the end of nothing": (sent(Opcode.CONT, b"x"), CloseCode.PROTOCOL_ERROR),
    "a second beginning": (
        sent(Opcode.TEXT, b"{", fin=False) + sent(Opcode.TEXT, PONG),
        CloseCode.PROTOCOL_ERROR,
    ),
    "a close with half a code": (sent(Opcode.CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
    "a close with a code that is none": (sent(Opcode.CLOSE, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),
    "a close with a reason that is no text": (sent(Opcode.CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_DATA),
    "no JSON": (sent(Opcode.TEXT, b"\xff"), BAD_MESSAGE),
    "no text": (sent(Opcode.BINARY, PONG), BAD_MESSAGE),
    "a close": (sent(Opcode.CLOSE, b"\x03\xe8bye"), CloseCode.NORMAL_CLOSURE),
    "a close in two words": (sent(Opcode.CLOSE), CloseCode.NO_STATUS_RCVD),
}


@pytest.mark.usefixtures("mistakes")
async def test_wrong_bytes_are_closed_by_name_and_disturb_nobody_else(server: Server, ada: Account):
    told = {}
    async with bare(server, ada).connected() as other:
        for kind, (data, _) in WRONG.items():
            async with bare(server, ada).connected() as client:
                client.writer.write(data)
                code = await client.receive(Opcode.CLOSE)
                told[kind] = int.from_bytes(code[:2]) if code else CloseCode.NO_STATUS_RCVD
                client.send(Opcode.CLOSE, code)
                await ended(client)
            await answers(other)
    assert told == {kind: code for kind, (_, code) in WRONG.items()}
    await eventually(lambda: len(inside().hub) == 0)


async def test_who_is_cut_off_in_the_middle_of_a_message_can_read_why(server: Server, ada: Account):
    message = sent(Opcode.TEXT, b"x" * 20 * MAX_MESSAGE)
    async with bare(server, ada).connected() as client:
        (socket,) = attached()
        client.writer.transport.pause_reading()
        client.writer.write(message)
        await eventually(lambda: socket.closing)
        client.writer.transport.resume_reading()
        await eventually(lambda: client._reader._eof or client._reader.exception())
        assert await client.closed() == CloseCode.MESSAGE_TOO_BIG
        await ended(client)


async def test_a_legacy_client_is_closed_for_broken_frames_only(server: Server, ada: Account):
    async with bare(server, ada, "").connected() as client:
        for message in (b"", b"\xff", b"[" * 60_000, b'{"type":"client_event","target_user_id":"x"}'):
            client.send(Opcode.TEXT, message)
            client.send(Opcode.BINARY, message)
        await answers(client)
        client.send(Opcode.TEXT, LONG)
        assert await client.closed() == CloseCode.MESSAGE_TOO_BIG


# The end.


async def test_a_client_that_closes_is_answered_and_then_let_go(server: Server, ada: Account):
    async with bare(server, ada).connected() as client:
        client.send(Opcode.CLOSE, b"\x03\xe8")
        assert await client.closed() == CloseCode.NORMAL_CLOSURE
        await ended(client)
        await eventually(lambda: len(inside().hub) == 0)


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_a_client_that_is_gone_without_a_word_is_forgotten(server: Server, ada: Account, how: str):
    async with bare(server, ada).connected() as client:
        assert len(inside().hub) == 1
        if how == "eof":
            client.writer.write_eof()
        else:
            client.writer.transport.abort()
        await eventually(lambda: len(inside().hub) == 0)


async def test_a_client_that_does_not_answer_a_close_is_let_go_all_the_same(server: Server, ada: Account):
    async with bare(server, ada).connected() as client:
        server.store.run(accounts.disable, "ada")
        assert await client.closed() == FORBIDDEN
        await ended(client)
        await eventually(lambda: len(inside().hub) == 0)


async def test_what_comes_after_a_close_is_not_heard(server: Server, ada: Account):
    repo = server.track(ada)
    async with bare(server, ada, "?v=2&device=laptop").connected() as client:
        for seq in logged(server.store, repo, 2):
            while json.loads(await client.receive()).get("seq") != seq:
                pass
        client.writer.write(sent(Opcode.TEXT, b"no") + sent(Opcode.TEXT, acknowledging(2)))
        assert await client.closed() == BAD_MESSAGE
        await ended(client)
    assert cursors(server) == {"laptop": 0}


# Slow readers.


def big(number: int) -> dict[str, Any]:
    """A push whose summary has about 40 KB."""
    commit = {"id": f"{number:040x}", "added": [f"{number}/{'x' * 60}/{file}" for file in range(300)]}
    return push(number, commits=[commit])


async def test_a_reader_that_stops_costs_a_bounded_buffer_and_gets_everything_when_it_reads_again(
    server: Server, ada: Account
):
    repo, quick = server.track(ada), server.client(ada)
    hub, sizes = inside().hub, []
    async with bare(server, ada).connected() as client:
        (slow,) = attached()
        narrow(slow)
        async with quick.connected() as socket:
            while slow.session.live or len(sizes) < 5 or max(sizes) == 0:
                seqs = logged(server.store, repo, 10, payload=big(len(sizes)))
                await eventually(lambda upto=seqs[-1]: hub.head == upto)
                sizes.append(slow.waiting)
                await quick.until_applied(socket, seqs[-1])
        head = hub.head
        got: list[int] = []
        while len(got) < head:
            message = json.loads(await client.receive())
            if message["type"] == "github_event":
                assert message["prev"] == (got[-1] if got else 0)
                got.append(message["seq"])
        assert got == quick.seqs == list(range(1, head + 1))
        await eventually(lambda: slow.session.live)
        await server.github.deliver(repo)
        while json.loads(await client.receive()).get("seq") != head + 1:
            pass
    assert 0 < max(sizes) <= BOUND + 1024, "more than the bound, and the heads of its frames"


def narrow(socket: Socket) -> None:
    """Let the kernel keep little of what this client does not read."""
    transport: Any = socket._transport
    transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 32 * 1024)


async def test_a_backlog_is_read_as_its_reader_takes_it(server: Server, ada: Account):
    repo = server.track(ada)
    logged(server.store, repo, 300, payload=big(1))
    epoch = server.store.look(events.log).epoch
    async with bare(server, ada, f"?v=2&cursor={epoch}.0").connected() as client:
        (slow,) = attached()
        narrow(slow)
        await eventually(lambda: slow.waiting > 0)
        assert slow.waiting <= BOUND + 1024
        assert slow.session.sent < 300, "all of it is in buffers"
        got = []
        while len(got) < 300:
            message = json.loads(await client.receive())
            if message["type"] == "github_event":
                got.append(message["seq"])
        assert got == list(range(1, 301))


async def test_a_client_that_asks_on_and_on_and_does_not_read_is_let_go(server: Server, ada: Account):
    pings = sent(Opcode.PING, b"x" * 125) * 1000

    async def ask(client: Bare) -> None:
        while True:
            client.writer.write(pings)
            await asyncio.wait_for(client.writer.drain(), WAIT)

    async with bare(server, ada).connected() as client:
        (slow,) = attached()
        narrow(slow)
        async with bare(server, ada).connected() as other:
            with pytest.raises(ConnectionError):
                await ask(client)
            await eventually(lambda: len(inside().hub) == 1)
            await answers(other)


# Any bytes at all.

FRAMES = st.builds(
    lambda first, payload, masked: Frame(first, payload).serialize(mask=masked),
    st.sampled_from(list(Opcode)),
    st.one_of(
        st.binary(max_size=130),
        st.sampled_from([PONG, acknowledging(0), acknowledging(9), b"\x03\xe8", b'{"type":"client_event"}']),
    ),
    st.booleans() | st.just(value=True),
)
PIECES = st.lists(FRAMES | st.binary(max_size=40), max_size=8)


@pytest.fixture
async def witness(server: Server) -> AsyncIterator[Bare]:
    async with bare(server, server.user("eve")).connected() as client:
        yield client


@pytest.mark.usefixtures("mistakes")
@pytest.mark.parametrize("query", ["?v=2&device=laptop", ""])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(early=PIECES, late=PIECES, cut=st.integers(0, 12))
@example(early=[b"\x81"], late=[b"\xff"], cut=0)
@example(early=[], late=[b"\x88\x80mask", b"\x81\x80mask"], cut=0)
async def test_no_bytes_end_the_server_or_the_session_of_another(
    server: Server,
    ada: Account,
    witness: Bare,
    query: str,
    early: list[bytes],
    late: list[bytes],
    cut: int,
):
    async with bare(server, ada, query).connected(more=b"".join(early)) as client:
        with contextlib.suppress(OSError):  # the server may have let go already
            client.writer.write(b"".join(late)[cut:])
            client.writer.write_eof()
        await ended(client)
    await answers(witness)
    await eventually(lambda: [socket.session.live for socket in attached()] == [True])


# What is in the middle of nothing has no parser of its own.


def masked(message: bytes) -> bytes:
    return Frame(Opcode.TEXT, message).serialize(mask=True)


async def test_an_open_socket_that_waits_keeps_no_parser(server: Server, ada: Account):
    async with bare(server, ada).connected() as client:
        await answers(client)
        assert [each._protocol for each in attached()] == [None]
        client.send(Opcode.TEXT, PONG[:5], fin=False)
        await answers(client)
        assert [each._protocol is None for each in attached()] == [False], "in the middle of a message"
        client.send(Opcode.CONT, PONG[5:])
        await answers(client)
        assert [each._protocol for each in attached()] == [None]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(order=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), max_size=40))
async def test_clients_whose_pieces_come_mixed_are_each_heard_for_themselves(
    server: Server, ada: Account, order: list[tuple[int, int]]
):
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(bare(server, ada).connected()) for _ in range(3)]
        ahead = [
            b"".join(masked(b'{"type":"client_event","event":"%d of %d"}' % (n, who)) for n in range(3))
            for who in range(3)
        ]
        for who, size in [*order, *((who, 10_000) for who in range(3))]:
            piece, ahead[who] = ahead[who][:size], ahead[who][size:]
            clients[who].writer.write(piece)
            await asyncio.sleep(0)
        for who, client in enumerate(clients):
            heard = []
            while len(heard) < 3:
                message = json.loads(await client.receive())
                if message["type"] == "error":
                    heard.append(message["payload"])
            assert heard == [f"There is no client event '{n} of {who}'." for n in range(3)]
        assert [each._protocol for each in attached()] == [None] * 3
