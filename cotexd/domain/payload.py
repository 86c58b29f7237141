"""Reach into a payload that may hold anything: what isn't there, or is of another type, is empty."""


def text(value: object, *path: str) -> str:
    """The string at `path`, without what UTF-8 or a database can't hold (half a surrogate pair, NUL); "" if none."""
    found = _at(value, path)
    if not isinstance(found, str):
        return ""
    return found.encode("utf-8", "replace").decode().replace("\0", "")


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
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
