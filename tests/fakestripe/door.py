"""The door of the API: who may come in, in which version, how often under one idempotency key."""

import base64
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from . import billing, catalogue, form, routing
from .account import VERSION
from .faults import Faults, Request
from .periods import seconds
from .refusal import Refused
from .routing import Rooms

KEY_KEPT = seconds(timedelta(hours=24))
KEY_LENGTH = 255
EARLY = {"cut", "429", "503"}
"""the faults in which a request isn't taken on: nothing is done, its key stays free"""

HANDLERS = (billing, catalogue)
"""imported for the routes that they register"""


class Cut(Exception):
    """The connection ends without an answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Remembered:
    """What was asked under an idempotency key, and what was answered."""

    method: str
    path: str
    params: list[tuple[str, str]]
    at: int
    request: str
    answer: Answer | None
    """None: it is being made"""


class Door:
    def __init__(self, rooms: Rooms, faults: Faults, secret_key: str) -> None:
        self._rooms = rooms
        self._account = rooms.account
        self._faults = faults
        self._remembered: dict[str, Remembered] = {}
        self.secret_key = secret_key
        self.requests: list[Request] = []

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """:raises Cut: there is to be no answer"""
        address = urlsplit(target)
        with self._account.lock:
            request = Request(self._account.identity("req_", 14), method, address.path, headers)
            self.requests.append(request)
        try:
            found = self._serve(request, body if method == "POST" else address.query.encode())
        except Refused as error:
            found = _refusal(error)
        self._faults.keep(request)
        request.status = found.status
        said = {"Request-Id": request.id, "Stripe-Version": VERSION, **found.headers}
        if request.key and method == "POST":
            said["Idempotency-Key"] = request.key
            said.setdefault("Original-Request", request.id)
        return Answer(found.status, found.body, said)

    def _serve(self, request: Request, encoded: bytes) -> Answer:
        self._admit(request.headers)
        fault = self._faults.take(request)
        if fault and fault.how in EARLY:
            _turn_away(self._faults.meet(fault))
        try:
            text = encoded.decode()
        except UnicodeDecodeError:
            raise Refused(400, "Invalid request: the parameters are not UTF-8.") from None
        request.params = form.parse(text)
        key = request.key if request.method == "POST" else ""
        if key and (earlier := self._claim(key, request)):
            return earlier
        found, how = None, ""
        try:
            call = routing.find(request.method, request.path, request.params)
            if fault and fault.how not in EARLY:
                how = self._faults.meet(fault)
            found = self._do(call, request, fails=how == "500")
        finally:
            if key:
                self._remember(key, found)
        if how == "cut_after":
            raise Cut
        return found

    def _do(self, call: routing.Call, request: Request, *, fails: bool) -> Answer:
        if fails:
            message = "An unknown error occurred."
            return _refusal(Refused(500, message, kind="api_error", Stripe_Should_Retry="false"))
        account = self._account
        with account.lock:
            account.advance(timedelta())
            account.request = {"id": request.id, "idempotency_key": request.key or None}
            try:
                return Answer(200, json.dumps(call(self._rooms), indent=2).encode())
            except Refused as error:
                return _refusal(error)
            finally:
                account.request = {"id": None, "idempotency_key": None}

    def _admit(self, headers: dict[str, str]) -> None:
        """:raises Refused: no key or a wrong one, or a version that isn't ours"""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            given = base64.b64decode(given).decode().partition(":")[0]
        if not given:
            message = "You did not provide an API key. You need to provide your API key in the Authorization header, "
            message += "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
            raise Refused(401, message, WWW_Authenticate='Basic realm="Stripe"')
        if given != self.secret_key:
            shown = given[:8] + "*" * max(len(given) - 12, 0) + given[-4:]
            raise Refused(401, f"Invalid API Key provided: {shown}", WWW_Authenticate='Basic realm="Stripe"')
        version = headers.get("stripe-version", VERSION)
        if version != VERSION:
            raise Refused(400, f"Invalid Stripe API version: {version}; fakestripe speaks {VERSION}.")

    # Idempotency: one key is one request, for a day.

    def _claim(self, key: str, request: Request) -> Answer | None:
        """The answer that this key has had; None: it is free, and now ours.

        :raises Refused: it was another request's, or its request is under way
        """
        if len(key) > KEY_LENGTH:
            raise Refused(
                400, f"Idempotency keys may have up to {KEY_LENGTH} characters.", kind="idempotency_error"
            )
        with self._account.lock:
            now = self._account.now()
            params = form.flat(request.params)
            known = self._remembered.get(key)
            if known is None or known.at + KEY_KEPT <= now:
                mine = Remembered(request.method, request.path, params, now, request.id, None)
                self._remembered[key] = mine
                return None
        if known.path != request.path:
            message = "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            message += (
                f"('{request.path}' vs '{known.path}'). Try using a key other than '{key}' if you meant to "
            )
            message += "execute a different request."
            raise Refused(400, message, kind="idempotency_error")
        if known.params != params:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used "
            )
            message += (
                f"with. Try using a key other than '{key}' if you meant to execute a different request."
            )
            raise Refused(400, message, kind="idempotency_error")
        if known.answer is None:
            message = f"There is currently another in-progress request using this Idempotent Key ({key})."
            raise Refused(409, message, code="idempotency_key_in_use", kind="idempotency_error")
        said = {**known.answer.headers, "Idempotent-Replayed": "true", "Original-Request": known.request}
        return Answer(known.answer.status, known.answer.body, said)

    def _remember(self, key: str, answer: Answer | None) -> None:
        """What never began (its parameters were refused) leaves its key free."""
        with self._account.lock:
            known = self._remembered[key]
            if answer is None:
                del self._remembered[key]
            else:
                self._remembered[key] = Remembered(
                    known.method, known.path, known.params, known.at, known.request, answer
                )


def _turn_away(how: str) -> None:
    if how == "cut":
        raise Cut
    if how == "429":
        message = "Request rate limit exceeded. You can learn more about rate limits here "
        message += "https://stripe.com/docs/rate-limits."
        raise Refused(429, message, code="rate_limit", Stripe_Rate_Limited_Reason="global-rate")
    message = "Stripe is not available. Try again later."
    raise Refused(503, message, kind="api_error", Stripe_Should_Retry="true")


def _refusal(error: Refused) -> Answer:
    body: dict[str, Any] = error.body()
    return Answer(error.status, json.dumps(body, indent=2).encode(), dict(error.headers))
