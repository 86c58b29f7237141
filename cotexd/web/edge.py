"""The edge: what is done to every request and every answer, whatever the route.

Who is really calling, under which id it is logged, which browser's pages may read the answer, and the headers that
keep a browser from doing more with it than it should.
"""

import functools
import itertools
import re
import secrets
import time

import structlog
from prometheus_client import Counter, Histogram
from sanic import HTTPResponse, empty
from sanic.response import BaseHTTPResponse

from cotexd import metrics, telemetry
from cotexd.domain import address, origin
from cotexd.errors import Forbidden
from cotexd.store import Actor, act_as
from cotexd.web.context import App, WebRequest

PREFLIGHT_KEPT = 600
"""seconds for which a browser may remember what it was allowed"""
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_METHODS = "GET, POST, PATCH, DELETE, OPTIONS"
_HEADERS = (
    "authorization, apikey, content-type, x-client-info, x-supabase-api-version, x-request-id, last-event-id"
)
_EXPOSED = "link, ratelimit, ratelimit-policy, retry-after, x-request-id"
_SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "cross-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(10)
_numbers = itertools.count()
_logger = structlog.get_logger("cotexd.web")


def mount(app: App) -> None:
    app.register_middleware(_begin, "request")
    app.register_middleware(dress, "response")


def request_id(request: WebRequest) -> str:
    """The one that came, if it is sane, else one of ours."""
    known = getattr(request.ctx, "request_id", None)
    if known is None:
        known = request.ctx.request_id = sane_id(request.headers.get("x-request-id", ""))
    return str(known)


def sane_id(given: str) -> str:
    """A request's id as it was given, or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    # No secret, and asking the kernel for random bytes costs more than all else here.
    return f"{_PROCESS}{next(_numbers):012x}"


def scheme(request: WebRequest) -> str:
    """Http or https, as the client said it; a proxy's word counts if the proxy is one of ours."""
    told = request.headers.get("x-forwarded-proto", "").lower()
    if told in {"http", "https"} and address.is_in(request.ip, request.app.ctx.trusted_proxies):
        return str(told)
    return "http" if request.transport.get_extra_info("sslcontext") is None else "https"


def check_origin(request: WebRequest) -> None:
    """For the upgrade, which no CORS protects.

    :raises Forbidden: it comes from a page that is not on the list
    """
    given = request.headers.get("origin")
    if given is not None and not _allowed(request, given):
        raise Forbidden("This origin may not connect.", hint="The administrator adds it to allowed_origins.")


def _begin(request: WebRequest) -> HTTPResponse | None:
    request.ctx.began = time.perf_counter()
    # A connection serves one request after another in the same task: what the last one bound goes first.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id(request))
    if trace := telemetry.trace_of(request.headers.get("traceparent", "")):
        structlog.contextvars.bind_contextvars(trace_id=trace)
    act_as(Actor("", "api"))
    request.ctx.address = address.group(
        address.client(
            request.ip,
            ",".join(request.headers.getall("forwarded", [])),
            ",".join(request.headers.getall("x-forwarded-for", [])),
            request.app.ctx.trusted_proxies,
        )
    )
    if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
        return empty()
    return None


def dress(request: WebRequest, response: BaseHTTPResponse) -> None:
    """Give an answer the headers that all have, and count it."""
    headers = response.headers
    headers["x-request-id"] = request_id(request)
    traceparent = request.headers.get("traceparent", "")
    if telemetry.trace_of(traceparent):
        headers["traceparent"] = traceparent
    for name, value in _SECURITY.items():
        headers.setdefault(name, value)
    standing = getattr(request.ctx, "standing", None)
    if standing is not None:
        for name, value in standing.headers().items():
            headers.setdefault(name, value)
    _allow_origin(request, response)
    _observe(request, response.status)


def _allow_origin(request: WebRequest, response: BaseHTTPResponse) -> None:
    """CORS (Fetch, 3.2). Never with credentials: we know no cookies, and tokens are put in by the page itself."""
    given = request.headers.get("origin")
    if given is None:
        return
    response.headers["vary"] = "origin"
    if not _allowed(request, given):
        return
    response.headers["access-control-allow-origin"] = given
    response.headers["access-control-expose-headers"] = _EXPOSED
    if request.method == "OPTIONS":
        response.headers["access-control-allow-methods"] = _METHODS
        response.headers["access-control-allow-headers"] = _HEADERS
        response.headers["access-control-max-age"] = str(PREFLIGHT_KEPT)


def _allowed(request: WebRequest, given: str) -> bool:
    return origin.allows(given, request.app.ctx.allowed_origins, request.headers.get("host", ""))


@functools.cache  # as many as there are metrics of them
def _children(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(method, route, str(status)), metrics.REQUEST_TIME.labels(route)


def count(method: str, route: str, status: int, seconds: float) -> None:
    counted, timed = _children(method, route, status)
    counted.inc()
    timed.observe(seconds)


def _observe(request: WebRequest, status: int) -> None:
    route = request.route.path if request.route is not None else "none"
    began = getattr(request.ctx, "began", None)
    seconds = time.perf_counter() - began if began else 0.0
    # Anybody can make one up, and each would be counted, and kept, by itself.
    method = request.method if request.method in _KNOWN_METHODS else "other"
    count(method, route, status, seconds)
    if telemetry.wants_debug():
        _logger.debug(
            "request", method=request.method, path=request.path, status=status, ms=round(seconds * 1000, 1)
        )
