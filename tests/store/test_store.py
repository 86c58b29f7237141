import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cotexd.domain.vault import new_key
from cotexd.errors import Failed, NotFound, Unavailable
from cotexd.operations import accounts
from cotexd.store import Store, Tx, migrations
from cotexd.store.models import Setting


@pytest.fixture
async def serving(store: Store) -> AsyncIterator[Store]:
    store.start(lambda batch: None, lambda: None)
    yield store
    await store.stop()


def note(tx: Tx, name: str) -> str:
    del tx
    Setting.insert(name=name, value="x").execute()
    return name


def notes(_: Tx) -> list[str]:
    return [
        row.name for row in Setting.select().where(Setting.name != "key_fingerprint").order_by(Setting.name)
    ]


def note_and_fail(tx: Tx, name: str) -> None:
    note(tx, name)
    raise NotFound("no")


def test_what_is_run_is_there_and_can_be_looked_at(store: Store):
    assert store.run(note, "a") == "a"
    assert store.look(notes) == ["a"]


def test_what_fails_leaves_nothing(store: Store):
    with pytest.raises(NotFound):
        store.run(note_and_fail, "a")
    assert store.look(notes) == []


def test_a_look_cannot_write(store: Store):
    with pytest.raises(Exception, match=r"readonly|read-only|cannot be used"):
        store.look(note, "a")
    assert store.look(notes) == []


async def test_what_is_written_can_be_read(serving: Store):
    assert await serving.write(note, "a") == "a"
    assert await serving.read(notes) == ["a"]


async def test_a_read_cannot_write(serving: Store):
    with pytest.raises(Exception, match=r"readonly|read-only|cannot be used"):
        await serving.read(note, "a")
    assert await serving.read(notes) == []


async def test_reads_run_beside_one_another(serving: Store):
    assert await asyncio.gather(*(serving.read(notes) for _ in range(50))) == [[]] * 50


async def test_after_the_end_everything_is_refused(store: Store):
    store.start(lambda batch: None, lambda: None)
    await store.stop()
    with pytest.raises(Unavailable):
        await store.write(note, "a")
    with pytest.raises(Unavailable):
        await store.read(notes)


async def test_what_was_submitted_before_the_end_is_finished(store: Store, database: str, tmp_path: Path):
    store.start(lambda batch: None, lambda: None)
    writes = [asyncio.ensure_future(store.write(note, f"{number:03}")) for number in range(300)]
    await asyncio.sleep(0)
    await store.stop()
    assert len(await asyncio.gather(*writes)) == 300
    again = Store(database, tmp_path / "data")
    assert len(again.look(notes)) == 300
    again.close()


async def test_another_process_is_noticed(store: Store, database: str, tmp_path: Path):
    moved = asyncio.Event()
    store.start(lambda batch: None, moved.set)
    other = Store(database, tmp_path / "data")
    await asyncio.sleep(0)
    moved.clear()
    await asyncio.to_thread(other.run, note, "a")
    await asyncio.wait_for(moved.wait(), 20)
    other.close()
    await store.stop()


def test_two_stores_in_one_process_do_not_mix(tmp_path: Path):
    first, second = Store("", tmp_path / "1"), Store("", tmp_path / "2")
    first.run(note, "a")
    second.run(note, "b")
    assert (first.look(notes), second.look(notes)) == (["a"], ["b"])
    first.close()
    second.close()


def test_the_data_folder_is_made_for_its_owner_only(tmp_path: Path):
    Store("", tmp_path / "deep" / "data").close()
    folder = tmp_path / "deep" / "data"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_an_empty_folder_that_is_open_is_closed_and_taken(tmp_path: Path):
    (tmp_path / "data").mkdir(mode=0o755)
    Store("", tmp_path / "data").close()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize(("name", "mode"), [("", 0o755), ("cotexd.key", 0o644), ("cotexd.db", 0o640)])
def test_what_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path: Path, name: str, mode: int):
    Store("", tmp_path / "data").close()
    (tmp_path / "data" / name).chmod(mode)
    with pytest.raises(Failed) as caught:
        Store("", tmp_path / "data")
    assert "chmod" in caught.value.hint


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "cotexd.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    (tmp_path / "data" / "cotexd.db").chmod(0o600)
    with pytest.raises(Failed, match="damaged"):
        Store("", tmp_path / "data")


def test_a_database_server_that_is_away_is_unavailable(tmp_path: Path):
    with pytest.raises(Unavailable):
        Store("postgresql://nobody@127.0.0.1:1/nothing", tmp_path / "data")


def test_a_store_describes_itself(store: Store):
    state = store.describe()
    assert (state.engine, state.schema) == (store.dialect.name, migrations.SCHEMA)
    assert state.size_bytes > 0


def test_a_users_name_is_one_user_even_when_two_processes_add_it(store: Store, database: str, tmp_path: Path):
    other = Store(database, tmp_path / "data")
    store.run(accounts.create, "ada")
    with pytest.raises(Exception, match="already"):
        other.run(accounts.create, "ada")
    other.close()


def test_a_key_from_the_configuration_needs_no_file(tmp_path: Path):
    key = new_key()
    Store("", tmp_path / "data", key).close()
    assert not (tmp_path / "data" / "cotexd.key").exists()
    Store("", tmp_path / "data", key).close()


async def test_after_a_flush_what_was_given_to_the_writer_before_is_committed(serving: Store):
    done: list[int] = []
    writes = [asyncio.ensure_future(serving.write(lambda _, n=n: done.append(n))) for n in range(3)]
    await asyncio.sleep(0)
    await serving.flush()
    assert done == [0, 1, 2]
    assert all(each.done() for each in writes)
