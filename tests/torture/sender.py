"""GitHub: signed webhooks on kept connections, out of order, some twice at once, some again much later.

What was not answered 200 is sent again with the same GUID until it is.
"""

import asyncio
import json
from random import Random

from .history import Answer
from .line import Line
from .plan import Delivery, signature
from .world import World, until

WORKERS = 16
SHUFFLED = 48
"""deliveries that change places with each other"""
AGAIN_LATER = 0.03
"""of the deliveries, those that are sent again when they are long there"""


class Sender:
    def __init__(self, world: World, events: int) -> None:
        self._world = world
        self._dice = Random(f"{world.plan.seed} sender")
        self._events = events
        self._next = 0
        self._bag: list[int] = []
        self._told: list[int] = []
        """numbers of some that were answered"""

    async def run(self) -> None:
        """Until all are answered."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        lines = [Line(self._world.server.port) for _ in range(3)]
        try:
            while (number := await self._take()) is not None:
                delivery = self._world.plan.delivery(number)
                copies = (self._deliver(line, delivery) for line in lines[: delivery.copies])
                await asyncio.gather(*copies)
                if self._dice.random() < AGAIN_LATER and self._told:
                    again = self._dice.choice(self._told)
                    await self._deliver(lines[0], self._world.plan.delivery(again))
                if len(self._told) < 1000:
                    self._told.append(number)
                else:
                    self._told[self._dice.randrange(1000)] = number
        finally:
            for line in lines:
                line.cut()

    async def _take(self) -> int | None:
        """The next delivery, of those that wait any; None if there is none."""
        await until(lambda: len(self._world.done) < self._world.limit or self._next >= self._events)
        while len(self._bag) < SHUFFLED and self._next < self._events:
            self._bag.append(self._next)
            self._next += 1
        if not self._bag:
            return None
        return self._bag.pop(self._dice.randrange(len(self._bag)))

    async def _deliver(self, line: Line, delivery: Delivery) -> None:
        repo = self._world.repos[delivery.repo]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/torture",
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Delivery": delivery.guid,
            "X-Hub-Signature-256": signature(delivery.body, repo.secret),
        }
        while True:
            try:
                reply = await line.request("POST", f"/api/webhooks/github/{repo.id}", headers, delivery.body)
            except (OSError, EOFError, TimeoutError):
                self._world.counts["no answer"] += 1
            else:
                if reply.status == 200:
                    self._note(delivery, json.loads(reply.body))
                    return
                self._world.counts[f"answered {reply.status}"] += 1
            await asyncio.sleep(self._dice.uniform(0.02, 0.3))

    def _note(self, delivery: Delivery, told: dict[str, object]) -> None:
        answer = Answer(delivery.guid, int(str(told["seq"])), str(told["event_id"]), bool(told["duplicate"]))
        self._world.answers.append(answer)
        self._world.done.add(delivery.guid)
        self._world.counts["duplicates refused"] += answer.duplicate
