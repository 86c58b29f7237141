import pytest

from cotexd.domain import headline

CASES = [
    ("push", {"ref": "refs/heads/main"}, 1, "1 commit pushed to main"),
    ("push", {"ref": "refs/heads/main"}, 3, "3 commits pushed to main"),
    (
        "pull_request",
        {"action": "opened", "pull_request": {"title": "Add x"}},
        0,
        "Pull request opened: Add x",
    ),
    ("issues", {"action": "closed", "issue": {"title": "Bug"}}, 0, "Issue closed: Bug"),
    ("something_new", {"action": "done"}, 0, "something_new done"),
    ("something_new", {}, 0, "something_new"),
]


@pytest.mark.parametrize(("kind", "document", "commits", "expected"), CASES)
def test_a_headline_says_what_happened(kind: str, document: dict[str, object], commits: int, expected: str):
    assert headline.of(kind, document, commits) == expected


def test_all_event_types_of_a_repository_are_known():
    assert len(headline.KINDS) >= 54


@pytest.mark.parametrize("kind", sorted(headline.KINDS))
def test_every_event_type_has_a_headline_even_for_an_empty_payload(kind: str):
    assert headline.of(kind, {}, 0).strip()


def test_a_headline_is_bounded():
    issue = {"action": "opened", "issue": {"title": "x" * 10_000}}
    assert len(headline.of("issues", issue, 0)) <= headline.MAX_LENGTH


def test_a_headline_is_one_line():
    assert "\n" not in headline.of("issues", {"action": "opened", "issue": {"title": "two\nlines"}}, 0)
