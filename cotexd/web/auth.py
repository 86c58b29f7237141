"""Who asks: the bearer token, from the header or, for browsers, from the WebSocket's subprotocols.

A token's issuer chooses its keys. A signature that was checked once is remembered with the keys that it was checked
against; whether the token is in its time, not revoked, and its user not disabled, is asked every time.
"""

import hashlib
import time
from collections import OrderedDict
from datetime import UTC, datetime

from cotexd import metrics
from cotexd.domain import scope, tokens
from cotexd.domain.tokens import Claims, Head, Issuer, Keys
from cotexd.errors import Unauthorized
from cotexd.gateways.jwks import KeyRing
from cotexd.operations import identities, signing
from cotexd.operations.identities import Caller, Provisioning
from cotexd.store import Actor, Store, act_as
from cotexd.web.context import Context, WebRequest, bind, limited
from cotexd.web.limits import ADDRESS, MAX_BAD_TOKENS

SUBPROTOCOL = "cotex.v2"
_BEARER_SUBPROTOCOL = "cotex.bearer."
OWN_KEYS_KEPT = 0.5
"""seconds; a key of our own that was rotated is in force, or out of it, after these"""
MAX_REMEMBERED = 4096
"""signatures"""


class Authenticator:
    """Everybody whose tokens sign in, and the keys of each."""

    def __init__(
        self,
        store: Store,
        script_key: bytes,
        own_iss: str,
        outside: tuple[KeyRing, ...],
        policy: Provisioning,
    ) -> None:
        """:param own_iss: the issuer of the access tokens of /auth/v1"""
        self.own_iss = own_iss
        self._store = store
        self._policy = policy
        self._scripts = Issuer(tokens.ISSUER, tokens.AUDIENCE, ("HS256",))
        self._script_keys = Keys(script_key)
        self._own = Issuer(own_iss, tokens.SESSION_AUDIENCE, ("ES256",))
        self._own_keys = Keys()
        self._own_fetched_at = 0.0
        self._outside = {ring.issuer.iss: ring for ring in outside}
        self._remembered: OrderedDict[bytes, tuple[Keys, Claims]] = OrderedDict()

    async def caller(self, token: str) -> Caller:
        """The user whom a token signs in; one from outside whom we don't know is made, where that is allowed.

        :raises Unauthorized: the token is not good
        :raises Forbidden: it is, but its user may not come in
        :raises Unavailable: its issuer's keys can't be had
        """
        claims = tokens.in_time(await self._claims(token), datetime.now(UTC))
        found = await self._store.read(identities.authenticate, claims, self.own_iss)
        if found is None:
            found = await self._store.write(identities.provision, claims, self._policy)
        return found

    async def _claims(self, token: str) -> Claims:
        head = tokens.peek(token)
        issuer, keys = await self._keys(head)
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._remembered.get(digest)
        if known is not None and known[0] is keys:
            self._remembered.move_to_end(digest)
            return known[1]
        claims = tokens.verify(token, head, issuer, keys)
        self._remembered[digest] = (keys, claims)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return claims

    async def _keys(self, head: Head) -> tuple[Issuer, Keys]:
        if head.iss == tokens.ISSUER:
            return self._scripts, self._script_keys
        if head.iss == self.own_iss:
            return self._own, await self._published()
        ring = self._outside.get(head.iss)
        if ring is None:
            raise Unauthorized(
                "The token's issuer is not one of those that this server trusts.",
                hint="The administrator finds them in: cotex config show",
            )
        if head.algorithm not in ring.issuer.algorithms:
            raise Unauthorized("The token is signed in a way that its issuer does not use.")
        return ring.issuer, await ring.keys(head.kid, head.algorithm)

    async def _published(self) -> Keys:
        if time.monotonic() - self._own_fetched_at > OWN_KEYS_KEPT:
            public = tokens.read_jwks({"keys": await self._store.read(signing.published)})
            if public.keys() != self._own_keys.public.keys():
                self._own_keys = Keys(public=public)
            self._own_fetched_at = time.monotonic()
        return self._own_keys


async def signed_in(
    request: WebRequest, needed: str | None, *, policy: str = "api", times: int = 1
) -> Caller:
    """Who asks, if they may ask this, and have not asked too often.

    :param needed: the scope that a token must have, if it has scopes; None is any
    :param policy: the class of routes, whose limit is `times` the user's
    :raises Unauthorized: no token, or a bad one
    :raises Forbidden: the user is disabled, or the token is for other things
    :raises TooManyRequests: over a limit of the user, or of the address
    """
    context = request.app.ctx
    limits, address = context.limits, request.ctx.address
    limits.hit("address", address, ADDRESS * limits.rate_limit)
    caller = await caller_of(context, token_of(request), address)
    act_as(Actor(caller.name, "api"))
    bind(user=caller.name)
    limited(request, limits.hit(policy, caller.id, times * (caller.requests or limits.rate_limit)))
    scope.demand(caller.scopes, needed)
    return caller


async def caller_of(context: Context, token: str, address: str) -> Caller:
    """Whom a token signs in; bad ones from one address are counted.

    :raises Unauthorized: it is a bad one
    :raises TooManyRequests: so were many before it
    """
    try:
        return await context.authenticator.caller(token)
    except Unauthorized:
        metrics.TOKENS_REFUSED.inc()
        context.limits.hit("tokens", address, MAX_BAD_TOKENS)
        raise


def subprotocols(request: WebRequest) -> list[str]:
    return [each.strip() for each in request.headers.get("sec-websocket-protocol", "").split(",")]


def token_of(request: WebRequest) -> str:
    """:raises Unauthorized: there is none"""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return str(token.strip())
    for each in subprotocols(request):
        if each.startswith(_BEARER_SUBPROTOCOL):
            return each.removeprefix(_BEARER_SUBPROTOCOL)
    raise Unauthorized("A bearer token is needed.", hint="Make one with `cotex user token USER`.")
