from conftest import Clock

from cotexd.operations import accounts
from cotexd.operations.accounts import Account
from cotexd.store import Store, rows
from cotexd.store.models import ALL, AuditEntry, Node, Present, User, table_of


def test_every_table_is_kept_but_what_is_of_the_moment_and_what_is_referred_to_comes_first():
    assert set(ALL) - set(rows.KEPT) == {Node, Present}
    names = [table_of(each) for each in rows.KEPT]
    assert names.index("tier") < names.index("user") < names.index("repository") < names.index("membership")


def test_a_row_that_was_read_is_the_row_that_is_inserted(store: Store, ada: Account):
    name, columns = table_of(User), rows.columns_of(User)
    query = rows.selecting(name, columns)
    (row,) = [rows.plain(User, each) for each in store.look(lambda tx: tx.rows(query))]
    again = [{**dict(zip(columns, row, strict=True)), "id": "other", "name": "eve"}[each] for each in columns]
    store.run(lambda tx: store.dialect.insert(tx.database, name, columns, [again]))
    assert [each.name for each in store.look(accounts.all_of_them)] == ["ada", "eve"]


def test_numbers_that_the_database_gives_go_on_after_the_rows_that_were_inserted(store: Store, clock: Clock):
    name, columns = table_of(AuditEntry), rows.columns_of(AuditEntry)
    at = int(clock().timestamp() * 1e6)
    value = {"id": 70, "at": at, "actor": "a", "via": "cli", "action": "x", "target": "t", "detail": "{}"}
    store.run(
        lambda tx: store.dialect.insert(tx.database, name, columns, [[value[each] for each in columns]])
    )
    store.run(lambda tx: rows.count_on(tx.database, store.dialect))
    store.run(accounts.create, "eve")
    assert store.look(lambda _: AuditEntry.select().order_by(AuditEntry.id.desc()).first().id) == 71
