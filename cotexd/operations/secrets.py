"""Secrets of other services that the appliance needs, sealed: what `cotex secret set` was given."""

from datetime import datetime

import msgspec

from cotexd.errors import Invalid, NotFound
from cotexd.operations import audit
from cotexd.store import Tx
from cotexd.store.models import Repository, SealedSecret, Webhook

STRIPE_KEY = "stripe-key"
STRIPE_WEBHOOK = "stripe-webhook"
GITHUB_TOKEN = "github-token"  # noqa: S105  # its name
KINDS = {
    STRIPE_KEY: "Stripe's secret key, sk_… or rk_…",
    STRIPE_WEBHOOK: "the signing secret of Stripe's webhook endpoint, whsec_…; two, comma separated, in a rotation",
    GITHUB_TOKEN: "a token for GitHub's REST API, with admin:repo_hook or Webhooks read and write",
}
MAX_LENGTH = 500
"""characters"""


class Held(msgspec.Struct, frozen=True):
    name: str
    about: str
    is_set: bool
    since: datetime | None
    repo_name: str | None = None
    """the repository that it is for, where there is one of its own"""


def put(tx: Tx, name: str, value: str, *, repo_id: str = "") -> Held:
    """:param repo_id: a token for GitHub may be one repository's own
    :raises NotFound: there is no such secret
    :raises Invalid: it is empty, too long, or not printable, or is not had by a repository
    """
    check_name(name)
    if repo_id and name != GITHUB_TOKEN:
        raise Invalid(f"{name} is the whole server's.", hint=f"Only {GITHUB_TOKEN} takes --repo.")
    value = value.strip()
    if not value or len(value) > MAX_LENGTH or not value.isprintable():
        raise Invalid(f"A secret is 1 to {MAX_LENGTH} printable characters.")
    stored = _stored(name, repo_id)
    SealedSecret.delete().where(SealedSecret.name == stored).execute()
    SealedSecret.insert(name=stored, value=tx.vault.seal(value.encode(), stored), created_at=tx.now).execute()
    if repo_id:
        Webhook.update(look_at=tx.now).where(Webhook.repo_id == repo_id).execute()
    elif name == GITHUB_TOKEN:
        Webhook.update(look_at=tx.now).execute()
    audit.record(tx, "secret.set", name, repo_id=repo_id)
    repo_name = Repository.get_by_id(repo_id).name if repo_id else None
    return Held(name, KINDS[name], True, tx.now, repo_name)


def get(tx: Tx, name: str, *, repo_id: str = "") -> str:
    """The value; "" if it was not set."""
    stored = _stored(name, repo_id)
    row = SealedSecret.get_or_none(SealedSecret.name == stored)
    return "" if row is None else tx.vault.open(bytes(row.value), stored).decode()


def remove(tx: Tx, name: str, *, repo_id: str = "") -> None:
    """:raises NotFound: there is no such secret"""
    check_name(name)
    SealedSecret.delete().where(SealedSecret.name == _stored(name, repo_id)).execute()
    audit.record(tx, "secret.remove", name, repo_id=repo_id)


def forget_repo(repo_id: str) -> None:
    """A repository is removed, and with it what was its own."""
    SealedSecret.delete().where(SealedSecret.name == of_repo(GITHUB_TOKEN, repo_id)).execute()


def listing(_: Tx) -> list[Held]:
    """What may be set, and what is; never a value."""
    rows = {
        row.name: row.created_at for row in SealedSecret.select(SealedSecret.name, SealedSecret.created_at)
    }
    held = [Held(name, about, name in rows, rows.get(name)) for name, about in KINDS.items()]
    prefix = of_repo(GITHUB_TOKEN, "")
    own = {name.removeprefix(prefix): since for name, since in rows.items() if name.startswith(prefix)}
    repos = Repository.select(Repository.id, Repository.name).where(Repository.id.in_(list(own)))
    return held + [
        Held(GITHUB_TOKEN, KINDS[GITHUB_TOKEN], True, own[repo.id], repo.name)
        for repo in repos.order_by(Repository.name_key)
    ]


def of_repo(name: str, repo_id: str) -> str:
    """The name of a secret that is one repository's own."""
    return f"{name}:{repo_id}"


def check_name(name: str) -> None:
    """:raises NotFound: there is no such secret"""
    if name not in KINDS:
        raise NotFound(f"There is no secret {name}.", hint=f"There are {', '.join(KINDS)}.")


def _stored(name: str, repo_id: str) -> str:
    return of_repo(name, repo_id) if repo_id else name
