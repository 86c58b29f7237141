from cotexd.domain.payload import flag, items, number, text

DOCUMENT = {"a": {"b": "text", "n": 5, "t": True, "l": [1]}, "s": "\ud800x\0"}


def test_what_is_there_is_found():
    assert text(DOCUMENT, "a", "b") == "text"
    assert number(DOCUMENT, "a", "n") == "5"
    assert flag(DOCUMENT, "a", "t")
    assert items(DOCUMENT, "a", "l") == [1]


def test_what_is_not_there_or_of_another_type_is_empty():
    for path in [("x",), ("a",), ("a", "b", "c"), ("a", "n")]:
        assert text(DOCUMENT, *path) == ""
        assert items(DOCUMENT, *path) == []
    assert number(DOCUMENT, "a", "t") == ""
    assert number({"n": 10**30}, "n") == ""
    assert not flag(DOCUMENT, "a", "n")


def test_what_no_database_can_hold_is_taken_out_of_a_text():
    assert text(DOCUMENT, "s") == "?x"
