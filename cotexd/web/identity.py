"""Our own issuer under /auth/v1, in the protocol of Supabase Auth: supabase-js only has to be pointed at our URL.

Source: the API of Supabase Auth (GoTrue), as `@supabase/auth-js` uses it. Its errors have a form of their own,
`{code, error_code, msg}`. A client takes a 429 on a refresh for the end of its session, and a 503 for bad weather: so
what is throttled there is answered 503.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from sanic import HTTPResponse, empty

from cotexd import __version__, metrics
from cotexd.domain import passwords, scope
from cotexd.domain.scope import InsufficientScope
from cotexd.errors import CotexError, Forbidden, Invalid, TooManyRequests, Unauthorized, Unavailable
from cotexd.operations import accounts, sessions, signing
from cotexd.operations.accounts import Account
from cotexd.operations.sessions import BadGrant, Granted, Scope
from cotexd.web.auth import signed_in
from cotexd.web.context import App, WebRequest, answer, bind, body_of, limited, parameter
from cotexd.web.limits import MAX_GUESSES, MAX_SIGN_INS

HASHES_AT_ONCE = 2
"""passwords that are compared at the same time: each takes a core for a fifth of a second, and 64 MB"""
MAX_WAITING = 64
"""sign-ins that wait for that; more are answered 503"""
KEYS_KEPT = 600
"""seconds for which others may keep our public keys"""

Handler = Callable[[WebRequest], Coroutine[None, None, HTTPResponse]]
_SCOPES: dict[str, Scope] = {"global": "global", "local": "local", "others": "others"}


class PasswordGrant(msgspec.Struct, frozen=True):
    password: str
    email: str = ""
    """the address, or the user's name"""


class RefreshGrant(msgspec.Struct, frozen=True):
    refresh_token: str


class Refusal(msgspec.Struct, frozen=True):
    """Why a request was refused, in the protocol's form."""

    code: int
    """the status"""
    error_code: str
    """what happened, for programs"""
    msg: str
    """what happened, for people"""


class Provider(msgspec.Struct, frozen=True):
    provider: str = "email"
    providers: tuple[str, ...] = ("email",)


class UserMetadata(msgspec.Struct, frozen=True):
    name: str


class User(msgspec.Struct, frozen=True):
    id: str
    email: str
    email_confirmed_at: datetime
    confirmed_at: datetime
    user_metadata: UserMetadata
    created_at: datetime
    updated_at: datetime
    aud: str = "authenticated"
    role: str = "authenticated"
    phone: str = ""
    app_metadata: Provider = Provider()
    identities: tuple[str, ...] = ()
    """always empty"""
    is_anonymous: bool = False


