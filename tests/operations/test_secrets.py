import pytest

from cotexd.errors import Failed, Invalid, NotFound
from cotexd.operations import audit, secrets
from cotexd.operations.secrets import KINDS, MAX_LENGTH, STRIPE_KEY, STRIPE_WEBHOOK
from cotexd.store import Store, Tx
from cotexd.store.models import SealedSecret

VALUE = "sk_test_a_secret_that_must_not_be_seen"


def at_rest(tx: Tx) -> bytes:
    tables = [f'SELECT * FROM "{table}"' for table in tx.database.get_tables()]  # noqa: S608  # our own names
    rows = [row for query in tables for row in tx.database.execute_sql(query)]
    return b"".join(bytes(cell) if isinstance(cell, bytes | memoryview) else repr(cell).encode()
                    for row in rows for cell in row)  # fmt: skip


def test_a_secret_that_was_put_is_got(store: Store):
    store.run(secrets.put, STRIPE_KEY, VALUE)
    assert store.look(secrets.get, STRIPE_KEY) == VALUE


def test_a_secret_that_was_not_set_is_empty(store: Store):
    assert store.look(secrets.get, STRIPE_KEY) == ""


def test_the_last_value_is_the_one(store: Store, clock):
    store.run(secrets.put, STRIPE_KEY, "sk_test_old")
    assert store.run(secrets.put, STRIPE_KEY, VALUE).since == clock()
    assert store.look(secrets.get, STRIPE_KEY) == VALUE


def test_what_is_around_a_value_that_was_pasted_is_taken_off(store: Store):
    store.run(secrets.put, STRIPE_KEY, f"  {VALUE}\n")
    assert store.look(secrets.get, STRIPE_KEY) == VALUE


def test_no_value_is_readable_in_the_database_in_a_list_or_in_the_audit_trail(store: Store):
    held = store.run(secrets.put, STRIPE_KEY, VALUE)
    assert VALUE.encode() not in store.look(at_rest)
    assert VALUE not in repr((held, store.look(secrets.listing), store.look(audit.listing, limit=10)))


def test_the_list_says_what_may_be_set_and_what_is(store: Store, clock):
    store.run(secrets.put, STRIPE_KEY, VALUE)
    listed = store.look(secrets.listing)
    assert [each.name for each in listed] == list(KINDS)
    assert {each.name: each.since for each in listed if each.is_set} == {STRIPE_KEY: clock()}


@pytest.mark.parametrize("value", ["", "   ", "\n", "a" * (MAX_LENGTH + 1), "sk_\x00test", "sk\ntest"])
def test_what_cannot_be_a_secret_is_refused_and_keeps_the_old_one(store: Store, value: str):
    store.run(secrets.put, STRIPE_KEY, VALUE)
    with pytest.raises(Invalid) as refused:
        store.run(secrets.put, STRIPE_KEY, value)
    assert store.look(secrets.get, STRIPE_KEY) == VALUE
    assert not value.strip() or value.strip() not in refused.value.message


def test_a_secret_that_there_is_not_is_neither_put_nor_removed(store: Store):
    for act in (
        lambda: store.run(secrets.put, "password", VALUE),
        lambda: store.run(secrets.remove, "password"),
    ):
        with pytest.raises(NotFound, match="password"):
            act()


def test_a_removed_secret_is_gone(store: Store):
    store.run(secrets.put, STRIPE_KEY, VALUE)
    for _ in range(2):
        store.run(secrets.remove, STRIPE_KEY)
    assert store.look(secrets.get, STRIPE_KEY) == ""


def test_one_secret_cannot_be_passed_off_as_another(store: Store):
    def move(_: Tx) -> None:
        SealedSecret.update(name=STRIPE_WEBHOOK).where(SealedSecret.name == STRIPE_KEY).execute()

    store.run(secrets.put, STRIPE_KEY, VALUE)
    store.run(move)
    with pytest.raises(Failed):
        store.look(secrets.get, STRIPE_WEBHOOK)
