"""What must be true of a run, as pure functions of what was written down.

For each client, all that it may see is known afterwards: the log, the repositories' sharing, and what it selected. Its
history has to be a walk along that row. A walk may be set back (a tail that was not acknowledged, by the rule of its
kind), and may leap only over what a `gap` announced, with the exact count; at the end it has to be at the end.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from .history import Answer, Entry, Greeting, History, Span, Spell, Who

Fault = Literal["lost", "twice", "order", "hole", "count", "foreign", "epoch", "strange"]
FAULTS: dict[Fault, str] = {
    "lost": "acknowledged, and not in the log or never delivered",
    "twice": "one delivery twice in the log, or one event twice on a connection",
    "order": "not in the order of the log",
    "hole": "left out, and not announced by a gap",
    "count": "a gap whose count is not what was missed",
    "foreign": "an event that its receiver may not see, or did not select",
    "epoch": "the log has got another name, though nothing was restored",
    "strange": "an answer that no client should meet",
}
MOST = 20
"""violations that are told of one client; one fault often brings a row of them"""


class Violation(NamedTuple):
    fault: Fault
    who: str
    what: str


class Row:
    """The seqs of all that one client may see, in order."""

    def __init__(self, seqs: Sequence[int]) -> None:
        self._seqs = seqs
        self.last = seqs[-1] if seqs else 0

    def between(self, after: int, upto: int) -> Sequence[int]:
        """Those in (after, upto]."""
        return self._seqs[bisect_right(self._seqs, after) : bisect_right(self._seqs, upto)]

    def holds(self, seq: int) -> bool:
        return bool(self.between(seq - 1, seq))


class Rows:
    """Makes them, each once for all clients that see the same."""

    def __init__(self, log: Iterable[Entry], spans: Sequence[Span]) -> None:
        self._by_repo: dict[int, list[Entry]] = {}
        for entry in log:
            if not entry.hidden:
                self._by_repo.setdefault(entry.repo, []).append(entry)
        self._spans = spans
        self._made: dict[tuple[object, ...], Row] = {}

    def of(self, who: Who) -> Row:
        key = (who.user, who.selection)
        if key not in self._made:
            self._made[key] = Row(sorted(self._seqs(who)))
        return self._made[key]

    def _seqs(self, who: Who) -> Iterator[int]:
        repos, events = who.selection.repos, who.selection.events
        for span in self._spans:
            if span.user != who.user or (repos and span.repo not in repos):
                continue
            for entry in self._by_repo.get(span.repo, ()):
                inside = span.since < entry.seq and (span.until is None or entry.seq <= span.until)
                if inside and (not events or entry.event in events):
                    yield entry.seq


def answers(given: Iterable[Answer], log: Sequence[Entry]) -> list[Violation]:
    """Nothing that was answered 200 is lost, or in the log twice; and the log has no holes."""
    found = [
        Violation("twice", "log", f"delivery {guid} is there {count} times")
        for guid, count in Counter(entry.guid for entry in log).items()
        if count > 1
    ]
    if [entry.seq for entry in log] != list(range(1, len(log) + 1)):
        found.append(Violation("lost", "log", "its seqs are not 1, 2, 3, …"))
    there = {entry.guid: entry for entry in log}
    new: set[str] = set()
    for answer in given:
        entry = there.get(answer.guid)
        if entry is None:
            found.append(Violation("lost", "log", f"{answer.guid} was answered 200 and is not there"))
        elif (entry.seq, entry.event_id) != (answer.seq, answer.event_id):
            found.append(Violation("lost", "log", f"{answer} is {entry} there"))
        if not answer.duplicate:
            if answer.guid in new:
                found.append(Violation("twice", "log", f"{answer.guid} was twice answered as new"))
            new.add(answer.guid)
    return found


def told(ids: Mapping[int, str], log: Sequence[Entry]) -> list[Violation]:
    """What clients were told each seq is, is what lies there."""
    there = {entry.seq: entry.event_id for entry in log}
    return [
        Violation("strange", "clients", f"event {seq} is {there.get(seq)}, and they were sent {event_id}")
        for seq, event_id in ids.items()
        if there.get(seq) != event_id
    ]


def hidden(log: Iterable[Entry], hides: Callable[[int, str], bool]) -> list[Violation]:
    """A repository's filter hides what it says, and nothing else."""
    return [
        Violation("strange", "log", f"{entry} by the repository's filter")
        for entry in log
        if entry.hidden != hides(entry.repo, entry.event)
    ]


