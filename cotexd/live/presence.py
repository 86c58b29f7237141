"""Who is connected, told to the database for people who look: on coming, on going, and every few seconds.

It promises nothing and decides nothing; a server that is killed leaves rows behind, which nobody believes once its
own row has grown old.
"""

import asyncio

import structlog

from cotexd.errors import Unavailable
from cotexd.live.connection import Connection
from cotexd.operations import presence
from cotexd.operations.presence import Present
from cotexd.store import Store

SOON = 0.1
"""seconds for which comings and goings are collected into one write"""
EVERY = 5.0
"""seconds between two looks at how far everybody is"""

_logger = structlog.get_logger("cotexd.presence")


class Presence:
    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self._node_id = node_id
        self._here: dict[str, Connection] = {}
        self._told: dict[str, Present | None] = {}
        """what the database knows; None is what it may know, since nobody heard how a write ended"""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def came(self, connection: Connection) -> None:
        if connection.about.protocol != "poll":  # gone before anybody looks
            self._here[connection.about.id] = connection
            self._news.set()

    def went(self, connection: Connection) -> None:
        if self._here.pop(connection.about.id, None) is not None:
            self._news.set()

    async def close(self) -> None:
        """Nobody is here any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._here.clear()
        await self._tell()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._news.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(SOON)
            self._news.clear()
            await self._tell()

    async def _tell(self) -> None:
        now = {name: _present(each) for name, each in self._here.items()}
        changed = [each for name, each in now.items() if self._told.get(name) != each]
        gone = [name for name in self._told if name not in now]
        if not changed and not gone:
            return
        self._told |= dict.fromkeys(each.id for each in changed)
        try:
            for some in presence.portions(changed, gone):
                await self._store.write(presence.note, self._node_id, *some)
        except Unavailable as error:
            _logger.warning("presence_untold", error=error.message)
        else:
            self._told = {**now}


def _present(connection: Connection) -> Present:
    session, about = connection.session, connection.about
    return Present(
        id=about.id,
        user_id=session.user_id,
        protocol=about.protocol,
        device=about.device,
        address=about.address,
        sent=session.sent,
        live=session.live,
        buffer=connection.waiting,
        connected_at=about.connected_at,
    )
