"""Every refusal in one form: problem details (RFC 9457), with a stable code and the request's id."""

from http import HTTPStatus

import msgspec
import structlog
from msgspec import UNSET, UnsetType
from sanic import HTTPResponse
from sanic.exceptions import SanicException

from cotexd import metrics
from cotexd.errors import CotexError, Kind, TooManyRequests
from cotexd.web import edge
from cotexd.web.context import WebRequest, answer

MEDIA_TYPE = "application/problem+json"
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
# Codes of what Sanic itself refuses: the catalogue's where it has one.
CODES = {
    400: "invalid",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    417: "expectation_failed",
    503: "unavailable",
}
INTERNAL = "internal"
"""what nobody foresaw"""
RETRY_AFTER = 2
"""seconds"""

_logger = structlog.get_logger("cotexd.web")


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    """the status in words"""
    status: int
    detail: str
    """what happened, for people"""
    code: str
    """what happened, for programs: it never changes"""
    request_id: str
    """under which the server's log has it"""
    hint: str | UnsetType = UNSET
    """what to do next"""


def refuse(request: WebRequest, error: Exception) -> HTTPResponse:
    """The answer to an error, which is counted and, if it is the server's, logged."""
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
        code = CODES.get(status, "failed")
        headers = {name: str(value) for name, value in (error.headers or {}).items()}
    else:
        status, code, detail = 500, INTERNAL, "The server made a mistake; its log says which."
    if request.headers.get("upgrade", "").lower() == "websocket":
        # Whatever is refused: the handshake has come through all proxies (RFC 6455, 4.4). `cotex doctor` looks for it.
        headers["sec-websocket-version"] = "13"
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
    title = HTTPStatus(status).phrase
    problem = Problem("about:blank", title, status, detail, code, request_id, hint or UNSET)
    response = answer(problem, status, {**headers, "x-request-id": request_id})
    response.content_type = MEDIA_TYPE
    return response
