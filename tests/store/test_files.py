import stat
from pathlib import Path

import pytest

from cotexd.store import files


def test_a_file_gets_its_name_when_it_is_whole_and_is_its_owners_alone(tmp_path: Path):
    file = tmp_path / "new"
    with files.whole(file) as half:
        half.write_text("all of it")
        assert not file.exists()
    assert file.read_text() == "all of it"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_one_that_could_not_be_written_leaves_nothing_and_the_old_one_as_it_was(tmp_path: Path):
    file = tmp_path / "new"
    file.write_text("old")

    def write() -> None:
        with files.whole(file) as half:
            half.write_text("half of it")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_two_that_write_the_same_file_do_not_meet_and_the_last_stays(tmp_path: Path):
    file = tmp_path / "new"
    with files.whole(file) as one, files.whole(file) as two:
        one.write_text("one")
        two.write_text("two")
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]
