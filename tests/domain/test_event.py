import uuid
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import event
from cotexd.domain.github import Delivery, Headers, read_body
from cotexd.domain.headline import KINDS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def summarise(kind: str, document: dict[str, object]) -> event.Summary:
    return event.summarise(Delivery("r", "guid", kind, b"{}", document, "sha256"), "octo/hello", NOW)


def test_a_push_lists_its_files_and_commits():
    summary = summarise(
        "push",
        {
            "ref": "refs/heads/feature/x",
            "commits": [
                {"id": "c1", "added": ["a"], "modified": ["b"], "removed": []},
                {"id": "c2", "added": [], "modified": [], "removed": ["a"]},
            ],
            "head_commit": {"timestamp": "2026-11-24T13:00:00+02:00"},
            "sender": {"login": "ada"},
        },
    )
    assert summary.branch == "feature/x"
    assert summary.headline == "2 commits pushed to feature/x"
    assert [(file.path, file.change, file.commit) for file in summary.files] == [
        ("a", "added", "c1"),
        ("b", "modified", "c1"),
        ("a", "removed", "c2"),
    ]
    assert (summary.commit_count, summary.commit_shas, summary.actor) == (2, ("c1", "c2"), "ada")
    assert summary.timestamp == datetime(2026, 11, 24, 11, tzinfo=UTC)
    assert summary.metadata["files_total"] == "3"


def test_ids_are_uuids_of_their_moment_and_no_two_are_alike():
    ids = event.new_ids(NOW, 1000)
    assert len(set(ids)) == 1000
    for each in map(uuid.UUID, ids):
        assert (each.version, each.variant) == (7, uuid.RFC_4122)
        assert each.int >> 80 == NOW.timestamp() * 1000
    assert {str(uuid.UUID(each)) for each in ids} == set(ids)
    assert len({each[19] for each in ids}) == 4
    assert event.new_ids(NOW, 0) == []


READ = [
    "ref",
    "commits",
    "head_commit",
    "sender",
    "pusher",
    "created",
    "deleted",
    "forced",
    "action",
    "issue",
]
PARTS = [
    "id",
    "added",
    "modified",
    "removed",
    "renamed",
    "login",
    "name",
    "timestamp",
    "title",
    "state",
    "number",
]


@given(
    st.dictionaries(
        st.sampled_from([*READ, "pull_request", "repository"]),
        JSON
        | st.dictionaries(st.sampled_from(PARTS), JSON)
        | st.lists(st.dictionaries(st.sampled_from(PARTS), JSON)),
    )
)
def test_the_part_of_a_push_that_is_read_gives_the_summary_of_the_whole(document: dict[str, object]):
    payload = msgspec.json.encode(document)
    delivery = read_body("r", Headers("push", "guid", form=False), payload, "sha256")
    assert event.summarise(delivery, "octo/hello", NOW) == summarise("push", msgspec.json.decode(payload))


def test_files_stop_at_the_bound_and_their_number_is_said():
    commits = [{"id": "c", "added": [f"f{n}" for n in range(1000)]}]
    summary = summarise("push", {"ref": "refs/heads/main", "commits": commits})
    assert len(summary.files) == event.MAX_FILES
    assert summary.metadata["files_total"] == "1000"


def test_a_pull_request_says_its_branch_its_title_and_its_state():
    pull = {"title": "Fix it", "state": "closed", "number": 5, "merged": True, "head": {"ref": "fix"}}
    summary = summarise("pull_request", {"action": "closed", "pull_request": pull})
    assert (summary.branch, summary.headline) == ("fix", "Pull request closed: Fix it")
    assert summary.metadata == {
        "action": "closed",
        "pr_state": "closed",
        "pr_title": "Fix it",
        "pr_number": "5",
        "pr_merged": "true",
    }


def test_an_issue_says_its_title_and_its_state():
    summary = summarise("issues", {"action": "closed", "issue": {"title": "Broken", "state": "closed"}})
    assert summary.headline == "Issue closed: Broken"
    assert summary.metadata["issue_state"] == "closed"
    assert summary.metadata["issue_title"] == "Broken"


def test_an_event_without_a_time_of_its_own_has_the_time_it_came():
    assert summarise("star", {"action": "created"}).timestamp == NOW


def test_the_repository_is_named_as_it_is_tracked_whatever_the_payload_says():
    assert summarise("push", {"repository": {"full_name": "evil/name"}}).repo == "octo/hello"


@given(
    st.sampled_from([*sorted(KINDS), "unknown_event"]),
    st.dictionaries(st.text(max_size=12), JSON, max_size=6),
)
def test_no_payload_is_too_odd_to_be_summarised(kind: str, document: dict[str, object]):
    summary = summarise(kind, document)
    assert summary.headline
    assert msgspec.json.decode(msgspec.json.encode(summary), type=event.Summary) == summary


ODD = ["text", 5, None, True, [], {}, [[]], {"login": 5}, {"title": ["x"]}, "\ud800", "a\0b", 10**400]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_payload_whose_parts_are_of_other_types_is_summarised(kind: str):
    names = [
        "action",
        "ref",
        "ref_type",
        "commits",
        "head_commit",
        "sender",
        "pusher",
        "pull_request",
        "issue",
        "comment",
        "release",
        "review",
        "repository",
        "workflow_run",
        "workflow_job",
        "check_run",
        "check_suite",
        "deployment",
        "alert",
        "discussion",
        "label",
        "milestone",
        "member",
        "forkee",
        "pages",
        "rule",
        "key",
        "state",
    ]
    for odd in ODD:
        summary = summarise(kind, dict.fromkeys(names, odd))
        assert summary.headline.strip()
        assert msgspec.json.encode(summary)


def test_the_frame_is_the_message_but_for_its_receiver_and_prev():
    frame = event.frame(
        seq=7,
        event_id="id",
        repo_id="r",
        repo_name='o/"quoted"',
        event_type="push",
        summary=b'{"headline":"hi"}',
        created_at=NOW.astimezone(timezone(timedelta(hours=1))),
    )
    assert msgspec.json.decode(b"{" + frame.tail + b"}") == {
        "repo_name": 'o/"quoted"',
        "event": "push",
        "payload": {"headline": "hi"},
        "timestamp": "2026-11-24T13:00:00+01:00",
        "event_id": "id",
        "seq": 7,
    }
