"""The tables, as Peewee sees them; `migrations` makes them. Rows never leave `operations`.

Times are whole microseconds since the epoch, in UTC. A model is bound to whatever database the current thread of the
store is using (`bound`), so that one process can have several open: readers, a writer, a copy, two servers in a test.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import peewee

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Current(threading.local):
    database: peewee.Database | None = None


_current = _Current()


class _ThreadDatabase(peewee.DatabaseProxy):
    """Stands for the database that this thread has bound."""

    @property
    def obj(self) -> peewee.Database | None:
        return _current.database

    @obj.setter
    def obj(self, value: object) -> None:
        """Peewee sets it to None when the proxy is made; there is nothing to keep."""


@contextmanager
def bound(database: peewee.Database) -> Iterator[None]:
    """Within this block, on this thread, the models are those of `database`."""
    before, _current.database = _current.database, database
    try:
        yield
    finally:
        _current.database = before


class TimeField(peewee.BigIntegerField):
    def db_value(self, value: datetime | None) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def python_value(self, value: int | None) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


class _Table(peewee.Model):
    class Meta:
        database = _ThreadDatabase()
        legacy_table_names = False


class Setting(_Table):
    """Facts about the database itself: the fingerprint of its key."""

    name = peewee.TextField(primary_key=True)
    value = peewee.TextField()


class SealedSecret(_Table):
    """The appliance's own secrets, sealed."""

    name = peewee.TextField(primary_key=True)
    value = peewee.BlobField()
    created_at = TimeField()


class LogState(_Table):
    """One row: the log's epoch, its last seq, and the last seq whose payload is purged."""

    id = peewee.IntegerField(primary_key=True)
    epoch = peewee.TextField()
    head = peewee.BigIntegerField()
    floor = peewee.BigIntegerField()
    stub_floor = peewee.BigIntegerField()
    """stubs up to here are gone too: what is missing below can't be counted"""


class Lineage(_Table):
    """Earlier epochs of this log, oldest first, each shared up to its head."""

    id = peewee.IntegerField(primary_key=True)
    epoch = peewee.TextField()
    head = peewee.BigIntegerField()
    created_at = TimeField()


class Tier(_Table):
    name = peewee.TextField(primary_key=True)
    repos = peewee.IntegerField()
    requests = peewee.IntegerField(null=True)
    """a minute; null is what the configuration says"""


class User(_Table):
    id = peewee.TextField(primary_key=True)
    name = peewee.TextField()
    email = peewee.TextField()
    tier = peewee.TextField()
    """the one that holds; see domain.tier.effective"""
    admin_tier = peewee.TextField(null=True)
    """set by the administrator: a floor"""
    paid_tier = peewee.TextField(null=True)
    """what the user's subscription entitles to, until paid_until (null: no end is known)"""
    paid_until = TimeField(null=True)
    repo_limit = peewee.IntegerField(null=True)
    over_since = TimeField(null=True)
    """when the grace of a user over their limit began"""
    within_since = TimeField(null=True)
    """set when they came within it again; null while over"""
    disabled_at = TimeField(null=True)
    created_at = TimeField()
    updated_at = TimeField()
    removed_at = TimeField(null=True)
    """set when it was removed; its name and address are free again"""


class TierPrice(_Table):
    """A price at Stripe that entitles to a tier. Earlier ones stay, so that a new price drops nobody."""

    id = peewee.TextField(primary_key=True)
    tier = peewee.TextField()
    interval = peewee.TextField()
    current = peewee.BooleanField()
    created_at = TimeField()


class Customer(_Table):
    """A user as a customer of Stripe's, found by the id that Stripe gave, and by nothing else."""

    user_id = peewee.TextField(primary_key=True)
    stripe_id = peewee.TextField()
    status = peewee.TextField(null=True)
    """of the best subscription, for people; null is none"""
    had_trial = peewee.BooleanField(default=False)
    generation = peewee.BigIntegerField(default=0)
    """of the youngest look at Stripe"""
    written = peewee.BigIntegerField(default=0)
    """of the look whose answer stands here"""
    synced_at = TimeField(null=True)
    created_at = TimeField()


class StripeEvent(_Table):
    """An event of Stripe's whose effect is in the database."""

    id = peewee.TextField(primary_key=True)
    type = peewee.TextField()
    received_at = TimeField()


class Identity(_Table):
    """Who a user is at an issuer outside. The e-mail address is for people to read, and links nothing."""

    issuer = peewee.TextField()
    subject = peewee.TextField()
    user_id = peewee.TextField()
    email = peewee.TextField()
    created_at = TimeField()

    class Meta:
        primary_key = peewee.CompositeKey("issuer", "subject")


