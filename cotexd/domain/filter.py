"""Which events of a repository someone wants: by type, by branch, by the paths that a push touched.

An empty list wants everything. A branch or path may have `*` and `?`, as a shell has them; `*` also spans slashes.
"""

import functools
import re
from collections.abc import Iterable

import msgspec

from cotexd.errors import Invalid

MAX_PATTERNS = 100
MAX_PATTERN = 200
"""characters"""

_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Filter(msgspec.Struct, frozen=True):
    events: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def wants_all(self) -> bool:
        return not (self.events or self.branches or self.paths)

    def passes_stub(self, event_type: str, branch: str) -> bool:
        """What can be said of an event whose summary is gone; its paths are not known any more."""
        if self.events and event_type not in self.events:
            return False
        # An event without a branch (a star, an issue) is of none: a filter by branch says nothing of it.
        return not (self.branches and branch) or _matches(self.branches, (branch,))

    def passes(self, event_type: str, branch: str, paths: Iterable[str] | None) -> bool:
        """:param paths: files that a push touched; None where not all are known, and the doubt counts for it"""
        if not self.passes_stub(event_type, branch):
            return False
        touched = tuple(paths or ()) if self.paths else ()
        return not touched or _matches(self.paths, touched)


EVERYTHING = Filter()


def check(wanted: Filter) -> Filter:
    """:raises Invalid: too many patterns, or what cannot be one"""
    for each in (wanted.events, wanted.branches, wanted.paths):
        if len(each) > MAX_PATTERNS:
            raise Invalid(f"A filter has at most {MAX_PATTERNS} entries of a kind.")
    for name in wanted.events:
        if not _EVENT_TYPE.fullmatch(name):
            raise Invalid(f'"{name}" is not the type of an event.', hint="As in push, pull_request, release.")
    for pattern in (*wanted.branches, *wanted.paths):
        if not pattern or len(pattern) > MAX_PATTERN or not pattern.isprintable():
            raise Invalid(f"A pattern is 1 to {MAX_PATTERN} printable characters.")
    return wanted


def encode(wanted: Filter) -> str | None:
    """As it is stored: None is everything."""
    return None if wanted.wants_all else msgspec.json.encode(wanted).decode()


@functools.lru_cache(1024)
def decode(stored: str | None) -> Filter:
    return EVERYTHING if stored is None else msgspec.json.decode(stored, type=Filter)


def _matches(patterns: tuple[str, ...], names: Iterable[str]) -> bool:
    return any(_fits(pattern, name) for name in names for pattern in patterns)


def _fits(pattern: str, name: str) -> bool:
    """Go back only to the last star: quadratic at worst, where a regular expression could take for ever."""
    at = in_name = 0
    star, after_star = -1, 0
    while in_name < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, after_star = at, in_name
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", name[in_name]}:
            at, in_name = at + 1, in_name + 1
        elif star >= 0:
            after_star += 1
            at, in_name = star + 1, after_star
        else:
            return False
    return not pattern[at:].strip("*")
