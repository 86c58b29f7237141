"""Events on their way to webhook endpoints: signed, retried, and duplicated, late, disordered or lost as asked."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Literal

import httpx
from stripe import WebhookSignature

from . import shapes
from .account import Account
from .periods import seconds
from .shapes import Object

TIMEOUT = 20.0
"""seconds that an endpoint has to answer"""
GIVEN_UP = seconds(timedelta(days=3))
"""after an event was made, nothing that failed is sent again"""
OVERLAP = seconds(timedelta(hours=24))
"""that a secret still signs beside its successor"""

Chance = float | Callable[[dict[str, Any]], bool]
"""a probability, or which events"""
Order = Literal["created", "reversed", "shuffled"]


@dataclass(frozen=True)
class Attempt:
    """One POST of one event to one endpoint."""

    event: str
    type: str
    url: str
    status: int | None
    """None: no answer came"""

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Pending:
    event: Object
    endpoint: str
    accepted: bool = False


class Outbox:
    def __init__(self, account: Account) -> None:
        self._account = account
        self.pending: list[Pending] = []
        self.lost: list[Object] = []
        account.listeners.append(self.queue)

    def register(self, given: Object, secret: str = "", version: str | None = None) -> Object:
        """A new endpoint; what happened before it was there it is not told."""
        account = self._account
        made = shapes.webhook_endpoint(account.identity("we_1", 23), account.now(), given, version)
        account.private[made["id"]]["secrets"] = [(secret or account.identity("whsec_", 32), None)]
        return account.add(made)

    def secret_of(self, endpoint: str) -> str:
        return str(self._account.private[endpoint]["secrets"][-1][0])

    def roll(self, endpoint: str) -> str:
        """A new secret; the old one signs beside it for a day."""
        until = self._account.now() + OVERLAP
        secrets = self._account.private[endpoint]["secrets"]
        secrets[-1] = (secrets[-1][0], until)
        secrets.append((self._account.identity("whsec_", 32), None))
        return self.secret_of(endpoint)

    def queue(self, event: Object) -> None:
        for endpoint in reversed(self._account.all("webhook_endpoint")):
            wanted = endpoint["enabled_events"]
            if endpoint["status"] == "enabled" and ("*" in wanted or event["type"] in wanted):
                self.pending.append(Pending(event, endpoint["id"]))
                event["pending_webhooks"] += 1

    async def deliver(
        self,
        *,
        order: Order,
        drop: Chance,
        duplicate: Chance,
        delay: Chance,
        random: Random,
        attempts: int,
        at_once: int,
        signed_at: float | None,
    ) -> list[Attempt]:
        with self._account.lock:
            waiting, self.pending = self.pending, []
            sending = self._choose(waiting, drop, duplicate, delay, random)
        if order == "reversed":
            sending.reverse()
        elif order == "shuffled":
            random.shuffle(sending)
        done: list[Attempt] = []
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
            for _ in range(attempts):
                for start in range(0, len(sending), at_once):
                    part = sending[start : start + at_once]
                    done += filter(
                        None, await asyncio.gather(*(self._post(http, it, signed_at) for it in part))
                    )
                sending = [pending for pending in sending if not pending.accepted]
        with self._account.lock:
            again = list({id(pending): pending for pending in sending}.values())
            self.pending[:0] = [pending for pending in again if not self._given_up(pending.event)]
        return done

    def _choose(
        self, waiting: list[Pending], drop: Chance, duplicate: Chance, delay: Chance, random: Random
    ) -> list[Pending]:
        sending: list[Pending] = []
        for pending in waiting:
            if _happens(drop, pending.event, random):
                self.lost.append(pending.event)
            elif _happens(delay, pending.event, random):
                self.pending.append(pending)
            else:
                sending.append(pending)
        for pending in list(sending):
            if _happens(duplicate, pending.event, random):
                first = sending.index(pending)
                sending.insert(random.randint(first + 1, len(sending)), pending)
        return sending

    async def _post(
        self, http: httpx.AsyncClient, pending: Pending, signed_at: float | None
    ) -> Attempt | None:
        with self._account.lock:
            endpoint = self._account.objects["webhook_endpoint"].get(pending.endpoint)
            if endpoint is None:
                pending.accepted = True
                return None
            body = json.dumps(pending.event, indent=2, ensure_ascii=False)
            secrets = [
                secret
                for secret, until in self._account.private[pending.endpoint]["secrets"]
                if until is None or until > self._account.now()
            ]
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "stripe-signature": sign(body, secrets, signed_at),
        }
        try:
            answer = await http.post(endpoint["url"], content=body.encode(), headers=headers)
            status: int | None = answer.status_code
        except httpx.HTTPError:
            status = None
        attempt = Attempt(pending.event["id"], pending.event["type"], endpoint["url"], status)
        with self._account.lock:
            if attempt.accepted and not pending.accepted:
                pending.accepted = True
                pending.event["pending_webhooks"] -= 1
        return attempt

    def _given_up(self, event: Object) -> bool:
        late: bool = event["created"] + GIVEN_UP < self._account.now()
        if late:
            self.lost.append(event)
        return late


def sign(body: str, secrets: list[str], at: float | None = None) -> str:
    """The header as Stripe sends it: a signature a secret, and one that is void, as it is in test mode."""
    moment = int(time.time() if at is None else at)
    signatures = [WebhookSignature.generate_signature_header(body, secret, moment) for secret in secrets]
    void = hashlib.sha256(body.encode()).hexdigest()
    return ",".join([f"t={moment}", *(each.partition(",")[2] for each in signatures), f"v0={void}"])


def _happens(chance: Chance, event: Object, random: Random) -> bool:
    return chance(event) if callable(chance) else random.random() < chance
