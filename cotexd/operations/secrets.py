"""Secrets of other services that the appliance needs, sealed: what `cotex secret set` was given."""

from datetime import datetime

import msgspec

from cotexd.errors import Invalid, NotFound
from cotexd.operations import audit
from cotexd.store import Tx
from cotexd.store.models import SealedSecret

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


def put(tx: Tx, name: str, value: str) -> Held:
    """:raises NotFound: there is no such secret
    :raises Invalid: it is empty, too long, or not printable
    """
    check_name(name)
    value = value.strip()
    if not value or len(value) > MAX_LENGTH or not value.isprintable():
        raise Invalid(f"A secret is 1 to {MAX_LENGTH} printable characters.")
    SealedSecret.delete().where(SealedSecret.name == name).execute()
    SealedSecret.insert(name=name, value=tx.vault.seal(value.encode(), name), created_at=tx.now).execute()
    audit.record(tx, "secret.set", name)
    return next(each for each in listing(tx) if each.name == name)


def get(tx: Tx, name: str) -> str:
    """The value; "" if it was not set."""
    row = SealedSecret.get_or_none(SealedSecret.name == name)
    return "" if row is None else tx.vault.open(bytes(row.value), name).decode()


def remove(tx: Tx, name: str) -> None:
    """:raises NotFound: there is no such secret"""
    check_name(name)
    SealedSecret.delete().where(SealedSecret.name == name).execute()
    audit.record(tx, "secret.remove", name)


def listing(_: Tx) -> list[Held]:
    """What may be set, and what is; never a value."""
    rows = {
        row.name: row.created_at for row in SealedSecret.select(SealedSecret.name, SealedSecret.created_at)
    }
    return [Held(name, about, name in rows, rows.get(name)) for name, about in KINDS.items()]


def check_name(name: str) -> None:
    """:raises NotFound: there is no such secret"""
    if name not in KINDS:
        raise NotFound(f"There is no secret {name}.", hint=f"There are {', '.join(KINDS)}.")
