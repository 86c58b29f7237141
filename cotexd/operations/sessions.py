"""Signing in with a password: sessions, their access tokens, and refresh tokens that rotate.

A refresh token is good once. Its successor is not random but made from it with a key of ours, so that a client whose
answer was lost can ask again within REUSE and gets the same; afterwards, whoever shows a used one has stolen it, or
been stolen from, and the whole session ends (RFC 9700, 4.14.2).
"""

import base64
import hashlib
import hmac
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import peewee

from cotexd.domain import signing as keys
from cotexd.domain import tokens
from cotexd.errors import Conflict, Forbidden, Invalid, Unauthorized
from cotexd.operations import accounts, audit, notices, signing
from cotexd.operations.accounts import Account
from cotexd.operations.tokens import signing_key
from cotexd.store import Tx
from cotexd.store.models import Password, RefreshToken, Session, User

ACCESS_LIFETIME = timedelta(hours=1)
REUSE = timedelta(seconds=10)
IDLE = timedelta(days=90)
"""after which a session that was not refreshed is over"""

Scope = Literal["global", "local", "others"]


class BadGrant(Unauthorized):
    """A refresh token that is not good: the client has to sign in again."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, hint="Sign in again.")
        self.grant_code = code


class Granted(msgspec.Struct, frozen=True):
    access_token: str
    refresh_token: str
    expires_at: datetime
    account: Account


def password_of(_: Tx, login: str) -> tuple[str, str]:
    """The id and the password's hash of who signs in as `login`, an e-mail address or a name; "" and "" for nobody."""
    key = login.strip().lower()
    row = Password.get_or_none(Password.email_key == key)
    if row is None:
        named = peewee.fn.LOWER(User.name) == key
        user = User.get_or_none(named, User.removed_at.is_null())
        row = None if user is None else Password.get_or_none(Password.user_id == user.id)
    return ("", "") if row is None else (row.user_id, row.hash)


def set_password(tx: Tx, name_or_id: str, password_hash: str, email: str = "") -> Account:
    """Let a user sign in with their e-mail address and a password. Whoever is signed in has to do so again.

    :param password_hash: see domain.passwords
    :param email: a new address; the one that they have, if ""
    :raises NotFound: no such user
    :raises Invalid: there is no address, or it is not in form
    :raises Conflict: another account signs in with this address
    """
    account = accounts.find(tx, name_or_id)
    email = email or account.email
    if not email:
        raise Invalid(
            f"{account.name} has no e-mail address to sign in with.",
            hint=f"Give one: cotex user passwd {account.name} --email ADDRESS",
        )
    if not accounts.EMAIL.fullmatch(email):
        raise Invalid(f'"{email}" is not an e-mail address.')
    key = email.lower()
    if Password.select().where(Password.email_key == key, Password.user_id != account.id).exists():
        raise Conflict(f"Another account signs in as {email}.", hint="Each needs an address of its own.")
    Password.delete().where(Password.user_id == account.id).execute()
    Password.insert(user_id=account.id, email_key=key, hash=password_hash, changed_at=tx.now).execute()
    User.update(email=email, updated_at=tx.now).where(User.id == account.id).execute()
    end_all(tx, account.id)
    audit.record(tx, "user.passwd", account.name)
    return accounts.find(tx, account.id)


def begin(tx: Tx, user_id: str, password_hash: str, iss: str) -> Granted:
    """A new session for a user whose password was right.

    :param password_hash: the one that was compared: whoever changed it meanwhile has ended what it was good for
    :raises Forbidden: the user is disabled
    :raises Unauthorized: the password is another by now
    """
    if not Password.select().where(Password.user_id == user_id, Password.hash == password_hash).exists():
        raise Unauthorized("The password was changed.")
    account = accounts.find(tx, user_id)
    if account.disabled:
        raise Forbidden("This user is disabled.", hint=f"Let them in again: cotex user enable {account.name}")
    session_id, refresh_token = str(uuid.uuid4()), secrets.token_urlsafe(24)
    Session.insert(id=session_id, user_id=user_id, created_at=tx.now, refreshed_at=tx.now).execute()
    RefreshToken.insert(hash=_hash(refresh_token), session_id=session_id, created_at=tx.now).execute()
    return _granted(tx, account, session_id, refresh_token, tx.now, iss)


