"""What is known of the repositories' webhooks at GitHub: which hook, which secret it has, how its deliveries stand."""

from datetime import datetime, timedelta

import msgspec

from cotexd.domain import filter as filters
from cotexd.operations import audit, repositories
from cotexd.store import Tx
from cotexd.store.models import Repository, Webhook


class Known(msgspec.Struct, frozen=True):
    """A tracked repository with its webhook, as far as that is known here."""

    repo_id: str
    repo_name: str
    paused: bool
    created_at: datetime
    """since when it is tracked"""
    pinged_at: datetime | None
    """when the last signed ping came"""
    pinged_anew: bool
    """that ping was signed with the secret, not with the one before it"""
    last_event_at: datetime | None
    hook_id: int | None
    base: str
    """under which address of this server `webhook setup` made it; "" is the configuration's"""
    secret_given: bool | None
    """GitHub was given the secret that holds; None if somebody else gave it one"""
    secret_given_at: datetime | None
    events: tuple[str, ...]
    """types of events that the repository's filter names; () is all"""
    settled_at: datetime | None
    """deliveries that GitHub made until then are here, or given up"""
    looked_at: datetime | None
    problem: str
    """why the last look failed"""
    repaired: int
    lost: int

    @property
    def path(self) -> str:
        """Of the webhook at this server."""
        return repositories.webhook_path(self.repo_id)


def known(tx: Tx, repo_id: str) -> Known:
    """:raises NotFound: there is no such repository"""
    return _known(tx, repositories.there(repo_id), Webhook.get_or_none(Webhook.repo_id == repo_id))


def all_known(tx: Tx) -> list[Known]:
    """Every tracked repository, by name."""
    hooks = {row.repo_id: row for row in Webhook.select()}
    rows = Repository.select().where(Repository.removed_at.is_null()).order_by(Repository.name_key)
    return [_known(tx, row, hooks.get(row.id)) for row in rows]


def note(tx: Tx, repo_id: str, hook_id: int, base: str | None = None) -> None:
    """GitHub's API has shown that `hook_id` calls our address of this repository.

    :param base: the address of this server that it was set up under, where a person has just said so
    """
    row_of(tx, repo_id)
    given = {} if base is None else {"base": base}
    Webhook.update(hook_id=hook_id, **given).where(Webhook.repo_id == repo_id).execute()


def begin_rotation(tx: Tx, repo_id: str, overlap: timedelta) -> bool:
    """Make a new secret, unless there is one already that GitHub does not have; False then.

    Another one would drop the old one here, with which GitHub still signs.
    """
    if known(tx, repo_id).secret_given is None:
        gave(tx, repo_id, repositories.secret_of(tx, repo_id))  # whoever made the hook has
    if known(tx, repo_id).secret_given is False:
        return False
    repositories.rotate_secret(tx, repo_id, overlap=overlap)
    return True


def gave(tx: Tx, repo_id: str, secret: str, overlap: timedelta = timedelta(0)) -> None:
    """GitHub has taken `secret`.

    :param overlap: how long from now on the one before stays good, since deliveries under way may be signed with it
    """
    row_of(tx, repo_id)
    until = tx.now + overlap
    Repository.update(old_secret_until=until).where(
        Repository.id == repo_id, Repository.old_secret.is_null(False), Repository.old_secret_until < until
    ).execute()
    sealed = tx.vault.seal(secret.encode(), _purpose(repo_id))
    Webhook.update(given_secret=sealed, given_at=tx.now).where(Webhook.repo_id == repo_id).execute()


def set_up(tx: Tx, repo_id: str, hook_id: int, base: str, secret: str, changed: tuple[str, ...]) -> None:
    """`webhook setup` has made or mended a hook: note all of it, and look for what it has missed."""
    note(tx, repo_id, hook_id, base)
    gave(tx, repo_id, secret)
    Webhook.update(look_at=tx.now, problem="").where(Webhook.repo_id == repo_id).execute()
    if changed:
        name = repositories.there(repo_id).name
        audit.record(tx, "webhook.setup", name, hook_id=hook_id, changed=", ".join(changed))


def removed(tx: Tx, repo_id: str) -> None:
    """The hook at GitHub is gone."""
    Webhook.update(hook_id=None, base="", given_secret=None, given_at=None).where(
        Webhook.repo_id == repo_id
    ).execute()
    audit.record(tx, "webhook.remove", repositories.there(repo_id).name)


def row_of(tx: Tx, repo_id: str) -> None:
    """Make the row, if there is none."""
    Webhook.insert(repo_id=repo_id, look_at=tx.now).on_conflict_ignore().execute()


def _known(tx: Tx, repo: Repository, hook: Webhook | None) -> Known:
    return Known(
        repo_id=repo.id,
        repo_name=repo.name,
        paused=repo.paused_at is not None or repo.limited_at is not None,
        created_at=repo.created_at,
        pinged_at=repo.pinged_at,
        pinged_anew=repo.pinged_anew,
        last_event_at=repo.last_event_at,
        hook_id=None if hook is None else hook.hook_id,
        base="" if hook is None else hook.base,
        secret_given=_is_given(tx, repo, hook),
        secret_given_at=None if hook is None else hook.given_at,
        events=filters.decode(repo.wants).events,
        settled_at=None if hook is None else hook.settled_at,
        looked_at=None if hook is None else hook.looked_at,
        problem="" if hook is None else hook.problem,
        repaired=0 if hook is None else hook.repaired,
        lost=0 if hook is None else hook.lost,
    )


def _is_given(tx: Tx, repo: Repository, hook: Webhook | None) -> bool | None:
    if hook is None or hook.given_secret is None:
        return None
    given = tx.vault.open(bytes(hook.given_secret), _purpose(repo.id)).decode()
    return given == repositories.secret_of(tx, repo.id)


def _purpose(repo_id: str) -> str:
    return f"webhook of {repo_id}"
