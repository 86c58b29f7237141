"""HTTP in, HTTP out: mounts the routes, and answers every error in one form.

A handler understands, does one operation, and tells. It decides nothing that the command line would have to decide
again.
"""

import uuid
from http import HTTPStatus

import structlog
from sanic import HTTPResponse, Sanic
from sanic.config import Config
from sanic.exceptions import SanicException

from cotexd import metrics
from cotexd.errors import CotexError, Kind, TooManyRequests
from cotexd.web import edge, events, github, health, identity, me, repos, shortcut, socket, stream, stripe
from cotexd.web.context import App, Context, WebRequest, answer
from cotexd.web.protocol import TolerantRequest

__all__ = ["App", "Context", "build"]

STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHORIZED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.LIMITED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.UNREACHABLE: 502,
    Kind.FAILED: 500,
}
RETRY_AFTER = 2
"""seconds"""
MAX_HEAD = 24 * 1024
"""bytes of a request's head: a token may have 8 KiB, in the header or in a subprotocol"""
MAX_BODY = 64 * 1024
"""bytes of a request; the webhook routes stream, and have a bound of their own"""

# Codes of what Sanic itself refuses: the catalogue's where it has one.
_CODES = {
    400: "invalid",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    417: "expectation_failed",
    503: "unavailable",
}
_logger = structlog.get_logger("cotexd.web")


def build(context: Context, *, alone: bool) -> App:
    """The whole of HTTP, on what `context` holds.

    :param alone: this is the only one in its process: Sanic may then rewrite its own classes, to be quicker
    """
    # Ours only: none from SANIC_* variables.
    config = Config(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "KEEP_ALIVE_TIMEOUT": 75,
            # A request's head, and the body of one that is not streamed, come within these seconds.
            "REQUEST_TIMEOUT": 15,
            "REQUEST_MAX_HEADER_SIZE": MAX_HEAD,
            "REQUEST_MAX_SIZE": MAX_BODY,
            "TOUCHUP": alone,
        },
        env_prefix=None,
    )
    app: App = Sanic(
        f"cotexd-{uuid.uuid4().hex[:8]}",
        config=config,
        ctx=context,
        configure_logging=False,
        request_class=TolerantRequest,
    )
    edge.mount(app)
    app.error_handler.add(Exception, _refuse)
    for part in (events, health, identity, me, repos, socket, stream, stripe):
        part.mount(app)
    hooks = github.Hooks(context.store)
    github.mount(app, hooks, _refuse)
    shortcut.mount(app, hooks)
    return app


def _refuse(request: WebRequest, error: Exception) -> HTTPResponse:
    """Problem details (RFC 9457), with a stable code and the request's id."""
    headers: dict[str, str] = {}
    hint = ""
    if isinstance(error, CotexError):
        status, code, detail, hint = STATUS[error.kind], error.code, error.message, error.hint
        if isinstance(error, TooManyRequests):
            headers = {**error.headers, "retry-after": str(error.retry_after)}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = str(RETRY_AFTER)
        if status == HTTPStatus.UNAUTHORIZED and error.code == "unauthorized":
            headers["www-authenticate"] = "Bearer"
    elif isinstance(error, SanicException):
        status, detail = error.status_code, HTTPStatus(error.status_code).phrase
        code = _CODES.get(status, "failed")
        headers = {name: str(value) for name, value in (error.headers or {}).items()}
    else:
        status, code, detail = 500, "internal", "The server made a mistake; its log says which."
    request_id = edge.request_id(request)
    metrics.REFUSALS.labels(code).inc()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # The traceback goes to the log, for one kind only: what we did not foresee.
        unforeseen = not isinstance(error, CotexError | SanicException)
        log = _logger.error if status == HTTPStatus.INTERNAL_SERVER_ERROR else _logger.warning
        log(
            "request_failed",
            path=request.path,
            status=status,
            code=code,
            detail=detail,
            request_id=request_id,
            exc_info=error if unforeseen else None,
        )
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if hint:
        problem["hint"] = hint
    response = answer(problem, status, {**headers, "x-request-id": request_id})
    response.content_type = "application/problem+json"
    return response
