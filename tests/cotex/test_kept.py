from pathlib import Path

import pytest

from cotex.kept import Kept
from cotexd.errors import Failed

CURSOR = "0123abcd.7"


def test_what_is_kept_is_there_the_next_time(tmp_path: Path):
    with Kept(tmp_path, "tail", "ada") as kept:
        assert (kept.mine, kept.cursor) == (True, None)
        kept.keep(CURSOR)
    with Kept(tmp_path, "tail", "ada") as kept:
        assert kept.cursor == CURSOR


def test_one_purpose_knows_nothing_of_another(tmp_path: Path):
    with Kept(tmp_path, "tail", "ada") as kept:
        kept.keep(CURSOR)
    for other in (("tail", "bob"), ("forward", "ada"), ("tail", "ada", ""), ("tailada",)):
        with Kept(tmp_path, *other) as kept:
            assert kept.cursor is None


def test_who_comes_second_has_it_not_and_writes_nothing(tmp_path: Path):
    with Kept(tmp_path, "tail") as first:
        first.keep(CURSOR)
        with Kept(tmp_path, "tail") as second:
            assert (second.mine, second.cursor) == (False, None)
            second.keep("ffff.9")
    with Kept(tmp_path, "tail") as third:
        assert (third.mine, third.cursor) == (True, CURSOR)


@pytest.mark.parametrize("spoilt", ["", "nonsense", "0123.x", "\x00"])
def test_what_is_no_cursor_is_as_good_as_none(tmp_path: Path, spoilt: str):
    with Kept(tmp_path, "tail") as kept:
        kept.keep(CURSOR)
    (file,) = (each for each in (tmp_path / "cursors").iterdir() if not each.suffix)
    file.write_text(spoilt)
    with Kept(tmp_path, "tail") as kept:
        assert kept.cursor is None


def test_a_folder_that_cannot_be_is_refused_in_words(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="can't be kept"):
        Kept(tmp_path / "file", "tail")
