"""What goes into a backup comes out of it: on the same database, on the other one, or not at all."""

import io
import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest
from actors import logged
from conftest import Clock
from hypothesis import HealthCheck, given, settings, strategies
from tables import KEPT, another_postgres, as_plain, rows_of

from cotexd.errors import Conflict, CotexError, Failed, Invalid
from cotexd.operations import (
    accounts,
    check,
    cursors,
    events,
    history,
    members,
    nodes,
    repositories,
    secrets,
)
from cotexd.operations.accounts import Account
from cotexd.operations.nodes import Server
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, backup, migrations, rows
from cotexd.store.models import fields_of, table_of

Other = Callable[[str], Store]


def written(store: Store) -> io.BytesIO:
    file = io.BytesIO()
    key = store.files.key.read_text().strip()
    store.look(lambda tx: backup.write(tx, store.dialect, file, version="1.0", key=key))
    file.seek(0)
    return file


def restored(file: io.BytesIO, into: Store, *, clock: Clock | None = None) -> backup.Head:
    file.seek(0)
    database = into.dialect.open(read_only=False)
    try:
        now = (clock or Clock())()
        key = backup.read_head(file).key
        file.seek(0)
        return backup.restore(database, into.dialect, file, now, key)
    finally:
        database.close()


def test_what_went_in_comes_out_on_the_same_database(full: Store):
    before = rows_of(full)
    file = written(full)
    full.run(accounts.create, "eve")
    head = restored(file, full)
    after = rows_of(full)
    assert {name for name in before if before[name] != after[name]} == {"log_state", "lineage"}
    assert (head.head, head.engine) == (250, full.dialect.name)
    assert full.look(check.check).good


def test_what_went_in_comes_out_on_the_other_database(
    full: Store, other: Other, database: str, request: pytest.FixtureRequest
):
    there = other("" if database else another_postgres(request))
    restored(written(full), there)
    before, after = rows_of(full), rows_of(there)
    different = {name for name in before if as_plain(before[name]) != as_plain(after[name])}
    assert different == {"log_state", "lineage"}
    (tracked,) = there.look(repositories.everyone)
    assert there.look(repositories.secret_of, tracked.id) == full.look(repositories.secret_of, tracked.id)
    assert there.look(secrets.get, secrets.GITHUB_TOKEN) == "ghp_s3cret"
    assert there.look(history.details, "7").payload == full.look(history.details, "7").payload
    assert there.look(check.check).good
    # And it goes on: numbers that the database gives out itself are new ones.
    there.run(members.unshare, tracked.user_id, tracked.id, "grace")
    there.run(members.share, tracked.user_id, tracked.id, "grace")
    assert logged(there, tracked) == [251]


def test_a_cursor_from_before_the_backup_goes_on_and_one_from_after_it_is_told_of_the_gap(
    full: Store, ada: Account, hello: Tracked
):
    epoch = full.look(events.log).epoch
    file = written(full)
    logged(full, hello, 5)
    restored(file, full)
    log = full.look(events.log)
    assert log.epoch != epoch
    good = full.run(cursors.attach, ada.id, device="", cursor=cursors.Cursor(epoch, 240))
    assert (good.resume, good.after) == ("ok", 240)
    beyond = full.run(cursors.attach, ada.id, device="", cursor=cursors.Cursor(epoch, 253))
    assert beyond.resume == "gap"
    assert beyond.gap is not None
    assert beyond.after == 250


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=strategies.floats(0, 0.999), flip=strategies.booleans())
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_was_cut_or_changed_anywhere_restores_nothing(full: Store, share: float, flip: bool):
    whole = whole_of(full)
    at = int(len(whole) * share)
    broken = whole[:at] + (bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] if flip else b"")
    before = rows_of(full)
    with pytest.raises((Invalid, Failed)):
        restored(io.BytesIO(broken), full)
    assert rows_of(full) == before


_wholes: dict[int, bytes] = {}


