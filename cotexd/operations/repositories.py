"""Tracked repositories and their webhook secrets."""

import re
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, cast

import msgspec
import peewee

from cotexd.domain import filter as filters
from cotexd.domain.filter import Filter
from cotexd.errors import Conflict, Invalid, NotFound, OverLimit
from cotexd.operations import accounts, audit, notices, tiers
from cotexd.operations import secrets as kept_secrets
from cotexd.store import Tx
from cotexd.store.models import LogState, Membership, MissingDelivery, Repository, User, Webhook

OVERLAP = timedelta(hours=24)
"""how long the old secret stays good after a rotation, unless told"""
MAX_OVERLAP = timedelta(days=30)
MAX_SECRET = 255
"""characters"""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98})/[A-Za-z0-9._-]{1,100}", re.ASCII)

RepoName = Annotated[
    str, msgspec.Meta(extra_json_schema={"pattern": f"^{_NAME.pattern}$", "examples": ["octo/hello"]})
]
"""owner/name; `add` checks it"""


class Tracked(msgspec.Struct, frozen=True):
    """A repository as its owner or a member sees it."""

    id: str
    user_id: str
    """its owner's"""
    repo_name: str
    webhook_secret: str
    """empty but in the answer that makes it"""
    webhook_url: str
    """the path at this server, for GitHub"""
    status: Literal["active", "paused"]
    role: str
    """owner or member"""
    filter: Filter
    """which deliveries become events"""
    last_event_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Hook(msgspec.Struct, frozen=True):
    """What the webhook route needs to check a delivery: the name, and the secrets that are good right now."""

    repo_name: str
    secrets: tuple[str, ...]
    paused: bool


def add(tx: Tx, user_id: str, name: str, secret: str = "") -> Tracked:
    """Track a repository; the answer is the only one that holds its secret.

    :param secret: made here where it is ""
    :raises Invalid: the name is not owner/name, or the secret cannot be one
    :raises Conflict: the user tracks it already, or it is shared with them
    :raises OverLimit: as many as the user's tier allows are there
    """
    if not _NAME.fullmatch(name) or name.endswith(("/.", "/..")):
        raise Invalid(f'"{name}" is not the name of a repository.', hint="Use owner/name, as in octo/hello.")
    secret = _given_or_new(secret)
    account = accounts.find(tx, user_id)
    if sees(user_id, name):
        raise Conflict(
            f"{account.name} tracks {name} already.",
            hint="Each event would be shown twice. Look at it: cotex repo list",
        )
    if account.repo_count >= account.repo_limit:
        raise OverLimit(
            f"{account.name} tracks {account.repo_count} repositories, as many as the tier {account.tier} allows.",
            hint="Remove one, or raise the tier: cotex tier set USER TIER",
        )
    repo_id = str(uuid.uuid4())
    Repository.insert(
        id=repo_id,
        user_id=user_id,
        name=name,
        name_key=name.lower(),
        secret=tx.vault.seal(secret.encode(), _purpose(repo_id)),
        created_at=tx.now,
        updated_at=tx.now,
    ).execute()
    Membership.insert(
        user_id=user_id, repo_id=repo_id, role="owner", since_seq=head(), created_at=tx.now
    ).execute()
    notices.post(tx, user_id, notices.TOLD, f"Repository {name} was successfully added")
    audit.record(tx, "repo.add", name, user=account.name, repo_id=repo_id)
    return msgspec.structs.replace(get(tx, user_id, repo_id), webhook_secret=secret)


def get(_: Tx, user_id: str, repo_id: str) -> Tracked:
    """:raises NotFound: there is none, or none that this user may see"""
    row = _memberships(user_id).where(Repository.id == repo_id).first()
    if row is None:
        raise _not_found(repo_id)
    return _tracked(row)


def owned(tx: Tx, user_id: str, repo_id: str) -> Tracked:
    """:raises NotFound: there is none that this user owns"""
    tracked = get(tx, user_id, repo_id)
    if tracked.role != "owner":
        raise _not_found(repo_id)
    return tracked


def sees(user_id: str, name: str) -> bool:
    """Whether a user meets this GitHub repository already, by a tracking of their own or a shared one."""
    return bool(_memberships(user_id).where(Repository.name_key == name.lower()).exists())


def all_of(_: Tx, user_id: str) -> list[Tracked]:
    """What a user sees, their own and what is shared with them, by name."""
    return [_tracked(row) for row in _memberships(user_id).order_by(Repository.name_key)]


def everyone(_: Tx) -> list[Tracked]:
    """Every tracked repository once, as its owner sees it."""
    rows = (
        Membership.select(Membership, Repository)
        .join(Repository, on=(Repository.id == Membership.repo_id), attr="repo")
        .where(Membership.role == "owner", Membership.until_seq.is_null(), Repository.removed_at.is_null())
        .order_by(Repository.name_key, Repository.created_at)
    )
    return [_tracked(row) for row in rows]


