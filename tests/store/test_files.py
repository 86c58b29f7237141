import os
import stat
from pathlib import Path

import pytest

from cotexd.store import files, touch_private


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_in_the_folder_of_another_account_is_that_accounts(tmp_path: Path):
    os.chown(tmp_path, 65534, 65534)
    with files.whole(tmp_path / "new") as half:
        half.write_text("key")
    touch_private(tmp_path / "new.db")
    assert {each.stat().st_uid for each in tmp_path.iterdir()} == {65534}
