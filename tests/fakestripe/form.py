"""Form encoding with nested keys, as Stripe's libraries send it: `a[b][0]=c`, `expand[]=d`."""

import re
from typing import Any
from urllib.parse import parse_qsl

from .refusal import Refused

KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def parse(text: str) -> dict[str, Any]:
    """A tree of dicts; what is a list and what a number is for params.py to say.

    :raises Refused: a key that is not a key, or one that is a value and a branch at once
    """
    tree: dict[str, Any] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Refused(400, "Invalid request: the parameters are not UTF-8.") from None
    for key, value in pairs:
        match = KEY.fullmatch(key)
        if match is None:
            raise Refused(400, f"Invalid parameter name: {key}", code="parameter_unknown", param=key)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        branch = tree
        for step in path[:-1]:
            branch = branch.setdefault(step or str(len(branch)), {})
            if not isinstance(branch, dict):
                raise Refused(400, f"Invalid request: {key} is a value and an object.", param=key)
        branch[path[-1] or str(len(branch))] = value
    return tree


def flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The tree as pairs in one order: two requests with equal parameters have equal pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in sorted(tree.items()):
        name = f"{prefix}[{key}]" if prefix else key
        pairs += flat(value, name) if isinstance(value, dict) else [(name, value)]
    return pairs
