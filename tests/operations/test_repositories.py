from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from actors import incoming, join, leave, logged

from cotexd.errors import BadSignature, Conflict, Failed, Invalid, NotFound, OverLimit
from cotexd.operations import accounts, events, notices, repositories, tiers
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import MAX_OVERLAP, MAX_SECRET, OVERLAP, Tracked
from cotexd.store import Store, Tx, models
from cotexd.store.models import Repository

SECRET = "a secret that must not be seen"


@pytest.fixture
def eve(store: Store) -> Account:
    return store.run(accounts.create, "eve")


def good_secrets(store: Store, repo_id: str) -> tuple[str, ...]:
    hook = store.look(repositories.hook_of, repo_id)
    assert hook is not None
    return hook.secrets


def test_only_the_answer_that_makes_a_secret_holds_it(store: Store, ada: Account):
    made = store.run(repositories.add, ada.id, "octo/hello", SECRET)
    assert made.webhook_secret == SECRET
    for seen in (
        store.look(repositories.get, ada.id, made.id),
        store.look(repositories.find, "octo/hello"),
        *store.look(repositories.all_of, ada.id),
        *store.look(repositories.everyone),
    ):
        assert (seen.id, seen.webhook_secret) == (made.id, "")


def test_a_secret_that_is_made_here_is_32_random_bytes_in_hex(store: Store, ada: Account, hello: Tracked):
    other = store.run(repositories.add, ada.id, "octo/docs").webhook_secret
    assert len(bytes.fromhex(hello.webhook_secret)) == len(bytes.fromhex(other)) == 32
    assert hello.webhook_secret != other
    assert store.look(repositories.secret_of, hello.id) == hello.webhook_secret


def test_a_new_repository_is_active_and_its_owners(store: Store, ada: Account, hello: Tracked, clock):
    assert (hello.user_id, hello.role, hello.status) == (ada.id, "owner", "active")
    assert hello.webhook_url == f"/api/webhooks/github/{hello.id}"
    assert (hello.created_at, hello.last_event_at) == (clock(), None)


def test_its_owner_is_told_of_a_repository_that_comes_and_goes(store: Store, hello: Tracked):
    store.run(repositories.remove, hello.user_id, hello.id)
    assert [(each.user_id, each.text) for each in store.look(notices.after, 0)] == [
        (hello.user_id, "Repository octo/hello was successfully added"),
        (hello.user_id, "Repository octo/hello was removed"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "hello",
        "octo/",
        "/hello",
        "octo/a/b",
        "octo/..",
        "octo/.",
        "-octo/x",
        "octo/a b",
        "öcto/x",
        "o/x\n",
    ],
)
def test_what_is_no_repositorys_name_is_refused(store: Store, ada: Account, name: str):
    with pytest.raises(Invalid, match="name of a repository"):
        store.run(repositories.add, ada.id, name)


@pytest.mark.parametrize("name", ["o/r", "octo-org/.github", "octo_company/a.b-c_d", "0/0"])
def test_whatever_github_allows_can_be_tracked(store: Store, ada: Account, name: str):
    assert store.run(repositories.add, ada.id, name).repo_name == name


BAD_SECRETS = ["x" * (MAX_SECRET + 1), "line\nbreak", "nul\0", "\ud800"]


@pytest.mark.parametrize("secret", BAD_SECRETS)
def test_what_cannot_be_a_secret_is_refused(store: Store, ada: Account, secret: str):
    with pytest.raises(Invalid, match="secret"):
        store.run(repositories.add, ada.id, "octo/hello", secret)


@pytest.mark.parametrize("secret", BAD_SECRETS)
def test_what_cannot_be_a_secret_is_refused_at_a_rotation_too(store: Store, hello: Tracked, secret: str):
    with pytest.raises(Invalid, match="secret"):
        store.run(repositories.rotate_secret, hello.id, secret=secret)


def test_a_user_that_is_not_here_tracks_nothing(store: Store):
    with pytest.raises(NotFound):
        store.run(repositories.add, "eve", "octo/hello")


def test_one_repository_is_tracked_once_however_its_name_is_written(store: Store, hello: Tracked):
    with pytest.raises(Conflict, match="already"):
        store.run(repositories.add, hello.user_id, "Octo/HELLO")


def test_a_repository_that_is_shared_with_a_user_they_cannot_track_too(
    store: Store, hello: Tracked, eve: Account
):
    store.run(join, eve.id, hello.id)
    with pytest.raises(Conflict, match="already"):
        store.run(repositories.add, eve.id, "OCTO/hello")
    store.run(leave, eve.id, hello.id)
    assert store.run(repositories.add, eve.id, "OCTO/hello").role == "owner"


