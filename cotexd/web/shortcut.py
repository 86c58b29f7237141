"""The short way of a delivery: what GitHub sends all day, past Sanic's requests, routes and answers.

A delivery that came in one piece, in the plainest form of HTTP/1.1, for a repository whose secret is at hand, with a
good signature, is put before the writer as it comes off the wire, and its answer written when that has committed: no
task, no request object, half the CPU. Everything else goes the long way, from its first byte: `web.github` and the
edge hold the whole table of answers, and nothing is refused here. So what is done here must be what is done there for
a delivery that is accepted, and of the answer only the headers that are for browsers are left out.

Whether a repository is known shows here no more than there: the same HMACs are computed, and then it is the long way.
"""

import asyncio
import re
import time
from functools import partial

import msgspec

from cotexd import telemetry
from cotexd.domain import github
from cotexd.operations import events
from cotexd.operations.events import Accepted
from cotexd.web import edge
from cotexd.web.context import App, Tell
from cotexd.web.github import BIG, PATH, ROUTE, Hooks, count, prepare

MAX_HEAD = 4096
"""bytes; GitHub's have about 700"""
_START = re.compile(rf"POST {PATH}([A-Za-z0-9_-]{{1,64}}) HTTP/1\.1(?=\r\n)")
_FIELD = re.compile(r"\r\n([!-9;-~]+):[ \t]*([^\r\n]*)")
_LONG = frozenset({"transfer-encoding", "expect", "upgrade", "traceparent", "origin"})
"""headers that the long way has an answer to"""
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nx-request-id: %b\r\ncontent-length: %d\r\nconnection: keep-alive\r\n"
    b"content-type: application/json\r\n\r\n%b"
)


class Post(msgspec.Struct, frozen=True, gc=False):
    """A whole request. Headers by lower-case name, each there once."""

    repo_id: str
    headers: dict[str, str]
    body: bytes


def read(data: bytes) -> Post | None:
    """What came in one piece, if it is one whole delivery in the plainest form; None for all else."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0 or not data.startswith(b"POST "):
        return None
    head = data[:end].decode("latin-1")
    start = _START.match(head)
    if start is None or not head.isascii():
        return None
    headers = {name.lower(): value for name, value in _FIELD.findall(head, start.end())}
    lines = head.count("\r\n")
    # A line that is no field, a field that is there twice, half of a line's end: the long way knows what to do.
    if not len(headers) == lines == head.count("\n") == head.count("\r") or not _LONG.isdisjoint(headers):
        return None
    length = headers.get("content-length", "")
    if not length.isdigit() or len(length) > 8 or int(length) != len(data) - end - 4:
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    return Post(start[1], headers, data[end + 4 :])


class Shortcut:
    def __init__(self, app: App, hooks: Hooks) -> None:
        self._context = app.ctx
        self._hooks = hooks

    def take(self, data: bytes, tell: Tell) -> bool:
        """Take a delivery, if it is one for the short way; later `tell` is called, once.

        :param data: what came over a connection that has nothing else to do
        :param tell: gets the whole answer, or None if the long way has to be gone after all
        """
        began = time.perf_counter()
        post = read(data)
        if post is None or len(post.body) > BIG or telemetry.wants_debug():
            return False
        verify = partial(
            github.check_signature, post.headers, post.body, accept_sha1=self._context.accept_sha1
        )
        try:
            headers = github.read_headers(post.headers)
            found = self._hooks.kept(post.repo_id, verify)
            if found is None or headers.event_type == "ping":
                return False
            hook, verified = found
            incoming = prepare(post.repo_id, hook.repo_name, headers, post.body, verified)
            future = self._context.store.submit_many(events.accept_many, incoming)
        except Exception:  # noqa: BLE001  # the long way meets it again, and has an answer to it
            return False
        request_id = edge.sane_id(post.headers.get("x-request-id", ""))

        def done(future: asyncio.Future[Accepted]) -> None:
            if future.cancelled() or future.exception() is not None:
                tell(None)
                return
            accepted = future.result()
            body = msgspec.json.encode(accepted)
            tell(_ANSWER % (request_id.encode(), len(body), body))
            seconds = time.perf_counter() - began
            count(accepted, len(post.body), seconds)
            edge.count("POST", ROUTE, 200, seconds)

        future.add_done_callback(done)
        return True


def mount(app: App, hooks: Hooks) -> None:
    app.ctx.shortcut = Shortcut(app, hooks).take
