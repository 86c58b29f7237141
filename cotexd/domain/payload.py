"""Reach into a payload that may hold anything: what isn't there, or is of another type, is empty.

Of a push, nine in ten deliveries, only what a summary reads is made into objects (`decode`); the rest is checked to be
JSON and skipped.
"""

from typing import TypedDict

import msgspec


class _Commit(TypedDict, total=False):
    id: object
    added: object
    modified: object
    removed: object
    renamed: object


class _Named(TypedDict, total=False):
    name: object
    login: object


class _Dated(TypedDict, total=False):
    timestamp: object


class _Push(TypedDict, total=False):
    """All that event.summarise and headline.of may look at; what they reach into is of its usual type here."""

    ref: object
    action: object
    created: object
    deleted: object
    forced: object
    issue: object
    pull_request: object
    commits: list[_Commit]
    head_commit: _Dated | None
    pusher: _Named
    sender: _Named


_PARTS = {"push": msgspec.json.Decoder(_Push)}


def decode(kind: str, payload: bytes) -> object:
    """JSON as objects: the part of it that is read of this kind of event, where that has its usual form, or else all.

    :raises msgspec.DecodeError: not JSON, or of a kind that msgspec does not take
    :raises UnicodeDecodeError: not UTF-8
    :raises RecursionError: nested too deep
    """
    part = _PARTS.get(kind)
    if part is not None:
        try:
            document = part.decode(payload)
        except msgspec.ValidationError:
            pass  # an odd one
        else:
            if not payload.isascii():
                payload.decode()  # what was skipped was not looked at for this
            return document
    return msgspec.json.decode(payload)


def text(value: object, *path: str) -> str:
    """The string at `path`, without what UTF-8 or a database can't hold (half a surrogate pair, NUL); "" if none."""
    for name in path:  # what _at does, without a call: a summary asks this a dozen times
        if type(value) is not dict:
            return ""
        value = value.get(name)
    if not isinstance(value, str):
        return ""
    if value.isascii() and "\0" not in value:
        return value
    return value.encode("utf-8", "replace").decode().replace("\0", "")


def number(value: object, *path: str) -> str:
    """The whole number at `path` in decimal; "" if none."""
    found = _at(value, path)
    return (
        str(found) if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 10**18 else ""
    )


def flag(value: object, *path: str) -> bool:
    return _at(value, path) is True


def items(value: object, *path: str) -> list[object]:
    """The array at `path`; [] if none."""
    found = _at(value, path)
    return found if isinstance(found, list) else []


def _at(value: object, path: tuple[str, ...]) -> object:
    for name in path:
        if type(value) is not dict:  # quicker than isinstance, and JSON makes no other
            return None
        value = value.get(name)
    return value
