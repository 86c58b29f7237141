import fnmatch
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import filter as filters
from cotexd.domain.filter import EVERYTHING, Filter
from cotexd.errors import Invalid

LETTERS = st.text("ab/*?", max_size=12)


def fits(pattern: str, name: str) -> bool:
    return Filter(branches=(pattern,)).passes_stub("push", name)


@given(LETTERS, st.text("ab/.\n", min_size=1, max_size=12))
def test_a_pattern_matches_as_in_a_shell(pattern: str, name: str):
    assert fits(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(st.text(min_size=1).filter(lambda text: not set(text) & set("*?")))
def test_without_a_star_or_a_question_mark_a_pattern_is_the_name_itself(name: str):
    assert fits(name, name)
    assert not fits(name, name + "x")
    assert not fits(f"x{name}", name)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("main", "main", True),
        ("main", "Main", False),
        ("release/*", "release/1.0/rc", True),
        ("release/*", "release", False),
        ("*.md", "docs/deep/x.md", True),
        ("docs/**", "docs/x", True),
        ("v?.?", "v1.2", True),
        ("v?.?", "v10.2", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
    ],
)
def test_what_a_person_means_by_a_pattern(pattern: str, name: str, matches: bool):
    assert fits(pattern, name) is matches


class Counted(str):
    """A name that counts how often one of its characters is looked at."""

    __slots__ = ("looks",)

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.looks = 0
        return made

    def __getitem__(self, key: Any) -> str:
        self.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize(
    "pattern", ["*a" * 99 + "*b", "*" * 200, "a*" * 100, "*?" * 100, "*" + "a" * 198 + "b"]
)
def test_no_pattern_takes_more_looks_than_its_length_times_the_names(pattern: str):
    name = Counted("a" * 4000)
    fits(pattern, name)
    assert 0 <= name.looks <= len(pattern) * len(name)


def test_a_pattern_of_many_stars_is_no_more_work_than_one_of_few():
    """Where a regular expression would take longer than the universe has."""
    few, many = Counted("a" * 400), Counted("a" * 400)
    assert not fits("*a" * 3 + "*b", few)
    assert not fits("*a" * 99 + "*b", many)
    assert many.looks <= 4 * few.looks


def test_everything_passes_where_nothing_is_wanted_in_particular():
    assert EVERYTHING.wants_all
    assert EVERYTHING.passes("push", "main", ("x",))
    assert EVERYTHING.passes("star", "", None)


def test_an_event_passes_that_is_of_a_wanted_type():
    wanted = Filter(events=("push", "release"))
    assert [wanted.passes(kind, "", ()) for kind in ("push", "release", "pushed", "star")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_an_event_passes_that_is_of_a_wanted_branch_or_of_none():
    wanted = Filter(branches=("main", "release/*"))
    assert [wanted.passes("push", branch, ()) for branch in ("main", "release/1", "fix", "")] == [
        True, True, False, True,
    ]  # fmt: skip


def test_a_push_passes_that_touched_a_wanted_path():
    wanted = Filter(paths=("docs/*", "*.md"))
    assert wanted.passes("push", "main", ("src/x.py", "docs/deep/x.txt"))
    assert wanted.passes("push", "main", ("README.md",))
    assert not wanted.passes("push", "main", ("src/x.py", "docs"))


@pytest.mark.parametrize("paths", [None, ()])
def test_where_the_paths_are_not_known_the_doubt_counts_for_the_event(paths: tuple[str, ...] | None):
    assert Filter(paths=("docs/*",)).passes("push", "main", paths)


def test_all_kinds_of_a_filter_must_let_an_event_pass():
    wanted = Filter(("push",), ("main",), ("docs/*",))
    assert wanted.passes("push", "main", ("docs/x",))
    for event in (("star", "main", ("docs/x",)), ("push", "fix", ("docs/x",)), ("push", "main", ("src/x",))):
        assert not wanted.passes(*event)


def test_of_a_stub_only_type_and_branch_are_asked():
    wanted = Filter(("push",), ("main",), ("docs/*",))
    assert wanted.passes_stub("push", "main")
    assert not wanted.passes_stub("push", "fix")


PATTERNS = st.lists(st.text(max_size=5), max_size=3).map(tuple)


@given(st.builds(Filter, PATTERNS, PATTERNS, PATTERNS))
def test_a_filter_is_stored_and_read_as_the_same(wanted: Filter):
    assert filters.decode(filters.encode(wanted)) == wanted


def test_what_wants_everything_is_stored_as_nothing():
    assert filters.encode(EVERYTHING) is None


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(events=("Push",)),
        Filter(events=("",)),
        Filter(events=("pull request",)),
        Filter(events=("push",) * 101),
        Filter(branches=("",)),
        Filter(branches=("x" * 201,)),
        Filter(paths=("line\nbreak",)),
        Filter(paths=("x",) * 101),
    ],
)
def test_what_cannot_be_a_filter_is_refused(wanted: Filter):
    with pytest.raises(Invalid):
        filters.check(wanted)


def test_a_filter_at_its_bounds_is_taken():
    wanted = Filter(("push",) * 100, ("x" * 200,), ("ü*?",))
    assert filters.check(wanted) is wanted
