"""The checker finds each fault that it is there to find, and a run under torture, on both databases, has none."""

from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.torture import check
from tests.torture.chaos import Disk, FileLimit
from tests.torture.check import Rows
from tests.torture.history import Answer, Entry, Gap, Greeting, History, Kind, Selection, Span, Spell, Who
from tests.torture.plan import Plan
from tests.torture.rule import Cursor, Rule
from tests.torture.run import torture

EPOCH = "e"
LOG = [
    Entry(seq, f"id-{seq}", f"guid-{seq}", seq % 2, "push" if seq % 3 else "star", False)
    for seq in range(1, 21)
]
"""ten events each of the repositories 0 and 1"""
ADA = [Span(0, 0, 0, None)]
HERS = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]


def at(seq: int) -> Cursor:
    return Cursor(EPOCH, seq)


def hello(after: int, *, asked: int | None = None, place: int = 0, **more: object) -> Greeting:
    return Greeting(place, None if asked is None else at(asked), EPOCH, after, **more)


def spell(seqs: Sequence[int], *greetings: Greeting, begins: int = 0, floor: int = 0) -> Spell:
    """A connection; each event says that the one before it came before it."""
    return Spell(list(greetings), array("q", seqs), array("q", [begins, *seqs[:-1]]), floor)


def faults(*spells: Spell, kind: Kind = "v2", spans: Sequence[Span] = ADA, **selected: object) -> list[str]:
    who = Who("ada's", 0, kind, Selection(**selected))
    return [each.fault for each in check.client(History(who, list(spells)), Rows(LOG, spans).of(who), EPOCH)]


def test_a_client_that_got_everything_once_in_order_is_well():
    assert faults(spell(HERS, hello(0))) == []


def test_a_client_that_goes_on_where_it_was_is_well():
    assert faults(spell([2, 4, 6], hello(0)), spell(HERS[3:], hello(6, asked=6), begins=6)) == []


def test_events_of_others_are_no_holes_in_a_history():
    assert faults(spell(HERS, hello(1), begins=1)) == []
    assert faults(spell(HERS[:2], hello(0)), spell(HERS[2:], hello(5, asked=4), begins=5)) == []


def test_a_lost_tail_is_found():
    assert faults(spell(HERS[:-1], hello(0))) == ["lost"]


def test_a_client_that_never_got_in_is_found():
    assert faults() == ["lost"]


def test_an_event_that_came_twice_is_found():
    assert "twice" in faults(spell([2, 4, 4, *HERS[2:]], hello(0)))


def test_events_out_of_order_are_found():
    assert "order" in faults(spell([2, 6, 4, *HERS[3:]], hello(0)))


def test_being_set_back_behind_the_own_cursor_is_found():
    assert faults(spell([2, 4, 6], hello(0)), spell(HERS[2:], hello(4, asked=6), begins=4)) == ["order"]


def test_a_hole_within_a_connection_is_found_though_each_event_names_the_one_before():
    assert faults(spell([2, 4, *HERS[3:]], hello(0))) == ["hole"]


def test_a_hole_between_two_connections_is_found():
    assert faults(spell([2, 4], hello(0)), spell(HERS[3:], hello(6, asked=4), begins=6)) == ["hole"]


def test_an_event_that_names_another_as_the_one_before_is_found():
    broken = spell(HERS, hello(0))
    broken.prevs[4] = 6
    assert faults(broken) == ["hole"]


def gap(asked: int, floor: int, missed: int | None) -> Gap:
    return Gap("expired", at(asked), floor, missed)


def test_a_hole_that_a_gap_announced_with_its_count_is_none():
    away = spell(HERS[4:], hello(9, asked=4, gap=gap(4, 9, 2)), begins=9)
    assert faults(spell([2, 4], hello(0)), away) == []


@pytest.mark.parametrize("missed", [1, 3, None])
def test_a_gap_with_another_count_is_found(missed: int | None):
    away = spell(HERS[4:], hello(9, asked=4, gap=gap(4, 9, missed)), begins=9)
    assert faults(spell([2, 4], hello(0)), away) == ["count"]


