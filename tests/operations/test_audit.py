import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import cotexd.operations
from cotexd.domain import scope
from cotexd.domain.filter import Filter
from cotexd.domain.tokens import Claims
from cotexd.errors import CotexError, NotFound
from cotexd.operations import (
    accounts,
    audit,
    hooks,
    identities,
    levels,
    members,
    removal,
    repositories,
    secrets,
    sessions,
    signing,
    tiers,
    tokens,
)
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Actor, Store, Tx, acted_by

OUTSIDE = Claims("https://x.example/auth/v1", "sub-1", "", 0.0, 0.0, 0.0)
FILTER = Filter(events=("push",))


def actions(store: Store) -> list[str]:
    """What was done, the newest last."""
    return [each.action for each in store.look(audit.listing, limit=1000)][::-1]


def a_stolen_token_is_shown(store: Store, clock) -> None:
    store.run(sessions.set_password, "ada", "hash")
    first = store.run(sessions.begin, store.look(accounts.find, "ada").id, "hash", "iss")
    store.run(sessions.refresh, first.refresh_token, "iss")
    clock.forward(timedelta(minutes=1))
    store.run(sessions.refresh, first.refresh_token, "iss")


DOINGS: dict[str, tuple[str, Callable[[Store, str], object]]] = {
    "user.add": ("eve", lambda store, repo: store.run(accounts.create, "eve")),
    "user.disable": ("ada", lambda store, repo: store.run(accounts.disable, "ada")),
    "user.enable": ("bob", lambda store, repo: store.run(accounts.enable, "bob")),
    "user.passwd": ("ada", lambda store, repo: store.run(sessions.set_password, "ada", "hash")),
    "user.provision": (
        "user-",
        lambda store, repo: store.run(identities.provision, OUTSIDE, identities.Provisioning()),
    ),
    "user.remove": ("bob", lambda store, repo: store.run(removal.remove_user, "bob")),
    "user.token": (
        "ada",
        lambda store, repo: store.run(tokens.issue, "ada", label="ci", scopes=scope.parse("events:read")),
    ),
    "user.revoke": ("ada", lambda store, repo: store.run(tokens.revoke, "ada")),
    "tier.add": ("team", lambda store, repo: store.run(tiers.add, "team", 20)),
    "tier.edit": ("free", lambda store, repo: store.run(tiers.edit, "free", repos=3)),
    "tier.remove": ("spare", lambda store, repo: store.run(tiers.remove, "spare")),
    "tier.set": ("ada", lambda store, repo: store.run(tiers.set_tier, "ada", "pro")),
    "repo.add": ("octo/docs", lambda store, repo: store.run(repositories.add, bob(store), "octo/docs")),
    "repo.pause": ("octo/hello", lambda store, repo: store.run(repositories.pause, owner(store), repo)),
    "repo.resume": ("octo/paused", lambda store, repo: resume(store)),
    "repo.filter": (
        "octo/hello",
        lambda store, repo: store.run(repositories.set_filter, owner(store), repo, FILTER),
    ),
    "repo.secret": ("octo/hello", lambda store, repo: store.run(repositories.rotate_secret, repo)),
    "repo.share": ("octo/hello", lambda store, repo: store.run(members.share, owner(store), repo, "bob")),
    "repo.unshare": ("octo/paused", lambda store, repo: unshare(store)),
    "member.filter": (
        "octo/hello",
        lambda store, repo: store.run(members.set_filter, owner(store), repo, FILTER),
    ),
    "repo.remove": ("octo/hello", lambda store, repo: store.run(repositories.remove, owner(store), repo)),
    "webhook.setup": (
        "octo/hello",
        lambda store, repo: store.run(hooks.set_up, repo, 7, "https://x", "secret", ("created",)),
    ),
    "webhook.remove": ("octo/hello", lambda store, repo: store.run(hooks.removed, repo)),
    "secret.remove": (
        secrets.GITHUB_TOKEN,
        lambda store, repo: store.run(secrets.remove, secrets.GITHUB_TOKEN),
    ),
    "log.level": ("user=ada", lambda store, repo: store.run(levels.set_level, "debug", "user", "ada")),
    "log.reset": ("all", lambda store, repo: store.run(levels.reset)),
    "secret.rotate": ("signing", lambda store, repo: store.run(signing.rotate)),
    "secret.set": (
        secrets.GITHUB_TOKEN,
        lambda store, repo: store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_x"),
    ),
}
"""by action: what it is done to, and how"""
ELSEWHERE = {"session.reused", "repo.limit", "repo.unlimit", "billing.link", "billing.tier"}
"""below, or where the tiers and the billing are tested"""


def owner(store: Store) -> str:
    return store.look(accounts.find, "ada").id


def bob(store: Store) -> str:
    return store.look(accounts.find, "bob").id


def resume(store: Store) -> object:
    return store.run(repositories.resume, owner(store), store.look(repositories.find, "octo/paused").id)


def unshare(store: Store) -> object:
    paused = store.look(repositories.find, "octo/paused").id
    return store.run(members.unshare, owner(store), paused, "bob")


