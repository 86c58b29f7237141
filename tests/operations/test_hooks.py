from datetime import timedelta

import pytest

from cotexd.errors import NotFound
from cotexd.operations import audit, hooks, repositories
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Webhook

BASE = "https://cotex.example.com"


def test_of_a_repository_that_was_never_set_up_nothing_is_known_but_itself(store: Store, hello: Tracked):
    known = store.look(hooks.known, hello.id)
    assert (known.repo_name, known.hook_id, known.secret_given) == ("octo/hello", None, None)
    assert known.path == hello.webhook_url
    assert store.look(hooks.all_known) == [known]


def test_what_was_set_up_is_known(store: Store, hello: Tracked):
    store.run(hooks.set_up, hello.id, 7, BASE, hello.webhook_secret, ("created",))
    known = store.look(hooks.known, hello.id)
    assert (known.hook_id, known.base, known.secret_given) == (7, BASE, True)


def test_a_hook_that_is_found_keeps_the_address_under_which_it_was_set_up(store: Store, hello: Tracked):
    store.run(hooks.set_up, hello.id, 7, BASE, hello.webhook_secret, ())
    store.run(hooks.note, hello.id, 8)
    known = store.look(hooks.known, hello.id)
    assert (known.hook_id, known.base) == (8, BASE)


def test_where_nothing_was_changed_nothing_is_noted_in_the_audit_trail(store: Store, hello: Tracked):
    before = store.look(audit.listing, limit=100)
    store.run(hooks.set_up, hello.id, 7, BASE, hello.webhook_secret, ())
    assert store.look(audit.listing, limit=100) == before


def test_a_new_secret_is_one_that_github_does_not_have(store: Store, hello: Tracked):
    store.run(hooks.gave, hello.id, hello.webhook_secret)
    store.run(repositories.rotate_secret, hello.id)
    assert store.look(hooks.known, hello.id).secret_given is False


def test_the_secret_that_github_was_given_lies_sealed(store: Store, hello: Tracked):
    store.run(hooks.gave, hello.id, hello.webhook_secret)
    sealed = store.look(lambda _: bytes(Webhook.get_by_id(hello.id).given_secret))
    assert hello.webhook_secret.encode() not in sealed


def test_the_old_secret_holds_for_its_overlap_from_when_github_has_the_new_one(
    store: Store, hello: Tracked, clock
):
    store.run(repositories.rotate_secret, hello.id, overlap=timedelta(hours=1))
    clock.forward(timedelta(minutes=50))
    store.run(hooks.gave, hello.id, store.look(repositories.secret_of, hello.id), timedelta(hours=1))
    clock.forward(timedelta(minutes=59))
    hook = store.look(repositories.hook_of, hello.id)
    assert hook is not None
    assert hello.webhook_secret in hook.secrets
    clock.forward(timedelta(minutes=2))
    hook = store.look(repositories.hook_of, hello.id)
    assert hook is not None
    assert hello.webhook_secret not in hook.secrets


def test_an_overlap_is_never_made_shorter(store: Store, hello: Tracked):
    store.run(repositories.rotate_secret, hello.id, overlap=timedelta(hours=24))
    before = store.look(repositories.secret_state, hello.id)
    store.run(hooks.gave, hello.id, "new", timedelta(hours=1))
    assert store.look(repositories.secret_state, hello.id) == before


def test_a_hook_that_was_deleted_is_not_known_any_more(store: Store, hello: Tracked):
    store.run(hooks.set_up, hello.id, 7, BASE, hello.webhook_secret, ())
    store.run(hooks.removed, hello.id)
    known = store.look(hooks.known, hello.id)
    assert (known.hook_id, known.base, known.secret_given) == (None, "", None)


def test_a_removed_repository_has_no_hook(store: Store, hello: Tracked):
    store.run(hooks.set_up, hello.id, 7, BASE, hello.webhook_secret, ())
    store.run(repositories.remove, hello.user_id, hello.id)
    with pytest.raises(NotFound):
        store.look(hooks.known, hello.id)
    assert store.look(lambda _: Webhook.select().count()) == 0


def test_the_filter_says_which_events_are_wanted(store: Store, hello: Tracked):
    wanted = repositories.Filter(events=("push", "release"))
    store.run(repositories.set_filter, hello.user_id, hello.id, wanted)
    assert store.look(hooks.known, hello.id).events == ("push", "release")
