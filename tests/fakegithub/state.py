"""What GitHub knows: repositories, hooks and what was tried to deliver to them."""

import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

_EVENTS = """
branch_protection_rule check_run check_suite code_scanning_alert commit_comment create delete dependabot_alert
deploy_key deployment deployment_status discussion discussion_comment fork gollum issue_comment issues label member
meta milestone package page_build ping project pull_request pull_request_review pull_request_review_comment
pull_request_review_thread push registry_package release repository status star team_add watch workflow_job
workflow_run
"""
EVENTS = frozenset(_EVENTS.split())
"""that a repository's hook may ask for"""
ANSWER_WITHIN = 10.0


@dataclass
class Attempt:
    """One attempt to deliver: `guid` is the delivery's."""

    id: int
    guid: str
    event: str
    action: str | None
    delivered_at: datetime
    redelivery: bool
    status: str
    status_code: int
    duration: float
    request_headers: dict[str, str]
    payload: dict[str, Any]
    response_body: str
    shown: str = "whole"
    """of the payload, by the API: whole, null, empty, gone"""
    can_redeliver: bool = True


@dataclass
class Hook:
    id: int
    url: str
    secret: str
    events: tuple[str, ...]
    active: bool = True
    content_type: str = "json"
    insecure_ssl: str = "0"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    attempts: list[Attempt] = field(default_factory=list)
    """oldest first"""

    def wants(self, event: str) -> bool:
        return self.active and (event == "ping" or "*" in self.events or event in self.events)


@dataclass
class Repository:
    id: int
    name: str
    private: bool
    archived: bool
    hooks: dict[int, Hook] = field(default_factory=dict)


class Deliveries:
    """Sends what happens to hooks, at real addresses, and logs how that went."""

    def __init__(self) -> None:
        self.routes: dict[str, str | None] = {}
        self._http = httpx.Client(timeout=ANSWER_WITHIN, trust_env=False)
        self._next = 10**12

    def send(
        self,
        repo: Repository,
        hook: Hook,
        event: str,
        payload: dict[str, Any],
        guid: str,
        *,
        at: datetime | None = None,
        redelivery: bool = False,
    ) -> Attempt:
        body, headers = _request(repo, hook, event, payload, guid)
        began = time.monotonic()
        status, code, said = self._post(hook.url, body, headers)
        self._next += 7
        attempt = Attempt(
            id=self._next,
            guid=guid,
            event=event,
            action=payload.get("action"),
            delivered_at=at or datetime.now(UTC),
            redelivery=redelivery,
            status=status,
            status_code=code,
            duration=round(time.monotonic() - began, 2),
            request_headers=headers,
            payload=payload,
            response_body=said,
        )
        hook.attempts.append(attempt)
        return attempt

    def close(self) -> None:
        self._http.close()

    def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[str, int, str]:
        base = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        there = self.routes.get(base)
        if there is None:
            return "failed to connect to host", 0, ""
        try:
            answer = self._http.post(url.replace(base, there, 1), content=body, headers=headers)
        except httpx.TimeoutException:
            return "timed out", 0, ""
        except httpx.HTTPError:
            return "failed to connect to host", 0, ""
        good = answer.status_code < 400
        status = "OK" if good else f"Invalid HTTP Response: {answer.status_code}"
        return status, answer.status_code, answer.text


def _request(
    repo: Repository, hook: Hook, event: str, payload: dict[str, Any], guid: str
) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(payload).encode()
    form = hook.content_type == "form"
    if form:
        body = urlencode({"payload": body.decode()}).encode()
    headers = {
        "Content-Type": f"application/{'x-www-form-urlencoded' if form else 'json'}",
        "User-Agent": "GitHub-Hookshot/fake",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": str(hook.id),
        "X-GitHub-Hook-Installation-Target-ID": str(repo.id),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }
    if hook.secret:
        for name, algorithm in (("X-Hub-Signature-256", "sha256"), ("X-Hub-Signature", "sha1")):
            digest = hmac.digest(hook.secret.encode(), body, getattr(hashlib, algorithm)).hex()
            headers[name] = f"{algorithm}={digest}"
    return body, headers


def new_guid() -> str:
    return str(uuid.uuid4())


def kept(attempt: Attempt, days: int) -> bool:
    return attempt.delivered_at > datetime.now(UTC) - timedelta(days=days)
