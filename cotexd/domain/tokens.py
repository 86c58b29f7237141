"""JSON Web Tokens (RFC 7519): issue our own, check anybody's.

Who issued a token is said by its `iss`, and decides everything else: which algorithms, which audience, which keys. A
token's own header decides nothing: `alg` must be on the issuer's list, `kid` must name a key of that algorithm, and
what else it says (`jku`, `x5u`, `jwk`, RFC 8725) is not read. A checked signature stays checked; the time, and whether
the user may still come in, are asked each time.
"""

import math
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import jwt
import msgspec

from cotexd.domain import scope
from cotexd.domain.scope import Scopes
from cotexd.errors import Unauthorized

ISSUER = "cotexd"
"""of the tokens that `cotex user token` makes"""
AUDIENCE = "cotexd"
SESSION_AUDIENCE = "authenticated"
"""of the tokens that /auth/v1 makes, and Supabase"""
MAX_LENGTH = 8 * 1024
"""bytes of a token that is looked at at all"""
LEEWAY = timedelta(seconds=30)
ASYMMETRIC = ("ES256", "RS256")
_REQUIRED = ["exp", "sub", "iss", "aud"]
MIN_SECRET = 32
"""bytes of a secret for HS256 (RFC 7518, 3.2)"""
_MIN_RSA_BITS = 2048
_MAX_TEXT = 255
"""characters of a subject, a session, an e-mail address"""


class Keys:
    """The keys of one issuer: a shared secret for HS256, public ones by their kid."""

    def __init__(self, secret: bytes = b"", public: Mapping[str, jwt.PyJWK] | None = None) -> None:
        self.secret = secret
        self.public = dict(public or {})


class Issuer(msgspec.Struct, frozen=True):
    """An issuer that is trusted, and what its tokens must look like."""

    iss: str
    audience: str
    algorithms: tuple[str, ...]
    jwks_url: str = ""
    secret: str = ""
    trust_email: bool = False
    """it confirms e-mail addresses, though its tokens don't say `email_verified`"""


class Head(msgspec.Struct, frozen=True):
    """What a token says of itself, believed by nobody yet."""

    iss: str
    algorithm: str
    kid: str


class Claims(msgspec.Struct, frozen=True):
    """What a good token says. `session` tells one signed-in client of a user from another; it may be empty."""

    iss: str
    subject: str
    session: str
    expires_at: float
    """seconds since the epoch"""
    issued_at: float
    not_before: float
    email: str = ""
    email_verified: bool = False
    anonymous: bool = False
    scopes: Scopes = None


class UnknownKey(Unauthorized):
    """The token names a key that its issuer did not have when we last looked."""

    def __init__(self) -> None:
        super().__init__("The token is signed with a key that its issuer does not publish.")


def issue(
    key: bytes, user_id: str, now: datetime, lifetime: timedelta, jti: str, scopes: Scopes = None
) -> str:
    """A token for scripts, good from `now` for `lifetime`: HS256 with a key of ours."""
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user_id,
        "iat": now,
        "exp": now + lifetime,
        "jti": jti,
    }
    if scopes is not None:
        claims["scope"] = scope.show(scopes).replace(",", " ")
    return jwt.encode(claims, key, algorithm="HS256")


def new_id() -> str:
    return str(uuid.uuid4())


def peek(token: str) -> Head:
    """Read which issuer and which key a token claims, to choose what to check it against.

    :raises Unauthorized: it is no JWT, or too long
    """
    if len(token) > MAX_LENGTH:
        raise Unauthorized("The token is too long.")
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
        iss, algorithm, kid = claims.get("iss"), header.get("alg"), header.get("kid", "")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _bad(error) from None
    if not isinstance(iss, str) or not isinstance(algorithm, str) or not isinstance(kid, str):
        raise Unauthorized("The token does not say who issued it.", hint=_HINT)
    return Head(iss, algorithm, kid)


