import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import selection
from cotexd.domain.event import Frame
from cotexd.domain.selection import EVERYTHING, MAX_NAME, MAX_NAMES, Selection
from cotexd.errors import Invalid


def frame(repo: str = "octo/hello", kind: str = "push", repo_id: str = "b1f0") -> Frame:
    return Frame(1, b"", repo_id, repo, kind)


@pytest.mark.parametrize(
    ("repos", "events", "taken"),
    [
        ("", "", True),
        ("octo/hello", "", True),
        ("b1f0", "", True),
        ("octo/other", "", False),
        ("octo/other,octo/hello", "", True),
        ("octo/hell", "", False),
        ("hello", "", False),
        ("octo/*", "", False),
        ("", "push", True),
        ("", "star,push", True),
        ("", "star", False),
        ("", "pus", False),
        ("octo/hello", "push", True),
        ("octo/hello", "star", False),
        ("octo/other", "push", False),
        ("b1f0", "push", True),
    ],
)
def test_an_event_is_taken_if_its_repository_and_its_type_are(repos: str, events: str, taken: bool):
    assert selection.parse(repos, events).takes(frame()) is taken


@pytest.mark.parametrize("asked", ["octo/hello", "Octo/Hello", "OCTO/HELLO"])
@pytest.mark.parametrize("tracked", ["octo/hello", "Octo/Hello"])
def test_a_repository_has_one_name_however_it_is_spelled(asked: str, tracked: str):
    assert selection.parse(asked, "").takes(frame(tracked))


def test_the_type_of_an_event_is_spelled_in_one_way():
    assert not selection.parse("", "Push").takes(frame())


@pytest.mark.parametrize("nothing", ["", " ", ",", " , ,, "])
def test_a_list_of_nothing_is_everything(nothing: str):
    assert selection.parse(nothing, nothing) is EVERYTHING
    assert EVERYTHING.takes_all


@pytest.mark.parametrize(("repos", "events"), [("octo/hello", ""), ("", "push"), ("octo/hello", "push")])
def test_what_selects_does_not_take_all(repos: str, events: str):
    assert not selection.parse(repos, events).takes_all


def test_names_stand_between_commas_and_spaces_around_them_are_none_of_theirs():
    assert selection.parse(" octo/hello ,octo/docs,,", "push , star") == Selection(
        frozenset({"octo/hello", "octo/docs"}), frozenset({"push", "star"})
    )


@given(
    st.lists(st.sampled_from(["octo/hello", "octo/docs", "b1f0", "c2"]), unique=True),
    st.lists(st.sampled_from(["push", "star", "issues"]), unique=True),
    st.sampled_from([("octo/hello", "b1f0"), ("octo/docs", "d3"), ("octo/other", "c2")]),
    st.sampled_from(["push", "star", "release"]),
)
def test_each_list_that_is_there_must_name_the_event(
    repos: list[str], events: list[str], repo: tuple[str, str], kind: str
):
    taken = selection.parse(",".join(repos), ",".join(events)).takes(frame(repo[0], kind, repo[1]))
    assert taken == ((not repos or bool({*repo} & {*repos})) and (not events or kind in events))


def test_so_many_names_are_read_and_no_more():
    names = ",".join(f"octo/{number}" for number in range(MAX_NAMES))
    assert len(selection.parse(names, names).repos) == MAX_NAMES
    for lists in ((names + ",octo/more", ""), ("", names + ",octo/more")):
        with pytest.raises(Invalid, match=str(MAX_NAMES)):
            selection.parse(*lists)


@pytest.mark.parametrize("name", ["x" * (MAX_NAME + 1), "nul\0", "line\nbreak", "\ud800", "\x1b[2J"])
def test_what_cannot_be_a_name_is_refused(name: str):
    for lists in ((name, ""), ("", name)):
        with pytest.raises(Invalid, match="names"):
            selection.parse(*lists)


def test_the_longest_name_is_taken():
    assert selection.parse("x" * MAX_NAME, "y" * MAX_NAME).repos == {"x" * MAX_NAME}
