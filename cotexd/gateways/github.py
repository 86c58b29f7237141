"""GitHub's REST API, in the few calls that webhooks need.

Source: docs.github.com/rest/repos/webhooks and /rest/using-the-rest-api. What comes back is values of ours; what goes
wrong is in the catalogue of errors, in words that say what to do. The token goes to the configured host and to no
other: a redirect that leads elsewhere is refused, and of a link to the next page only its cursor is used.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, ClassVar, Final, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import msgspec

from cotexd import metrics
from cotexd.errors import (
    CotexError,
    Failed,
    Forbidden,
    Invalid,
    Kind,
    NotFound,
    Unauthorized,
    Unreachable,
)
from cotexd.gateways import outside

API_URL = "https://api.github.com"
VERSION = "2022-11-28"
SCOPES = "Webhooks (read and write) of a fine-grained token, or admin:repo_hook of a classic one"
SET_TOKEN = f"Set one that has {SCOPES}: cotex secret set github-token"
TIMEOUT = 20.0
"""seconds for each step of a request"""
PAGE = 100
MAX_PAGES = 10
"""of hooks: GitHub allows 20 a type of event"""
MAX_KEPT = 2000
"""repositories whose hooks are remembered"""
MAX_HOOKS = 20
"""that GitHub allows on one repository for a type of event"""
MAX_BYTES: Final = 64 * 2**20
"""of an answer: a payload of 25 MB, its characters escaped"""
RETRIES = 2
"""of what only asks, where GitHub stumbles"""
PAUSE = 0.5
"""seconds before the first of them, and twice that before the next; half of it by chance"""
MAX_WAITS = 20
"""for one request, where GitHub limits us"""
MAX_REDIRECTS = 3

_KEPT = (
    "date",
    "etag",
    "link",
    "location",
    "retry-after",
    "x-accepted-oauth-scopes",
    "x-oauth-scopes",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)
"""headers of an answer that are looked at"""
_WAIT = 60.0
"""seconds, where GitHub does not say how long it wants to be left alone"""
_MAX_WAIT = 3600.0

T = TypeVar("T")


class Limited(CotexError):
    """GitHub wants to be asked less."""

    kind: ClassVar[Kind] = Kind.LIMITED
    code = "github_limited"

    def __init__(self, wait: float) -> None:
        """:param wait: seconds until it may be asked again"""
        super().__init__("GitHub's rate limit is reached.", hint=f"It may be asked again in {wait:.0f} s.")
        self.wait = wait


class NoToken(Forbidden):
    code = "no_github_token"

    def __init__(self) -> None:
        super().__init__("There is no token for GitHub.", hint=SET_TOKEN)


class Config(msgspec.Struct, frozen=True):
    """Where and how a hook calls; `secret` is never the secret itself, but shows whether there is one."""

    url: str = ""
    content_type: str = "form"
    insecure_ssl: str | int = "0"
    secret: str | None = None


class Response(msgspec.Struct, frozen=True):
    """How its last delivery was answered; code None is one that got no answer, status "unused" none yet."""

    code: int | None = None
    status: str | None = None
    message: str | None = None


class Hook(msgspec.Struct, frozen=True):
    id: int
    active: bool
    events: tuple[str, ...]
    config: Config
    last_response: Response | None = None
    """null, or of the status "unused", where there was none yet"""

    @property
    def answered(self) -> Response:
        return self.last_response or Response()


class Wanted(msgspec.Struct, frozen=True):
    """A hook as it must be. Its secret always goes with it: a change without one would take it away."""

    url: str
    secret: str
    events: tuple[str, ...]

    def body(self) -> dict[str, object]:
        return {"active": True, "events": list(self.events), "config": self.config()}

    def config(self) -> dict[str, object]:
        return {"url": self.url, "content_type": "json", "insecure_ssl": "0", "secret": self.secret}


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to deliver. A delivery (its GUID) may have several."""

    id: int
    guid: str
    event: str
    delivered_at: Annotated[datetime, msgspec.Meta(tz=True)]
    status: str | None = None
    status_code: int | None = None
    redelivery: bool = False
    action: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 400


class Page(msgspec.Struct, frozen=True):
    """Attempts, newest first."""

    attempts: tuple[Attempt, ...]
    following: str
    """the cursor of the next page; "" if there is none"""
    etag: str = ""


