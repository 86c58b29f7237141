"""A Stripe account: its objects, its clock, and the events that tell of every change."""

import string
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any

from stripe._api_version import _ApiVersion

from . import shapes
from .periods import seconds
from .refusal import missing
from .shapes import Object

VERSION = _ApiVersion.CURRENT
ALPHABET = string.ascii_letters + string.digits
EVENTS_KEPT = seconds(timedelta(days=30))

Due = tuple[int, Callable[[], None]]


class Account:
    """One lock guards it all: a request and what the test does to it never interleave."""

    def __init__(self, clock: Callable[[], float] = time.time, seed: int = 0) -> None:
        self.lock = threading.RLock()
        self.url = ""
        self.objects: dict[str, dict[str, Object]] = defaultdict(dict)
        self.private: dict[str, dict[str, Any]] = defaultdict(dict)
        """what Stripe knows of an object and doesn't tell: the card behind a subscription, a webhook's secret"""
        self.request: Object = {"id": None, "idempotency_key": None}
        self.listeners: list[Callable[[Object], None]] = []
        self.sources: list[Callable[[], Iterator[Due]]] = []
        self._random = Random(seed)
        self._clock = clock
        self._ahead = 0
        self._at: int | None = None

    # The clock.

    def now(self) -> int:
        return self._at if self._at is not None else int(self._clock()) + self._ahead

    def advance(self, by: timedelta) -> None:
        """Let time pass, and everything that falls due in it happen at its own moment."""
        moment, until = 0, self.now() + seconds(by)
        while due := min(self._due(until), key=lambda found: found[0], default=None):
            self._at = moment = max(moment, due[0])
            try:
                due[1]()
            finally:
                self._at = None
        self._ahead += seconds(by)

    def _due(self, until: int) -> list[Due]:
        return [due for source in self.sources for due in source() if due[0] <= until]

    # The objects.

    def identity(self, prefix: str, length: int) -> str:
        return prefix + "".join(self._random.choices(ALPHABET, k=length))

    def add(self, thing: Object) -> Object:
        self.objects[thing["object"]][thing["id"]] = thing
        return thing

    def all(self, kind: str) -> list[Object]:
        """The newest first, as Stripe lists them."""
        return list(reversed(self.objects[kind].values()))

    def get(self, kind: str, identity: str, param: str = "id", status: int = 404) -> Object:
        """:raises Refused: there is none; `status` is 404 for an address, 400 for a parameter"""
        found = self.objects[kind].get(identity)
        if found is None:
            noun = {"checkout.session": "checkout.session"}.get(kind, kind.replace("_", " "))
            raise missing(noun, identity, param, status)
        return found

    def customer(self, identity: str, param: str = "customer") -> Object:
        """One that is not deleted, named by a parameter."""
        found = self.get("customer", identity, param, 400)
        if found.get("deleted"):
            raise missing("customer", identity, param, 400)
        return found

    def subscriptions_of(self, customer_id: str) -> list[Object]:
        return [found for found in self.all("subscription") if found["customer"] == customer_id]

    # The events.

    def emit(self, kind: str, thing: Object, previous: Object | None = None) -> None:
        """Tell that something happened, with the object as it is at this moment."""
        data: Object = {"object": deepcopy(thing)}
        if previous is not None:
            data["previous_attributes"] = previous
        identity = self.identity("evt_1", 23)
        event = shapes.event(identity, self.now(), kind, data, VERSION, dict(self.request))
        self.add(event)
        for listener in self.listeners:
            listener(event)

    @contextmanager
    def changing(self, kind: str, thing: Object) -> Iterator[None]:
        """Tell of a change with what was before; nothing, if nothing changed."""
        before = deepcopy(thing)
        yield
        previous = _previous(before, thing)
        if previous:
            self.emit(kind, thing, previous)

    def events(self) -> list[Object]:
        """Those that Stripe still has, the newest first."""
        return [event for event in self.all("event") if event["created"] > self.now() - EVENTS_KEPT]


def _previous(before: Object, after: Object) -> Object:
    found: Object = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found[key] = deepcopy(_previous(old, new))
        else:
            found[key] = deepcopy(old)
    return found


def merge_metadata(thing: Object, given: Object) -> None:
    """What is given is added, what is given empty is taken away, None takes all."""
    if "metadata" not in given:
        return
    merged = {} if given["metadata"] is None else {**thing["metadata"], **given["metadata"]}
    thing["metadata"] = {key: value for key, value in merged.items() if value != ""}
