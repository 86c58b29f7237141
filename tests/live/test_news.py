import json

from cotexd.domain.event import Frame
from cotexd.live import wire
from cotexd.live.news import KEPT, News

ADDRESSED = wire.addressed_to("u")


def news(*seqs: int) -> News:
    return News(ADDRESSED, [Frame(seq, b'"seq":%d' % seq) for seq in seqs])


def test_connections_that_are_equally_far_share_every_byte():
    made = news(7, 9)
    assert made.after(3) is made.after(3)
    assert made.after(4) is not made.after(3)


def test_each_event_names_the_one_before_it_on_the_connection():
    portion = news(7, 9).after(3)
    found = [json.loads(each.message) for each in portion.messages]
    assert [(each["seq"], each["prev"]) for each in found] == [(7, 3), (9, 7)]
    assert [each.seq for each in portion.messages] == [7, 9]
    assert portion.last == 9
    assert portion.size == sum(len(each.message) for each in portion.messages)


def test_a_crowd_that_shares_nothing_is_not_kept_in_memory():
    made = news(100)
    portions = [made.after(prev) for prev in range(3 * KEPT)]
    assert [made.after(prev) is portions[prev] for prev in range(3 * KEPT)] == [True] * KEPT + [
        False
    ] * 2 * KEPT
    assert json.loads(made.after(3 * KEPT - 1).messages[0].message)["prev"] == 3 * KEPT - 1
