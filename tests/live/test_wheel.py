import itertools
from datetime import UTC, datetime

import pytest

from cotexd.live.connection import Connection
from cotexd.live.wheel import PARTS, SOON, SOON_PARTS, TICK, Wheel

HALF_A_SECOND = 0.5
NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Session:
    """Rests until `due`."""

    def __init__(self, due: float) -> None:
        self.due = due

    def rests(self, now: float) -> bool:
        return now < self.due


class Looked(Connection):
    """Writes down when it was looked at, and has nothing else to do."""

    def __init__(self, due: float = 1e9) -> None:
        self.session = Session(due)  # type: ignore[assignment]
        self.part = 0
        self.looks: list[float] = []

    def tick(self, now: float, moment: datetime) -> None:
        self.looks.append(now)


def turn(wheel: Wheel, seconds: float, begin: float = 0.0) -> None:
    for number in range(round(seconds / TICK)):
        wheel.turn(begin + number * TICK, NOW)


def gaps(looks: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(looks)]


def test_one_that_waits_in_peace_is_looked_at_once_when_it_comes_and_then_left_alone():
    wheel, quiet = Wheel(), Looked()
    wheel.add(quiet)
    turn(wheel, 60)
    assert len(quiet.looks) == 1
    assert quiet.looks[0] < HALF_A_SECOND


@pytest.mark.parametrize("place", [0, 1, 7, PARTS - 1])
def test_one_that_has_something_to_do_is_looked_at_twice_a_second_by_then(place: int):
    wheel, busy = Wheel(), Looked(due=30)
    for _ in range(place):
        wheel.add(Looked())
    wheel.add(busy)
    turn(wheel, 40)
    found = [look for look in busy.looks if look >= 30 - HALF_A_SECOND]
    assert found[0] <= 30 <= found[-1] and found[1] <= 30 + HALF_A_SECOND + TICK
    assert gaps(found) == pytest.approx([SOON_PARTS * TICK] * (len(found) - 1))


def test_one_that_is_woken_is_looked_at_within_half_a_second_and_until_it_rests():
    wheel, woken = Wheel(), Looked()
    wheel.add(woken)
    turn(wheel, 20)
    woken.looks.clear()
    woken.session.due = 0
    wheel.wake(woken)
    turn(wheel, 2, 20)
    assert len(woken.looks) == 4
    woken.session.due = 1e9
    turn(wheel, 20, 22)
    assert len(woken.looks) == 5


def test_one_whose_time_was_moved_is_found_in_the_round_of_all():
    wheel, moved = Wheel(), Looked()
    wheel.add(moved)
    turn(wheel, 20)
    moved.session.due = 21
    moved.looks.clear()
    turn(wheel, PARTS * TICK, 20)
    assert moved.looks
    assert PARTS * TICK < SOON


def test_one_that_has_gone_is_not_looked_at_nor_woken():
    wheel, gone, other = Wheel(), Looked(due=0), Looked(due=0)
    wheel.add(gone)
    wheel.add(other)
    assert (len(wheel), set(wheel)) == (2, {gone, other})
    wheel.discard(gone)
    wheel.discard(gone)
    wheel.wake(gone)
    turn(wheel, 10)
    assert (gone.looks, len(wheel), list(wheel)) == ([], 1, [other])


def test_many_are_spread_over_the_turns():
    wheel, many = Wheel(), [Looked(due=0) for _ in range(1000)]
    for each in many:
        wheel.add(each)
    wheel.turn(0, NOW)
    assert sum(len(each.looks) for each in many) == len(many) / SOON_PARTS
