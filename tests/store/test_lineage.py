import shutil
from pathlib import Path

from cotexd.domain.cursor import Log
from cotexd.operations import events
from cotexd.store import Store, Tx
from cotexd.store.models import LogState


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
