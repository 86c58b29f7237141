"""The catalogue of errors: what can be refused, as what kind, under which stable code.

An operation raises one of these; `web` maps its kind to a status, the command line to an exit code, each in one
table. The message says what happened and why; the hint, what to do next. Neither ever holds a secret.
"""

import enum
from collections.abc import Mapping
from typing import ClassVar


class Kind(enum.Enum):
    """What the caller can do about it."""

    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


class CotexError(Exception):
    """A refusal in words for people, with a `code` that programs may rely on."""

    kind: ClassVar[Kind] = Kind.FAILED
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(CotexError):
    """The appliance itself is not as it must be: a wrong key, a newer schema."""


class Invalid(CotexError):
    kind = Kind.INVALID
    code = "invalid"


class InvalidCursor(Invalid):
    code = "invalid_cursor"


class InvalidPayload(Invalid):
    code = "invalid_payload"


class Unauthorized(CotexError):
    kind = Kind.UNAUTHORIZED
    code = "unauthorized"


class BadSignature(CotexError):
    """An unknown repository, a missing and a wrong signature are one error: nobody learns which repositories exist."""

    kind = Kind.UNAUTHORIZED
    code = "bad_signature"

    def __init__(self) -> None:
        super().__init__(
            "The signature does not match.",
            hint="Give the webhook at GitHub a new secret: cotex repo secret REPO --rotate",
        )


class Forbidden(CotexError):
    kind = Kind.FORBIDDEN
    code = "forbidden"


class OverLimit(Forbidden):
    code = "over_limit"


class RepoPaused(Forbidden):
    code = "repo_paused"


class NotFound(CotexError):
    kind = Kind.NOT_FOUND
    code = "not_found"


class Conflict(CotexError):
    kind = Kind.CONFLICT
    code = "conflict"


class TooLarge(CotexError):
    kind = Kind.TOO_LARGE
    code = "too_large"


class UnsupportedMediaType(CotexError):
    kind = Kind.UNSUPPORTED
    code = "unsupported_media_type"


class TooManyRequests(CotexError):
    """`headers` say how the caller stands with the limit."""

    kind = Kind.LIMITED
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: int, headers: Mapping[str, str]) -> None:
        super().__init__(message, hint=f"Try again in {retry_after} s.")
        self.retry_after = retry_after
        self.headers = headers


class Unavailable(CotexError):
    """Not now: the store is full, down or closing. Nothing was kept, so the sender has to try again."""

    kind = Kind.UNAVAILABLE
    code = "unavailable"


class Unreachable(CotexError):
    """Another server, or our own from the command line, does not answer."""

    kind = Kind.UNREACHABLE
    code = "unreachable"
