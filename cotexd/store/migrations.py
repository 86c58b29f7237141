"""The schema, as an ordered list of steps. Append only: a step that was released is never changed.

A step is SQL for both databases; `{blob}` and `{serial}` stand for what they call differently. All pending steps run
in one transaction under a lock, so that two servers that start at once migrate once, and a step that fails leaves
nothing behind.
"""

import uuid

import peewee

from cotexd.domain import tier
from cotexd.errors import Failed
from cotexd.store.dialect import Dialect
from cotexd.store.models import LogState, Tier, bound

_FIRST = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sealed_secret (name TEXT PRIMARY KEY, value {blob} NOT NULL, created_at BIGINT NOT NULL);
CREATE TABLE log_state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch TEXT NOT NULL, head BIGINT NOT NULL, floor BIGINT NOT NULL, stub_floor BIGINT NOT NULL
);
CREATE TABLE lineage (
  id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, head BIGINT NOT NULL, created_at BIGINT NOT NULL
);
CREATE TABLE tier (name TEXT PRIMARY KEY, repos INTEGER NOT NULL CHECK (repos >= 0));
CREATE TABLE "user" (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  email TEXT NOT NULL,
  tier TEXT NOT NULL REFERENCES tier (name),
  repo_limit INTEGER,
  disabled_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE TABLE repository (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES "user" (id),
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  secret {blob} NOT NULL,
  old_secret {blob},
  old_secret_until BIGINT,
  paused_at BIGINT,
  pinged_at BIGINT,
  last_event_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  removed_at BIGINT,
  purged_at BIGINT
);
CREATE UNIQUE INDEX repository_of_owner ON repository (user_id, name_key) WHERE removed_at IS NULL;
CREATE INDEX repository_by_name ON repository (name_key);
CREATE TABLE membership (
  id {serial},
  user_id TEXT NOT NULL REFERENCES "user" (id),
  repo_id TEXT NOT NULL REFERENCES repository (id),
  role TEXT NOT NULL CHECK (role IN ('owner', 'member')),
  since_seq BIGINT NOT NULL,
  until_seq BIGINT,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX membership_now ON membership (user_id, repo_id) WHERE until_seq IS NULL;
CREATE INDEX membership_of_user ON membership (user_id);
CREATE INDEX membership_of_repo ON membership (repo_id);
CREATE TABLE event (
  seq {bigint_key},
  id TEXT NOT NULL UNIQUE,
  repo_id TEXT NOT NULL,
  delivery_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  branch TEXT NOT NULL,
  verified TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  summary {blob},
  payload {blob}
);
CREATE UNIQUE INDEX event_once ON event (delivery_id, repo_id);
CREATE INDEX event_of_repo ON event (repo_id, seq);
CREATE TABLE device (
  user_id TEXT NOT NULL REFERENCES "user" (id),
  kind TEXT NOT NULL CHECK (kind IN ('device', 'session', 'shared')),
  name TEXT NOT NULL,
  "cursor" BIGINT NOT NULL,
  acked BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, kind, name)
);
CREATE TABLE notice (
  id {serial},
  user_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  text TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE TABLE node (
  id TEXT PRIMARY KEY,
  url TEXT NOT NULL,
  version TEXT NOT NULL,
  pid INTEGER NOT NULL,
  connections INTEGER NOT NULL,
  started_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL
);
"""

_IDENTITY = """
ALTER TABLE tier ADD COLUMN requests INTEGER CHECK (requests > 0);
ALTER TABLE "user" ADD COLUMN removed_at BIGINT;
ALTER TABLE repository ADD COLUMN wants TEXT;
ALTER TABLE membership ADD COLUMN wants TEXT;
ALTER TABLE event ADD COLUMN filtered {bool} NOT NULL DEFAULT {false};
CREATE TABLE identity (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  user_id TEXT NOT NULL REFERENCES "user" (id),
  email TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX identity_of_user ON identity (user_id);
CREATE TABLE password (
  user_id TEXT PRIMARY KEY REFERENCES "user" (id),
  email_key TEXT NOT NULL UNIQUE,
  hash TEXT NOT NULL,
  changed_at BIGINT NOT NULL
);
CREATE TABLE session (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES "user" (id),
  created_at BIGINT NOT NULL,
  refreshed_at BIGINT NOT NULL,
  ended_at BIGINT
);
CREATE INDEX session_of_user ON session (user_id);
CREATE TABLE refresh_token (
  hash TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES session (id),
  created_at BIGINT NOT NULL,
  used_at BIGINT
);
CREATE INDEX refresh_token_of_session ON refresh_token (session_id);
CREATE TABLE script_token (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES "user" (id),
  label TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX script_token_of_user ON script_token (user_id);
CREATE TABLE signing_key (
  kid TEXT PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('standby', 'in use', 'previous')),
  private {blob} NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX signing_key_state ON signing_key (state);
CREATE TABLE audit_entry (
  id {serial},
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  via TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  detail TEXT NOT NULL
);
CREATE INDEX audit_entry_at ON audit_entry (at);
CREATE TABLE log_level (field TEXT NOT NULL, value TEXT NOT NULL, level TEXT NOT NULL, PRIMARY KEY (field, value));
"""

_BILLING = """
ALTER TABLE "user" ADD COLUMN admin_tier TEXT REFERENCES tier (name);
ALTER TABLE "user" ADD COLUMN paid_tier TEXT REFERENCES tier (name);
ALTER TABLE "user" ADD COLUMN paid_until BIGINT;
ALTER TABLE "user" ADD COLUMN over_since BIGINT;
ALTER TABLE "user" ADD COLUMN within_since BIGINT;
UPDATE "user" SET admin_tier = tier WHERE tier <> 'free';
ALTER TABLE repository ADD COLUMN limited_at BIGINT;
CREATE TABLE tier_price (
  id TEXT PRIMARY KEY,
  tier TEXT NOT NULL REFERENCES tier (name),
  "interval" TEXT NOT NULL CHECK ("interval" IN ('month', 'year')),
  current {bool} NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE TABLE customer (
  user_id TEXT PRIMARY KEY REFERENCES "user" (id),
  stripe_id TEXT NOT NULL UNIQUE,
  status TEXT,
  had_trial {bool} NOT NULL DEFAULT {false},
  generation BIGINT NOT NULL DEFAULT 0,
  written BIGINT NOT NULL DEFAULT 0,
  synced_at BIGINT,
  created_at BIGINT NOT NULL
);
CREATE TABLE stripe_event (id TEXT PRIMARY KEY, type TEXT NOT NULL, received_at BIGINT NOT NULL);
CREATE INDEX stripe_event_received ON stripe_event (received_at);
"""

_PRESENCE = """
CREATE TABLE present (
  id TEXT PRIMARY KEY,
  node_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  protocol TEXT NOT NULL,
  device TEXT NOT NULL,
  address TEXT NOT NULL,
  sent BIGINT NOT NULL,
  live BOOLEAN NOT NULL,
  buffer BIGINT NOT NULL,
  connected_at BIGINT NOT NULL
);
CREATE INDEX present_of_user ON present (user_id);
CREATE INDEX present_on_node ON present (node_id);
"""

_REPAIR = """
ALTER TABLE repository ADD COLUMN pinged_anew {bool} NOT NULL DEFAULT {false};
ALTER TABLE event ADD COLUMN sent_at BIGINT;
ALTER TABLE node ADD COLUMN head BIGINT NOT NULL DEFAULT 0;
CREATE TABLE webhook (
  repo_id TEXT PRIMARY KEY REFERENCES repository (id),
  hook_id BIGINT,
  base TEXT NOT NULL DEFAULT '',
  given_secret {blob},
  given_at BIGINT,
  look_at BIGINT NOT NULL,
  looked_at BIGINT,
  settled_at BIGINT,
  problem TEXT NOT NULL DEFAULT '',
  repaired BIGINT NOT NULL DEFAULT 0,
  lost BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE missing_delivery (
  delivery_id TEXT NOT NULL,
  repo_id TEXT NOT NULL REFERENCES repository (id),
  event_type TEXT NOT NULL,
  sent_at BIGINT NOT NULL,
  asked INTEGER NOT NULL,
  ask_at BIGINT NOT NULL,
  given_up_at BIGINT,
  PRIMARY KEY (delivery_id, repo_id)
);
CREATE TABLE acknowledgement (
  minute BIGINT NOT NULL,
  user_id TEXT NOT NULL REFERENCES "user" (id),
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  seq BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (user_id, kind, name, minute)
);
CREATE INDEX acknowledgement_minute ON acknowledgement (minute);
"""

STEPS: tuple[str, ...] = (_FIRST, _IDENTITY, _BILLING, _PRESENCE, _REPAIR)
SCHEMA = len(STEPS)


def migrate(database: peewee.Database, dialect: Dialect) -> int:
    """Bring the schema up to date; returns how many steps ran.

    :raises Failed: the database was made by a newer version, or cannot be kept as it was before
    """
    with bound(database), dialect.migrating(database):
        database.execute_sql("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        if database.execute_sql("SELECT 1 FROM schema_version").fetchone() is None:
            database.execute_sql("INSERT INTO schema_version VALUES (0)")
        found = schema_of(database)
        if found > SCHEMA:
            raise Failed(
                f"The database has schema {found}, and this version knows schemas up to {SCHEMA}.",
                hint="Start a version of cotexd that is at least as new as the one that was used before.",
            )
        if 0 < found < SCHEMA:
            dialect.snapshot(f"schema-{found}")
        take_steps(database, dialect, found, SCHEMA)
        if found == 0:
            _seed()
    return SCHEMA - found


def take_steps(database: peewee.Database, dialect: Dialect, before: int, upto: int) -> None:
    """Bring the schema from one number to another, within a transaction of the caller's."""
    for number, step in enumerate(STEPS[before:upto], before + 1):
        for statement in dialect.translate(step).split(";"):
            if statement.strip():
                database.execute_sql(statement)
        database.execute_sql(f"UPDATE schema_version SET version = {number:d}")  # noqa: S608  # a number


def schema_of(database: peewee.Database) -> int:
    """The number of the last step that ran."""
    return int(database.execute_sql("SELECT version FROM schema_version").fetchone()[0])


def _seed() -> None:
    LogState.insert(id=1, epoch=new_epoch(), head=0, floor=0, stub_floor=0).execute()
    Tier.insert_many([(seed.name, seed.repos) for seed in tier.SEEDS], [Tier.name, Tier.repos]).execute()


def new_epoch() -> str:
    return uuid.uuid4().hex[:16]
