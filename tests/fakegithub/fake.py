"""The fake as tests have it: what happens at GitHub, what it forgets, and how it fails."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from fakestripe.door import Answer, Cut
from fakestripe.server import Server

from .api import Api, Refused, Request
from .description import Description
from .state import Attempt, Deliveries, Hook, Repository, new_guid


@dataclass
class Token:
    scopes: frozenset[str] | None
    """of a classic one; None is a fine-grained one"""
    webhooks: str | None
    repos: frozenset[str] | None
    """that it sees, by lower-case name; None is all"""

    def sees(self, name: str) -> bool:
        return self.repos is None or name.lower() in self.repos


@dataclass
class Fault:
    method: str
    pattern: re.Pattern[str]
    left: int
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    cut: bool = False


class FakeGitHub:
    def __init__(self, *, port: int = 0, base: str = "") -> None:
        """:param base: the path of an Enterprise Server's API, /api/v3"""
        self._deliveries = Deliveries()
        self._lock = threading.RLock()
        self._server = Server(port, self._respond)
        self._api = Api(self)
        self._faults: list[Fault] = []
        self._background: list[threading.Thread] = []
        self._next_hook = 500_000_000
        self.base = base
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{base}"
        self.days = 7 if base else 3
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, int] = {}
        self.tokens: dict[str, Token] = {}
        self.requests: list[Request] = []
        self.remaining, self.reset_at = 5000, time.time() + 3600
        self.description: Description | None = None
        self.mismatches: list[str] = []

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
        self._server.stop()
        self._deliveries.close()

    # What there is.

    def repository(self, name: str, *, private: bool = False, archived: bool = False) -> Repository:
        made = Repository(1000 + len(self.repositories), name, private, archived)
        self.repositories[name.lower()] = made
        return made

    def rename(self, old: str, new: str) -> None:
        repo = self.repositories.pop(old.lower())
        repo.name = new
        self.repositories[new.lower()] = repo
        self.renamed[old.lower()] = repo.id

    def token(self, scopes: Iterable[str] = ("admin:repo_hook",), repos: Iterable[str] | None = None) -> str:
        """A classic one."""
        return self._token("ghp_", Token(frozenset(scopes), None, _lower(repos)))

    def fine_grained(self, webhooks: str | None = "write", repos: Iterable[str] | None = None) -> str:
        return self._token("github_pat_", Token(None, webhooks, _lower(repos)))

    def revoke(self, token: str) -> None:
        del self.tokens[token]

    def hook(
        self, repo: str, url: str, secret: str = "", events: Iterable[str] = ("push",), **more: Any
    ) -> int:
        """One that somebody made by hand."""
        with self._lock:
            self._next_hook += 1
            made = Hook(self._next_hook, url, secret, tuple(events), **more)
            self.repositories[repo.lower()].hooks[made.id] = made
            return made.id

    def hooks(self, repo: str) -> list[Hook]:
        return list(self.repositories[repo.lower()].hooks.values())

    def deliveries(self, hook_id: int) -> list[Attempt]:
        """Newest first."""
        return list(reversed(self.find_hook(hook_id)[1].attempts))

    def find_hook(self, hook_id: int) -> tuple[Repository, Hook]:
        return next(
            (repo, repo.hooks[hook_id]) for repo in self.repositories.values() if hook_id in repo.hooks
        )

    # What happens.

    def route(self, public: str, real: str | None) -> None:
        """Where an address of the Internet really is; None: nobody is there."""
        self._deliveries.routes[public] = real

    def happen(
        self, repo: str, event: str, payload: dict[str, Any], *, guid: str = "", at: datetime | None = None
    ) -> str:
        """An event: sent to each hook that wants it, once."""
        guid = guid or new_guid()
        there = self.repositories[repo.lower()]
        whole = {
            "repository": {"id": there.id, "full_name": there.name},
            "sender": {"login": "ada"},
            **payload,
        }
        for hook in list(there.hooks.values()):
            if hook.wants(event):
                self._deliveries.send(there, hook, event, whole, guid, at=at)
        return guid

    def ping(self, repo: Repository, hook: Hook) -> None:
        payload = {"zen": "Keep it logically awesome.", "hook_id": hook.id}
        self._later(lambda: self._deliveries.send(repo, hook, "ping", payload, new_guid()))

    def redeliver(self, repo: Repository, hook: Hook, attempt: Attempt) -> None:
        self._later(
            lambda: self._deliveries.send(
                repo, hook, attempt.event, attempt.payload, attempt.guid, redelivery=True
            )
        )

    def settle(self) -> None:
        """Wait until all that GitHub is sending by itself is sent."""
        while self._background:
            self._background.pop().join()

    # What it forgets, and how it fails.

    def forget_payloads(
        self, hook_id: int, guids: Iterable[str] | None = None, how: str = "null", *, redeliver: bool = True
    ) -> None:
        """:param how: null, empty or gone (the whole detail); :param redeliver: it can still send it again"""
        wanted = None if guids is None else set(guids)
        for attempt in self.find_hook(hook_id)[1].attempts:
            if wanted is None or attempt.guid in wanted:
                attempt.shown, attempt.can_redeliver = how, redeliver

    def fail(self, method: str, pattern: str, *, status: int = 502, times: int = 1, **more: Any) -> None:
        """The next requests like this fail; `headers`, `body`, or `cut` the connection."""
        self._faults.append(Fault(method, re.compile(pattern), times, status, **more))

    def limit(self, remaining: int, reset_in: float) -> None:
        self.remaining, self.reset_at = remaining, time.time() + reset_in

    def secondary_limit(self, times: int = 1, retry_after: int = 1) -> None:
        body = {
            "message": "You have exceeded a secondary rate limit.",
            "documentation_url": "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api",
        }
        self.fail(".*", "", status=403, times=times, headers={"Retry-After": str(retry_after)}, body=body)

    def asked(self) -> Counter[str]:
        """How often each kind of request came: "GET hooks", "GET deliveries/*", "POST attempts"."""
        kinds = (re.sub(r"\d{6,}", "*", each.path) for each in self.requests)
        return Counter(
            f"{each.method} {re.search(r'[a-z]+(/[*])?$', kind)[0]}"  # type: ignore[index]
            for each, kind in zip(self.requests, kinds, strict=True)
        )

    def _token(self, prefix: str, token: Token) -> str:
        text = prefix + f"{len(self.tokens):036d}"
        self.tokens[text] = token
        return text

    def _later(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._background.append(thread)
        thread.start()

    def _respond(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        request = Request.of(method, target, headers, body, self.base)
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.left and re.fullmatch(fault.method, method) and fault.pattern.search(request.path):
                    fault.left -= 1
                    if fault.cut:
                        raise Cut
                    return Answer(
                        fault.status,
                        json.dumps(fault.body or {"message": "Server Error"}).encode(),
                        fault.headers,
                    )
            try:
                answer = self._api.answer(request)
            except Refused as refused:
                answer = refused.answer
            if self.description is not None:
                self.mismatches += self.description.check(request, answer)
            return answer


def _lower(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(name.lower() for name in names)