def find(tx: Tx, name_or_id: str, *, user_id: str | None = None) -> Tracked:
    """The repository that a person means by a name or an id.

    :param user_id: only among this user's own
    :raises NotFound: none
    :raises Conflict: several users track it; says who
    """
    key = name_or_id.lower()
    rows = list(
        Repository.select().where(
            (Repository.name_key == key) | (Repository.id == key), Repository.removed_at.is_null()
        )
    )
    found = [row for row in rows if user_id is None or row.user_id == user_id]
    if not found:
        raise _not_found(name_or_id)
    if len(found) > 1:
        owners = {row.id: row.name for row in User.select().where(User.id.in_([r.user_id for r in found]))}
        choices = ", ".join(f"{row.id} ({owners[row.user_id]}'s)" for row in found)
        raise Conflict(f"{name_or_id} is tracked by several users.", hint=f"Give the id instead: {choices}")
    return get(tx, found[0].user_id, found[0].id)


def remove(tx: Tx, user_id: str, repo_id: str) -> Tracked:
    """Stop tracking: no more events from now on, its stored payloads are purged, its secret is gone.

    :raises NotFound: there is none that this user owns
    """
    tracked = owned(tx, user_id, repo_id)
    Membership.update(until_seq=head()).where(
        Membership.repo_id == repo_id, Membership.until_seq.is_null()
    ).execute()
    Repository.update(
        removed_at=tx.now, updated_at=tx.now, secret=b"", old_secret=None, old_secret_until=None
    ).where(Repository.id == repo_id).execute()
    MissingDelivery.delete().where(MissingDelivery.repo_id == repo_id).execute()
    Webhook.delete().where(Webhook.repo_id == repo_id).execute()
    kept_secrets.forget_repo(repo_id)
    notices.post(tx, user_id, notices.TOLD, f"Repository {tracked.repo_name} was removed")
    audit.record(tx, "repo.remove", tracked.repo_name, repo_id=repo_id)
    tiers.settle(tx, user_id)
    return tracked


def pause(tx: Tx, user_id: str, repo_id: str) -> Tracked:
    """Refuse deliveries until the owner resumes; GitHub keeps them for 3 days.

    :raises NotFound: there is none that this user owns
    """
    tracked = owned(tx, user_id, repo_id)
    if there(repo_id).paused_at is None:
        Repository.update(paused_at=tx.now, updated_at=tx.now).where(Repository.id == repo_id).execute()
        told = f"Repository {tracked.repo_name} is paused: GitHub keeps its deliveries for 3 days"
        notices.post(tx, user_id, notices.TOLD, told)
        audit.record(tx, "repo.pause", tracked.repo_name, repo_id=repo_id)
    return owned(tx, user_id, repo_id)


def resume(tx: Tx, user_id: str, repo_id: str) -> Tracked:
    """Take deliveries again. A pause that a limit made is not lifted by its owner.

    :raises NotFound: there is none that this user owns
    :raises OverLimit: it is paused because the owner has more than their tier allows
    """
    tracked = owned(tx, user_id, repo_id)
    row = there(repo_id)
    if row.paused_at is not None:
        Repository.update(paused_at=None, updated_at=tx.now).where(Repository.id == repo_id).execute()
        Webhook.update(look_at=tx.now).where(Webhook.repo_id == repo_id).execute()
        if row.limited_at is None:
            notices.post(tx, user_id, notices.TOLD, f"Repository {tracked.repo_name} is resumed")
        audit.record(tx, "repo.resume", tracked.repo_name, repo_id=repo_id)
    elif row.limited_at is not None:
        raise OverLimit(
            f"{tracked.repo_name} is paused because its owner tracks more repositories than their tier allows.",
            hint="Remove another one, or raise the tier: it is resumed by itself.",
        )
    return owned(tx, user_id, repo_id)


def set_filter(tx: Tx, user_id: str, repo_id: str, wanted: Filter) -> Tracked:
    """Choose which deliveries become events, for everybody; the others are answered, and not kept.

    :raises NotFound: there is none that this user owns
    :raises Invalid: what cannot be a filter
    """
    tracked = owned(tx, user_id, repo_id)
    stored = filters.encode(filters.check(wanted))
    Repository.update(wants=stored, updated_at=tx.now).where(Repository.id == repo_id).execute()
    audit.record(tx, "repo.filter", tracked.repo_name, repo_id=repo_id, filter=stored)
    return owned(tx, user_id, repo_id)