def test_a_gap_where_nothing_is_missing_is_found():
    away = spell(HERS[2:], hello(5, asked=4, gap=gap(4, 5, 0)), begins=5)
    assert faults(spell([2, 4], hello(0)), away) == ["count"]


def test_a_gap_that_begins_behind_what_the_client_has_is_found():
    away = spell(HERS[4:], hello(9, asked=4, gap=gap(6, 9, 1)), begins=9)
    assert faults(spell([2, 4], hello(0)), away) == ["hole"]


def test_somebody_elses_event_is_found():
    assert faults(spell([2, 3, *HERS[1:]], hello(0))) == ["foreign"]


def test_an_event_that_was_not_selected_is_found():
    pushes = [seq for seq in HERS if seq % 3]
    assert faults(spell(pushes, hello(0)), events=frozenset({"push"})) == []
    assert "foreign" in faults(spell(HERS, hello(0)), events=frozenset({"push"}))


def test_an_event_after_its_receiver_left_and_before_they_came_is_found():
    member = [Span(0, 0, 4, 16)]
    assert faults(spell(HERS[2:8], hello(0)), spans=member) == []
    assert faults(spell(HERS[1:8], hello(0)), spans=member) == ["foreign"]
    assert faults(spell(HERS[2:9], hello(0)), spans=member) == ["foreign"]


def test_a_log_that_changed_its_name_is_found():
    assert faults(spell(HERS, Greeting(0, None, "other", 0))) == ["epoch"]


def test_a_client_that_asked_to_be_set_back_may_get_events_again():
    assert faults(spell([2, 4, 6, *HERS[1:]], hello(0), hello(2, asked=2, place=3), begins=0)) == ["hole"]
    resumed = spell([2, 4, 6, *HERS[1:]], hello(0), hello(2, asked=2, place=3))
    resumed.prevs[3] = 2
    assert faults(resumed) == []


def test_a_device_may_get_again_what_it_has_not_acknowledged_but_nothing_may_be_passed_over():
    first = spell([2, 4, 6, 8], hello(0))
    assert faults(first, spell(HERS[2:], hello(4, acked=4), begins=4), kind="device") == []
    assert "hole" in faults(first, spell(HERS[3:], hello(6, acked=4), begins=6), kind="device")


@pytest.mark.parametrize("kind", ["v2", "device"])
def test_a_connected_client_that_the_retention_overtook_is_told_from_where_it_was(kind: Kind):
    def overtaken(asked: int, missed: int) -> Spell:
        again = hello(9, place=2, acked=0, gap=gap(asked, 9, missed))
        made = spell([2, 4, *HERS[4:]], hello(0, acked=0), again)
        made.prevs[2] = 9
        return made

    assert faults(overtaken(4, 2), kind=kind) == []
    assert faults(overtaken(4, 3), kind=kind) == ["count"]
    assert faults(overtaken(6, 1), kind=kind) == ["hole"]


def test_a_connected_client_that_is_greeted_again_without_a_gap_may_be_missing_nothing():
    whole = spell(HERS, hello(0), hello(5, place=2))
    whole.prevs[2] = 5
    assert faults(whole) == []
    holed = spell([2, 4, *HERS[4:]], hello(0), hello(9, place=2))
    holed.prevs[2] = 9
    assert faults(holed) == ["hole"]


def test_a_legacy_client_may_get_its_tail_again():
    first = spell([2, 4, 6, 8])
    assert faults(first, spell(HERS[2:], begins=4), kind="legacy") == []


def test_a_legacy_client_that_loses_an_event_is_found():
    first = spell([2, 4, 6, 8])
    assert faults(first, spell(HERS[5:], begins=10), kind="legacy") == ["hole"]
    assert faults(first, spell([6, 10, *HERS[5:]], begins=4), kind="legacy") == ["hole"]
    assert faults(first, spell(HERS[4:-1], begins=8), kind="legacy") == ["lost"]


