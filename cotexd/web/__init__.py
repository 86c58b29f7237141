"""HTTP in, HTTP out: mounts the routes, and answers every error in one form.

A handler understands, does one operation, and tells. It decides nothing that the command line would have to decide
again.
"""

import re
import time
import uuid
from http import HTTPStatus

import structlog
from sanic import HTTPResponse, Sanic
from sanic.config import Config
from sanic.exceptions import SanicException
from sanic.response import BaseHTTPResponse

from cotexd.errors import CotexError, Kind
from cotexd.web import events, github, health, repos, socket
from cotexd.web.context import App, Context, WebRequest, answer

__all__ = ["App", "Context", "build"]

STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHORIZED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.UNAVAILABLE: 503,
    Kind.UNREACHABLE: 502,
    Kind.FAILED: 500,
}
RETRY_AFTER = 2
"""seconds"""
MAX_BODY = 64 * 1024
"""bytes of a request; the webhook routes stream, and have a bound of their own"""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
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
            "REQUEST_MAX_SIZE": MAX_BODY,
            "TOUCHUP": alone,
        },
        env_prefix=None,
    )
    app: App = Sanic(f"cotexd-{uuid.uuid4().hex[:8]}", config=config, ctx=context, configure_logging=False)
    app.register_middleware(_begin, "request")
    app.register_middleware(_end, "response")
    app.error_handler.add(Exception, _refuse)
    for part in (events, health, repos, socket):
        part.mount(app)
    github.mount(app, _refuse)
    return app


def _begin(request: WebRequest) -> None:
    request.ctx.began = time.perf_counter()
    _request_id(request)


def _end(request: WebRequest, response: BaseHTTPResponse) -> None:
    response.headers["x-request-id"] = _request_id(request)
    began = getattr(request.ctx, "began", None)
    _logger.debug(
        "request",
        method=request.method,
        path=request.path,
        status=response.status,
        ms=round((time.perf_counter() - began) * 1000, 1) if began else None,
        request_id=request.ctx.request_id,
    )


def _request_id(request: WebRequest) -> str:
    """The one that came, if it is sane, else one of ours."""
    known = getattr(request.ctx, "request_id", None)
    if known is None:
        given = request.headers.get("x-request-id", "")
        known = request.ctx.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return str(known)


def _refuse(request: WebRequest, error: Exception) -> HTTPResponse:
    """Problem details (RFC 9457), with a stable code and the request's id."""
    headers: dict[str, str] = {}
    hint = ""
    if isinstance(error, CotexError):
        status, code, detail, hint = STATUS[error.kind], error.code, error.message, error.hint
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = str(RETRY_AFTER)
        if status == HTTPStatus.UNAUTHORIZED and error.code == "unauthorized":
            headers["www-authenticate"] = "Bearer"
    elif isinstance(error, SanicException):
        status, detail = error.status_code, HTTPStatus(error.status_code).phrase
        code = detail.lower().replace(" ", "_")
        headers = {name: str(value) for name, value in (error.headers or {}).items()}
    else:
        status, code, detail = 500, "internal", "The server made a mistake; its log says which."
    request_id = _request_id(request)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # The traceback goes to the log, for one kind only: what we did not foresee.
        unforeseen = not isinstance(error, CotexError | SanicException)
        _logger.error(
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
