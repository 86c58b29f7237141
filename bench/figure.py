"""What a figure is given, what it gives back, and the little arithmetic that all of them share."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import Load


@dataclass(frozen=True)
class Run:
    quick: bool
    load: Load
    root: Path
    """a temporary folder; each figure makes its own in it"""
    events: int
    """in a large log, where it is not a quick run"""

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        return path


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    ours: str
    against: str = ""
    ratio: str = ""


@dataclass(frozen=True)
class Result:
    rows: list[Row]
    facts: dict[str, object]
    """for --json"""


@dataclass(frozen=True)
class Ratio:
    """One of ours to one of theirs, round by round: the machine's moods are in both."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> "Ratio":
        rounds = sorted(one / other for one, other in zip(ours, theirs, strict=True))
        return cls(statistics.median(rounds), rounds[0], rounds[-1])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"  # noqa: RUF001  # an en dash means a range

    @property
    def facts(self) -> dict[str, float]:
        return {"ratio": round(self.median, 3), "low": round(self.low, 3), "high": round(self.high, 3)}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of them are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
