"""Tokens of the appliance's own, and the key that signs them."""

import secrets
from datetime import datetime, timedelta

import msgspec

from cotexd.domain import tokens
from cotexd.errors import Forbidden, Invalid
from cotexd.operations import accounts
from cotexd.store import Tx
from cotexd.store.models import SealedSecret

LIFETIME = timedelta(hours=24)
"""unless told"""
MAX_LIFETIME = timedelta(days=3650)
_NAME = "signing key"
_KEY_BYTES = 32


class Issued(msgspec.Struct, frozen=True):
    token: str
    user_id: str
    name: str
    expires_at: datetime


def issue(tx: Tx, name_or_id: str, lifetime: timedelta = LIFETIME) -> Issued:
    """Make a token that signs its bearer in as a user.

    :raises NotFound: no such user
    :raises Forbidden: the user is disabled
    :raises Invalid: the lifetime is not between a second and MAX_LIFETIME
    """
    account = accounts.find(tx, name_or_id)
    if account.disabled:
        raise Forbidden(f"{account.name} is disabled.", hint=f"First: cotex user enable {account.name}")
    if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME:
        raise Invalid(f"A token is good for 1s to {MAX_LIFETIME.days}d.")
    token = tokens.issue(signing_key(tx), account.id, tx.now, lifetime)
    return Issued(token, account.id, account.name, (tx.now + lifetime).replace(microsecond=0))


def signing_key(tx: Tx) -> bytes:
    """The key of all our tokens; made the first time it is asked for, so this wants a write transaction."""
    row = SealedSecret.get_or_none(SealedSecret.name == _NAME)
    if row is not None:
        return tx.vault.open(bytes(row.value), _NAME)
    key = secrets.token_bytes(_KEY_BYTES)
    SealedSecret.insert(name=_NAME, value=tx.vault.seal(key, _NAME), created_at=tx.now).execute()
    return key
