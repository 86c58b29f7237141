"""Durations as people write them: `30s`, `10m`, `24h`, `14d`."""

import re
from datetime import timedelta
from typing import Annotated

import msgspec

from cotexd.errors import Invalid

_FORM = re.compile(r"([0-9]{1,9})\s*([smhdw])", re.ASCII)
DurationText = Annotated[
    str, msgspec.Meta(extra_json_schema={"pattern": f"^({_FORM.pattern})?$", "examples": ["24h"]})
]
"""a duration, or nothing; `parse` checks it"""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str) -> timedelta:
    """:raises Invalid: not a whole number and one of s, m, h, d, w; or beyond what a date can be"""
    match = _FORM.fullmatch(text.strip())
    try:
        if match is not None:
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        pass
    raise Invalid(f'"{text}" is not a duration.', hint="Write 30s, 10m, 24h or 14d.")


def show(duration: timedelta) -> str:
    """The shortest exact form, in whole seconds."""
    seconds = int(duration.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
