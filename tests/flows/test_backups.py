import os
import stat
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from actors import logged
from conftest import Clock

from cotexd.errors import Failed, Invalid, Unavailable
from cotexd.flows.backups import Backups
from cotexd.operations import backups
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, backup, files
from cotexd.store.sealing import Opened, is_sealed

DAY = timedelta(days=1)


@pytest.fixture
async def serving(store: Store) -> AsyncIterator[Store]:
    store.start(lambda batch: None, lambda: None)
    yield store
    await store.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "backups"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def test_one_is_made_when_it_is_time_and_not_before(
    serving: Store, hello: Tracked, folder: Path, clock: Clock
):
    logged(serving, hello, 3)
    made = Backups(serving, folder, DAY, 7)
    await made.look()
    await made.look()
    assert names(folder) == ["cotex-20261124T120000Z.backup"]
    clock.forward(DAY - timedelta(seconds=1))
    await made.look()
    assert len(names(folder)) == 1
    clock.forward(timedelta(seconds=1))
    await made.look()
    assert names(folder) == ["cotex-20261124T120000Z.backup", "cotex-20261125T120000Z.backup"]
    assert serving.look(backups.noted) == clock()


async def test_it_is_whole_holds_the_key_and_is_closed_to_others(
    serving: Store, hello: Tracked, folder: Path
):
    logged(serving, hello, 3)
    await Backups(serving, folder, DAY, 7).look()
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o600, 0o700)
    with file.open("rb") as source:
        head = backup.read_head(source)
    assert (head.head, head.key) == (3, serving.files.key.read_text().strip())


async def test_with_a_passphrase_only_that_opens_it(serving: Store, hello: Tracked, folder: Path):
    logged(serving, hello, 3)
    await Backups(serving, folder, DAY, 7, passphrase="correct horse").look()
    (file,) = folder.iterdir()
    with file.open("rb") as source:
        assert is_sealed(source)
        with pytest.raises(Invalid, match="passphrase"):
            backup.read_head(cast("BinaryIO", Opened(source, "wrong")))
        assert backup.read_head(cast("BinaryIO", Opened(source, "correct horse"))).head == 3


async def test_the_oldest_go_and_nothing_that_is_not_ours(serving: Store, folder: Path, clock: Clock):
    folder.mkdir(parents=True)
    (folder / "cotex-by-hand.backup").touch()
    made = Backups(serving, folder, DAY, 2)
    for _ in range(4):
        await made.look()
        clock.forward(DAY)
    assert names(folder) == [
        "cotex-20261126T120000Z.backup",
        "cotex-20261127T120000Z.backup",
        "cotex-by-hand.backup",
    ]


async def test_one_by_hand_does_not_put_the_next_off(serving: Store, folder: Path, clock: Clock):
    made = Backups(serving, folder, DAY, 7)
    await made.look()
    clock.forward(DAY / 2)
    await serving.write(backups.note)
    clock.forward(DAY / 2)
    await made.look()
    assert len(names(folder)) == 2


async def test_a_server_that_stops_does_not_wait_for_it_and_leaves_nothing_half(
    store: Store, hello: Tracked, folder: Path
):
    logged(store, hello, 3)
    store.start(lambda batch: None, lambda: None)
    store._closing.set()
    with pytest.raises(Unavailable, match="shutting down"):
        await Backups(store, folder, DAY, 7).look()
    assert names(folder) == []
    await store.stop()


async def test_one_of_a_clock_that_was_ahead_puts_the_next_off_by_no_more_than_another(
    serving: Store, folder: Path, clock: Clock
):
    made = Backups(serving, folder, DAY, 7)
    clock.forward(10 * DAY)
    await made.look()
    clock.forward(-10 * DAY)
    await made.look()
    assert len(names(folder)) == 2


async def test_of_two_servers_one_makes_it(serving: Store, folder: Path):
    for _ in range(2):
        await Backups(serving, folder, DAY, 7).look()
    assert len(names(folder)) == 1


async def test_unless_it_is_asked_for_none_is_made(serving: Store, folder: Path):
    await Backups(serving, folder, timedelta(0), 7).look()
    assert not folder.exists()


async def test_what_killed_servers_left_half_goes_and_what_is_being_written_stays(
    serving: Store, folder: Path
):
    folder.mkdir(parents=True)
    left, written = folder / f".cotex-1{files.HALF}", folder / f".cotex-2{files.HALF}"
    for half, age in ((left, backups.CLAIM.total_seconds() + 60), (written, 60)):
        half.touch()
        os.utime(half, (time.time() - age,) * 2)
    await Backups(serving, folder, DAY, 7).look()
    assert names(folder) == [written.name, "cotex-20261124T120000Z.backup"]


async def test_where_none_can_be_written_it_is_said_and_tried_again_later(
    serving: Store, tmp_path: Path, clock: Clock
):
    (tmp_path / "file").touch()
    made = Backups(serving, tmp_path / "file", DAY, 7)
    with pytest.raises(Failed, match="cannot be kept: File exists"):
        await made.look()
    await made.look()  # not in each turn
    (tmp_path / "file").unlink()
    clock.forward(backups.CLAIM)
    await made.look()
    assert len(names(tmp_path / "file")) == 1
