"""What a request may say: read from the library's own declarations, and held against what it says.

A parameter that the library doesn't declare is refused, at every depth, as Stripe does; texts become the integers,
booleans and lists that were meant. A parameter that is emptied (`name=`) becomes None where that is allowed.
"""

import sys
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stripe._request_options import RequestOptions

from .refusal import invalid

METADATA_KEYS = 50
METADATA_KEY = 40
METADATA_VALUE = 500


def check(declared: Any, given: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The parameters as `declared`, a TypedDict of stripe.params, has them.

    :raises Refused: the first that is unknown, missing or not of its type
    """
    hints = _hints(declared)
    read = {}
    for key, value in given.items():
        path = f"{prefix}[{key}]" if prefix else key
        if key not in hints:
            raise invalid(f"Received unknown parameter: {path}", path, "parameter_unknown")
        read[key] = _metadata(value, path) if key == "metadata" else _read(value, hints[key], path)
    for key in sorted(declared.__required_keys__):
        if key not in given:
            path = f"{prefix}[{key}]" if prefix else key
            raise required(path)
    return read


def required(path: str) -> Exception:
    return invalid(f"Missing required param: {path}.", path, "parameter_missing")


@cache
def _hints(declared: type) -> dict[str, Any]:
    own = {name: hint for name, hint in declared.__annotations__.items() if name not in _OPTIONS}
    holder = type("Declared", (), {"__annotations__": own})
    return get_type_hints(holder, globalns=vars(sys.modules[declared.__module__]))


_OPTIONS = set(RequestOptions.__annotations__)


@cache
def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union, in a row."""
    if get_origin(hint) is Literal or not get_args(hint) or get_origin(hint) in {list, dict}:
        return (hint,)
    return tuple(kind for member in get_args(hint) for kind in _kinds(member))


def _read(value: Any, hint: Any, path: str) -> Any:
    kinds = _kinds(hint)
    return _branch(value, kinds, path) if isinstance(value, dict) else _leaf(value, kinds, path)


def _branch(value: dict[str, Any], kinds: tuple[Any, ...], path: str) -> Any:
    for kind in kinds:
        if hasattr(kind, "__required_keys__"):
            return check(kind, value, path)
        if get_origin(kind) is list:
            if not all(key.isdecimal() for key in value):
                raise invalid("Invalid array", path)
            (member,) = get_args(kind)
            places = sorted(value, key=int)
            return [_read(value[place], member, f"{path}[{place}]") for place in places]
        if get_origin(kind) is dict:
            _, member = get_args(kind)
            return {key: _read(part, member, f"{path}[{key}]") for key, part in value.items()}
    raise invalid("Invalid string: an object was given", path)


def _leaf(value: str, kinds: tuple[Any, ...], path: str) -> Any:
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if not value:
        if "" in words:
            return None
        raise invalid(
            f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty "
            "value.",
            path,
            "parameter_invalid_empty",
        )
    named = [word for word in words if word]
    if value in named:
        return value
    if bool in kinds:
        if value not in {"true", "false"}:
            raise invalid(f"Invalid boolean: {value}", path)
        return value == "true"
    if int in kinds:
        if value.removeprefix("-").isdecimal():
            return int(value)
        raise invalid(f"Invalid integer: {value}", path, "parameter_invalid_integer")
    if named:
        raise invalid(f"Invalid {path}: must be one of {', '.join(named[:-1])} or {named[-1]}", path)
    if str in kinds:
        return value
    if float in kinds or Decimal in kinds:
        try:
            return Decimal(value)
        except InvalidOperation:
            raise invalid(f"Invalid decimal: {value}", path) from None
    raise invalid(
        "Invalid array" if any(get_origin(kind) is list for kind in kinds) else "Invalid object", path
    )


def _metadata(value: Any, path: str) -> dict[str, str] | None:
    """None empties the whole of it; a key with an empty value is taken away."""
    if value == "":
        return None
    if not isinstance(value, dict) or any(isinstance(part, dict) for part in value.values()):
        raise invalid("Metadata must be a flat set of key-value pairs.", path)
    if len(value) > METADATA_KEYS:
        raise invalid(f"Metadata can have at most {METADATA_KEYS} keys.", path)
    for key, text in value.items():
        if len(key) > METADATA_KEY:
            raise invalid(
                f"Metadata keys can only be {METADATA_KEY} characters; {key!r} is {len(key)}.", path
            )
        if len(text) > METADATA_VALUE:
            raise invalid(
                f"Metadata values can have up to {METADATA_VALUE} characters; {key!r} has {len(text)}.",
                f"{path}[{key}]",
            )
    return value
