from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cotexd.errors import Failed
from cotexd.operations import accounts
from cotexd.store import Store, Tx, migrations


def test_the_first_start_makes_the_schema_and_the_second_does_nothing(database: str, tmp_path: Path):
    first = Store(database, tmp_path / "data")
    assert first.migrated == migrations.SCHEMA
    first.close()
    second = Store(database, tmp_path / "data")
    assert second.migrated == 0
    second.close()


def test_the_tiers_are_there_from_the_start(store: Store):
    assert [(tier.name, tier.repos) for tier in store.look(accounts.all_tiers)] == [("free", 2), ("pro", 10)]


def test_a_newer_schema_is_refused(database: str, tmp_path: Path):
    store = Store(database, tmp_path / "data")
    store.run(lambda tx: tx.database.execute_sql("UPDATE schema_version SET version = 99"))
    store.close()
    with pytest.raises(Failed, match="schema 99"):
        Store(database, tmp_path / "data")


def test_two_that_start_at_once_migrate_once(database: str, tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store(database, tmp_path / "data"), range(4)))
    assert sum(store.migrated for store in stores) == migrations.SCHEMA
    for store in stores:
        store.close()


def test_a_step_that_fails_leaves_nothing_behind(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Store(database, tmp_path / "data").close()
    bad = (*migrations.STEPS, "CREATE TABLE half_done (id INTEGER); CREATE TABLE half_done (id INTEGER)")
    monkeypatch.setattr(migrations, "STEPS", bad)
    monkeypatch.setattr(migrations, "SCHEMA", len(bad))
    with pytest.raises(Exception, match="half_done"):
        Store(database, tmp_path / "data")
    monkeypatch.undo()
    store = Store(database, tmp_path / "data")

    def exists(tx: Tx) -> bool:
        return tx.database.table_exists("half_done")

    assert not store.look(exists)
    store.close()
