"""When each connection is looked at: all every few seconds, and twice a second those with something to do soon.

So none needs a timer, and one that waits in peace costs nearly nothing.
"""

import itertools
from collections.abc import Iterator
from datetime import datetime

from cotexd.live.connection import Connection

TICK = 0.1
"""seconds between two turns"""
PARTS = 50
"""one of which is looked at whole in a turn"""
SOON_PARTS = 5
"""in whose turns those are looked at that have something to do soon"""
SOON = 2 * PARTS * TICK
"""seconds; everybody is looked at more often than that"""


class _Part:
    __slots__ = ("all", "soon")

    def __init__(self) -> None:
        self.all: set[Connection] = set()
        self.soon: set[Connection] = set()


class Wheel:
    def __init__(self) -> None:
        self._parts = [_Part() for _ in range(PARTS)]
        self._turns = itertools.cycle(range(PARTS))
        self._places = itertools.cycle(range(PARTS))

    def __len__(self) -> int:
        return sum(len(part.all) for part in self._parts)

    def __iter__(self) -> Iterator[Connection]:
        """Those of this moment, whoever comes or goes meanwhile."""
        return iter([each for part in self._parts for each in part.all])

    def add(self, connection: Connection) -> None:
        connection.part = next(self._places)
        part = self._parts[connection.part]
        part.all.add(connection)
        part.soon.add(connection)

    def discard(self, connection: Connection) -> None:
        part = self._parts[connection.part]
        part.all.discard(connection)
        part.soon.discard(connection)

    def wake(self, connection: Connection) -> None:
        """It has something to do: look at it in the next half second, and as long as that lasts."""
        part = self._parts[connection.part]
        if connection in part.all:
            part.soon.add(connection)

    def turn(self, now: float, moment: datetime) -> None:
        """To be called every TICK seconds."""
        turn = next(self._turns)
        part = self._parts[turn]
        part.soon.update([each for each in part.all if not each.session.rests(now + SOON)])
        for part in self._parts[turn % SOON_PARTS :: SOON_PARTS]:
            for each in tuple(part.soon):
                each.tick(now, moment)
                if each.session.rests(now + SOON):
                    part.soon.discard(each)
