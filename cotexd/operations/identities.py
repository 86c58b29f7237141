"""Who a checked token is: a user of ours by our own tokens, or the one that (issuer, subject) stands for.

Nothing else identifies: an e-mail address is what an issuer happens to know, and linking accounts by it would hand one
person's events to whoever can make an issuer say the same.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import Literal

import msgspec

from cotexd.domain import tokens
from cotexd.domain.scope import Scopes
from cotexd.domain.tokens import Claims
from cotexd.errors import Forbidden, Unauthorized
from cotexd.operations import accounts, audit, sessions
from cotexd.operations import tokens as script_tokens
from cotexd.store import Tx
from cotexd.store.models import Identity, User

Kind = Literal["script", "session", "outside"]
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""of a token: one of ours for scripts, one of a session that began here, one from another issuer"""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Caller(msgspec.Struct, frozen=True):
    """Who asks, and with what."""

    id: str
    name: str
    requests: int | None
    """a minute; None is what the configuration says"""
    session: str
    """tells one signed-in client of the user from another; may be empty"""
    expires_at: float
    """seconds since the epoch"""
    scopes: Scopes = None
    kind: Kind = "outside"
    """those of our own can be revoked"""

    @property
    def expiry(self) -> datetime:
        """The same as `expires_at`; a token that is good for longer than a date can be is good until then."""
        return datetime.fromtimestamp(min(self.expires_at, _FOREVER), UTC)


class Provisioning(msgspec.Struct, frozen=True):
    """Whether a first valid token from outside makes a user, and of which verified e-mail domains (all, if none)."""

    allowed: bool = True
    email_domains: tuple[str, ...] = ()


def authenticate(tx: Tx, claims: Claims, own_iss: str) -> Caller | None:
    """Who a token's claims stand for; None is somebody from outside whom we don't know yet.

    :param own_iss: the issuer of our own access tokens
    :raises Unauthorized: revoked, signed out, or of a user who is gone
    :raises Forbidden: disabled
    """
    session = claims.session
    kind: Kind = "outside"
    if claims.iss == tokens.ISSUER:
        session = script_tokens.id_of(claims.session)
        if not script_tokens.is_good(tx, session):
            raise Unauthorized("The token was revoked.", hint="Make a new one: cotex user token USER")
        user_id, kind = claims.subject, "script"
    elif claims.iss == own_iss:
        if not sessions.is_good(tx, claims.session):
            raise Unauthorized("The session has ended.", hint="Sign in again.")
        user_id, kind = claims.subject, "session"
    else:
        row = Identity.get_or_none(Identity.issuer == claims.iss, Identity.subject == claims.subject)
        if row is None:
            return None
        user_id = row.user_id
    return msgspec.structs.replace(_caller(tx, user_id, session, claims), kind=kind)


def provision(tx: Tx, claims: Claims, policy: Provisioning) -> Caller:
    """Make a user for somebody from outside, at the first of their tokens.

    :raises Forbidden: not allowed, or not for them
    """
    known = Identity.get_or_none(Identity.issuer == claims.iss, Identity.subject == claims.subject)
    if known is None:
        _check_policy(claims, policy)
        user_id = _free_id(claims.subject)
        account = accounts.insert(
            tx, user_id, _free_name(user_id), claims.email if claims.email_verified else ""
        )
        Identity.insert(
            issuer=claims.iss,
            subject=claims.subject,
            user_id=account.id,
            email=claims.email,
            created_at=tx.now,
        ).execute()
        audit.record(tx, "user.provision", account.name, issuer=claims.iss, subject=claims.subject)
        known = Identity.get(Identity.issuer == claims.iss, Identity.subject == claims.subject)
    return _caller(tx, known.user_id, claims.session, claims)


def still_good(tx: Tx, caller: Caller) -> None:
    """Ask again, in the transaction that lets a client in: who was shut out meanwhile is not.

    :raises Unauthorized: gone, or the token was revoked
    :raises Forbidden: disabled
    """
    revoked = caller.kind == "script" and not script_tokens.is_good(tx, caller.session)
    if revoked or (caller.kind == "session" and not sessions.is_good(tx, caller.session)):
        raise Unauthorized("The token was revoked.", hint="Sign in again, or make a new one.")
    _user(tx, caller.id)


def _check_policy(claims: Claims, policy: Provisioning) -> None:
    name, at, after = claims.email.rpartition("@")
    domain = after if claims.email_verified and name and at else ""
    if claims.anonymous:
        raise Forbidden("Anonymous users have no account here.", hint="Sign in with an account.")
    if not policy.allowed:
        raise Forbidden(
            "You have no account on this server.",
            hint="Ask its administrator for one: auth.auto_provision is off.",
        )
    if policy.email_domains and domain not in policy.email_domains:
        raise Forbidden(
            "Accounts on this server are for verified e-mail addresses of its own domains.",
            hint="Verify your address with your sign-in provider, or ask the administrator.",
        )


def _free_id(subject: str) -> str:
    """Supabase's ids are UUIDs: such a one stays the user's, if nobody has it."""
    if _UUID.fullmatch(subject) and not User.select().where(User.id == subject).exists():
        return subject
    return str(uuid.uuid4())


def _free_name(user_id: str) -> str:
    """Made of the id, and of nothing that the person could choose to look like somebody else."""
    for length in (8, 12, 16, 32):
        name = f"user-{user_id.replace('-', '')[:length]}"
        if not User.select().where(User.name == name).exists():
            return name
    return f"user-{uuid.uuid4().hex}"


def _caller(tx: Tx, user_id: str, session: str, claims: Claims) -> Caller:
    name, requests = _user(tx, user_id)
    return Caller(user_id, name, requests, session, claims.expires_at, claims.scopes)


def _user(tx: Tx, user_id: str) -> tuple[str, int | None]:
    """The name, and the tier's requests a minute, of a user who may come in; asked with every request."""
    found = tx.rows(
        'SELECT "user".name, tier.requests, disabled_at FROM "user" JOIN tier ON tier.name = "user".tier'
        ' WHERE "user".id = ? AND removed_at IS NULL',
        user_id,
    )
    if not found:
        raise Unauthorized("The user of this token does not exist here.")
    name, requests, disabled_at = found[0]
    if disabled_at is not None:
        raise Forbidden("This user is disabled.", hint=f"Let them in again: cotex user enable {name}")
    return name, requests
