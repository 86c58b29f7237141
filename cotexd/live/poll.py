"""A session as a long poll: it collects what there is, and ends with the first that comes after."""

import asyncio
from collections.abc import Sequence

from cotexd.live.connection import About, Connection, Registry
from cotexd.live.news import News, Send
from cotexd.live.session import Ping, Session
from cotexd.operations.events import Backlog

LOOK = 10.0
"""seconds in which the log must be read, however short the wait: where the database is away, there is nothing"""


class Poll(Connection):
    """Its reader takes everything at the end, so that up to then all of it waits: one answer is bounded as a socket's
    buffer is.
    """

    __slots__ = ("_collected", "_done", "_looked", "_size")

    def __init__(self, session: Session, hub: Registry, about: About) -> None:
        super().__init__(session, hub, about)
        self._collected: list[bytes] = []
        self._size = 0
        self._looked = asyncio.Event()
        self._done = asyncio.Event()

    async def messages(self, seconds: float, after: int) -> tuple[list[bytes], str]:
        """Begin, and wait for something to tell; the messages, and the cursor of a client that has them.

        :param seconds: of waiting, once all that there is already was looked at
        :param after: the seq that the client asked to go on from
        """
        _, *effects = self.session.begin()  # the greeting is for those who stay
        if not any(isinstance(each, Send) for each in effects):
            # No gap: what comes first follows what the client has, though the log's floor may lie between.
            self.session.place.sent = after
        self._do(effects)
        try:
            async with asyncio.timeout(LOOK):
                await self._looked.wait()
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            pass
        finally:
            self._end()
        return self._collected, f"{self.session.epoch}.{self.session.scanned}"

    @property
    def waiting(self) -> int:
        return self._size

    @property
    def closing(self) -> bool:
        return self._done.is_set()

    def publish(self, news: News) -> None:
        super().publish(news)
        self._end_if_told()

    def backlog(self, part: Backlog, published: int) -> None:
        super().backlog(part, published)
        self._end_if_told()

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002  # it has no codes: the next request is told
        self._end()

    def _write(self, messages: Sequence[Send | Ping]) -> None:
        for each in messages:
            # What moves no cursor is of this connection alone, which ends.
            if isinstance(each, Send) and each.seq is not None:
                self._collected.append(each.message)
                self._size += len(each.message)

    def _end_if_told(self) -> None:
        if self.session.live:
            self._looked.set()
        if self._collected:
            self._end()

    def _end(self) -> None:
        self._looked.set()
        self._done.set()
