from pathlib import Path

import pytest

from cotexd.domain.vault import new_key
from cotexd.errors import Failed
from cotexd.store import Store


def test_a_key_is_made_on_the_first_start_and_never_again(database: str, tmp_path: Path):
    data = tmp_path / "data"
    Store(database, data).close()
    key = (data / "cotexd.key").read_text()
    Store(database, data).close()
    assert (data / "cotexd.key").read_text() == key


def test_without_its_key_a_database_is_not_opened_and_no_second_key_is_made(database: str, tmp_path: Path):
    data = tmp_path / "data"
    Store(database, data).close()
    (data / "cotexd.key").unlink()
    with pytest.raises(Failed, match="not in") as caught:
        Store(database, data)
    assert "COTEX_KEY" in caught.value.hint
    assert not (data / "cotexd.key").exists()


def test_another_key_is_refused(database: str, tmp_path: Path):
    Store(database, tmp_path / "data").close()
    with pytest.raises(Failed, match="not the one of this database"):
        Store(database, tmp_path / "data", new_key())


def test_a_refusal_shows_no_key(database: str, tmp_path: Path):
    Store(database, tmp_path / "data").close()
    other = new_key()
    with pytest.raises(Failed) as caught:
        Store(database, tmp_path / "data", other)
    said = caught.value.message + caught.value.hint
    assert other not in said
    assert (tmp_path / "data" / "cotexd.key").read_text().strip() not in said


def test_one_that_was_left_empty_when_the_disk_was_full_is_made_anew(database: str, tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "cotexd.key").touch(mode=0o600)
    Store(database, folder).close()
    assert len((folder / "cotexd.key").read_text().strip()) > 40