def verify(token: str, head: Head, issuer: Issuer, keys: Keys) -> Claims:
    """Check the signature and the form of a token; not yet its time, see `in_time`.

    :raises UnknownKey: its issuer may have published the key since
    :raises Unauthorized: says what is wrong, and nothing of the token itself
    """
    try:
        claims = jwt.decode(
            token,
            _key_for(head, issuer, keys),
            algorithms=[head.algorithm],
            audience=issuer.audience,
            issuer=issuer.iss,
            # The times are compared by in_time, with the clock that is handed in.
            options={
                "require": _REQUIRED,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "enforce_minimum_key_length": True,
            },
        )
        return _read(claims, issuer)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise _bad(error) from None


def in_time(claims: Claims, now: datetime) -> Claims:
    """:raises Unauthorized: expired, or not yet valid"""
    moment, leeway = now.timestamp(), LEEWAY.total_seconds()
    if moment > claims.expires_at + leeway:
        raise Unauthorized("The token has expired.", hint=_HINT)
    if moment < max(claims.issued_at, claims.not_before) - leeway:
        raise Unauthorized("The token is not valid yet: a clock is wrong, here or where it was made.")
    return claims


def read_jwks(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """The signing keys of a JWK set (RFC 7517) that we can use, by kid; the others are passed over.

    A symmetric key is never taken from one: whoever can read the address could sign with it.
    """
    found: dict[str, jwt.PyJWK] = {}
    listed = document.get("keys")
    for entry in listed[:100] if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("kty") not in ("EC", "RSA"):  # it may be a list
            continue
        kid = entry.get("kid")
        if not isinstance(kid, str) or not kid or entry.get("use", "sig") != "sig" or "d" in entry:
            continue
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
            continue
        size = getattr(key.key, "key_size", 0)
        if key.algorithm_name in ASYMMETRIC and not (entry["kty"] == "RSA" and size < _MIN_RSA_BITS):
            found[kid] = key
    return found


def sign_session(private: jwt.PyJWK, claims: Mapping[str, object]) -> str:
    """An access token of ours: ES256, with the kid of its key."""
    return jwt.encode(dict(claims), private.key, algorithm="ES256", headers={"kid": private.key_id})


def _key_for(head: Head, issuer: Issuer, keys: Keys) -> jwt.PyJWK | bytes:
    if head.algorithm not in issuer.algorithms:
        raise jwt.InvalidAlgorithmError
    if head.algorithm not in ASYMMETRIC:
        # Hosted Supabase puts a kid on these too; one that names a public key is an attempt to sign with that.
        if not keys.secret or head.kid in keys.public:
            raise jwt.InvalidKeyError
        return keys.secret
    key = keys.public.get(head.kid)
    if key is None:
        raise UnknownKey
    if key.algorithm_name != head.algorithm:
        raise jwt.InvalidAlgorithmError
    return key


def _read(claims: Mapping[str, Any], issuer: Issuer) -> Claims:
    session = claims.get("session_id") or claims.get("jti") or ""
    email = claims.get("email") or ""
    granted = claims.get("scope") if issuer.iss == ISSUER else None
    texts = (claims["sub"], session, email, granted or "")
    if not claims["sub"] or not all(isinstance(each, str) and len(each) <= _MAX_TEXT for each in texts):
        raise ValueError("not a text")
    times = [float(claims[name]) for name in ("exp", "iat", "nbf") if name in claims]
    if not all(map(math.isfinite, times)):
        raise ValueError("not a time")
    return Claims(
        iss=issuer.iss,
        subject=claims["sub"],
        session=session,
        expires_at=float(claims["exp"]),
        issued_at=float(claims.get("iat", 0)),
        not_before=float(claims.get("nbf", 0)),
        email=email.lower(),
        # Only what the issuer itself says: user_metadata is written by the user.
        email_verified=bool(email) and (claims.get("email_verified") is True or issuer.trust_email),
        anonymous=claims.get("is_anonymous") is True,
        scopes=None if granted is None else scope.known(granted.split()),
    )


_HINT = "Sign in again, or make a token with `cotex user token USER`."


def _bad(error: Exception) -> Unauthorized:
    if isinstance(error, Unauthorized):
        return error
    return Unauthorized(f"The token is not good: {type(error).__name__}.", hint=_HINT)
