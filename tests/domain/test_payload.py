import random

import msgspec
import pytest

from cotexd.domain.payload import decode, flag, items, number, text

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


def test_of_a_push_only_what_a_summary_reads_is_made_into_objects():
    push = b'{"ref":"r","commits":[{"id":"c","tree_id":"t","added":["a"]}],"repository":{"id":1},"head_commit":null}'
    part = {"ref": "r", "commits": [{"id": "c", "added": ["a"]}], "head_commit": None}
    assert decode("push", push) == part
    assert decode("star", push) == msgspec.json.decode(push)


@pytest.mark.parametrize(
    "odd", [b'{"commits":{}}', b'{"commits":[null]}', b'{"sender":1}', b'[{"ref":1}]', b"1"]
)
def test_an_odd_push_is_read_whole(odd: bytes):
    assert decode("push", odd) == msgspec.json.decode(odd)


def test_what_is_skipped_must_be_json_all_the_same():
    whole = b'{"x":"a\\u00e9b","y":[1,-2.5e3,true,null,{}],"ref":"main","z":{"q":"\xc3\xa9"}}'
    dice = random.Random(1)
    for _ in range(20_000):
        broken = bytearray(whole)
        broken[dice.randrange(len(broken))] = dice.choice(b'\\"{}[],:u0d8\x00\x1f\x80\xff\n eE.-+tn')
        try:
            decode("push", bytes(broken))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        msgspec.json.decode(bytes(broken))
