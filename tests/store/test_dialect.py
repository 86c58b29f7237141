import threading
from pathlib import Path

import psycopg
import pytest
from tables import another_postgres

from cotexd.errors import Failed, Invalid
from cotexd.store import Store, Tx, dialect
from cotexd.store.models import LogState


def take_one(_: Tx) -> int:
    """A read followed by a write: what loses updates, or is refused, where transactions are not alone."""
    head = int(LogState.get_by_id(1).head)
    LogState.update(head=head + 1).execute()
    return head


def test_writers_in_several_processes_wait_for_one_another(database: str, tmp_path: Path):
    stores = [Store(database, tmp_path / "data") for _ in range(4)]
    taken: list[int] = []

    def work(store: Store) -> None:
        taken.extend(store.run(take_one) for _ in range(25))

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(100))
    for store in stores:
        store.close()


@pytest.mark.postgres
def test_writers_that_have_nothing_to_wait_for_in_turn_are_refused(
    tmp_path: Path, request: pytest.FixtureRequest
):
    store = Store(another_postgres(request), tmp_path / "data")
    store.run(lambda _: LogState.delete().execute())
    with pytest.raises(Failed, match="its log's state is gone"):
        store.run(take_one)
    store.close()


@pytest.mark.postgres
def test_a_writer_that_vanishes_in_the_middle_holds_the_others_up_for_a_while_only(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dialect, "IDLE_WITHIN", 0.2)
    store = Store(another_postgres(request), tmp_path / "data")
    vanished = store.dialect.open(read_only=False)
    store.dialect.begin_write(vanished)
    assert store.run(take_one) == 0
    store.close()


@pytest.mark.postgres
def test_a_connection_that_was_cut_while_it_rested_costs_no_write(
    tmp_path: Path, request: pytest.FixtureRequest
):
    url = another_postgres(request)
    store = Store(url, tmp_path / "data")
    for number in range(3):
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert store.run(take_one) == number
    store.close()


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "sqlite://", "x", "sqlite:", "http://x", "sqlite://host/path"]
)
def test_another_kind_of_url_is_refused(url: str):
    with pytest.raises(Invalid):
        dialect.of(url, lambda _: None)


def test_a_relative_and_an_absolute_path_are_told_apart():
    relative, absolute = (dialect.of(url, lambda _: None) for url in ("sqlite:///x.db", "sqlite:////x.db"))
    assert isinstance(relative, dialect.Sqlite)
    assert isinstance(absolute, dialect.Sqlite)
    assert (relative.path, absolute.path) == (Path("x.db"), Path("/x.db"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:s3cret@db:5432/cotex", "postgresql://ada:***@db:5432/cotex"),
        ("postgresql://ada:s3c@ret@db/cotex", "postgresql://ada:***@db/cotex"),
        ("postgresql://db/cotex?user=ada&password=s3cret", "postgresql://db/cotex?user=ada&password=***"),
        ("postgresql://db/cotex", "postgresql://db/cotex"),
        ("sqlite:////x.db", "sqlite:////x.db"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str):
    assert dialect.redacted(url) == shown