def test_a_legacy_client_is_told_of_nothing_that_the_retention_took_and_of_no_more_than_that():
    first = spell([2, 4])
    assert faults(first, spell(HERS[4:], begins=9, floor=9), kind="legacy") == []
    assert faults(first, spell(HERS[5:], begins=9, floor=9), kind="legacy") == ["hole"]


ANSWERS = [Answer(each.guid, each.seq, each.event_id, duplicate=False) for each in LOG]


def log_faults(answers: Sequence[Answer], log: Sequence[Entry]) -> set[str]:
    return {each.fault for each in check.answers(answers, log)}


def test_a_log_that_holds_every_200_once_is_well():
    assert log_faults([*ANSWERS, ANSWERS[3]._replace(duplicate=True)], LOG) == set()


def test_a_200_that_is_not_in_the_log_is_found():
    assert log_faults(ANSWERS, LOG[:-1]) == {"lost"}


def test_a_200_that_names_another_event_than_the_logs_is_found():
    assert log_faults([ANSWERS[0]._replace(seq=2)], LOG) == {"lost"}
    assert log_faults([ANSWERS[0]._replace(event_id="id-2")], LOG) == {"lost"}


def test_a_hole_in_the_log_is_found():
    assert log_faults([], [*LOG[:5], *LOG[6:]]) == {"lost"}


def test_a_delivery_that_is_twice_in_the_log_is_found():
    assert log_faults([], [*LOG, LOG[0]._replace(seq=21)]) == {"twice"}


def test_a_delivery_that_was_twice_taken_as_new_is_found():
    assert log_faults([*ANSWERS, ANSWERS[3]], LOG) == {"twice"}


def test_an_event_whose_id_the_log_does_not_know_is_found():
    assert check.told({1: "id-1"}, LOG) == []
    assert [each.fault for each in check.told({1: "id-2"}, LOG)] == ["strange"]


def test_an_event_that_a_filter_should_have_hidden_is_found():
    assert check.hidden(LOG, lambda _, __: False) == []
    assert len(check.hidden(LOG, lambda repo, event: (repo, event) == (1, "star"))) == 3


def test_the_rule_drops_what_it_has_and_resumes_at_a_hole():
    rule = Rule()
    rule.greeted(EPOCH, 4, gap=False)
    assert [rule.meets(6, 4), rule.meets(6, 4), rule.meets(10, 8), rule.meets(8, 6)] == [
        "apply",
        "drop",
        "resume",
        "apply",
    ]


def test_the_rule_follows_a_gap_and_another_epoch_and_is_not_set_back_by_its_own():
    rule = Rule()
    rule.greeted(EPOCH, 4, gap=False)
    rule.greeted(EPOCH, 2, gap=False)
    assert rule.cursor == at(4)
    rule.greeted(EPOCH, 3, gap=True)
    assert rule.cursor == at(3)
    rule.greeted("f", 1, gap=False)
    assert rule.cursor == Cursor("f", 1)


def test_a_seed_repeats_who_does_what():
    one, other = Plan(7, 60), Plan(7, 60)
    assert (one.repos, one.clients) == (other.repos, other.clients)
    assert [one.delivery(number) for number in range(50)] == [other.delivery(number) for number in range(50)]
    assert one.clients != Plan(8, 60).clients


@pytest.mark.timeout(300)
async def test_nothing_is_lost_twice_out_of_order_hidden_or_shown_to_others_under_torture(
    database: str, tmp_path: Path
):
    disk = Disk if database else FileLimit
    outcome = await torture(tmp_path, database, Plan(20, 72), 1500, disk, limit=240)
    assert outcome.violations == []
    assert outcome.events == 1500
    hand = [
        "kills",
        "terminations",
        "pauses",
        "cuts",
        "hints dropped",
        "answers lost",
        "purges",
        "shares changed",
    ]
    assert all(outcome.counts[each] for each in hand)
    assert outcome.counts["gaps announced"]
    assert outcome.counts["duplicates refused"]
    assert not outcome.counts["exits other than 0"]
    assert outcome.errors == []