def test_over_the_tiers_limit_nothing_is_added(store: Store, ada: Account):
    for name in ("octo/1", "octo/2"):
        store.run(repositories.add, ada.id, name)
    with pytest.raises(OverLimit, match="free"):
        store.run(repositories.add, ada.id, "octo/3")
    assert [each.repo_name for each in store.look(repositories.all_of, ada.id)] == ["octo/1", "octo/2"]


def test_a_higher_tier_and_a_removal_both_make_room(store: Store, ada: Account):
    made = [store.run(repositories.add, ada.id, name) for name in ("octo/1", "octo/2")]
    store.run(repositories.remove, ada.id, made[0].id)
    store.run(repositories.add, ada.id, "octo/3")
    store.run(tiers.set_tier, "ada", "pro")
    store.run(repositories.add, ada.id, "octo/4")


def test_what_is_shared_with_a_user_counts_for_its_owner(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    assert store.look(accounts.find, "eve").repo_count == 0


def test_fifty_who_add_at_once_add_exactly_as_many_as_are_allowed(
    store: Store, database: str, tmp_path: Path
):
    ada = store.run(accounts.create, "ada", tier="pro")

    def add(number: int) -> bool:
        own = Store(database, tmp_path / "data")
        try:
            own.run(repositories.add, ada.id, f"octo/{number}")
        except OverLimit:
            return False
        else:
            return True
        finally:
            own.close()

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(add, range(50))) == ada.repo_limit
    assert len(store.look(repositories.all_of, ada.id)) == ada.repo_limit


def test_a_member_sees_the_repository_as_a_member(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    seen = store.look(repositories.get, eve.id, hello.id)
    assert (seen.role, seen.user_id) == ("member", hello.user_id)
    assert [each.role for each in store.look(repositories.everyone)] == ["owner"]


def test_somebody_elses_repository_is_not_found(store: Store, hello: Tracked, eve: Account):
    with pytest.raises(NotFound):
        store.look(repositories.get, eve.id, hello.id)
    with pytest.raises(NotFound):
        store.run(repositories.remove, eve.id, hello.id)
    with pytest.raises(NotFound):
        store.look(repositories.find, "octo/hello", user_id=eve.id)


def test_a_repository_is_found_by_its_name_in_any_case_and_by_its_id(store: Store, hello: Tracked):
    found = [store.look(repositories.find, name) for name in ("octo/hello", "Octo/Hello", hello.id)]
    assert {each.id for each in found} == {hello.id}


def test_a_name_that_several_users_track_lists_what_it_could_be(store: Store, hello: Tracked, eve: Account):
    other = store.run(repositories.add, eve.id, "Octo/Hello")
    with pytest.raises(Conflict) as caught:
        store.look(repositories.find, "octo/hello")
    for part in (hello.id, "ada", other.id, "eve"):
        assert part in caught.value.hint
    assert store.look(repositories.find, "octo/hello", user_id=eve.id).id == other.id
    assert store.look(repositories.find, hello.id).id == hello.id


def test_a_removed_repository_is_gone_for_all_who_saw_it(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    store.run(repositories.remove, hello.user_id, hello.id)
    assert store.look(repositories.everyone) == []
    for user_id in (hello.user_id, eve.id):
        assert store.look(repositories.all_of, user_id) == []
        with pytest.raises(NotFound):
            store.look(repositories.get, user_id, hello.id)
    with pytest.raises(NotFound):
        store.look(repositories.find, hello.id)
    with pytest.raises(NotFound):
        store.run(repositories.remove, hello.user_id, hello.id)


def test_a_removed_repository_takes_no_delivery_and_its_secret_is_gone(store: Store, hello: Tracked):
    def at_rest(_: Tx) -> bytes:
        return bytes(Repository.get_by_id(hello.id).secret)

    store.run(repositories.rotate_secret, hello.id)
    store.run(repositories.remove, hello.user_id, hello.id)
    assert store.look(repositories.hook_of, hello.id) is None
    assert store.look(at_rest) == b""
    (answer,) = store.run(events.accept_many, [incoming(hello)])
    assert isinstance(answer, BadSignature)


def test_what_was_removed_can_be_tracked_anew_from_now_on(store: Store, hello: Tracked):
    logged(store, hello, 2)
    store.run(repositories.remove, hello.user_id, hello.id)
    again = store.run(repositories.add, hello.user_id, "octo/hello")
    assert again.id != hello.id
    logged(store, again)
    assert [frame.seq for frame in store.look(events.backlog, hello.user_id, 0).frames] == [3]


def test_a_member_cannot_remove_the_repository(store: Store, hello: Tracked, eve: Account):
    store.run(join, eve.id, hello.id)
    with pytest.raises(NotFound):
        store.run(repositories.remove, eve.id, hello.id)
    assert store.look(repositories.find, hello.id).status == "active"


def test_after_a_rotation_both_secrets_are_good_for_the_overlap(store: Store, hello: Tracked, clock):
    rotated = store.run(repositories.rotate_secret, hello.id)
    assert rotated.webhook_secret not in {"", hello.webhook_secret}
    assert good_secrets(store, hello.id) == (rotated.webhook_secret, hello.webhook_secret)
    state = store.look(repositories.secret_state, hello.id)
    assert state["old_secret_good_until"] == clock() + OVERLAP
    clock.forward(OVERLAP)
    assert good_secrets(store, hello.id) == (rotated.webhook_secret,)
    assert store.look(repositories.secret_state, hello.id)["old_secret_good_until"] is None
    assert store.look(repositories.secret_of, hello.id) == rotated.webhook_secret


def test_without_an_overlap_the_old_secret_is_bad_at_once(store: Store, hello: Tracked):
    rotated = store.run(repositories.rotate_secret, hello.id, secret=SECRET, overlap=timedelta(0))
    assert rotated.webhook_secret == SECRET
    assert good_secrets(store, hello.id) == (SECRET,)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), MAX_OVERLAP + timedelta(seconds=1)])
