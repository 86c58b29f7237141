"""The routes of the REST API that webhooks need, with GitHub's answers and refusals."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from fakestripe.door import Answer

from .state import EVENTS, Attempt, Hook, Repository, kept

if TYPE_CHECKING:
    from .fake import FakeGitHub, Token

HOOKS_PER_EVENT = 20
DOCS = "https://docs.github.com/rest"
READ = ("read:repo_hook", "write:repo_hook", "admin:repo_hook", "repo", "public_repo")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """below the base"""
    query: dict[str, str]
    headers: dict[str, str]
    """by lower-case name"""
    body: Any

    @classmethod
    def of(cls, method: str, target: str, headers: dict[str, str], body: bytes, base: str) -> "Request":
        parts = urlsplit(target)
        path = parts.path.removeprefix(base) if parts.path.startswith(base) else "/nowhere"
        return cls(method, path, dict(parse_qsl(parts.query)), headers, json.loads(body) if body else None)


class Refused(Exception):
    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.answer = reply(status, {"message": message, "documentation_url": DOCS, **more}, headers)


def reply(status: int, value: object = None, headers: dict[str, str] | None = None) -> Answer:
    body = b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, body, dict(headers or {}))


@dataclass(frozen=True)
class At:
    """What a route is about."""

    request: Request
    repo: Repository
    hook: Hook | None
    attempt: Attempt | None


class Api:
    def __init__(self, fake: "FakeGitHub") -> None:
        self._fake = fake
        hook = r"/hooks/(?P<hook>\d+)"
        routes: tuple[tuple[str, str, Callable[[At], Answer]], ...] = (
            (
                "GET",
                "",
                lambda at: reply(
                    200, {"id": at.repo.id, "full_name": at.repo.name, "private": at.repo.private}
                ),
            ),
            ("GET", "/hooks", self._list),
            ("POST", "/hooks", self._make),
            ("GET", hook, lambda at: reply(200, self._shown(at.hook, at.repo))),
            ("PATCH", hook, self._change),
            ("DELETE", hook, self._delete),
            ("GET", f"{hook}/config", lambda at: reply(200, _config(at.hook))),
            ("PATCH", f"{hook}/config", self._change_config),
            ("POST", f"{hook}/pings", self._ping),
            ("GET", f"{hook}/deliveries", self._deliveries),
            ("GET", rf"{hook}/deliveries/(?P<attempt>\d+)", self._delivery),
            ("POST", rf"{hook}/deliveries/(?P<attempt>\d+)/attempts", self._redeliver),
        )
        where = r"(?:/repos/(?P<name>[^/]+/[^/]+)|/repositories/(?P<id>\d+))"
        self._routes = [(method, re.compile(where + path), do) for method, path, do in routes]

    def answer(self, request: Request) -> Answer:
        if "user-agent" not in request.headers:
            raise Refused(403, "Request forbidden by administrative rules.")
        token = self._token(request)
        for method, pattern, do in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)):
                return self._answered(request, token, match.groupdict(), do)
        raise Refused(404, "Not Found")

    def _answered(
        self, request: Request, token: "Token", named: dict[str, str], do: Callable[[At], Answer]
    ) -> Answer:
        repo = self._repository(request, token, named)
        self._check_rights(request, token, repo)
        hook = repo.hooks.get(int(named.get("hook") or 0))
        if named.get("hook") and hook is None:
            raise Refused(404, "Not Found")
        attempt = None
        if named.get("attempt"):
            attempt = next((each for each in self._kept(hook) if each.id == int(named["attempt"])), None)
            if attempt is None:
                raise Refused(404, "Not Found")
        answer = do(At(request, repo, hook, attempt))
        if request.method == "GET" and answer.status == 200:
            etag = f'W/"{hashlib.sha256(answer.body).hexdigest()}"'
            if request.headers.get("if-none-match") == etag:
                return reply(304, None, {"ETag": etag, **self._limits(cost=0)})
            answer.headers["ETag"] = etag
        answer.headers.update(self._limits(cost=1))
        return answer

    def _token(self, request: Request) -> "Token":
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() not in {"bearer", "token"}:
            raise Refused(401, "Requires authentication")
        token = self._fake.tokens.get(text)
        if token is None:
            raise Refused(401, "Bad credentials")
        if self._fake.remaining <= 0 and time.time() < self._fake.reset_at:
            raise Refused(403, "API rate limit exceeded for user ID 1.", self._limits(cost=0))
        return token

    def _repository(self, request: Request, token: "Token", named: dict[str, str]) -> Repository:
        name = (named.get("name") or "").lower()
        if name in self._fake.renamed:
            rest = request.path[len(f"/repos/{name}") :]
            there = f"{self._fake.url}/repositories/{self._fake.renamed[name]}{rest}"
            raise Refused(
                301 if request.method == "GET" else 307, "Moved Permanently", {"Location": there}, url=there
            )
        for repo in self._fake.repositories.values():
            if (repo.name.lower() == name or str(repo.id) == named.get("id")) and token.sees(repo.name):
                return repo
        raise Refused(404, "Not Found")

    def _check_rights(self, request: Request, token: "Token", repo: Repository) -> None:
        reads = request.method == "GET"
        if "/hooks" in request.path:
            if token.scopes is None and not (
                token.webhooks == "write" or (reads and token.webhooks == "read")
            ):
                wanted = {"X-Accepted-GitHub-Permissions": f"repository_hooks={'read' if reads else 'write'}"}
                raise Refused(403, "Resource not accessible by personal access token", wanted)
            accepted = READ if reads else READ[1:]
            if token.scopes is not None and token.scopes.isdisjoint(accepted):
                shown = {
                    "X-OAuth-Scopes": ", ".join(sorted(token.scopes)),
                    "X-Accepted-OAuth-Scopes": ", ".join(accepted),
                }
                raise Refused(404, "Not Found", shown)
        if repo.archived and not reads:
            raise Refused(403, "Repository was archived so is read-only.")

    def _limits(self, cost: int) -> dict[str, str]:
        if time.time() >= self._fake.reset_at:
            self._fake.limit(5000, 3600)
        self._fake.remaining -= cost
        return {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": str(max(0, self._fake.remaining)),
            "X-RateLimit-Reset": str(int(self._fake.reset_at + 0.999)),
        }

    # Hooks.

    def _list(self, at: At) -> Answer:
        size, page = int(at.request.query.get("per_page", 30)), int(at.request.query.get("page", 1))
        hooks = list(at.repo.hooks.values())
        some = hooks[(page - 1) * size : page * size]
        more = {"Link": self._link(at, page=str(page + 1))} if len(hooks) > page * size else {}
        return reply(200, [self._shown(each, at.repo) for each in some], more)

    def _make(self, at: At) -> Answer:
        given = at.request.body
        config, events = given.get("config", {}), given.get("events", ["push"])
        self._check(at.repo, config.get("url", ""), events, None)
        made = self._fake.hook(
            at.repo.name,
            config["url"],
            config.get("secret", ""),
            events,
            active=given.get("active", True),
            content_type=config.get("content_type", "form"),
            insecure_ssl=str(config.get("insecure_ssl", "0")),
        )
        hook = at.repo.hooks[made]
        answer = reply(201, self._shown(hook, at.repo))
        self._fake.ping(at.repo, hook)
        return answer

    def _change(self, at: At) -> Answer:
        hook, given = at.hook, at.request.body
        assert hook is not None
        if "config" in given:
            self._check(at.repo, given["config"].get("url", ""), given.get("events", hook.events), hook)
            hook.secret = ""
            _configure(hook, given["config"])
        hook.events = tuple(given.get("events", hook.events))
        hook.active = given.get("active", hook.active)
        return reply(200, self._shown(hook, at.repo))

    def _change_config(self, at: At) -> Answer:
        assert at.hook is not None
        if "url" in at.request.body:
            self._check(at.repo, at.request.body["url"], at.hook.events, at.hook)
        _configure(at.hook, at.request.body)
        return reply(200, _config(at.hook))

    def _delete(self, at: At) -> Answer:
        assert at.hook is not None
        del at.repo.hooks[at.hook.id]
        return reply(204)

    def _ping(self, at: At) -> Answer:
        assert at.hook is not None
        self._fake.ping(at.repo, at.hook)
        return reply(204)

    def _check(
        self, repo: Repository, url: str, events: list[str] | tuple[str, ...], mine: Hook | None
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in {"http", "https"} or not host:
            _invalid("url is missing or not a URL")
        if host == "localhost" or re.match(r"(127|10|192\.168)\.", host):
            _invalid(f"url is not supported because it isn't reachable over the public Internet ({host})")
        for event in events:
            if event != "*" and event not in EVENTS:
                _invalid(f"Events item {event} is not a valid event")
        others = [each for each in repo.hooks.values() if each is not mine]
        if any(each.url == url and set(each.events) == set(events) for each in others):
            _invalid("Hook already exists on this repository")
        for event in events:
            if sum(event in each.events for each in others) >= HOOKS_PER_EVENT:
                _invalid(f'The "{event}" event cannot have more than {HOOKS_PER_EVENT} hooks')

    def _shown(self, hook: Hook | None, repo: Repository) -> dict[str, object]:
        assert hook is not None
        here = f"{self._fake.url}/repos/{repo.name}/hooks/{hook.id}"
        last = hook.attempts[-1] if hook.attempts else None
        response = {"code": None, "status": "unused", "message": None}
        if last is not None:
            good = 200 <= last.status_code < 400
            response = {
                "code": last.status_code or None,
                "status": "active" if good else "misconfigured",
                "message": last.status,
            }
        return {
            "type": "Repository",
            "id": hook.id,
            "name": "web",
            "active": hook.active,
            "events": list(hook.events),
            "config": _config(hook),
            "updated_at": hook.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "created_at": hook.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "url": here,
            "test_url": f"{here}/test",
            "ping_url": f"{here}/pings",
            "deliveries_url": f"{here}/deliveries",
            "last_response": response,
        }

    # Deliveries.

    def _kept(self, hook: Hook | None) -> list[Attempt]:
        assert hook is not None
        return [each for each in reversed(hook.attempts) if kept(each, self._fake.days)]

    def _deliveries(self, at: At) -> Answer:
        size = min(100, int(at.request.query.get("per_page", 30)))
        attempts = self._kept(at.hook)
        if cursor := at.request.query.get("cursor"):
            attempts = [each for each in attempts if each.id <= int(cursor.removeprefix("v1_"))]
        more = {}
        if len(attempts) > size:
            more["Link"] = self._link(at, cursor=f"v1_{attempts[size].id}")
        return reply(200, [_brief(each, at.repo) for each in attempts[:size]], more)

    def _delivery(self, at: At) -> Answer:
        attempt, hook = at.attempt, at.hook
        assert attempt is not None
        assert hook is not None
        if attempt.shown == "gone":
            raise Refused(404, "Not Found")
        payload = {"whole": attempt.payload, "null": None, "empty": {}}[attempt.shown]
        return reply(
            200,
            {
                **_brief(attempt, at.repo),
                "url": hook.url,
                "request": {"headers": attempt.request_headers, "payload": payload},
                "response": {"headers": {}, "payload": attempt.response_body},
            },
        )

    def _redeliver(self, at: At) -> Answer:
        assert at.attempt is not None
        assert at.hook is not None
        if not at.attempt.can_redeliver:
            _invalid("The delivery cannot be redelivered")
        self._fake.redeliver(at.repo, at.hook, at.attempt)
        return reply(202, {})

    def _link(self, at: At, **changed: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in {**at.request.query, **changed}.items())
        return f'<{self._fake.url}{at.request.path}?{query}>; rel="next"'


def _configure(hook: Hook, config: dict[str, Any]) -> None:
    hook.url = config.get("url", hook.url)
    hook.secret = config.get("secret", hook.secret)
    hook.content_type = config.get("content_type", hook.content_type)
    hook.insecure_ssl = str(config.get("insecure_ssl", hook.insecure_ssl))


def _config(hook: Hook | None) -> dict[str, str]:
    assert hook is not None
    shown = {"url": hook.url, "content_type": hook.content_type, "insecure_ssl": hook.insecure_ssl}
    return {**shown, **({"secret": "********"} if hook.secret else {})}


def _brief(attempt: Attempt, repo: Repository) -> dict[str, object]:
    return {
        "id": attempt.id,
        "guid": attempt.guid,
        "delivered_at": attempt.delivered_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "redelivery": attempt.redelivery,
        "duration": attempt.duration,
        "status": attempt.status,
        "status_code": attempt.status_code,
        "event": attempt.event,
        "action": attempt.action,
        "installation_id": None,
        "repository_id": repo.id,
        "throttled_at": None,
    }


def _invalid(message: str) -> None:
    fault = {"resource": "Hook", "code": "custom", "message": message}
    raise Refused(422, "Validation Failed", errors=[fault])
