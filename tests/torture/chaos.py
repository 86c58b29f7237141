"""The chaos hand. What it does, in which order and to whom is decided by the seed; when, by how far the sender is."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from .clients import Client
from .faulty import Faults
from .server import Broken
from .world import World, until

EVENTS_AN_ACT = 250
MANY = (12, 400)
"""acts, at least, and at most"""
SPELL = (0.3, 1.5)
"""seconds for which something is held up or broken"""
AWAY = 0.15
"""of the clients, those that are away while the retention takes what they have missed"""
LEFT = 40
"""of the newest events, those that a purge leaves"""


ACTS = (
    "kills",
    "terminations",
    "pauses",
    "cuts",
    "disk-full spells",
    "hints dropped",
    "commits delayed",
    "answers lost",
    "purges",
    "shares changed",
    "reloads",
)


class Disk:
    """What can be full."""

    way = "not possible here"

    def __init__(self, world: World) -> None:
        self._world = world

    def fill(self) -> bool:
        """False if that can't be done here."""
        return False

    def free(self) -> None:
        pass


class FileLimit(Disk):
    """For SQLite: no file of the server may grow beyond a size. It is what a quota does, and needs no rights."""

    way = "RLIMIT_FSIZE of the server"
    _TINY = 16 * 1024

    def fill(self) -> bool:
        wal = self._world.server.data / "cotexd.db-wal"
        size = wal.stat().st_size if wal.exists() else 0
        self._limit(max(self._TINY, size))
        return True

    def free(self) -> None:
        with suppress(ProcessLookupError):
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, most: int) -> None:
        _, hard = resource.prlimit(self._world.server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._world.server.pid, resource.RLIMIT_FSIZE, (most, hard))


class SmallMount(Disk):
    """For PostgreSQL: its data lies on a file system in memory, whose size is set to what is used already."""

    way = "a tmpfs that is made small"
    ROOM = "8g"

    def __init__(self, world: World, mount: Path) -> None:
        super().__init__(world)
        self._mount = mount

    def fill(self) -> bool:
        found = os.statvfs(self._mount)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return self._resize(str(used))

    def free(self) -> None:
        self._resize(self.ROOM)

    def _resize(self, size: str) -> bool:
        given = ["mount", "-o", f"remount,size={size}", str(self._mount)]
        return subprocess.run(given, check=False, capture_output=True).returncode == 0


class Chaos:
    def __init__(self, world: World, clients: Sequence[Client], events: int, disk: Disk) -> None:
        self._world = world
        self._clients = clients
        self._disk = disk
        self._dice = Random(f"{world.plan.seed} chaos")
        self._events = events
        self._acts = max(MANY[0], min(MANY[1], events // EVENTS_AN_ACT))
        self._step = max(1, events // (self._acts + 1))
        hand = (
            self._kill,
            self._terminate,
            self._pause,
            self._cut,
            self._fill,
            self._drop_hints,
            self._delay_commits,
            self._lose_answers,
            self._purge,
            self._share,
            self._reload,
        )
        self._cards: dict[str, Callable[[], Awaitable[None]]] = dict(zip(ACTS, hand, strict=True))

    async def run(self) -> None:
        """Act whenever a part of the deliveries was answered; hold the sender back where it is far ahead."""
        world, deck = self._world, list[str]()
        for number in range(1, self._acts + 1):
            world.limit = (number + 1) * self._step
            await self._answered(number * self._step)
            if not deck:
                # Kills lie in it twice: nothing else tries the promise as hard.
                deck = [*self._cards, "kills"]
                self._dice.shuffle(deck)
            card = deck.pop()
            await self._cards[card]()
            world.counts[card] += 1
        world.limit = sys.maxsize

    async def _kill(self) -> None:
        await self._world.server.kill()
        await self._world.server.start()

    async def _terminate(self) -> None:
        code = await self._world.server.terminate()
        if code != 0:
            self._world.counts[f"exits with {code} after SIGTERM"] += 1
        await self._world.server.start()

    async def _pause(self) -> None:
        self._world.server.pause()
        try:
            await self._spell()
            if self._dice.random() < 0.5:
                await self._cut()
                await self._spell()
        finally:
            self._world.server.proceed()

    async def _cut(self) -> None:
        share = self._dice.choice((0.1, 0.5, 1.0))
        for client in self._clients:
            if self._dice.random() < share:
                client.cut()

    async def _fill(self) -> None:
        if not self._disk.fill():
            self._world.counts["disk-full spells"] -= 1
            return
        try:
            await self._spell()
            if self._dice.random() < 0.3:
                await self._world.server.kill()
        finally:
            self._disk.free()
        if not self._world.server.running:
            await self._world.server.start()

    async def _drop_hints(self) -> None:
        await self._with(Faults(drop=self._dice.choice((0.3, 1.0))))

    async def _delay_commits(self) -> None:
        await self._with(Faults(drop=0.2, delay=0.2))

    async def _lose_answers(self) -> None:
        await self._with(Faults(lose=0.3))

    async def _purge(self) -> None:
        world = self._world
        away = [client for client in self._clients if self._dice.random() < AWAY]
        for client in away:
            client.here.clear()
            client.cut()
        enough = len(world.done) + max(2 * LEFT, self._step // 2)
        world.limit = max(world.limit, enough + 2 * LEFT)
        await self._answered(enough)
        head, _ = await world.state()
        await world.purge(max(0, head - LEFT))
        for client in away:
            client.here.set()

    async def _share(self) -> None:
        for _ in range(self._dice.randint(1, 6)):
            await self._change_members()

    async def _change_members(self) -> None:
        """A member goes, and somebody comes who does not see the repository yet."""
        world, dice = self._world, self._dice
        now = [span for span in world.spans if span.until is None]
        guests = [span for span in now if world.plan.repos[span.repo].owner != span.user]
        if guests:
            await world.unshare(dice.choice(guests))
        repo = dice.randrange(len(world.repos))
        seen = {span.user for span in world.spans if span.until is None and span.repo == repo}
        others = [user for user in range(len(world.users)) if user not in seen]
        if others:
            await world.share(repo, dice.choice(others))

    async def _reload(self) -> None:
        self._world.server.reload()

    async def _with(self, faults: Faults) -> None:
        self._world.server.fault(faults)
        await self._spell()
        self._world.server.fault(Faults())

    async def _answered(self, enough: int) -> None:
        """:raises Broken: nobody killed the server, and it is dead"""
        world = self._world
        await until(lambda: len(world.done) >= min(enough, self._events) or not world.server.running)
        if not world.server.running:
            raise Broken("\n  ".join(["The server died by itself. It said last:", *world.server.said]))

    async def _spell(self) -> None:
        await asyncio.sleep(self._dice.uniform(*SPELL))
