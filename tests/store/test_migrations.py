import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tables import another_postgres

from cotexd.errors import Failed
from cotexd.operations import accounts, check, history, members, repositories
from cotexd.store import Store, Tx, migrations

SCHEMAS = Path(__file__).with_name("schemas")
KEY = "0WhWuT_MAHC3k0l5Ai_LIlKFSFklfCnDMbUNax3DYd8="
"""that opens the secrets of the databases there"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> str:
    """One that is empty, where others' begin migrated."""
    return "" if request.param == "sqlite" else another_postgres(request)


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


# From a database that an older version has made: ada, who shares octo/hello with grace, and three events.


@pytest.fixture(params=sorted(SCHEMAS.glob("*.sql")), ids=lambda file: f"schema {file.stem}")
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder with it."""
    folder = tmp_path / "older"
    folder.mkdir(mode=0o700)
    for name, content in (("cotexd.key", KEY), ("cotexd.db", "")):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(content)
    with closing(sqlite3.connect(folder / "cotexd.db")) as database:
        database.executescript(request.param.read_text())
    return folder


def version(file: Path) -> int:
    with closing(sqlite3.connect(file)) as database:
        return int(database.execute("SELECT version FROM schema_version").fetchone()[0])


def test_an_older_database_is_brought_up_to_date_with_all_that_is_in_it(older: Path):
    before = version(older / "cotexd.db")
    store = Store("", older)
    assert (store.migrated, store.describe().schema) == (migrations.SCHEMA - before, migrations.SCHEMA)
    (tracked,) = store.look(repositories.everyone)
    assert (tracked.repo_name, [each.name for each in store.look(accounts.all_of_them)]) == (
        "octo/hello",
        ["ada", "grace"],
    )
    assert len(store.look(repositories.secret_of, tracked.id)) == 64
    shared = store.look(members.listing, tracked.user_id, tracked.id)
    assert {each.name for each in shared} == {"ada", "grace"}
    assert store.look(history.details, "3").payload
    assert store.look(check.check).good
    store.close()


def test_the_older_one_is_kept_beside_it_and_can_be_put_back(older: Path):
    before = version(older / "cotexd.db")
    Store("", older).close()
    kept = older / f"cotexd.db.schema-{before}"
    assert version(kept) == before
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    written = kept.stat().st_mtime_ns
    Store("", older).close()
    assert kept.stat().st_mtime_ns == written
    assert {each.name for each in older.iterdir()} == {"cotexd.key", "cotexd.db", kept.name}


def test_after_one_was_put_back_the_next_upgrade_keeps_what_there_was_before_that(older: Path):
    before = version(older / "cotexd.db")
    Store("", older).close()
    kept = older / f"cotexd.db.schema-{before}"
    kept.rename(older / "cotexd.db")
    with closing(sqlite3.connect(older / "cotexd.db")) as database:
        database.execute("INSERT INTO setting VALUES ('since', 'then')")
        database.commit()
    kept.write_text("of the first upgrade")
    Store("", older).close()
    with closing(sqlite3.connect(kept)) as database:
        assert database.execute("SELECT value FROM setting WHERE name = 'since'").fetchone() == ("then",)


def test_where_the_older_one_cannot_be_kept_the_upgrade_is_refused(older: Path):
    before = version(older / "cotexd.db")
    (older / f"cotexd.db.schema-{before}").mkdir()
    with pytest.raises(Failed, match="cannot be made"):
        Store("", older)
    assert version(older / "cotexd.db") == before
