"""What clients have acknowledged, collected, so that a thousand of them are one write."""

import asyncio
from collections.abc import Callable

from cotexd import metrics
from cotexd.errors import Unavailable
from cotexd.live.session import Keep
from cotexd.operations import cursors
from cotexd.operations.cursors import Keeper
from cotexd.store import Store

EVERY = 0.05
"""seconds for which the first of them waits for others"""


class Acks:
    def __init__(self, store: Store, due: Callable[[], None]) -> None:
        """:param due: is called when it is time to flush"""
        self._store = store
        self._due = due
        self._waiting: dict[Keeper, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, effect: Keep) -> None:
        if effect.seq > self._waiting.get(effect.keeper, -1):
            self._waiting[effect.keeper] = effect.seq
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._due)

    async def flush(self, head: int) -> None:
        """:param head: the last seq that was handed out"""
        self._timer = None
        acks, self._waiting = self._waiting, {}
        if not acks:
            return
        try:
            await self._store.write(
                cursors.acknowledge_many, [cursors.Ack(keeper, seq) for keeper, seq in acks.items()]
            )
        except Unavailable:
            # Nothing is lost by it: what is not known to have arrived is sent again. Try with the next ones.
            for keeper, seq in acks.items():
                self._waiting[keeper] = max(seq, self._waiting.get(keeper, -1))
        else:
            metrics.ACKS.inc(len(acks))
            for seq in acks.values():
                metrics.LAG.observe(max(0, head - seq))

    def close(self) -> None:
        """From now on it flushes only when it is told to."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
