import pytest

from cotexd.errors import Invalid
from cotexd.operations import levels
from cotexd.store import Store, Tx
from cotexd.telemetry import FIELDS, LEVELS


def test_without_anything_said_the_configuration_holds(store: Store):
    assert store.look(levels.current) == {}


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_set_for_all(store: Store, level: str):
    assert store.run(levels.set_level, level) == {("", ""): level} == store.look(levels.current)


@pytest.mark.parametrize("field", FIELDS)
def test_a_level_is_set_for_the_lines_of_one(store: Store, field: str):
    assert store.run(levels.set_level, "debug", field, "ada") == {(field, "ada"): "debug"}


def test_the_last_word_holds_for_each(store: Store):
    store.run(levels.set_level, "debug", "user", "ada")
    store.run(levels.set_level, "debug", "user", "eve")
    assert store.run(levels.set_level, "error", "user", "ada") == {
        ("user", "ada"): "error",
        ("user", "eve"): "debug",
    }


def test_all_of_it_is_taken_back_at_once(store: Store):
    store.run(levels.set_level, "debug")
    store.run(levels.set_level, "debug", "user", "ada")
    store.run(levels.reset)
    assert store.look(levels.current) == {}


@pytest.mark.parametrize("level", ["", "loud", "DEBUG", "critical"])
def test_a_level_that_there_is_not_is_refused(store: Store, level: str):
    with pytest.raises(Invalid, match="no level") as caught:
        store.run(levels.set_level, level)
    assert "debug, info, warning, error" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"), [("token", "x"), ("user", ""), ("user", "x" * 201), ("", "ada"), ("event", "x")]
)
def test_a_field_that_cannot_be_asked_for_is_refused(store: Store, field: str, value: str):
    with pytest.raises(Invalid, match="set by one of"):
        store.run(levels.set_level, "debug", field, value)
    assert store.look(levels.current) == {}


def test_there_are_only_so_many_and_each_of_them_can_still_be_changed(store: Store):
    def fill(tx: Tx) -> None:
        for number in range(levels.MAX_RULES):
            levels.set_level(tx, "debug", "user", f"u{number}")

    store.run(fill)
    with pytest.raises(Invalid, match="too many"):
        store.run(levels.set_level, "debug", "user", "one more")
    assert store.run(levels.set_level, "error", "user", "u0")["user", "u0"] == "error"
    assert len(store.look(levels.current)) == levels.MAX_RULES
