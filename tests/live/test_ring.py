import errno
import os
import socket
from collections.abc import Iterator

import pytest

from cotexd.live import ring as rings
from cotexd.live.ring import ENTRIES, ROOM, Ring

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [socket.socketpair() for _ in range(20)]
    for each in (one for pair in made for one in pair):
        each.setblocking(False)
    yield made
    for each in (one for pair in made for one in pair):
        each.close()


def slots(ring: Ring, pairs: list[Pair]) -> list[int]:
    found = [ring.register(ours.fileno()) for ours, _ in pairs]
    assert None not in found
    return [slot for slot in found if slot is not None]


def received(theirs: socket.socket) -> bytes:
    """All that is there."""
    parts = []
    try:
        while part := theirs.recv(1 << 20):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def fill(ours: socket.socket) -> int:
    size = 0
    try:
        while True:
            size += ours.send(b"f" * 1000)
    except BlockingIOError:
        return size


def test_all_get_all_of_it_in_the_order_in_which_it_was_sent(ring: Ring, pairs: list[Pair]):
    requests = ring.requests(slots(ring, pairs))
    sent = [bytes([number]) * (number * 7 + 1) for number in range(60)]
    assert [ring.send(requests, data) for data in sent] == [[]] * 60
    assert [received(theirs) for _, theirs in pairs] == [b"".join(sent)] * 20


def test_more_than_go_into_one_call_get_it_once_each(ring: Ring, pairs: list[Pair]):
    """The same few sockets again and again: each gets it as often as it is named."""
    times = 3 * ENTRIES // len(pairs) + 1
    requests = ring.requests(slots(ring, pairs) * times)
    assert ring.send(requests, b"x") == []
    assert [len(received(theirs)) for _, theirs in pairs] == [times] * 20


def test_who_does_not_take_all_of_it_is_named_with_how_much_it_took(ring: Ring, pairs: list[Pair]):
    requests = ring.requests(slots(ring, pairs))
    full = fill(pairs[3][0])
    pairs[5][1].close()
    ((first, none), (gone, nothing)) = ring.send(requests, b"y" * ROOM)
    assert (first, none, gone, nothing) == (3, 0, 5, 0)
    assert len(received(pairs[3][1])) == full
    assert received(pairs[4][1]) == b"y" * ROOM


def test_what_is_taken_in_part_is_the_beginning_of_it(ring: Ring):
    server = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(server.getsockname())
    ours, _ = server.accept()
    ours.setblocking(False)
    requests = ring.requests([slots(ring, [(ours, theirs)])[0]])
    data, taken, short = os.urandom(ROOM), 0, []
    while not short:
        short = ring.send(requests, data)
        taken += short[0][1] if short else ROOM
    theirs.settimeout(5)
    found = b""
    while len(found) < taken:
        found += theirs.recv(1 << 20)
    times, rest = divmod(taken, ROOM)
    assert found == data * times + data[:rest]
    for each in (server, theirs, ours):
        each.close()


def test_a_slot_is_its_socket_though_the_descriptor_is_anothers_by_now(ring: Ring, pairs: list[Pair]):
    """Nobody gets what is somebody else's."""
    (ours, theirs), (other, others) = pairs[:2]
    (slot,) = slots(ring, [(ours, theirs)])
    requests = ring.requests([slot])
    os.dup2(other.fileno(), ours.fileno())
    assert ring.send(requests, b"for the first") == []
    assert (received(theirs), received(others)) == (b"for the first", b"")


def test_a_connection_ends_when_its_slot_was_given_back_too(ring: Ring, pairs: list[Pair]):
    ours, theirs = pairs[0]
    (slot,) = slots(ring, [pairs[0]])
    ours.close()
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    ring.give_back(slot)
    assert theirs.recv(1) == b""


def test_a_slot_that_was_given_back_is_anothers(
    ring: Ring, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
):
    ring._most = 2
    first, second = slots(ring, pairs[:2])
    assert ring.register(pairs[2][0].fileno()) is None
    ring.give_back(first)
    assert ring.register(pairs[2][0].fileno()) == first
    assert ring.send(ring.requests([first, second]), b"z") == []
    assert [received(theirs) for _, theirs in pairs[:3]] == [b"", b"z", b"z"]


def test_what_the_kernel_does_not_take_has_no_slot_and_takes_none(ring: Ring, pairs: list[Pair]):
    assert ring.register(10**6) is None
    (first,) = slots(ring, pairs[:1])
    assert first == 0


def test_once_it_is_closed_nothing_is_sent_or_registered_and_that_is_said(pairs: list[Pair]):
    try:
        closed = Ring()
    except OSError as error:
        pytest.skip(f"NO IO_URING HERE ({error}): nothing of it is tried.")
    (slot,) = slots(closed, pairs[:1])
    requests = closed.requests([slot])
    closed.close()
    assert closed.send(requests, b"late") == [(0, 0)]
    assert closed.register(pairs[1][0].fileno()) is None
    closed.give_back(slot)
    assert received(pairs[0][1]) == b""


def test_where_the_kernel_has_none_that_is_an_error_with_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rings, "_SETUP", 10_000)
    with pytest.raises(OSError, match="not implemented") as refused:
        Ring()
    assert refused.value.errno == errno.ENOSYS
    assert rings.opened() is None