@pytest.fixture
def set_up(store: Store, ada: Account, hello: Tracked) -> Tracked:
    """Beside it bob, who is disabled, octo/paused, which is shared with him, and a tier that nobody has."""
    paused = store.run(repositories.add, ada.id, "octo/paused")
    store.run(tiers.add, "spare", 1)
    store.run(accounts.create, "bob")
    store.run(members.share, ada.id, paused.id, "bob")
    store.run(repositories.pause, ada.id, paused.id)
    store.run(accounts.disable, "bob")
    return hello


@pytest.mark.parametrize("action", DOINGS)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_who_did_what_to_what_is_noted(store: Store, set_up: Tracked, action: str):
    target, do = DOINGS[action]
    before = len(store.look(audit.listing, limit=1000))
    with acted_by(Actor("grace", "cli")):
        do(store, set_up.id)
    new = store.look(audit.listing, limit=1000)[: -before or None]
    (entry,) = [each for each in new if each.action == action]
    assert (entry.actor, entry.via) == ("grace", "cli")
    assert entry.target.startswith(target)


def test_every_action_that_is_noted_anywhere_is_in_these_tests():
    package = Path(cotexd.operations.__file__).parent
    written = {
        action
        for file in package.glob("*.py")
        for action in re.findall(r'audit\.record\(\s*tx,\s*"([a-z_.]+)"', file.read_text())
    }
    assert written - DOINGS.keys() - ELSEWHERE == set()


def test_a_refresh_token_that_is_shown_by_a_thief_is_noted(store: Store, ada: Account, clock):
    a_stolen_token_is_shown(store, clock)
    assert actions(store)[-1] == "session.reused"


def test_what_fails_is_not_noted(store: Store, ada: Account):
    before = actions(store)

    def fail(tx: Tx) -> None:
        accounts.disable(tx, "ada")
        raise NotFound("no")

    for wrong in (lambda: store.run(fail), lambda: store.run(accounts.create, "ada")):
        with pytest.raises(CotexError):
            wrong()
    assert actions(store) == before


def test_what_changes_nothing_is_not_noted(store: Store, ada: Account, hello: Tracked):
    before = actions(store)
    store.run(accounts.enable, "ada")
    store.run(repositories.resume, ada.id, hello.id)
    assert actions(store) == before


def test_no_secret_is_noted(store: Store, ada: Account, hello: Tracked):
    token = store.run(tokens.issue, "ada", label="ci").token
    rotated = store.run(repositories.rotate_secret, hello.id).webhook_secret
    store.run(sessions.set_password, "ada", "the hash of a password")
    store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_secret")
    noted = str(store.look(audit.listing, limit=1000))
    for secret in (token, rotated, hello.webhook_secret, "the hash of a password", "ghp_secret"):
        assert secret not in noted


def test_an_entry_tells_what_belongs_to_it(store: Store, ada: Account, clock):
    store.run(tokens.issue, "ada", timedelta(days=30), label="ci", scopes=scope.parse("events:read"))
    (entry,) = store.look(audit.listing, limit=1)
    assert (entry.at, entry.action, entry.target) == (clock(), "user.token", "ada")
    assert entry.detail == {
        "label": "ci",
        "scopes": "events:read",
        "expires_at": str(clock() + timedelta(days=30)),
    }


def test_without_anybody_who_acts_it_was_the_server_itself(store: Store):
    store.run(accounts.create, "eve")
    (entry,) = store.look(audit.listing, limit=1)
    assert (entry.actor, entry.via) == ("cotexd", "server")


def test_entries_are_listed_newest_first_and_can_be_chosen(store: Store, ada: Account):
    with acted_by(Actor("grace", "api")):
        for name in ("bob", "eve"):
            store.run(accounts.create, name)
        store.run(accounts.disable, "eve")

    def targets(**chosen) -> list[str]:
        return [each.target for each in store.look(audit.listing, **{"limit": 10, **chosen})]

    assert targets() == ["eve", "eve", "bob", "ada"]
    assert targets(limit=2) == ["eve", "eve"]
    assert targets(action="user.add") == ["eve", "bob", "ada"]
    assert targets(action="user.", actor="grace") == ["eve", "eve", "bob"]
    assert targets(action="user") == targets(action="u%.") == targets(actor="nobody") == []


def test_entries_are_kept_for_a_year(store: Store, ada: Account, clock):
    clock.forward(audit.KEPT)
    store.run(accounts.create, "eve")
    assert store.run(audit.forget_old) == 0
    clock.forward(timedelta(seconds=1))
    assert store.run(audit.forget_old) == 1
    assert [each.target for each in store.look(audit.listing, limit=10)] == ["eve"]


def test_what_is_told_of_an_entry_has_its_bound(store: Store):
    def note(tx: Tx) -> None:
        audit.record(tx, "test.bound", "x", long="x" * (audit.MAX_DETAIL + 1), nothing=None, empty="")

    store.run(note)
    (entry,) = store.look(audit.listing, limit=1)
    assert entry.detail == {"long": "x" * audit.MAX_DETAIL}
