"""What a seed decides: users, repositories, who shares what, the clients and their tempers, every delivery."""

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from random import Random
from typing import Literal

from .history import KINDS, Kind, Selection

CLIENTS_A_USER = 6
EVENTS = ("push", "issues", "pull_request", "release", "workflow_run", "star")
ONLY = ("push", "pull_request")
"""what a repository with a filter lets through"""

Temper = Literal["steady", "slow", "dropping", "restless"]
"""reads at once · reads a little at a time · hangs up now and then · asks to `resume` while connected (v2)"""
TEMPERS: tuple[Temper, ...] = ("steady", "slow", "dropping", "restless")


@dataclass(frozen=True, slots=True)
class Repo:
    name: str
    owner: int
    members: tuple[int, ...]
    filtered: bool


@dataclass(frozen=True, slots=True)
class Spec:
    """One client."""

    name: str
    user: int
    kind: Kind
    temper: Temper
    selection: Selection


@dataclass(frozen=True, slots=True)
class Delivery:
    number: int
    guid: str
    repo: int
    event: str
    body: bytes
    copies: int
    """how many times it is sent at once; most of them once"""


class Plan:
    def __init__(self, seed: int, clients: int) -> None:
        dice = Random(f"{seed} plan")
        self.seed = seed
        self.users = max(2, clients // CLIENTS_A_USER)
        self.repos = tuple(_repo(number, self.users, dice) for number in range(self.users + 4))
        self.clients = tuple(_client(number, self, dice) for number in range(clients))

    def seen_at_first(self, user: int) -> list[int]:
        """The repositories that a user sees when a run begins."""
        return [
            number for number, repo in enumerate(self.repos) if user == repo.owner or user in repo.members
        ]

    def delivery(self, number: int) -> Delivery:
        dice = Random(f"{self.seed} delivery {number}")
        event = dice.choice(EVENTS)
        repo = dice.randrange(len(self.repos))
        size = dice.choices((1, 20, 290), (90, 9, 1))[0]
        return Delivery(
            number,
            str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            repo,
            event,
            json.dumps(_payload(event, number, self.repos[repo].name, size)).encode(),
            dice.choices((1, 2, 3), (92, 6, 2))[0],
        )

    def hides(self, repo: int, event: str) -> bool:
        """Whether the repository's filter keeps such an event from everybody."""
        return self.repos[repo].filtered and event not in ONLY


def signature(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _repo(number: int, users: int, dice: Random) -> Repo:
    owner = number % users
    others = [user for user in range(users) if user != owner]
    members = tuple(dice.sample(others, dice.randrange(min(3, len(others) + 1))))
    return Repo(f"octo/repo-{number}", owner, members, filtered=number % 8 == 7)


def _client(number: int, plan: Plan, dice: Random) -> Spec:
    user, kind = number % plan.users, KINDS[number // plan.users % len(KINDS)]
    temper = dice.choice(TEMPERS if kind == "v2" else TEMPERS[:-1])
    selection = Selection()
    if kind != "legacy" and dice.random() < 0.4:
        repos = plan.seen_at_first(user)
        selection = Selection(
            frozenset(dice.sample(repos, dice.randint(1, len(repos))))
            if dice.random() < 0.7
            else frozenset(),
            frozenset(dice.sample(EVENTS, dice.randint(1, 4))) if dice.random() < 0.5 else frozenset(),
        )
    return Spec(f"{kind}-{number} of user {user}, {temper}", user, kind, temper, selection)


def _payload(event: str, number: int, repo: str, size: int) -> dict[str, object]:
    """What GitHub would send, with as many files as `size`."""
    common: dict[str, object] = {"sender": {"login": "ada"}, "repository": {"full_name": repo}}
    if event == "push":
        commit = {
            "id": f"{number:040x}",
            "message": f"Commit {number}",
            "timestamp": "2026-11-24T12:00:00Z",
            "added": [f"src/some/folder/file-{number}-{each}.txt" for each in range(size)],
            "removed": [],
            "modified": [],
        }
        return {**common, "ref": "refs/heads/main", "commits": [commit], "head_commit": commit}
    if event == "pull_request":
        head = {"ref": f"feature-{number}"}
        return {
            **common,
            "action": "opened",
            "pull_request": {"title": "A" * size, "state": "open", "head": head},
        }
    return {**common, "action": "created", "number": number, "padding": "x" * (100 * size)}