class Password(_Table):
    user_id = peewee.TextField(primary_key=True)
    email_key = peewee.TextField()
    """lower case: what one signs in with"""
    hash = peewee.TextField()
    changed_at = TimeField()


class Session(_Table):
    """One signing in with a password: a family of refresh tokens, of which the last is good."""

    id = peewee.TextField(primary_key=True)
    user_id = peewee.TextField()
    created_at = TimeField()
    refreshed_at = TimeField()
    ended_at = TimeField(null=True)


class RefreshToken(_Table):
    hash = peewee.TextField(primary_key=True)
    session_id = peewee.TextField()
    created_at = TimeField()
    used_at = TimeField(null=True)


class ScriptToken(_Table):
    """A token that `cotex user token` made. `id` is the hash of its jti: what is here signs nobody in."""

    id = peewee.TextField(primary_key=True)
    user_id = peewee.TextField()
    label = peewee.TextField()
    scopes = peewee.TextField()
    """see domain.scope.show; empty is everything"""
    created_at = TimeField()
    expires_at = TimeField()
    revoked_at = TimeField(null=True)


class SigningKey(_Table):
    """A key pair of /auth/v1: standby (published, so that all know it), in use, previous (still verifies)."""

    kid = peewee.TextField(primary_key=True)
    state = peewee.TextField()
    private = peewee.BlobField()
    created_at = TimeField()


class AuditEntry(_Table):
    id = peewee.AutoField()
    at = TimeField()
    actor = peewee.TextField()
    via = peewee.TextField()
    action = peewee.TextField()
    target = peewee.TextField()
    detail = peewee.TextField()
    """JSON object"""


class LogLevel(_Table):
    """What is logged at another level than the configuration says: lines whose `field` is `value`."""

    field = peewee.TextField()
    value = peewee.TextField()
    level = peewee.TextField()

    class Meta:
        primary_key = peewee.CompositeKey("field", "value")


class Repository(_Table):
    id = peewee.TextField(primary_key=True)
    user_id = peewee.TextField()
    name = peewee.TextField()
    name_key = peewee.TextField()
    """lower case: GitHub's names differ by more than case"""
    secret = peewee.BlobField()
    old_secret = peewee.BlobField(null=True)
    old_secret_until = TimeField(null=True)
    """set by a rotation: until then the old secret is good too"""
    paused_at = TimeField(null=True)
    """set by its owner, who resumes it"""
    limited_at = TimeField(null=True)
    """set where the owner has more than their tier allows; lifted by itself when that is over"""
    wants = peewee.TextField(null=True)
    """which deliveries become events, see domain.filter; null is all"""
    pinged_at = TimeField(null=True)
    pinged_anew = peewee.BooleanField(default=False)
    """that ping was signed with the secret, not with the one before it"""
    last_event_at = TimeField(null=True)
    created_at = TimeField()
    updated_at = TimeField()
    removed_at = TimeField(null=True)
    """set when its owner removed it; its payloads are purged from then on"""
    purged_at = TimeField(null=True)
    """set when the last of them was"""


class Membership(_Table):
    """Who sees a repository's events: those after since_seq, and not after until_seq (null while a member)."""

    repo: Repository  # where a query joins it
    user: User  # where a query joins it

    id = peewee.AutoField()
    user_id = peewee.TextField()
    repo_id = peewee.TextField()
    role = peewee.TextField()
    since_seq = peewee.BigIntegerField()
    until_seq = peewee.BigIntegerField(null=True)
    wants = peewee.TextField(null=True)
    """which of its events this member wants; null is all"""
    created_at = TimeField()


class Event(_Table):
    """The log. After the retention `summary` and `payload` are null: a stub, kept for a year."""

    repo: Repository  # where a query joins it
    size: int | None  # where a query asks for it

    seq = peewee.BigIntegerField(primary_key=True)
    id = peewee.TextField()
    repo_id = peewee.TextField()
    delivery_id = peewee.TextField()
    event_type = peewee.TextField()
    branch = peewee.TextField()
    verified = peewee.TextField()
    filtered = peewee.BooleanField(default=False)
    """the repository's filter kept it out: only a stub, so that a redelivery stays out as well"""
    created_at = TimeField()
    sent_at = TimeField(null=True)
    """set for an event that was repaired: when GitHub first tried to deliver it"""
    summary = peewee.BlobField(null=True)
    """Summary as JSON"""
    payload = peewee.BlobField(null=True)
    """GitHub's JSON as received, zstd"""