def rotate_secret(tx: Tx, repo_id: str, *, secret: str = "", overlap: timedelta = OVERLAP) -> Tracked:
    """Give a repository a new secret; the old one stays good for `overlap`. The answer holds the new one.

    :raises NotFound: there is no such repository
    :raises Invalid: the overlap is negative or over MAX_OVERLAP, or the secret cannot be one
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise Invalid(f"An overlap is between 0 and {MAX_OVERLAP.days} days.")
    secret = _given_or_new(secret)
    row = there(repo_id)
    Repository.update(
        secret=tx.vault.seal(secret.encode(), _purpose(repo_id)),
        old_secret=row.secret if overlap else None,
        old_secret_until=tx.now + overlap if overlap else None,
        updated_at=tx.now,
    ).where(Repository.id == repo_id).execute()
    audit.record(tx, "repo.secret", row.name, repo_id=repo_id, overlap=overlap)
    return msgspec.structs.replace(get(tx, row.user_id, repo_id), webhook_secret=secret)


def secret_of(tx: Tx, repo_id: str) -> str:
    """The secret itself, to sign with. It is never shown.

    :raises NotFound: there is no such repository
    """
    row = there(repo_id)
    return tx.vault.open(bytes(row.secret), _purpose(repo_id)).decode()


def secret_state(tx: Tx, repo_id: str) -> dict[str, object]:
    """What can be said of a secret without showing it.

    :raises NotFound: there is no such repository
    """
    row = there(repo_id)
    old = row.old_secret_until is not None and row.old_secret_until > tx.now
    return {"old_secret_good_until": row.old_secret_until if old else None}


def hook_of(tx: Tx, repo_id: str) -> Hook | None:
    """What deliveries to `repo_id` are checked against; None if there is no such repository.

    The same work is done for one that is not there, so that the time of a refusal tells nobody which are
    (`python -m bench timing`): neither Peewee's exception for no row, nor its object for one, is made.
    """
    query = Repository.select(
        Repository.name,
        Repository.secret,
        Repository.old_secret,
        Repository.old_secret_until,
        Repository.paused_at,
        Repository.limited_at,
    ).where(Repository.id == repo_id, Repository.removed_at.is_null())
    found = cast("list[tuple[Any, ...]]", list(query.tuples()))
    if not found:
        tx.vault.open(tx.vault.seal(b"nobody's", _purpose(repo_id)), _purpose(repo_id))
        return None
    name, secret, old_secret, old_until, paused_at, limited_at = found[0]
    sealed = [secret]
    if old_secret is not None and old_until > tx.now:
        sealed.append(old_secret)
    opened = tuple(tx.vault.open(bytes(each), _purpose(repo_id)).decode() for each in sealed)
    return Hook(name, opened, paused=paused_at is not None or limited_at is not None)


def pinged(tx: Tx, repo_id: str, *, anew: bool = True) -> None:
    """A signed ping came: the hook's sign of life.

    :param anew: it was signed with the secret, not with the one before it
    """
    Repository.update(pinged_at=tx.now, pinged_anew=anew).where(Repository.id == repo_id).execute()


def _memberships(user_id: str) -> "peewee.ModelSelect[Membership]":
    return (
        Membership.select(Membership, Repository)
        .join(Repository, on=(Repository.id == Membership.repo_id), attr="repo")
        .where(Membership.user_id == user_id, Membership.until_seq.is_null(), Repository.removed_at.is_null())
    )


def _tracked(row: Membership) -> Tracked:
    repo = row.repo
    return Tracked(
        id=repo.id,
        user_id=repo.user_id,
        repo_name=repo.name,
        webhook_secret="",
        webhook_url=webhook_path(repo.id),
        status="paused" if repo.paused_at or repo.limited_at else "active",
        role=row.role,
        filter=filters.decode(repo.wants),
        last_event_at=repo.last_event_at,
        created_at=repo.created_at,
        updated_at=repo.updated_at,
    )


def there(repo_id: str) -> Repository:
    """The row itself, for operations.

    :raises NotFound: there is no such repository
    """
    row = Repository.get_or_none(Repository.id == repo_id, Repository.removed_at.is_null())
    if row is None:
        raise _not_found(repo_id)
    found: Repository = row
    return found


def _given_or_new(secret: str) -> str:
    if not secret.isprintable() or len(secret) > MAX_SECRET:
        raise Invalid(f"A webhook's secret is at most {MAX_SECRET} printable characters.")
    return secret or secrets.token_hex(32)


def webhook_path(repo_id: str) -> str:
    return f"/api/webhooks/github/{repo_id}"


def _not_found(name_or_id: str) -> NotFound:
    return NotFound(f"There is no repository {name_or_id}.", hint="See which there are: cotex repo list")


def _purpose(repo_id: str) -> str:
    return f"repository {repo_id}"


def head() -> int:
    """Of the log, within this transaction."""
    return int(LogState.get_by_id(1).head)
