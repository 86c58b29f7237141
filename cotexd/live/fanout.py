"""The same bytes to many transports, none of which has anything waiting: a write each, or one call for all of them."""

import asyncio
from collections.abc import Iterator
from operator import methodcaller

from cotexd.live.connection import Connection
from cotexd.live.ring import ROOM, Requests, Ring

FEW = 16
"""transports, for which one call for all of them gains nothing"""
_WAITING = methodcaller("get_write_buffer_size")


class Fanout:
    """:param ring: None where the kernel has none"""

    __slots__ = ("_requests", "_ring", "_slots", "_transports")

    def __init__(self, ring: Ring | None) -> None:
        self._ring = ring
        self._transports: dict[Connection, asyncio.WriteTransport] = {}
        self._slots: dict[Connection, int] = {}
        self._requests: Requests | None = None

    def __len__(self) -> int:
        return len(self._transports)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._transports))

    def add(self, connection: Connection, transport: asyncio.WriteTransport) -> None:
        self._transports[connection] = transport
        self._requests = None

    def discard(self, connection: Connection) -> bool:
        """Whether it was there. A connection that is lost is taken out before its descriptor is anybody else's."""
        if self._transports.pop(connection, None) is None:
            return False
        self._requests = None
        slot = self._slots.pop(connection, None)
        if slot is not None and self._ring is not None:
            self._ring.give_back(slot)
        return True

    def write(self, data: bytes) -> None:
        transports = tuple(self._transports.values())
        requests = self._laid_out() if len(transports) >= FEW and len(data) <= ROOM else None
        # Past a transport in which something waits, this would arrive before that.
        if requests is None or self._ring is None or any(map(_WAITING, transports)):
            for transport in transports:
                transport.write(data)
            return
        for place, sent in self._ring.send(requests, data):
            # The transport waits for its socket with the rest, or finds out what is wrong with it.
            transports[place].write(data[sent:])

    def _laid_out(self) -> Requests | None:
        """None where not every transport is a socket that can be registered: TLS is none."""
        if self._requests is None and self._ring is not None:
            for connection, transport in self._transports.items():
                if connection not in self._slots and not self._register(self._ring, connection, transport):
                    return None
            self._requests = self._ring.requests([self._slots[each] for each in self._transports])
        return self._requests

    def _register(self, ring: Ring, connection: Connection, transport: asyncio.WriteTransport) -> bool:
        socket = transport.get_extra_info("socket")
        if socket is None or transport.get_extra_info("sslcontext") is not None or transport.is_closing():
            return False
        slot = ring.register(socket.fileno())
        if slot is not None:
            self._slots[connection] = slot
        return slot is not None
