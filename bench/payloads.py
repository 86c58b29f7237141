"""What GitHub would send: pushes of 10 KB with the keys of GitHub's own, signed, as whole HTTP requests.

They are made here, from a seed, so that the bench needs no files and two runs post the same. The bodies are few and
repeat; what differs from request to request is the delivery's GUID, and with it whether the event is a new one.
"""

import json
import random
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotexd.domain.github import sign

SIZE = 10 * 1024
"""bytes of a body"""
VARIANTS = 64
"""different bodies"""
DIGITS = 12
"""of a GUID, at its end, which are counted up by whoever sends the request"""
_WORDS = tuple(
    re.findall("[a-z]+", "fix the cache of a reader and its test when two of them wait for a page")
)
_LINKS = re.findall(
    "[a-z_]+",
    "archive assignees blobs branches collaborators comments commits compare contents contributors deployments "
    "downloads events forks git_commits git_refs git_tags hooks issue_comment issue_events issues keys labels "
    "languages merges milestones notifications pulls releases stargazers statuses subscribers subscription tags "
    "teams trees",
)
_PERSON_LINKS = re.findall(
    "[a-z_]+", "followers following gists starred subscriptions organizations repos events received_events"
)


@dataclass(frozen=True)
class Request:
    """A whole HTTP request; at `offset` stand the digits that are counted up."""

    text: bytes
    offset: int

    def numbered(self, number: int) -> bytes:
        digits = b"%0*d" % (DIGITS, number)
        return self.text[: self.offset] + digits + self.text[self.offset + DIGITS :]


def push(seed: int, size: int = SIZE) -> bytes:
    """A push of two commits that is `size` bytes long; the clients' message of it is about 1 KB."""
    dice = random.Random(seed)
    commits = [_commit(dice) for _ in range(2)]
    document = {
        "ref": "refs/heads/main",
        "before": _sha(dice),
        "after": commits[-1]["id"],
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.com/octo/hello/compare/{_sha(dice)[:12]}...{commits[-1]['id'][:12]}",
        "commits": commits,
        "head_commit": commits[-1],
        "repository": _repository(),
        "pusher": {"name": "ada", "email": "ada@example.com"},
        "sender": _person("ada"),
    }
    first = commits[0]
    first["message"] = ""
    missing = size - len(_encoded(document))
    words = " ".join(dice.choices(_WORDS, k=missing // 2))
    first["message"] = words[:missing]
    return _encoded(document)


def requests(host: str, path: str, secret: str, variants: int = VARIANTS, size: int = SIZE) -> list[Request]:
    """Signed deliveries to `path`, each to be sent any number of times under other GUIDs.

    :param size: bytes of a body; 8 KB of it are the keys that all have
    """
    run = str(uuid.uuid4())[:-DIGITS]
    found = []
    for seed in range(variants):
        body = push(seed, size)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: GitHub-Hookshot/bench\r\nAccept: */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-GitHub-Event: push\r\n"
            f"X-GitHub-Hook-ID: 1\r\nX-Hub-Signature-256: {sign(body, secret).decode()}\r\n"
            f"X-GitHub-Delivery: {run}"
        ).encode()
        found.append(Request(head + b"0" * DIGITS + b"\r\n\r\n" + body, len(head)))
    return found


def write(requests: Sequence[Request], path: Path) -> Path:
    """As bench/load.c reads them."""
    path.write_bytes(b"".join(b"%d %d\n%b" % (len(each.text), each.offset, each.text) for each in requests))
    return path


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _sha(dice: random.Random) -> str:
    return f"{dice.getrandbits(160):040x}"


def _commit(dice: random.Random) -> dict[str, Any]:
    sha = _sha(dice)
    person = {"name": "Ada", "email": "ada@example.com", "username": "ada"}
    return {
        "id": sha,
        "tree_id": _sha(dice),
        "distinct": True,
        "message": " ".join(dice.choices(_WORDS, k=8)),
        "timestamp": "2026-11-24T12:00:00+01:00",
        "url": f"https://github.com/octo/hello/commit/{sha}",
        "author": person,
        "committer": person,
        "added": [f"src/{dice.choice(_WORDS)}.py"],
        "removed": [],
        "modified": ["README.md"],
    }


def _repository() -> dict[str, Any]:
    api = "https://api.github.com/repos/octo/hello"
    return {
        "id": 186853002,
        "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=",
        "name": "hello",
        "full_name": "octo/hello",
        "private": False,
        "owner": _person("octo"),
        "html_url": "https://github.com/octo/hello",
        "description": None,
        "fork": False,
        "url": "https://github.com/octo/hello",
        **{f"{name}_url": f"{api}/{name}{{/id}}" for name in _LINKS},
        "created_at": 1557933565,
        "updated_at": "2026-11-24T11:20:41Z",
        "pushed_at": 1557933657,
        "clone_url": "https://github.com/octo/hello.git",
        "size": 1234,
        "stargazers_count": 5,
        "language": "Python",
        "has_issues": True,
        "has_wiki": True,
        "forks_count": 1,
        "archived": False,
        "license": None,
        "topics": [],
        "visibility": "public",
        "default_branch": "main",
    }


def _person(name: str) -> dict[str, Any]:
    api = f"https://api.github.com/users/{name}"
    return {
        "login": name,
        "id": 21031067,
        "node_id": "MDQ6VXNlcjIxMDMxMDY3",
        "avatar_url": "https://avatars1.githubusercontent.com/u/21031067?v=4",
        "url": api,
        "html_url": f"https://github.com/{name}",
        **{f"{link}_url": f"{api}/{link}" for link in _PERSON_LINKS},
        "type": "User",
        "site_admin": False,
    }