class TokenPair(msgspec.Struct, frozen=True):
    """What signs the user in, and what gets the next of it."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    """seconds"""
    expires_at: int
    """seconds since 1970"""
    refresh_token: str
    """good once"""
    user: User


class Jwks(msgspec.Struct, frozen=True):
    """RFC 7517."""

    keys: list[dict[str, Any]]


class External(msgspec.Struct, frozen=True):
    email: bool = True
    phone: bool = False
    anonymous_users: bool = False


class Settings(msgspec.Struct, frozen=True):
    """Which ways to sign in there are."""

    external: External = External()
    disable_signup: bool = True
    mailer_autoconfirm: bool = True
    phone_autoconfirm: bool = False
    sms_provider: str = ""
    saml_enabled: bool = False


class Described(msgspec.Struct, frozen=True):
    version: str
    name: str
    description: str


class _Problem(Exception):
    """A refusal in the words of the protocol."""

    def __init__(self, status: int, error_code: str, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message
        self.retry_after = retry_after


def mount(app: App) -> None:
    context = app.ctx
    hashing = asyncio.Semaphore(HASHES_AT_ONCE)
    waiting = 0

    async def compare(stored: str, password: str) -> bool:
        nonlocal waiting
        if waiting >= MAX_WAITING:
            raise _Problem(503, "overloaded", "Too many sign in at once. Try again soon.", retry_after=5)
        waiting += 1
        try:
            async with hashing:
                return await asyncio.to_thread(passwords.verify, stored, password)
        finally:
            waiting -= 1

    async def token(request: WebRequest) -> HTTPResponse:
        grant = parameter(request, "grant_type")
        if grant == "password":
            return await sign_in(request, body_of(request, PasswordGrant))
        if grant == "refresh_token":
            return await refresh(request, body_of(request, RefreshGrant))
        raise _Problem(400, "unsupported_grant_type", "grant_type is password or refresh_token")

    async def sign_in(request: WebRequest, given: PasswordGrant) -> HTTPResponse:
        limits, address, login = context.limits, request.ctx.address, given.email.strip().lower()[:256]
        limited(request, limits.hit("sign-ins", address, MAX_SIGN_INS))
        limits.test("guesses-of-address", address, 5 * MAX_GUESSES)
        user_id, stored = await context.store.read(sessions.password_of, login)
        # Counted before it is compared, so that guessing at once is no quicker; taken back when it was right.
        account = user_id or login
        limits.hit("guesses", account, MAX_GUESSES)
        if not await compare(stored, given.password):
            metrics.SIGN_INS.labels("wrong").inc()
            limits.hit("guesses-of-address", address, 5 * MAX_GUESSES)
            raise _Problem(400, "invalid_credentials", "Invalid login credentials")
        limits.forget("guesses", account, MAX_GUESSES)
        granted = await context.store.write(sessions.begin, user_id, stored, context.authenticator.own_iss)
        metrics.SIGN_INS.labels("done").inc()
        bind(user=granted.account.name)
        return _session(granted)

    async def refresh(request: WebRequest, given: RefreshGrant) -> HTTPResponse:
        try:
            limited(request, context.limits.hit("refreshes", request.ctx.address, 10 * MAX_SIGN_INS))
        except TooManyRequests as error:
            message = "Too many refreshes. Try again soon."
            raise _Problem(503, "over_request_rate_limit", message, error.retry_after) from None
        granted = await context.store.write(
            sessions.refresh, given.refresh_token, context.authenticator.own_iss
        )
        if isinstance(granted, BadGrant):
            raise granted
        return _session(granted)

    async def user(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, scope.ACCOUNT_READ, policy="auth")
        return answer(_user(await context.store.read(accounts.find, caller.id)))

    async def logout(request: WebRequest) -> HTTPResponse:
        caller = await signed_in(request, None, policy="auth")
        if caller.scopes is not None:
            # None of them is for ending what others have begun.
            raise InsufficientScope("A token with scopes may not sign its user out.")
        which = _SCOPES.get(parameter(request, "scope") or "global")
        if which is None:
            raise _Problem(400, "validation_failed", "scope is global, local or others")
        await context.store.write(sessions.sign_out, caller.id, caller.session, which)
        return empty()

    async def keys(_: WebRequest) -> HTTPResponse:
        published = await context.store.read(signing.published)
        return answer(Jwks(published), headers={"cache-control": f"public, max-age={KEYS_KEPT}"})

    async def settings(_: WebRequest) -> HTTPResponse:
        return answer(Settings())

    async def health(_: WebRequest) -> HTTPResponse:
        return answer(Described(__version__, "cotexd", "cotexd's own accounts"))

    for handler, method, path, name in (
        (token, "POST", "/token", "auth_token"),
        (user, "GET", "/user", "auth_user"),
        (logout, "POST", "/logout", "auth_logout"),
        (keys, "GET", "/.well-known/jwks.json", "auth_jwks"),
        (settings, "GET", "/settings", "auth_settings"),
        (health, "GET", "/health", "auth_health"),
    ):
        app.add_route(_in_its_words(handler), f"/auth/v1{path}", methods=[method], name=name)


def _in_its_words(handler: Handler) -> Handler:
    """Errors of the catalogue in the protocol's form."""

    async def run(request: WebRequest) -> HTTPResponse:
        try:
            return await handler(request)
        except _Problem as error:
            return _refusal(error.status, error.error_code, error.message, error.retry_after)
        except BadGrant as error:
            return _refusal(400, error.grant_code, error.message)
        except TooManyRequests as error:
            return _refusal(429, "over_request_rate_limit", error.message, error.retry_after, error.headers)
        except CotexError as error:
            for kind, (status, code) in _STATUS.items():
                if isinstance(error, kind):
                    return _refusal(
                        status, code, error.message, 2 if status == HTTPStatus.SERVICE_UNAVAILABLE else 0
                    )
            raise

    return run


_STATUS: dict[type[CotexError], tuple[int, str]] = {
    Invalid: (400, "validation_failed"),
    Unauthorized: (401, "bad_jwt"),
    InsufficientScope: (403, "insufficient_scope"),
    Forbidden: (403, "user_banned"),
    Unavailable: (503, "unavailable"),
}


def _refusal(
    status: int, error_code: str, message: str, retry_after: int = 0, headers: Mapping[str, str] | None = None
) -> HTTPResponse:
    more = dict(headers or {}) | ({"retry-after": str(retry_after)} if retry_after else {})
    return answer(Refusal(status, error_code, message), status, more)


def _session(granted: Granted) -> HTTPResponse:
    expires_at = int(granted.expires_at.timestamp())
    expires_in = max(0, expires_at - int(datetime.now(UTC).timestamp()))
    user = _user(granted.account)
    return answer(
        TokenPair(granted.access_token, "bearer", expires_in, expires_at, granted.refresh_token, user)
    )


def _user(account: Account) -> User:
    return User(
        id=account.id,
        email=account.email,
        email_confirmed_at=account.created_at,
        confirmed_at=account.created_at,
        user_metadata=UserMetadata(account.name),
        created_at=account.created_at,
        updated_at=account.updated_at,
    )
