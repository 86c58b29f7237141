from datetime import timedelta

from conftest import Clock

from cotexd.operations import backups
from cotexd.store import Store


def test_nobody_has_made_a_backup_at_first(store: Store):
    assert store.look(backups.noted) is None


def test_when_the_last_one_was_made_is_known(store: Store, clock: Clock):
    store.run(backups.note)
    clock.forward(timedelta(days=1))
    store.run(backups.note)
    assert store.look(backups.noted) == clock()
