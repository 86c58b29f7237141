"""What one connection asked to be sent, of all that its user may see: `repos` and `events` of its address."""

import msgspec

from cotexd.domain.event import Frame
from cotexd.errors import Invalid

MAX_NAMES = 100
"""of a kind"""
MAX_NAME = 200
"""characters"""


class Selection(msgspec.Struct, frozen=True):
    """Empty is everything. Repositories are lower-case names, or ids."""

    repos: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()

    @property
    def takes_all(self) -> bool:
        return not (self.repos or self.events)

    def takes(self, frame: Frame) -> bool:
        return self.takes_repo(frame.repo_id, frame.repo_name) and self.takes_event(frame.event_type)

    def takes_repo(self, repo_id: str, name: str) -> bool:
        return not self.repos or name.lower() in self.repos or repo_id in self.repos

    def takes_event(self, event_type: str) -> bool:
        return not self.events or event_type in self.events


EVERYTHING = Selection()


def parse(repos: str, events: str) -> Selection:
    """Read two comma separated lists; of nothing, they are EVERYTHING itself.

    :raises Invalid: too many names, or what cannot be one
    """
    asked = Selection(frozenset(name.lower() for name in _names(repos)), frozenset(_names(events)))
    return EVERYTHING if asked.takes_all else asked


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) > MAX_NAMES or any(len(name) > MAX_NAME or not name.isprintable() for name in names):
        raise Invalid(
            f"repos and events are lists of at most {MAX_NAMES} names.", hint="Leave them out for everything."
        )
    return names
