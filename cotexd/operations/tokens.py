"""Tokens for scripts, and the key that signs them.

Of a token only the hash of its id is kept, with what it may be used for: enough to list and to revoke it, and not
enough to sign anybody in.
"""

import hashlib
import secrets
from datetime import datetime, timedelta

import msgspec

from cotexd.domain import scope, tokens
from cotexd.domain.scope import Scopes
from cotexd.errors import Forbidden, Invalid, NotFound
from cotexd.operations import accounts, audit, notices
from cotexd.store import Tx
from cotexd.store.models import ScriptToken, SealedSecret

LIFETIME = timedelta(hours=24)
"""unless told"""
MAX_LIFETIME = timedelta(days=3650)
MAX_LABEL = 64
"""characters"""
KEPT = timedelta(days=30)
"""how long a token that has expired or was revoked is still listed"""
_NAME = "signing key"
_KEY_BYTES = 32


class Issued(msgspec.Struct, frozen=True):
    """The one answer that holds the token."""

    token: str
    label: str
    scopes: list[str] | None
    user_id: str
    name: str
    expires_at: datetime


class Listed(msgspec.Struct, frozen=True):
    label: str
    scopes: list[str] | None
    """null is everything"""
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


def issue(
    tx: Tx, name_or_id: str, lifetime: timedelta = LIFETIME, *, label: str = "", scopes: Scopes = None
) -> Issued:
    """Make a token that signs its bearer in as a user.

    :param label: to tell it from others; made from the time where it is ""
    :raises NotFound: no such user
    :raises Forbidden: the user is disabled
    :raises Invalid: the lifetime is not between a second and MAX_LIFETIME, or the label is too long
    """
    account = accounts.find(tx, name_or_id)
    if account.disabled:
        raise Forbidden(f"{account.name} is disabled.", hint=f"First: cotex user enable {account.name}")
    if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME:
        raise Invalid(f"A token is good for 1s to {MAX_LIFETIME.days}d.")
    if len(label) > MAX_LABEL or not label.isprintable():
        raise Invalid(f"A label is at most {MAX_LABEL} printable characters.")
    label = label or f"token-{tx.now:%Y%m%d-%H%M%S}"
    jti, expires_at = tokens.new_id(), (tx.now + lifetime).replace(microsecond=0)
    ScriptToken.insert(
        id=id_of(jti),
        user_id=account.id,
        label=label,
        scopes=scope.show(scopes),
        created_at=tx.now,
        expires_at=tx.now + lifetime,
    ).execute()
    audit.record(
        tx, "user.token", account.name, label=label, scopes=scope.show(scopes), expires_at=expires_at
    )
    token = tokens.issue(signing_key(tx), account.id, tx.now, lifetime, jti, scopes)
    return Issued(token, label, _listed_scopes(scopes), account.id, account.name, expires_at)


def listing(_: Tx, user_id: str) -> list[Listed]:
    """A user's tokens, the newest first."""
    rows = ScriptToken.select().where(ScriptToken.user_id == user_id).order_by(ScriptToken.created_at.desc())
    return [
        Listed(
            row.label, _listed_scopes(scope.parse(row.scopes)), row.created_at, row.expires_at, row.revoked_at
        )
        for row in rows
    ]


def revoke(tx: Tx, name_or_id: str, label: str | None = None) -> list[Listed]:
    """End a user's tokens of this label, or all of them, at once; open connections with them are closed.

    :raises NotFound: no such user, or no good token of this label
    """
    account = accounts.find(tx, name_or_id)
    good = (ScriptToken.user_id == account.id) & ScriptToken.revoked_at.is_null()
    if label is not None:
        good &= ScriptToken.label == label
    ids = [row.id for row in ScriptToken.select(ScriptToken.id).where(good)]
    if label is not None and not ids:
        raise NotFound(
            f"{account.name} has no token {label}.",
            hint=f"See which there are: cotex user tokens {account.name}",
        )
    ScriptToken.update(revoked_at=tx.now).where(ScriptToken.id.in_(ids)).execute()
    for each in ids:
        notices.post(tx, account.id, notices.REVOKED, each)
    audit.record(tx, "user.revoke", account.name, label="all" if label is None else label)
    return listing(tx, account.id)


def is_good(tx: Tx, token_id: str) -> bool:
    """Whether a token is here, and not revoked.

    :param token_id: see `id_of`
    """
    return bool(tx.rows("SELECT 1 FROM script_token WHERE id = ? AND revoked_at IS NULL", token_id))


def id_of(jti: str) -> str:
    """The id under which a token is kept: from it nobody makes a token."""
    return hashlib.sha256(jti.encode()).hexdigest()


def forget_old(tx: Tx) -> int:
    old = (ScriptToken.expires_at < tx.now - KEPT) | (ScriptToken.revoked_at < tx.now - KEPT)
    return int(ScriptToken.delete().where(old).execute())


def signing_key(tx: Tx) -> bytes:
    """The key of all script tokens; made the first time it is asked for, so this wants a write transaction."""
    row = SealedSecret.get_or_none(SealedSecret.name == _NAME)
    if row is not None:
        return tx.vault.open(bytes(row.value), _NAME)
    key = secrets.token_bytes(_KEY_BYTES)
    SealedSecret.insert(name=_NAME, value=tx.vault.seal(key, _NAME), created_at=tx.now).execute()
    return key


def _listed_scopes(scopes: Scopes) -> list[str] | None:
    return None if scopes is None else scope.show(scopes).split(",")