def refresh(tx: Tx, refresh_token: str, iss: str) -> Granted | BadGrant:
    """Exchange a refresh token for its successor and a new access token.

    A theft is a result and not an exception: what it ends must be committed.

    :raises BadGrant: unknown, of a session that is over, or of a user who is disabled
    """
    row = RefreshToken.get_or_none(RefreshToken.hash == _hash(refresh_token))
    if row is None:
        raise BadGrant("refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
    session = Session.get_by_id(row.session_id)
    if session.ended_at is not None or session.refreshed_at < tx.now - IDLE:
        raise BadGrant("session_not_found", "Invalid Refresh Token: the session has ended")
    account = accounts.find(tx, session.user_id)
    if account.disabled:
        raise BadGrant("user_banned", "The user is disabled")
    successor = _successor(tx, refresh_token)
    if row.used_at is None:
        RefreshToken.update(used_at=tx.now).where(RefreshToken.hash == row.hash).execute()
        RefreshToken.insert(hash=_hash(successor), session_id=session.id, created_at=tx.now).execute()
        Session.update(refreshed_at=tx.now).where(Session.id == session.id).execute()
    elif row.used_at < tx.now - REUSE:
        _end(tx, [session])
        audit.record(tx, "session.reused", account.name)
        return BadGrant("refresh_token_already_used", "Invalid Refresh Token: Already Used")
    return _granted(tx, account, session.id, successor, session.created_at, iss)


def sign_out(tx: Tx, user_id: str, session_id: str, which: Scope) -> None:
    """End this session, all of the user's, or all others; open connections with them are closed."""
    wanted = (Session.user_id == user_id) & Session.ended_at.is_null()
    if which == "local":
        wanted &= Session.id == session_id
    elif which == "others":
        wanted &= Session.id != session_id
    _end(tx, list(Session.select().where(wanted)))


def end_all(tx: Tx, user_id: str) -> None:
    sign_out(tx, user_id, "", "global")


def is_good(tx: Tx, session_id: str) -> bool:
    since = Session.refreshed_at.db_value(tx.now - IDLE)
    good = "SELECT 1 FROM session WHERE id = ? AND ended_at IS NULL AND refreshed_at >= ?"
    return bool(tx.rows(good, session_id, since))


def forget_old(tx: Tx) -> int:
    """Forget sessions that are over, with their refresh tokens."""
    over = (Session.refreshed_at < tx.now - IDLE) | (Session.ended_at < tx.now - ACCESS_LIFETIME)
    RefreshToken.delete().where(RefreshToken.session_id.in_(Session.select(Session.id).where(over))).execute()
    return int(Session.delete().where(over).execute())


def _end(tx: Tx, ended: list[Session]) -> None:
    Session.update(ended_at=tx.now).where(Session.id.in_([each.id for each in ended])).execute()
    for each in ended:
        notices.post(tx, each.user_id, notices.REVOKED, each.id)


def _granted(
    tx: Tx, account: Account, session_id: str, refresh_token: str, signed_in_at: datetime, iss: str
) -> Granted:
    expires_at = (tx.now + ACCESS_LIFETIME).replace(microsecond=0)
    claims: dict[str, object] = {
        "iss": iss,
        "aud": tokens.SESSION_AUDIENCE,
        "sub": account.id,
        "iat": tx.now,
        "exp": expires_at,
        "session_id": session_id,
        "email": account.email,
        "phone": "",
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": int(signed_in_at.timestamp())}],
        "is_anonymous": False,
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"name": account.name},
    }
    access_token = tokens.sign_session(keys.load(signing.in_use(tx)), claims)
    return Granted(access_token, refresh_token, expires_at, account)


def _successor(tx: Tx, refresh_token: str) -> str:
    digest = hmac.digest(signing_key(tx), b"successor of " + refresh_token.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _hash(refresh_token: str) -> str:
    return hashlib.sha256(refresh_token.encode("utf-8", "surrogatepass")).hexdigest()