def client(history: History, row: Row, epoch: str) -> list[Violation]:
    """What is wrong with one client's history."""
    walk = _Legacy(row, epoch) if history.who.kind == "legacy" else _Walk(row, epoch)
    faults: list[tuple[Fault, str]] = [("strange", what) for what in history.strange]
    for spell in history.spells:
        faults += walk.along(spell)
    faults += walk.end()
    return [Violation(fault, history.who.name, what) for fault, what in faults[:MOST]]


Faults = Iterator[tuple[Fault, str]]


class _Walk:
    """Of a client that is greeted: it knows its cursor, or the server does."""

    def __init__(self, row: Row, epoch: str) -> None:
        self._row = row
        self._epoch = epoch
        self._position: int | None = None
        """all of the row up to here was had, or announced as missing"""
        self._sent: int | None = None
        """the last seq on this connection"""

    def along(self, spell: Spell) -> Faults:
        self._sent = None
        greetings = iter(spell.greetings)
        greeting = next(greetings, None)
        for index, (seq, prev) in enumerate(zip(spell.seqs, spell.prevs, strict=True)):
            while greeting is not None and greeting.at <= index:
                yield from self._greeted(greeting)
                greeting = next(greetings, None)
            yield from self._event(seq, prev)
        while greeting is not None:
            yield from self._greeted(greeting)
            greeting = next(greetings, None)

    def end(self) -> Faults:
        if self._position is None:
            yield "lost", "it never got in"
        elif missing := self._row.between(self._position, self._row.last):
            yield "lost", f"it ended at {self._position}, {len(missing)} before the end ({missing[-1]})"

    def _greeted(self, greeting: Greeting) -> Faults:
        after, gap, position = greeting.after, greeting.gap, self._position
        if greeting.epoch != self._epoch:
            yield "epoch", f"{greeting.epoch} instead of {self._epoch}"
        if gap is not None:
            yield from self._announced(greeting)
        else:
            if greeting.asked is not None and after < greeting.asked.seq:
                yield "order", f"asked to go on from {greeting.asked.seq}, it was set back to {after}"
            yield from self._leapt(self._base(greeting, after), after)
        # At the beginning of a connection, a client without a cursor of its own is where the server says.
        told = self._sent is None and greeting.asked is None
        self._sent = after
        if told or position is None or after > position:
            self._position = after

    def _base(self, greeting: Greeting, unknown: int) -> int:
        """Up to where a client has all, as the server knows: what was sent on this connection, or before it what the
        client says. What a device has not acknowledged is sent again, and never passed over.
        """
        if greeting.asked is not None:
            return max(greeting.asked.seq, self._sent or 0)
        return next((seq for seq in (self._sent, greeting.acked) if seq is not None), unknown)

    def _announced(self, greeting: Greeting) -> Faults:
        gap = greeting.gap
        assert gap is not None
        missed = len(self._row.between(gap.asked.seq, gap.floor))
        if gap.missed != missed or not missed:
            yield "count", f"{gap} where {missed} were missed"
        if gap.asked != greeting.asked:
            known = self._base(greeting, gap.asked.seq)
            if self._row.between(known, gap.asked.seq):
                yield "hole", f"{gap} for a client at {known}"
        yield from self._leapt(gap.floor, greeting.after)

    def _event(self, seq: int, prev: int) -> Faults:
        sent = self._sent
        mine = self._row.holds(seq)
        if not mine:
            yield "foreign", f"event {seq}"
        if sent is not None and seq <= sent:
            yield ("twice" if seq == sent else "order"), f"event {seq} came after {sent}"
            return
        if sent is not None and prev != sent:
            yield "hole", f"event {seq} says that {prev} came before it, and that was {sent}"
        before = self._position if sent is None else sent
        if before is not None:
            yield from self._leapt(before, seq - 1)
        self._sent = seq
        if mine:
            self._position = max(seq, self._position or 0)

    def _leapt(self, after: int, upto: int) -> Faults:
        if skipped := self._row.between(after, upto):
            yield "hole", f"{len(skipped)} in ({after}, {upto}], beginning with {skipped[0]}"


class _Legacy(_Walk):
    """Of a client that is told nothing: each connection begins at the latest with what it has not had yet.

    What the retention has taken it is not told either.
    """

    _floor = 0

    def along(self, spell: Spell) -> Faults:
        self._floor = spell.floor
        self._position = self._position or 0
        yield from super().along(spell)

    def _leapt(self, after: int, upto: int) -> Faults:
        yield from super()._leapt(max(after, self._floor), upto)

    def end(self) -> Faults:
        if missing := self._row.between(max(self._position or 0, self._floor), self._row.last):
            yield "lost", f"it ended at {self._position}, {len(missing)} before the end ({missing[-1]})"
