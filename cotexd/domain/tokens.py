"""Issue and check JSON Web Tokens (RFC 7519) of the appliance's own: HS256, every claim demanded."""

import math
import uuid
from datetime import datetime, timedelta

import jwt
import msgspec

from cotexd.errors import Unauthorized

ISSUER = "cotexd"
AUDIENCE = "cotexd"
MAX_LENGTH = 8 * 1024
"""bytes of a token that is looked at at all"""
LEEWAY = timedelta(seconds=30)
_REQUIRED = ["exp", "iat", "sub", "iss", "aud"]


class Claims(msgspec.Struct, frozen=True):
    """What a good token says. `session` tells one signed-in client of a user from another; it may be empty."""

    user_id: str
    session: str
    expires_at: float
    """seconds since the epoch"""


def issue(key: bytes, user_id: str, now: datetime, lifetime: timedelta) -> str:
    """A token for `user_id`, good from `now` for `lifetime`."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user_id,
        "iat": now,
        "exp": now + lifetime,
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, key, algorithm="HS256")


def check(token: str, key: bytes, now: datetime) -> Claims:
    """The claims of a token that is ours, whole and in its time.

    :raises Unauthorized: says which of these it is not, and nothing of the token itself
    """
    if len(token) > MAX_LENGTH:
        raise Unauthorized("The token is too long.")
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            # The time is compared below, with the clock that was handed in.
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
        )
        expires_at = float(claims["exp"])
        issued_at = float(claims["iat"])
        if not math.isfinite(expires_at + issued_at):
            raise ValueError("not a time")  # noqa: TRY301  # refused with all the others, four lines down
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Unauthorized(
            f"The token is not good: {type(error).__name__}.", hint="Make one with `cotex user token USER`."
        ) from None
    if now.timestamp() > expires_at + LEEWAY.total_seconds():
        raise Unauthorized("The token has expired.", hint="Make a new one with `cotex user token USER`.")
    if now.timestamp() < issued_at - LEEWAY.total_seconds():
        raise Unauthorized("The token is from the future: a clock is wrong, here or where it was made.")
    session = claims.get("session_id") or claims.get("jti") or ""
    return Claims(str(claims["sub"]), session if isinstance(session, str) else "", expires_at)
