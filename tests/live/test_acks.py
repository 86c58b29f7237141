"""How they come from clients, and what is kept of them, is in test_hub.py."""

import asyncio

from actors import logged
from lines import running

from cotexd.live.acks import Acks
from cotexd.live.session import Keep
from cotexd.operations import cursors
from cotexd.operations.accounts import Account
from cotexd.operations.cursors import Keeper
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Device


def kept(store: Store) -> dict[str, int]:
    rows = Device.select().where(Device.kind == "device")
    return store.look(lambda _: {row.name: row.cursor for row in rows})


async def test_the_furthest_of_each_is_written_when_it_is_time(store: Store, hello: Tracked, ada: Account):
    due = asyncio.Event()
    keepers = {name: Keeper(ada.id, "device", name) for name in ("laptop", "phone")}
    async with running(store):
        for name in keepers:
            store.run(cursors.attach, ada.id, device=name, cursor=None)
        logged(store, hello, 9)
        acks = Acks(store, due.set)
        for name, seq in (("laptop", 3), ("phone", 2), ("laptop", 7), ("laptop", 5)):
            acks.keep(Keep(keepers[name], seq))
        assert len(acks) == 2
        await due.wait()
        await acks.flush(9)
        assert (len(acks), kept(store)) == (0, {"laptop": 7, "phone": 2})


async def test_once_it_is_closed_it_flushes_only_when_it_is_told_to(
    store: Store, hello: Tracked, ada: Account
):
    async with running(store):
        store.run(cursors.attach, ada.id, device="laptop", cursor=None)
        logged(store, hello, 2)
        acks = Acks(store, lambda: None)
        acks.close()
        acks.keep(Keep(Keeper(ada.id, "device", "laptop"), 2))
        assert acks._timer is None
        await acks.flush(2)
        assert kept(store) == {"laptop": 2}