def test_an_overlap_out_of_bounds_is_refused(store: Store, hello: Tracked, overlap: timedelta):
    with pytest.raises(Invalid, match="overlap"):
        store.run(repositories.rotate_secret, hello.id, overlap=overlap)
    assert good_secrets(store, hello.id) == (hello.webhook_secret,)


@pytest.mark.parametrize("operation", ["rotate_secret", "secret_of", "secret_state"])
def test_a_repository_that_is_removed_or_unknown_has_no_secret(store: Store, hello: Tracked, operation: str):
    store.run(repositories.remove, hello.user_id, hello.id)
    for repo_id in (hello.id, "unknown"):
        with pytest.raises(NotFound):
            store.run(getattr(repositories, operation), repo_id)


@pytest.mark.parametrize("name", ["unknown", "", "nul\0"])
def test_a_repository_that_is_not_there_is_refused(store: Store, ada: Account, name: str):
    with pytest.raises((NotFound, Invalid)):
        store.look(repositories.find, name)
    with pytest.raises((NotFound, Invalid)):
        store.look(repositories.get, ada.id, name)


def test_a_repository_that_is_not_there_has_no_hook(store: Store):
    assert store.look(repositories.hook_of, "unknown") is None


def test_a_paused_repository_says_so_and_its_secret_stays_good(store: Store, hello: Tracked):
    store.run(repositories.pause, hello.user_id, hello.id)
    hook = store.look(repositories.hook_of, hello.id)
    assert hook == repositories.Hook("octo/hello", (hello.webhook_secret,), paused=True)
    assert store.look(repositories.find, "octo/hello").status == "paused"


def test_a_ping_is_the_hooks_sign_of_life_and_no_event(store: Store, hello: Tracked, clock):
    def pinged_at(_: Tx) -> object:
        return Repository.get_by_id(hello.id).pinged_at

    store.run(repositories.pinged, hello.id)
    assert store.look(pinged_at) == clock()
    assert store.look(events.log).head == 0


def test_no_secret_can_be_read_where_the_data_lies(store: Store, ada: Account, tmp_path: Path):
    def everything(_: Tx) -> bytes:
        rows = [row for table in models.ALL for row in table.select().tuples()]
        return b"\n".join(
            bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
            for row in rows
            for value in row
        )

    made = store.run(repositories.add, ada.id, "octo/hello", SECRET)
    store.run(repositories.rotate_secret, made.id, secret=SECRET + " 2")
    files = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    at_rest = store.look(everything) + files
    assert b"octo/hello" in at_rest
    for form in (SECRET.encode(), SECRET.encode().hex().encode(), SECRET.encode("utf-16-le")):
        assert form not in at_rest


def test_a_secret_that_is_moved_to_another_repository_does_not_open(
    store: Store, hello: Tracked, eve: Account
):
    def move(_: Tx, source: str, target: str) -> None:
        Repository.update(secret=Repository.get_by_id(source).secret).where(Repository.id == target).execute()

    other = store.run(repositories.add, eve.id, "octo/hello")
    store.run(move, other.id, hello.id)
    with pytest.raises(Failed, match="does not open"):
        store.look(repositories.hook_of, hello.id)
