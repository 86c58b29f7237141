"""Who asks: the bearer token, from the header or, for browsers, from the WebSocket's subprotocols."""

from dataclasses import dataclass
from datetime import UTC, datetime

from cotexd.domain import tokens
from cotexd.errors import Unauthorized
from cotexd.operations import accounts
from cotexd.operations.accounts import Account
from cotexd.web.context import WebRequest

SUBPROTOCOL = "cotex.v2"
_BEARER_SUBPROTOCOL = "cotex.bearer."


@dataclass(frozen=True, slots=True)
class Identity:
    account: Account
    session: str
    """tells one signed-in client of the user from another; may be empty"""
    expires_at: datetime


async def signed_in(request: WebRequest) -> Identity:
    """:raises Unauthorized: no token, or a bad one
    :raises Forbidden: the user is disabled
    """
    context = request.app.ctx
    claims = tokens.check(_token(request), context.signing_key, datetime.now(UTC))
    account = await context.store.read(accounts.authenticate, claims.user_id)
    return Identity(account, claims.session, datetime.fromtimestamp(min(claims.expires_at, _FOREVER), UTC))


def subprotocols(request: WebRequest) -> list[str]:
    return [each.strip() for each in request.headers.get("sec-websocket-protocol", "").split(",")]


_FOREVER = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def _token(request: WebRequest) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return str(token.strip())
    for each in subprotocols(request):
        if each.startswith(_BEARER_SUBPROTOCOL):
            return each.removeprefix(_BEARER_SUBPROTOCOL)
    raise Unauthorized("A bearer token is needed.", hint="Make one with `cotex user token USER`.")
