"""Stripe on a bad day: it errs, limits, is slow, cuts the line; and a door that a test holds shut."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

How = Literal["429", "500", "503", "cut", "cut_after", "slow"]
"""429: over the limit · 503: not taken on at all · 500: taken on, failed, and remembered under its idempotency key
cut: the connection ends, nothing was done · cut_after: it was done, and nobody is told · slow: it is done later"""

PATIENCE = 20.0
"""seconds until a held request goes on, whatever the test forgot"""


@dataclass
class Request:
    """A request that arrived at the API."""

    id: str
    method: str
    path: str
    headers: dict[str, str]
    params: dict[str, Any] = field(default_factory=dict)
    """as they were sent: a tree of texts"""
    status: int = 0
    """of the answer; 0 while there is none, or the line was cut"""

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.headers.get("idempotency-key", "")

    def matches(self, method: str, path: str) -> bool:
        return method in {"", self.method} and self.path.startswith(path)


@dataclass
class Fault:
    how: How
    times: int | None
    method: str
    path: str
    seconds: float
    met: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def wait(self) -> None:
        """Until a request has met it; in an event loop: `await asyncio.to_thread(fault.wait)`.

        :raises TimeoutError: none did
        """
        if not self.met.acquire(timeout=PATIENCE):
            raise TimeoutError(f"No request met the fault {self.how}.")


class Hold:
    """Requests whose answers are made, and kept back until they are released: their truth grows old meanwhile."""

    def __init__(self, method: str, path: str, times: int | None) -> None:
        self.method = method
        self.path = path
        self._times = times
        self._arrived = threading.Semaphore(0)
        self._released = threading.Event()
        self.forgotten = False

    def wait(self) -> None:
        """Until a request is held; in an event loop: `await asyncio.to_thread(hold.wait)`.

        :raises TimeoutError: none came
        """
        if not self._arrived.acquire(timeout=PATIENCE):
            raise TimeoutError(f"No request to {self.path} came to be held.")

    def release(self) -> None:
        self._released.set()

    def take(self, request: Request) -> bool:
        if self._released.is_set() or self._times == 0 or not request.matches(self.method, self.path):
            return False
        if self._times is not None:
            self._times -= 1
        return True

    def keep(self) -> None:
        self._arrived.release()
        self.forgotten = not self._released.wait(PATIENCE) or self.forgotten


class Faults:
    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._healed = threading.Event()

    def plan(self, fault: Fault) -> None:
        with self._lock:
            self._planned.append(fault)

    def heal(self) -> None:
        """Nothing fails any more, and what is slow goes on."""
        with self._lock:
            self._planned.clear()
            self._healed.set()
            self._healed = threading.Event()

    def meet(self, fault: Fault | None) -> str:
        """How the request at hand fails, "" where it doesn't; one that is slow is so here."""
        if fault is None:
            return ""
        healed = self._healed
        fault.met.release()
        if fault.how == "slow":
            healed.wait(fault.seconds)
        return fault.how

    def take(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._planned:
                if request.matches(fault.method, fault.path):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times == 0:
                            self._planned.remove(fault)
                    return fault
        return None

    @contextmanager
    def holding(self, hold: Hold) -> Iterator[Hold]:
        with self._lock:
            self._holds.append(hold)
        try:
            yield hold
        finally:
            hold.release()
            with self._lock:
                self._holds.remove(hold)
        if hold.forgotten:
            raise TimeoutError(f"A request to {hold.path} was held and not released.")

    def keep(self, request: Request) -> None:
        """Where an answer waits that a test holds back."""
        with self._lock:
            hold = next((hold for hold in self._holds if hold.take(request)), None)
        if hold is not None:
            hold.keep()

    def stop(self) -> None:
        """Let go of everyone who waits."""
        self.heal()
        with self._lock:
            for hold in self._holds:
                hold.release()
