import shutil
from pathlib import Path

import pytest
from actors import logged
from conftest import Clock

from cotexd.domain.cursor import Log
from cotexd.errors import Failed
from cotexd.operations import events, nodes
from cotexd.operations.nodes import Server
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx
from cotexd.store.lineage import LineageFile
from cotexd.store.models import Event, LogState


def advance(tx: Tx, head: int) -> None:
    tx.head = head
    LogState.update(head=head).execute()


async def served(data: Path, head: int | None = None) -> tuple[bool, Log]:
    """Start a store as a server does, and stop it: was there a new epoch, and how the log stands."""
    store = Store("", data)
    renewed = store.start(lambda batch: None, lambda: None)
    if head is not None:
        await store.write(advance, head)
    log = await store.read(events.log)
    await store.stop()
    return renewed, log


async def test_a_restart_keeps_the_epoch(tmp_path: Path):
    _, before = await served(tmp_path / "data", 5)
    renewed, after = await served(tmp_path / "data")
    assert not renewed
    assert after == before


async def test_a_database_that_was_set_back_gets_a_new_epoch_that_knows_the_old_one(tmp_path: Path):
    data = tmp_path / "data"
    _, before = await served(data, 5)
    shutil.copy(data / "cotexd.db", tmp_path / "copy")
    await served(data, 9)
    for leftover in data.glob("cotexd.db*"):
        leftover.unlink()
    shutil.copy(tmp_path / "copy", data / "cotexd.db")
    (data / "cotexd.db").chmod(0o600)
    renewed, after = await served(data)
    assert renewed
    assert after.epoch != before.epoch
    assert [(each.epoch, each.head) for each in after.lineage] == [(before.epoch, 5)]


async def test_a_database_that_was_swapped_gets_a_new_epoch(tmp_path: Path):
    data, other = tmp_path / "data", tmp_path / "other"
    await served(data, 5)
    await served(other, 7)
    assert not list(other.glob("cotexd.db-*")), "a closed database is one file"
    for name in ("cotexd.db", "cotexd.key"):
        shutil.copy(other / name, data / name)
    renewed, _ = await served(data)
    assert renewed


async def test_a_lost_lineage_file_is_no_reason_for_a_new_epoch(tmp_path: Path):
    data = tmp_path / "data"
    _, before = await served(data, 5)
    (data / "cotexd.lineage").unlink()
    renewed, after = await served(data)
    assert not renewed
    assert after.epoch == before.epoch


async def test_a_damaged_lineage_file_is_written_anew(tmp_path: Path):
    data = tmp_path / "data"
    await served(data, 5)
    (data / "cotexd.lineage").write_bytes(b"\xff\x00 nonsense")
    assert not (await served(data))[0]
    assert (data / "cotexd.lineage").read_text().split()[1] == "5"


# Under a server that runs, and where several do.


def beats(store: Store, clock: Clock, node_id: str) -> None:
    store.run(nodes.beat, Server(node_id, "http://there", "1.0", 1, 0, clock()))


def known(store: Store, path: Path, node_id: str = "") -> LineageFile:
    """The file of a server that has seen all there is."""
    file = LineageFile(path, node_id)
    _, tx = store.run(lambda tx: (file.check(tx), tx))
    file.write(tx)
    return file


def set_back(tx: Tx, head: int) -> None:
    Event.delete().where(Event.seq > head).execute()
    LogState.update(head=head).execute()


def ancestors(store: Store) -> list[tuple[str, int]]:
    return [(each.epoch, each.head) for each in store.look(events.log).lineage]


def test_a_log_that_goes_on_is_the_same_one_for_every_server(store: Store, hello: Tracked, tmp_path: Path):
    logged(store, hello, 3)
    one, two = known(store, tmp_path / "1"), known(store, tmp_path / "2")
    logged(store, hello, 2)
    assert not store.run(one.guard)
    assert not store.run(two.check)
    assert not ancestors(store)


def test_a_log_that_is_set_back_under_a_server_gets_a_new_epoch_before_anything_is_written(
    store: Store, hello: Tracked, tmp_path: Path
):
    logged(store, hello, 5)
    file = known(store, tmp_path / "1")
    epoch = store.look(events.log).epoch
    store.run(set_back, 3)
    assert store.run(file.guard)
    assert ancestors(store) == [(epoch, 3)]


def test_a_log_whose_state_is_gone_is_said_to_be_damaged(store: Store, hello: Tracked, tmp_path: Path):
    file = known(store, tmp_path / "1")

    def lost(tx: Tx) -> None:
        LogState.delete().execute()
        file.guard(tx)

    with pytest.raises(Failed, match="its log's state is gone"):
        store.run(lost)


def test_another_event_in_the_place_of_the_last_one_is_another_log(
    store: Store, hello: Tracked, tmp_path: Path
):
    """It was set back, and has come further since, by a server that had not seen what was lost."""
    logged(store, hello, 5)
    file = known(store, tmp_path / "1")
    epoch = store.look(events.log).epoch
    store.run(set_back, 3)
    logged(store, hello, 4)
    assert store.run(file.check)
    assert ancestors(store) == [(epoch, 0)]


def test_of_two_servers_of_a_log_that_was_set_back_one_gives_it_a_new_epoch(
    store: Store, hello: Tracked, tmp_path: Path
):
    logged(store, hello, 5)
    one, two = known(store, tmp_path / "1"), known(store, tmp_path / "2")
    store.run(set_back, 3)
    assert store.run(one.guard)
    logged(store, hello, 4)
    assert not store.run(two.guard)
    assert len(ancestors(store)) == 1


def test_where_another_server_may_have_written_on_nothing_of_what_was_set_back_is_shared(
    store: Store, hello: Tracked, clock: Clock, tmp_path: Path
):
    logged(store, hello, 5)
    file = known(store, tmp_path / "1", "mine")
    epoch = store.look(events.log).epoch
    store.run(set_back, 2)
    logged(store, hello, 2)
    beats(store, clock, "mine")
    beats(store, clock, "another")
    assert store.run(file.guard)
    assert ancestors(store) == [(epoch, 0)]


def test_a_server_that_joins_others_with_the_file_of_another_log_takes_theirs(
    store: Store, hello: Tracked, clock: Clock, tmp_path: Path
):
    (tmp_path / "1").write_bytes(b"another 700 - id\n".ljust(256))
    beats(store, clock, "another")
    assert not store.run(LineageFile(tmp_path / "1", "mine").check)
    assert not ancestors(store)


def test_what_was_handed_out_beyond_the_end_of_the_log_makes_a_new_epoch_once(
    store: Store, hello: Tracked, tmp_path: Path
):
    logged(store, hello, 3)
    file = known(store, tmp_path / "1")
    epoch = store.look(events.log).epoch
    store.run(file.behind, epoch, 3)
    assert not ancestors(store)
    for _ in range(2):
        store.run(file.behind, epoch, 4)
    assert ancestors(store) == [(epoch, 3)]
