"""Which function answers which address; lists, page by page; what is expanded in an answer."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from . import params
from .account import Account
from .checkout import Checkout
from .lives import Lives
from .refusal import Refused, invalid
from .shapes import Object, listed
from .webhooks import Outbox

DEPTH = 4
"""of what is expanded"""


@dataclass(frozen=True)
class Rooms:
    """What a handler may need."""

    account: Account
    lives: Lives
    checkout: Checkout
    outbox: Outbox


Handler = Callable[[Rooms, str, Object], Object]
_ROUTES: list[tuple[str, re.Pattern[str], type, Handler]] = []


def route(method: str, pattern: str, declared: type) -> Callable[[Handler], Handler]:
    """The handler of an address; `{id}` in it is what it is given."""

    def register(handler: Handler) -> Handler:
        shape = re.compile(re.escape(pattern).replace(r"\{id\}", "(?P<id>[^/]+)"))
        _ROUTES.append((method, shape, declared, handler))
        return handler

    return register


class Call:
    """A request that is understood, and not yet done."""

    def __init__(self, handler: Handler, identity: str, given: Object) -> None:
        self._handler = handler
        self._identity = identity
        self._expand = given.pop("expand", [])
        self._given = given

    def __call__(self, rooms: Rooms) -> Object:
        answer = deepcopy(self._handler(rooms, self._identity, self._given))
        for path in self._expand:
            steps = path.split(".")
            if len(steps) > DEPTH:
                raise invalid(f"You cannot expand more than {DEPTH} levels of a property", "expand")
            _expand(rooms.account, answer, steps, path)
        return answer


def find(method: str, path: str, given: dict[str, Any]) -> Call:
    """:raises Refused: no such address, or parameters that it doesn't take"""
    for its_method, shape, declared, handler in _ROUTES:
        match = shape.fullmatch(path)
        if match and its_method == method:
            return Call(handler, match.groupdict().get("id", ""), params.check(declared, given))
    raise Refused(
        404,
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the "
        "trailing slash. If you are trying to retrieve an object, make sure you passed a valid (non-empty) "
        "identifier in your code.",
    )


def page(things: list[Object], url: str, given: Object) -> Object:
    """A part of a list, the newest first."""
    limit = given.get("limit", 10)
    if not 1 <= limit <= 100:
        bound = "less than or equal to 100" if limit > 100 else "greater than or equal to 1"
        raise invalid(f"This value must be {bound}.", "limit", "parameter_invalid_integer")
    things = [thing for thing in things if _within(thing["created"], given.get("created"))]
    if "starting_after" in given:
        part = things[_place(things, given, "starting_after") + 1 :]
        return listed(url, part[:limit], more=len(part) > limit)
    if "ending_before" in given:
        part = things[: _place(things, given, "ending_before")]
        return listed(url, part[-limit:], more=len(part) > limit)
    return listed(url, things[:limit], more=len(things) > limit)


def _place(things: list[Object], given: Object, name: str) -> int:
    for place, thing in enumerate(things):
        if thing["id"] == given[name]:
            return place
    raise invalid(f"No such object: '{given[name]}'", name, "resource_missing")


def _within(created: int, bounds: int | dict[str, int] | None) -> bool:
    if bounds is None or isinstance(bounds, int):
        return bounds in {None, created}
    tests = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
    return all(tests[name](created, bound) for name, bound in bounds.items())


def _expand(account: Account, value: Any, steps: list[str], path: str) -> None:
    if isinstance(value, list):
        for member in value:
            _expand(account, member, steps, path)
        return
    step, rest = steps[0], steps[1:]
    if step == "line_items" and value.get("object") == "checkout.session":
        items = account.private[value["id"]]["line_items"]
        value[step] = listed(f"/v1/checkout/sessions/{value['id']}/line_items", deepcopy(items))
    elif isinstance(value, dict) and isinstance(value.get(step), str):
        found = next((kind[value[step]] for kind in account.objects.values() if value[step] in kind), None)
        if found is None or step == "id":
            raise invalid(f"This property cannot be expanded ({path}).", "expand")
        value[step] = deepcopy(found)
    elif not isinstance(value, dict) or step not in value or not (rest or value[step] is None):
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    if rest and value[step] is not None:
        _expand(account, value[step], rest, path)
