"""GitHub's deliveries: understand, write, tell. The table of answers is in docs/protocol.md."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from sanic import HTTPResponse
from sanic.http import Http

from cotexd import metrics
from cotexd.domain import github
from cotexd.domain.github import Headers
from cotexd.errors import BadSignature, CotexError, Invalid
from cotexd.operations import events, repositories
from cotexd.operations.events import Accepted, Incoming
from cotexd.operations.repositories import Hook
from cotexd.store import Store, utc_now
from cotexd.web.context import App, Room, WebRequest, answer, bind, next_part, read_bounded
from cotexd.web.limits import MAX_BAD_SIGNATURES

PATH = "/api/webhooks/github/"
ROUTE = "api/webhooks/github/<repo_id:str>"
"""as metrics name it"""
HOOK_KEPT = 0.5
"""seconds; a secret that was changed is in force after these at the latest"""
RENEW_AFTER = 0.2
"""seconds; then a delivery has it read anew beside itself, so that the next ones find it at hand"""
MAX_HOOKS = 1024
"""repositories, known and unknown, whose secrets are kept that long"""
BIG = 256 * 1024
"""bytes; longer payloads are parsed and compressed beside the event loop"""
MAX_UNVERIFIED = 256 * 1024 * 1024
"""bytes of bodies that are read, or being read, and whose signature is not checked yet"""
BODY_WITHIN = 30.0
"""seconds for a whole body; GitHub itself gives up after 10"""
LINGER = 2.0
"""seconds in which the rest of a refused body is read and dropped, so that its sender gets to read the answer"""


_ACCEPTED, _DUPLICATE, _FILTERED = map(metrics.DELIVERIES.labels, ("accepted", "duplicate", "filtered"))


class SlowSender(Invalid):
    code = "slow_sender"

    def __init__(self) -> None:
        super().__init__(f"The body did not come within {BODY_WITHIN:.0f} s.")


def mount(app: App, hooks: "Hooks", refusal: Callable[[WebRequest, Exception], HTTPResponse]) -> None:
    """:param refusal: the answer to an error"""
    unverified = Room(MAX_UNVERIFIED)

    async def receive(request: WebRequest, repo_id: str) -> HTTPResponse | None:
        sent = dict(request.headers.items())
        accept_sha1 = app.ctx.accept_sha1
        with unverified.held() as take:
            try:
                headers = github.read_headers(sent)
                async with asyncio.timeout(BODY_WITHIN):
                    body = await read_bounded(request, github.MAX_BODY, "GitHub sends no more", take)
            except (CotexError, TimeoutError) as error:
                told = SlowSender() if isinstance(error, TimeoutError) else error
                await _refuse_unread(request, refusal(request, told))
                return None
            bind(repo=repo_id, delivery=headers.delivery_id)
            try:
                hook, verified = await hooks.check(
                    repo_id,
                    lambda secrets: github.check_signature(sent, body, secrets, accept_sha1=accept_sha1),
                )
            except BadSignature:
                # Whoever guesses is slowed down; a delivery that is signed with the secret never is.
                app.ctx.limits.hit("signatures", request.ctx.address, MAX_BAD_SIGNATURES)
                raise
        if headers.event_type == "ping":
            anew = _is_signed(sent, body, hook.secrets[:1], accept_sha1=accept_sha1)
            await app.ctx.store.write(repositories.pinged, repo_id, anew=anew)
            metrics.PINGS.inc()
            return answer({"pinged": True})
        given = (repo_id, hook.repo_name, headers, body, verified)
        incoming = await asyncio.to_thread(prepare, *given) if len(body) > BIG else prepare(*given)
        accepted = await app.ctx.store.write_many(events.accept_many, incoming)
        count(accepted, len(body), time.perf_counter() - request.ctx.began)
        return answer(accepted)

    app.add_route(receive, f"/{ROUTE}", methods=["POST"], name="github", stream=True)


class Hooks:
    """The secrets of repositories, for HOOK_KEPT seconds: busy ones cost no read a delivery."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, tuple[float, Hook | None]] = {}
        self._renewing: dict[str, asyncio.Task[None]] = {}

    async def check(self, repo_id: str, verify: Callable[[tuple[str, ...]], str]) -> tuple[Hook, str]:
        """The repository of a delivery, and how that was signed.

        An unknown repository is gone through like a known one with another secret: the same reads, the same HMACs.

        :raises BadSignature: unknown, or not signed with a secret of it
        """
        if found := self.kept(repo_id, verify):
            return found
        return _verified(await self._read(repo_id), verify)

    def kept(self, repo_id: str, verify: Callable[[tuple[str, ...]], str]) -> tuple[Hook, str] | None:
        """The same by what is at hand; None if that is nothing, or too old, or the secret may be a new one."""
        kept = self._kept.get(repo_id)
        age = HOOK_KEPT if kept is None else time.monotonic() - kept[0]
        if kept is None or age >= HOOK_KEPT:
            return None
        if age >= RENEW_AFTER and repo_id not in self._renewing:
            self._renewing[repo_id] = asyncio.get_running_loop().create_task(self._renew(repo_id))
        try:
            return _verified(kept[1], verify)
        except BadSignature:
            return None

    async def _renew(self, repo_id: str) -> None:
        try:
            # What is wrong with the database is told to a delivery that has to wait for it.
            with contextlib.suppress(CotexError):
                await self._read(repo_id)
        finally:
            del self._renewing[repo_id]

    async def _read(self, repo_id: str) -> Hook | None:
        asked = time.monotonic()
        hook = await self._store.read(repositories.hook_of, repo_id)
        if len(self._kept) >= MAX_HOOKS:
            self._kept.clear()
        kept = self._kept.get(repo_id)
        if kept is None or kept[0] < asked:  # else a younger read has overtaken this one
            self._kept[repo_id] = (asked, hook)
        return hook


