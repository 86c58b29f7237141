from datetime import timedelta

import pytest
from actors import logged, push
from conftest import Clock

from cotexd.errors import Kind
from cotexd.operations import accounts, events, history, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, moving
from cotexd.store.moving import Moved


def mark(store: Store, name: str, value: str) -> None:
    store.run(lambda tx: moving.put(tx.database, name, value))


@pytest.mark.parametrize(
    ("name", "told"), [(moving.MOVED_TO, "has moved"), (moving.COPIED_FROM, "filled by a copy")]
)
def test_a_database_that_has_moved_or_is_being_filled_is_read_and_not_written(
    store: Store, ada: Account, name: str, told: str
):
    mark(store, name, "there")
    with pytest.raises(Moved, match=told) as refused:
        store.run(accounts.create, "eve")
    assert (refused.value.kind, refused.value.code) == (Kind.UNAVAILABLE, "unavailable")
    with pytest.raises(Moved):
        store.rehearse(accounts.create, "eve")
    assert [each.name for each in store.look(accounts.all_of_them)] == ["ada"]


@pytest.mark.parametrize("name", [moving.MOVED_TO, moving.COPIED_FROM])
async def test_a_server_does_not_start_on_it_and_changes_nothing_of_its_name(
    store: Store, ada: Account, name: str
):
    epoch = store.look(events.log).epoch
    store.files.lineage.write_bytes(b"another 700 \n".ljust(256))
    mark(store, name, "there")
    with pytest.raises(Moved):
        store.start(lambda _: None, lambda: None)
    assert store.look(events.log).epoch == epoch
    assert store.files.lineage.read_bytes().startswith(b"another 700")


async def test_a_server_that_runs_on_it_goes_on_reading_and_refuses_what_it_is_to_write(
    store: Store, ada: Account
):
    store.start(lambda _: None, lambda: None)
    mark(store, moving.MOVED_TO, "there")
    try:
        with pytest.raises(Moved):
            await store.write(accounts.create, "eve")
        assert (await store.read(accounts.all_of_them))[0].name == "ada"
    finally:
        await store.stop()


def test_what_is_forgotten_can_be_written_again(store: Store, ada: Account):
    mark(store, moving.COPIED_FROM, "there")
    database = store.dialect.open(read_only=False)
    moving.forget(database)
    database.close()
    store.run(accounts.create, "eve")


def test_while_it_is_copied_nothing_is_purged(store: Store, hello: Tracked, clock: Clock):
    logged(store, hello, 3, payload=push())
    clock.forward(timedelta(days=400))
    mark(store, moving.COPYING_UNTIL, (clock() + moving.HELD).isoformat())
    assert store.run(upkeep.purge, timedelta(days=14)) == 0
    assert store.run(upkeep.purge_removed) == store.run(upkeep.forget_stubs) == 0
    assert store.look(history.details, "1").payload
    clock.forward(moving.HELD)
    assert store.run(upkeep.purge, timedelta(days=14)) == 3
    assert store.look(events.log).floor == 3