class Webhook(_Table):
    """What is known of a repository's webhook at GitHub, and how far its deliveries there were looked through."""

    repo_id = peewee.TextField(primary_key=True)
    hook_id = peewee.BigIntegerField(null=True)
    """GitHub's; set once its API has shown that this hook calls our own address of the repository"""
    base = peewee.TextField(default="")
    """under which address of this server it was set up; "" is the configuration's"""
    given_secret = peewee.BlobField(null=True)
    """the secret that GitHub was given, sealed; null where somebody else gave it"""
    given_at = TimeField(null=True)
    look_at = TimeField()
    """when its deliveries are looked through next; set to now where something may be missing"""
    looked_at = TimeField(null=True)
    settled_at = TimeField(null=True)
    """deliveries that GitHub made until then are here, or given up"""
    problem = peewee.TextField(default="")
    """why the last look failed"""
    repaired = peewee.BigIntegerField(default=0)
    lost = peewee.BigIntegerField(default=0)


class MissingDelivery(_Table):
    """A delivery whose payload GitHub's API does not show: asked for again, or given up. Kept for a month."""

    delivery_id = peewee.TextField()
    repo_id = peewee.TextField()
    event_type = peewee.TextField()
    sent_at = TimeField()
    asked = peewee.IntegerField()
    """how many times"""
    ask_at = TimeField()
    """when next"""
    given_up_at = TimeField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("delivery_id", "repo_id")


class Device(_Table):
    """How far each client of a user has come. See operations.cursors."""

    user: User  # where a query joins it

    user_id = peewee.TextField()
    kind = peewee.TextField()
    name = peewee.TextField()
    cursor = peewee.BigIntegerField()
    acked = peewee.BigIntegerField()
    """the furthest it acknowledged; 0 before its first acknowledgement, when `cursor` is only where it began"""
    created_at = TimeField()
    seen_at = TimeField()

    class Meta:
        primary_key = peewee.CompositeKey("user_id", "kind", "name")


class Acknowledgement(_Table):
    """The furthest that a client acknowledged in each minute in which it did; for `cotex event trace`."""

    minute = peewee.BigIntegerField()
    """since the epoch"""
    user_id = peewee.TextField()
    kind = peewee.TextField()
    name = peewee.TextField()
    seq = peewee.BigIntegerField()
    at = TimeField()

    class Meta:
        primary_key = peewee.CompositeKey("user_id", "kind", "name", "minute")


class Notice(_Table):
    """What running servers are to tell a user's clients, or do to them. Kept for an hour."""

    id = peewee.AutoField()
    user_id = peewee.TextField()
    kind = peewee.TextField()
    text = peewee.TextField()
    created_at = TimeField()


NODE_ALIVE = timedelta(seconds=15)
"""a row that is older belongs to a server that was killed"""


class Node(_Table):
    """The servers that run on this database, for those who look (`cotex status`) and for commands that call one."""

    id = peewee.TextField(primary_key=True)
    url = peewee.TextField()
    version = peewee.TextField()
    pid = peewee.IntegerField()
    connections = peewee.IntegerField()
    head = peewee.BigIntegerField(default=0)
    """the last seq that it handed to its clients"""
    started_at = TimeField()
    seen_at = TimeField()


def alive(now: datetime) -> peewee.Expression:
    """Of a Node: it has written a moment ago; one from the future was written by a clock that was wrong."""
    return Node.seen_at.between(now - NODE_ALIVE, now + NODE_ALIVE)


class Present(_Table):
    """The connections of each server, for those who look. See operations.presence."""

    id = peewee.TextField(primary_key=True)
    node_id = peewee.TextField()
    user_id = peewee.TextField()
    protocol = peewee.TextField()
    device = peewee.TextField()
    address = peewee.TextField()
    sent = peewee.BigIntegerField()
    live = peewee.BooleanField()
    buffer = peewee.BigIntegerField()
    connected_at = TimeField()


ALL: tuple[type[_Table], ...] = (
    Setting,
    SealedSecret,
    LogState,
    Lineage,
    Tier,
    TierPrice,
    User,
    Customer,
    StripeEvent,
    Identity,
    Password,
    Session,
    RefreshToken,
    ScriptToken,
    SigningKey,
    AuditEntry,
    LogLevel,
    Repository,
    Membership,
    Event,
    Webhook,
    MissingDelivery,
    Device,
    Acknowledgement,
    Notice,
    Node,
    Present,
)


def table_of(model: type[peewee.Model]) -> str:
    """The name of its table."""
    return str(model._meta.table_name)  # noqa: SLF001  # Peewee has no other way to ask


def fields_of(model: type[peewee.Model]) -> list[peewee.Field]:
    """Its columns, in order."""
    return list(model._meta.sorted_fields)  # noqa: SLF001  # the same
