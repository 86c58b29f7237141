"""Delivery → summary, and the frame that it travels in, encoded once for all who receive it."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from cotexd.domain import headline
from cotexd.domain.github import Delivery
from cotexd.domain.payload import items, number, text

MAX_FILES = 300
"""files and commits that a summary lists; the totals are in its metadata and commit_count"""
MAX_TITLE = 1000
"""characters"""

Change = Literal["added", "modified", "removed", "renamed"]
_CHANGES: tuple[Change, ...] = ("added", "modified", "removed", "renamed")
_HEADS = "refs/heads/"
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
"""of a UUID, in the upper two bits of its 17th digit"""


class File(msgspec.Struct, frozen=True, gc=False):
    path: str
    change: Change
    commit: str


class Summary(msgspec.Struct, frozen=True, gc=False):
    """What a client shows of an event. Every key is always there."""

    id: str
    """GitHub's delivery GUID"""
    type: str
    repo: str
    branch: str
    actor: str
    timestamp: datetime
    headline: str
    files: tuple[File, ...]
    commit_count: int
    commit_shas: tuple[str, ...]
    metadata: dict[str, str]


SummaryJson = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/Summary"})]
"""a Summary as it was stored"""


class Touched(msgspec.Struct, frozen=True):
    """The part of a stored Summary that a filter by path looks at."""

    files: tuple[File, ...]
    metadata: dict[str, str]

    @property
    def paths(self) -> tuple[str, ...] | None:
        """None where the summary doesn't list them all."""
        if int(self.metadata.get("files_total", "0")) > len(self.files):
            return None
        return tuple(file.path for file in self.files)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event's message but for what differs from socket to socket: its receiver and the seq before it.

    `tail` is the JSON from after the two user ids up to the value of `prev`.
    """

    seq: int
    tail: bytes
    repo_id: str = ""
    repo_name: str = ""
    event_type: str = ""


class _Tail(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    repo_name: str
    event: str
    payload: msgspec.Raw
    timestamp: datetime
    event_id: str
    seq: int
    repaired: bool = False


def summarise(delivery: Delivery, repo_name: str, received_at: datetime) -> Summary:
    """The summary of a delivery; never fails on a payload, however odd: what isn't there is left empty."""
    document, kind = delivery.document, delivery.event_type
    metadata = _metadata(kind, document)
    commits = items(document, "commits") if kind == "push" else []
    files: list[File] = []
    total = 0
    for file in _files(commits):
        total += 1
        if total <= MAX_FILES:
            files.append(file)
    if kind == "push":
        metadata["files_total"] = str(total)
    return Summary(
        id=delivery.delivery_id,
        type=kind,
        repo=repo_name,
        branch=branch_of(kind, document),
        actor=text(document, "sender", "login") or text(document, "pusher", "name"),
        timestamp=_happened_at(kind, document) or received_at,
        headline=headline.of(kind, document, len(commits)),
        files=tuple(files),
        commit_count=len(commits),
        commit_shas=tuple(text(commit, "id") for commit in commits[:MAX_FILES]),
        metadata=metadata,
    )


def new_ids(now: datetime, count: int) -> list[str]:
    """Ids for events of one moment: UUIDs of version 7 (RFC 9562), which an index finds side by side."""
    moment = f"{int(now.timestamp() * 1000):012x}"
    random = os.urandom(10 * count).hex()
    return [
        f"{moment[:8]}-{moment[8:]}-7{part[:3]}-{_VARIANT[part[3]]}{part[4:7]}-{part[7:19]}"
        for part in (random[start : start + 20] for start in range(0, len(random), 20))
    ]


def frame(
    *,
    seq: int,
    event_id: str,
    repo_id: str,
    repo_name: str,
    event_type: str,
    summary: bytes,
    created_at: datetime,
    repaired: bool = False,
) -> Frame:
    """Encode an event's message once; `summary` is a Summary as JSON."""
    tail = msgspec.json.encode(
        _Tail(repo_name, event_type, msgspec.Raw(summary), created_at, event_id, seq, repaired)
    )
    # Without its opening and its closing brace: live.wire puts the receiver before it and prev after it.
    return Frame(seq, tail[1:-1], repo_id, repo_name, event_type)


def branch_of(kind: str, document: dict[str, object]) -> str:
    if kind == "push":
        ref = text(document, "ref")
        return ref.removeprefix(_HEADS) if ref.startswith(_HEADS) else ""
    if kind.startswith("pull_request"):
        return text(document, "pull_request", "head", "ref")
    return ""


def _files(commits: list[object]) -> Iterator[File]:
    for commit in commits:
        sha = text(commit, "id")
        for change in _CHANGES:
            for path in items(commit, change):
                if isinstance(path, str):
                    yield File(text(path), change, sha)


def _metadata(kind: str, document: dict[str, object]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    if "pull_request" in document:
        metadata["pr_state"] = text(document, "pull_request", "state")
        metadata["pr_title"] = text(document, "pull_request", "title")[:MAX_TITLE]
        metadata["pr_number"] = number(document, "pull_request", "number")
        if document.get("action") == "closed":
            merged = document["pull_request"]
            metadata["pr_merged"] = str(isinstance(merged, dict) and merged.get("merged") is True).lower()
    if "issue" in document:
        metadata["issue_state"] = text(document, "issue", "state")
        metadata["issue_title"] = text(document, "issue", "title")[:MAX_TITLE]
        metadata["issue_number"] = number(document, "issue", "number")
    if action := text(document, "action"):
        metadata["action"] = action
    if kind == "push" and (ref := text(document, "ref")).startswith("refs/tags/"):
        metadata["tag"] = ref.removeprefix("refs/tags/")
    return {name: value for name, value in metadata.items() if value}


def _happened_at(kind: str, document: dict[str, object]) -> datetime | None:
    """GitHub's own time of the event, where the payload has one, in UTC."""
    if kind == "push":
        return _time(text(document, "head_commit", "timestamp"))
    subject = headline.subject_of(kind)
    return _time(text(document, subject, "updated_at")) if subject else None


def _time(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