class _Request(msgspec.Struct, frozen=True):
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Detail(msgspec.Struct, frozen=True):
    guid: str = ""
    event: str = ""
    request: _Request | None = None


class _Fault(msgspec.Struct, frozen=True):
    message: str = ""
    field: str = ""
    code: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""
    errors: tuple[_Fault | str, ...] = ()


class Client:
    """One connection pool to one API, for all tokens."""

    def __init__(
        self,
        api_url: str = "",
        ca_cert: Path | None = None,
        *,
        patience: float = 0.0,
        limited: Callable[[float], None] = lambda _: None,
    ) -> None:
        """:param api_url: the whole base of another API than GitHub's own
        :param patience: seconds to wait where GitHub wants to be asked less, before Limited is raised
        :param limited: is told for how many seconds
        :raises Failed: `ca_cert` cannot be read
        """
        self.base = api_url or API_URL
        self._patience = patience
        self._limited = limited
        self._tokens: dict[str, GitHub] = {}
        context = _trusting(ca_cert) if ca_cert else None
        self.http = outside.client(configured=bool(api_url), timeout=TIMEOUT, context=context)

    def as_(self, token: str) -> "GitHub":
        """GitHub as the owner of `token` sees it.

        :raises Unauthorized: that can be nobody's token
        """
        if not (token.isascii() and token.isprintable()):
            raise Unauthorized("What is set as GitHub's token is none.", hint=SET_TOKEN)
        if token not in self._tokens:
            self._tokens[token] = GitHub(self, token)
        return self._tokens[token]

    async def waited(self, wait: float) -> bool:
        """Wait as long as GitHub wants, or return False if that is too long."""
        if wait > self._patience:
            return False
        self._limited(wait)
        await asyncio.sleep(wait)
        return True

    async def close(self) -> None:
        await self.http.aclose()

    async def clock(self) -> datetime | None:
        """What time it is at GitHub; None if it does not say.

        :raises Unreachable: it does not answer
        """
        answer = await _send(self.http, "GET", httpx.URL(f"{self.base}/"), {}, None)
        try:
            return parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC)
        except ValueError:
            return None


