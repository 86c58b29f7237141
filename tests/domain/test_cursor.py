import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain.cursor import MAX_SEQ, Ancestor, Cursor, Log, Place, parse, place
from cotexd.errors import InvalidCursor

LOG = Log("c0", head=100, floor=10, lineage=(Ancestor("a0", 50), Ancestor("b0", 40)))


@given(st.from_regex(r"\A[0-9a-f]{1,64}\Z"), st.integers(0, MAX_SEQ))
def test_a_cursor_is_read_as_it_is_written(epoch: str, seq: int):
    assert parse(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


@pytest.mark.parametrize(
    "text", ["", "5", "c0.", ".5", "c0.-1", "c0.5 ", "C0.5", f"c0.{MAX_SEQ + 1}", "c0.\u0665", "c0.1.2"]
)
def test_what_is_no_cursor_is_refused(text: str):
    with pytest.raises(InvalidCursor):
        parse(text)


@pytest.mark.parametrize(
    ("cursor", "expected"),
    [
        (Cursor("c0", 100), Place(100)),
        (Cursor("c0", 10), Place(10)),
        (Cursor("c0", 9), Place(10, "expired")),
        (Cursor("c0", 101), Place(100, "ahead")),
        (Cursor("b0", 40), Place(40)),
        (Cursor("b0", 41), Place(40, "epoch")),
        (Cursor("a0", 40), Place(40)),
        # Between the heads of two restores: the later one went back further.
        (Cursor("a0", 45), Place(40, "epoch")),
        (Cursor("a0", 5), Place(10, "expired")),
        (Cursor("ff", 5), Place(10, "epoch")),
    ],
)
def test_a_client_goes_on_where_the_logs_are_still_the_same(cursor: Cursor, expected: Place):
    assert place(cursor, LOG) == expected