def whole_of(store: Store) -> bytes:
    if id(store) not in _wholes:
        _wholes[id(store)] = written(store).getvalue()
    return _wholes[id(store)]


def test_what_is_no_backup_is_refused(full: Store):
    for content in (b"", b"PK\x03\x04", b"\0" * 1000):
        with pytest.raises(Invalid):
            backup.read_head(io.BytesIO(content))


def test_a_backup_of_a_newer_version_is_refused(full: Store, monkeypatch: pytest.MonkeyPatch):
    file = written(full)
    monkeypatch.setattr(migrations, "SCHEMA", migrations.SCHEMA - 1)
    with pytest.raises(Failed, match="newer"):
        backup.read_head(file)


def test_beside_a_running_server_nothing_is_restored(full: Store, clock: Clock):
    file = written(full)
    full.run(nodes.beat, Server("one", "http://127.0.0.1:8080", "1.0", 4711, 0, clock()))
    before = rows_of(full)
    with pytest.raises(Conflict, match="runs"):
        restored(file, full, clock=clock)
    assert rows_of(full) == before
    clock.forward(nodes.ALIVE + timedelta(seconds=1))
    restored(file, full, clock=clock)


def test_what_is_written_meanwhile_is_not_in_it(full: Store, hello: Tracked, other: Other):
    file = io.BytesIO()
    steps = itertools.count()

    def progress(_: int, __: int) -> None:
        if next(steps) == 0:
            logged(full, hello, 3)

    key = full.files.key.read_text().strip()
    full.look(lambda tx: backup.write(tx, full.dialect, file, version="1.0", key=key, progress=progress))
    file.seek(0)
    there = other("")
    assert restored(file, there).head == 250
    assert there.look(check.check).events == 250
    assert full.look(events.log).head == 253


@pytest.mark.parametrize(("key", "told"), [("", "not here"), ("A" * 43 + "=", "another one")])
def test_a_backup_whose_secrets_no_key_here_opens_is_refused_and_changes_nothing(
    full: Store, other: Other, key: str, told: str
):
    file, there = written(full), other("")
    there.run(accounts.create, "eve")
    before = rows_of(there)
    database = there.dialect.open(read_only=False)
    with pytest.raises(Failed, match=told):
        backup.restore(database, there.dialect, file, Clock()(), key)
    database.close()
    assert rows_of(there) == before


def test_a_restore_that_fails_in_the_middle_leaves_what_there_was(full: Store, other: Other):
    file, there = written(full), other("")
    there.run(accounts.create, "eve")
    before = rows_of(there)

    def fail(count: int, _: int) -> None:
        if count > 100:
            raise KeyboardInterrupt

    database = there.dialect.open(read_only=False)
    with pytest.raises(KeyboardInterrupt):
        backup.restore(database, there.dialect, file, Clock()(), progress=fail)
    database.close()
    assert rows_of(there) == before


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    full: Store, other: Other, monkeypatch: pytest.MonkeyPatch
):
    """As the version before wrote it: without the tables and columns of the last step."""
    new = {"webhook", "missing_delivery", "acknowledgement"}
    columns = {"event": {"sent_at"}, "repository": {"pinged_anew"}, "node": {"head"}}
    older = [each for each in KEPT if table_of(each) not in new]
    all_fields = fields_of
    with monkeypatch.context() as before:
        before.setattr(migrations, "SCHEMA", 4)
        before.setattr(rows, "KEPT", tuple(older))
        before.setattr(
            rows,
            "fields_of",
            lambda model: [
                each
                for each in all_fields(model)
                if each.column_name not in columns.get(table_of(model), set())
            ],
        )
        file = written(full)
    there = other("")
    assert restored(file, there).schema == 4
    assert there.describe().schema == migrations.SCHEMA
    assert there.look(check.check).events == 250


def test_every_refusal_is_in_words(full: Store):
    with pytest.raises(CotexError) as raised:
        backup.read_head(io.BytesIO(b"nonsense"))
    assert raised.value.hint