def _verified(hook: Hook | None, verify: Callable[[tuple[str, ...]], str]) -> tuple[Hook, str]:
    verified = verify(github.NO_SECRETS if hook is None else hook.secrets)
    if hook is None:
        raise BadSignature
    return hook, verified


def _is_signed(
    headers: Mapping[str, str], body: bytes, secrets: tuple[str, ...], *, accept_sha1: bool
) -> bool:
    try:
        github.check_signature(headers, body, secrets, accept_sha1=accept_sha1)
    except BadSignature:
        return False
    return True


def prepare(repo_id: str, repo_name: str, headers: Headers, body: bytes, verified: str) -> Incoming:
    delivery = github.read_body(repo_id, headers, body, verified)
    return events.prepare(delivery, repo_name, utc_now(), pack=len(body) > BIG)


def count(accepted: Accepted, received: int, seconds: float) -> None:
    metrics.DELIVERY_TIME.observe(seconds)
    metrics.DELIVERY_SIZE.observe(received)
    if accepted.duplicate:
        _DUPLICATE.inc()
    elif accepted.filtered:
        _FILTERED.inc()
    else:
        _ACCEPTED.inc()


async def _refuse_unread(request: WebRequest, refusal: HTTPResponse) -> None:
    """Answer at once, then read on for a little: closing on a sender that still writes would take the answer away."""
    if isinstance(request.stream, Http) and request.stream.request_body:
        request.stream.keep_alive = False
    response = await request.respond(refusal)
    if response is not None:
        await response.send(end_stream=True)
    try:
        async with asyncio.timeout(LINGER):
            while await next_part(request) is not None:
                pass
    except TimeoutError:
        if request.transport is not None:
            request.transport.close()
    finally:
        if isinstance(request.stream, Http):
            # Sanic would wait for the rest of it, of a sender who is gone too, for ever.
            request.stream.request_body = None
