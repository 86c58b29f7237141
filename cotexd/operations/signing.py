"""The key pairs that sign the access tokens of /auth/v1.

A new pair is published as standby before it is used, so that whoever caches our keys knows it by then; the one that it
replaces still verifies until the next rotation. The private parts are sealed.
"""

import uuid
from datetime import datetime
from typing import Any

import msgspec

from cotexd.domain import signing
from cotexd.domain.signing import KeyPair
from cotexd.operations import audit
from cotexd.store import Tx
from cotexd.store.models import SigningKey

STANDBY, IN_USE, PREVIOUS = "standby", "in use", "previous"


class Shown(msgspec.Struct, frozen=True):
    kid: str
    state: str
    created_at: datetime


def in_use(tx: Tx) -> KeyPair:
    """The pair to sign with; the first pairs are made here, so this wants a write transaction."""
    row = SigningKey.get_or_none(SigningKey.state == IN_USE)
    if row is None:
        _make(tx, STANDBY)
        row = _make(tx, IN_USE)
    return _opened(tx, row)


def published(tx: Tx) -> list[dict[str, Any]]:
    """Public JWKs of all pairs, the one in use first."""
    rows = sorted(SigningKey.select(), key=lambda row: (IN_USE, STANDBY, PREVIOUS).index(row.state))
    return [signing.public_of(_opened(tx, row)) for row in rows]


def rotate(tx: Tx) -> list[Shown]:
    """Standby → in use → previous → gone; tokens signed by the one that goes are no longer good."""
    in_use(tx)
    SigningKey.delete().where(SigningKey.state == PREVIOUS).execute()
    for before, after in ((IN_USE, PREVIOUS), (STANDBY, IN_USE)):
        SigningKey.update(state=after).where(SigningKey.state == before).execute()
    _make(tx, STANDBY)
    audit.record(tx, "secret.rotate", "signing")
    return listing(tx)


def listing(_: Tx) -> list[Shown]:
    return [
        Shown(row.kid, row.state, row.created_at)
        for row in SigningKey.select().order_by(SigningKey.created_at)
    ]


def _make(tx: Tx, state: str) -> SigningKey:
    pair = signing.new_pair(uuid.uuid4().hex)
    sealed = tx.vault.seal(pair.private, _purpose(pair.kid))
    SigningKey.insert(kid=pair.kid, state=state, private=sealed, created_at=tx.now).execute()
    made: SigningKey = SigningKey.get_by_id(pair.kid)
    return made


def _opened(tx: Tx, row: SigningKey) -> KeyPair:
    return KeyPair(row.kid, tx.vault.open(bytes(row.private), _purpose(row.kid)))


def _purpose(kid: str) -> str:
    return f"signing key {kid}"