class GitHub:
    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self._base = client.base
        self._headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/vnd.github+json",
            "x-github-api-version": VERSION,
        }
        self._hooks: dict[str, tuple[str, list[Hook]]] = {}
        """of each repository, with the etag by which GitHub says for nothing that they are the same"""

    async def hooks(self, repo: str) -> list[Hook]:
        """All webhooks of a repository.

        :raises NotFound: the token sees no such repository
        """
        path, query = f"{_of(repo)}/hooks", {"per_page": str(PAGE)}
        etag, kept = self._hooks.pop(repo, ("", []))
        answer = await self._ask("GET", path, query, etag=etag)
        etag = answer.headers.get("etag", etag)
        found = kept if answer.status_code == httpx.codes.NOT_MODIFIED else _read(answer, list[Hook])
        page = 1
        while "next" in answer.links and page < MAX_PAGES:
            etag, page = "", page + 1
            answer = await self._ask("GET", path, {**query, "page": str(page)})
            found += _read(answer, list[Hook])
        if etag and len(self._hooks) < MAX_KEPT:
            self._hooks[repo] = (etag, found)
        return found

    async def hook(self, repo: str, hook_id: int) -> Hook:
        """:raises NotFound: there is no such hook, or the token sees no such repository"""
        return _read(await self._ask("GET", f"{_of(repo)}/hooks/{hook_id:d}"), Hook)

    async def make(self, repo: str, wanted: Wanted) -> Hook:
        """:raises Invalid: GitHub does not take this address, or these events"""
        body = {"name": "web", **wanted.body()}
        return _read(await self._ask("POST", f"{_of(repo)}/hooks", body=body), Hook)

    async def change(self, repo: str, hook_id: int, wanted: Wanted) -> Hook:
        """Make a hook as it must be, whatever it was."""
        return _read(await self._ask("PATCH", f"{_of(repo)}/hooks/{hook_id:d}", body=wanted.body()), Hook)

    async def give_secret(self, repo: str, hook_id: int, secret: str) -> None:
        """Change the secret, and nothing else."""
        await self._ask("PATCH", f"{_of(repo)}/hooks/{hook_id:d}/config", body={"secret": secret})

    async def remove(self, repo: str, hook_id: int) -> None:
        await self._ask("DELETE", f"{_of(repo)}/hooks/{hook_id:d}")

    async def ping(self, repo: str, hook_id: int) -> None:
        """Have GitHub send a ping."""
        await self._ask("POST", f"{_of(repo)}/hooks/{hook_id:d}/pings")

    async def deliveries(self, repo: str, hook_id: int, *, cursor: str = "", etag: str = "") -> Page | None:
        """A page of attempts.

        :param etag: of the first page as it was seen before; None comes back if that has not changed
        """
        query = {"per_page": str(PAGE), **({"cursor": cursor} if cursor else {})}
        answer = await self._ask("GET", f"{_of(repo)}/hooks/{hook_id:d}/deliveries", query, etag=etag)
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None
        following = parse_qs(urlsplit(answer.links.get("next", {}).get("url", "")).query).get("cursor", [""])
        return Page(tuple(_read(answer, list[Attempt])), following[0], etag=answer.headers.get("etag", ""))

    async def payload(self, repo: str, hook_id: int, attempt: Attempt) -> bytes | None:
        """What was sent in an attempt, as compact JSON; None where GitHub does not show all of it any more."""
        path = f"{_of(repo)}/hooks/{hook_id:d}/deliveries/{attempt.id:d}"
        try:
            detail = _read(await self._ask("GET", path), _Detail)
        except NotFound:
            return None
        if (detail.guid or attempt.guid, detail.event or attempt.event) != (attempt.guid, attempt.event):
            raise Failed(f"GitHub shows another delivery than {attempt.guid}.")
        shown = bytes(detail.request.payload) if detail.request is not None else b"null"
        payload = msgspec.json.format(shown, indent=-1)
        return payload if payload.startswith(b"{") and payload != b"{}" else None

    async def redeliver(self, repo: str, hook_id: int, attempt: int) -> None:
        """Have GitHub send a delivery again.

        :raises NotFound: it has none of it any more
        :raises Invalid: it refuses
        """
        await self._ask("POST", f"{_of(repo)}/hooks/{hook_id:d}/deliveries/{attempt:d}/attempts")

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, object] | None = None,
        etag: str = "",
    ) -> httpx.Response:
        url = httpx.URL(self._base + path, params=query or None)
        content = None if body is None else msgspec.json.encode(body)
        headers = {**self._headers, **({"if-none-match": etag} if etag else {})}
        if content is not None:
            headers["content-type"] = "application/json"
        turn = 0
        while True:
            turn += 1
            try:
                answer = await self._follow(method, url, headers, content)
                _check(answer)
            except Limited as error:
                if turn > MAX_WAITS or not await self._client.waited(error.wait):
                    raise
            except Unreachable:
                # What only asks may be asked again; of the rest nobody knows whether it was done.
                if turn > RETRIES or method != "GET":
                    raise
                await asyncio.sleep(PAUSE * 2 ** (turn - 1) * random.uniform(0.5, 1))  # noqa: S311  # no secret
            else:
                return answer

    async def _follow(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Send, and go where a renamed repository is now: at the same API, or nowhere."""
        for _ in range(MAX_REDIRECTS):
            answer = await _send(self._client.http, method, url, headers, content)
            if not answer.has_redirect_location:
                return answer
            there = url.join(answer.headers["location"])
            if not str(there).startswith(self._base + "/"):
                raise Failed(
                    f"GitHub's API sends us to {there.host or there}, and the token goes nowhere else.",
                    hint="Set COTEX_GITHUB_API_URL to the base of the right API.",
                )
            url = there
        raise Failed("GitHub's API sends us from one place to the next.")


def _of(repo: str) -> str:
    return f"/repos/{quote(repo, safe='/')}"


async def _send(
    http: httpx.AsyncClient, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None
) -> httpx.Response:
    host = url.host
    try:
        async with http.stream(method, url, headers=headers, content=content) as answer:
            metrics.GITHUB_REQUESTS.labels(str(answer.status_code)).inc()
            parts, size = [], 0
            async for part in answer.aiter_bytes():
                size += len(part)
                if size > MAX_BYTES:
                    raise Failed(f"{host} answers with more than {MAX_BYTES // 2**20} MB.")
                parts.append(part)
    except httpx.HTTPError as error:
        metrics.GITHUB_REQUESTS.labels("none").inc()
        raise _unreachable(host, error) from error
    kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
    return httpx.Response(answer.status_code, headers=kept, content=b"".join(parts))


def _check(answer: httpx.Response) -> None:
    """Turn what is no success into what a person can do about it."""
    status = answer.status_code
    if status < httpx.codes.BAD_REQUEST:
        return
    refusal = _refusal(answer)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise Unreachable(f"GitHub's API has a problem of its own ({status}).", hint="Try again soon.")
    if status == httpx.codes.UNAUTHORIZED:
        raise Unauthorized("GitHub does not know the token, or it has expired.", hint=SET_TOKEN)
    if status in {httpx.codes.FORBIDDEN, httpx.codes.TOO_MANY_REQUESTS} and _is_limit(answer, refusal):
        raise Limited(_wait_of(answer))
    if status == httpx.codes.FORBIDDEN and "archived" in refusal.message:
        raise Forbidden(
            "The repository is archived at GitHub: its webhooks cannot be changed.",
            hint="Unarchive it in its settings at GitHub, or stop tracking it: cotex repo remove REPO",
        )
    if status == httpx.codes.FORBIDDEN or _lacks_scope(answer):
        raise Forbidden("GitHub's token may not do this.", hint=SET_TOKEN)
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise NotFound(
            "GitHub shows no such repository, or no such thing of it, to this token.",
            hint=f"Is the name right, and may the token see it if it is private? It needs {SCOPES}.",
        )
    if status == httpx.codes.UNPROCESSABLE_ENTITY:
        faults = [
            each if isinstance(each, str) else each.message or f"{each.field} {each.code}".strip()
            for each in refusal.errors
        ]
        raise Invalid(
            f"GitHub refuses: {'; '.join(filter(None, faults)) or refusal.message or 'the request'}."
        )
    raise Failed(f"GitHub refuses ({status}): {refusal.message or 'without a word why'}.")


def _refusal(answer: httpx.Response) -> _Refusal:
    try:
        return msgspec.json.decode(answer.content, type=_Refusal)
    except (msgspec.DecodeError, RecursionError):
        return _Refusal()


def _is_limit(answer: httpx.Response, refusal: _Refusal) -> bool:
    return (
        answer.status_code == httpx.codes.TOO_MANY_REQUESTS
        or "retry-after" in answer.headers
        or answer.headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in refusal.message
    )


def _wait_of(answer: httpx.Response) -> float:
    after = answer.headers.get("retry-after", "")
    reset = answer.headers.get("x-ratelimit-reset", "")
    if after.isdigit():
        wait = float(after[:9])
    elif answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        wait = float(reset[:15]) - time.time()
    else:
        wait = _WAIT
    return min(max(wait, 1.0), _MAX_WAIT)


def _lacks_scope(answer: httpx.Response) -> bool:
    """A classic token that lacks the scope is told that there is nothing; but which scopes it has, too."""
    accepted = _scopes(answer, "x-accepted-oauth-scopes")
    return (
        "x-oauth-scopes" in answer.headers
        and bool(accepted)
        and accepted.isdisjoint(_scopes(answer, "x-oauth-scopes"))
    )


def _scopes(answer: httpx.Response, header: str) -> set[str]:
    return {each.strip() for each in answer.headers.get(header, "").split(",") if each.strip()}


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Failed(
            f"GitHub's answer is not of the form that this version knows: {error}.",
            hint="Is COTEX_GITHUB_API_URL the base of its API? https://HOST/api/v3 of an Enterprise Server",
        ) from None


def _unreachable(host: str, error: httpx.HTTPError) -> Unreachable:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unreachable(
            f"The certificate of {host} is from an authority that this machine does not know.",
            hint="Name the file of that authority's certificate: COTEX_GITHUB_CA_CERT=/path/to/ca.pem",
        )
    reason = str(error) or type(error).__name__
    return Unreachable(f"GitHub's API at {host} cannot be reached: {reason}.", hint="Try again soon.")


def _trusting(ca_cert: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_cert))
    except (OSError, ssl.SSLError) as error:
        raise Failed(
            f"The authority's certificate {ca_cert} cannot be used: {error.strerror or error}.",
            hint="github.ca_cert is a PEM file.",
        ) from error
