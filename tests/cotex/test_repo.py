import re

import pytest

from cotexd.operations.repositories import Tracked


def names(cotex, *flags: str) -> list[str]:
    return [each["repo_name"] for each in cotex("repo", "list", *flags, "--json").json]


def test_add_shows_what_to_paste_into_github_s_form(cotex, database: str):
    cotex("user", "add", "ada")
    done = cotex("repo", "add", "octo/hello", COTEX_PUBLIC_URL="https://cotex.example")
    assert done.code == 0
    shown = cotex("repo", "show", "octo/hello", "--json").json
    assert f"https://cotex.example{shown['webhook_url']}\n" in done.err
    assert "cotex event send --repo octo/hello" in done.err


def test_the_secret_that_add_makes_is_a_result(cotex):
    """`cotex repo add … 2>/dev/null` must not lose it: it is shown this once."""
    cotex("user", "add", "ada")
    assert re.search(r"\b[0-9a-f]{64}\b", cotex("repo", "add", "octo/hello").out)


def test_the_secret_is_shown_once(cotex):
    cotex("user", "add", "ada")
    made = cotex("repo", "add", "octo/hello", "--json").json
    assert re.fullmatch(r"[0-9a-f]{64}", made["webhook_secret"])
    again = cotex("repo", "add", "octo/hello", "--if-not-exists", "--json").json
    assert again == {**made, "webhook_secret": ""}
    assert made["webhook_secret"] not in cotex("repo", "show", "octo/hello", "--json").out


@pytest.mark.parametrize("typed", ["by hand\n", "by hand\r\n", "by hand"])
async def test_a_secret_is_read_from_standard_input_and_is_the_one_that_counts(server, cotex, typed: str):
    await cotex.beside("user", "add", "ada")
    done = await cotex.beside("repo", "add", "octo/hello", "--secret-stdin", "--json", stdin=typed)
    assert done.json["webhook_secret"] == "by hand"
    tracked = server.store.look(lambda _: Tracked(**{**done.json, "created_at": None, "updated_at": None}))
    assert (await server.github.deliver(tracked, secret="by hand")).status_code == 200


@pytest.mark.parametrize("typed", ["", "\n", "x" * 256, "a\x00b", "a\tb"])
def test_what_can_be_no_secret_is_refused_and_none_is_made_in_its_place(cotex, typed: str):
    cotex("user", "add", "ada")
    done = cotex("repo", "add", "octo/hello", "--secret-stdin", stdin=typed)
    assert (done.code, done.out) == (2, "")
    assert names(cotex) == []


@pytest.mark.parametrize(
    "name", ["hello", "octo/", "/hello", "octo/hel lo", "octo/..", "a/b/c", "https://github.com/o/r"]
)
def test_what_can_be_no_repository_is_refused(cotex, name: str):
    cotex("user", "add", "ada")
    done = cotex("repo", "add", name)
    assert done.code == 2
    assert "octo/hello" in done.err


def test_a_repository_is_tracked_once_a_user_in_any_spelling(cotex, octo: Tracked):
    assert cotex("repo", "add", "Octo/HELLO").code == 4
    assert cotex("repo", "add", "Octo/HELLO", "--if-not-exists", "--json").json["id"] == octo.id
    assert names(cotex) == ["octo/hello"]


def test_the_tier_s_limit_holds_and_raising_the_tier_raises_it(cotex, octo: Tracked):
    assert cotex("repo", "add", "octo/two").code == 0
    assert cotex("repo", "add", "octo/three").code == 5
    assert cotex("repo", "add", "octo/two", "--if-not-exists").code == 0
    cotex("tier", "set", "ada", "pro")
    assert cotex("repo", "add", "octo/three").code == 0


def test_of_several_users_the_owner_must_be_named(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    done = cotex("repo", "add", "octo/docs")
    assert done.code == 4
    assert "--user: ada, grace" in done.err
    assert cotex("repo", "add", "octo/docs", "--user", "grace").code == 0
    assert names(cotex) == ["octo/docs", "octo/hello"]
    assert names(cotex, "--user", "grace") == ["octo/docs"]
    assert cotex("repo", "list", "--user", "bob").code == 3


def test_list_names_the_owner(cotex, octo: Tracked):
    row = cotex("repo", "list").out.rstrip("\n").split("\t")
    assert row[:3] == ["octo/hello", "ada", "active"]
    assert row[-1] == octo.id


def test_a_name_is_found_in_any_spelling(cotex, octo: Tracked):
    assert cotex("repo", "show", "OCTO/Hello", "--json").json["id"] == octo.id


def test_dry_run_shows_what_would_be_removed_and_removes_nothing(cotex, octo: Tracked):
    done = cotex("repo", "remove", "octo/hello", "--dry-run")
    assert done.code == 0
    assert "would be" in done.err
    assert cotex("repo", "remove", "octo/hello", "--dry-run", "--json").json["id"] == octo.id
    assert names(cotex) == ["octo/hello"]


def test_remove_takes_the_repository_and_its_events(cotex, octo: Tracked):
    assert cotex("repo", "remove", "octo/hello", "--yes", "--json").json["id"] == octo.id
    assert names(cotex) == []
    assert cotex("event", "list", "--json").json == []
    assert cotex("repo", "remove", "octo/hello", "--yes").code == 3


def test_remove_takes_only_the_named_user_s_where_several_track_it(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex("repo", "add", "octo/hello", "--user", "grace")
    assert cotex("repo", "remove", "octo/hello", "--user", "grace", "--yes").code == 0
    assert [each["id"] for each in cotex("repo", "list", "--json").json] == [octo.id]
    assert cotex("repo", "remove", "octo/hello", "--user", "grace", "--yes").code == 3


async def test_removing_is_in_force_in_the_running_server(server, cotex):
    repo = server.track(server.user("ada"))
    assert (await server.github.deliver(repo)).status_code == 200
    await cotex.beside("repo", "remove", "octo/hello", "--yes")
    assert (await server.github.deliver(repo)).status_code == 401


def test_secret_says_what_there_is_without_showing_it(cotex, octo: Tracked):
    done = cotex("repo", "secret", "octo/hello")
    assert done.code == 0
    assert octo.webhook_secret not in done.out + done.err
    assert "--rotate" in done.err
    assert cotex("repo", "secret", "octo/hello", "--json").json["webhook_secret"] == ""


def test_a_rotated_secret_is_the_only_result(cotex, octo: Tracked):
    done = cotex("repo", "secret", "octo/hello", "--rotate")
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.out)
    assert done.out.strip() != octo.webhook_secret
    assert done.out.strip() not in done.err
    assert cotex("repo", "secret", "octo/hello", "--json").json["old_secret_good_until"] is not None


@pytest.mark.parametrize(("overlap", "status"), [("24h", 200), ("0s", 401)])
async def test_after_a_rotation_the_old_secret_is_good_for_the_overlap_and_the_new_one_at_once(
    server, cotex, overlap: str, status: int
):
    repo = server.track(server.user("ada"))
    done = await cotex.beside("repo", "secret", "octo/hello", "--rotate", "--overlap", overlap)
    assert (await server.github.deliver(repo, secret=done.out.strip())).status_code == 200
    assert (await server.github.deliver(repo)).status_code == status


@pytest.mark.parametrize("overlap", ["31d", "long", "-1h"])
def test_an_overlap_that_is_none_is_refused_and_nothing_is_rotated(cotex, octo: Tracked, overlap: str):
    assert cotex("repo", "secret", "octo/hello", "--rotate", "--overlap", overlap).code == 2
    assert cotex("repo", "secret", "octo/hello", "--json").json["old_secret_good_until"] is None


def test_shared_with_others_at_once_or_with_nobody(cotex):
    for name in ("ada", "bob", "eve"):
        cotex("user", "add", name)
    assert cotex("repo", "add", "octo/hello", "--user", "ada", "--share", "bob,mallory").code == 3
    assert names(cotex) == []
    assert cotex("repo", "add", "octo/hello", "--user", "ada", "--share", "bob, eve").code == 0
    assert names(cotex, "--user", "bob") == names(cotex, "--user", "eve") == ["octo/hello"]
    shown = cotex("repo", "show", "octo/hello", "--json").json["members"]
    assert [(each["name"], each["role"]) for each in shown] == [
        ("ada", "owner"), ("bob", "member"), ("eve", "member"),
    ]  # fmt: skip
    assert cotex("repo", "unshare", "octo/hello", "--with", "bob,mallory").code == 3
    assert names(cotex, "--user", "bob") == ["octo/hello"]
    assert cotex("repo", "unshare", "octo/hello", "--with", "bob").code == 0
    assert names(cotex, "--user", "bob") == []


def test_nobody_meets_one_repository_twice(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex("repo", "add", "octo/hello", "--user", "grace")
    assert cotex("repo", "share", "octo/hello", "--with", "grace", "--user", "ada").code == 4
    cotex("repo", "remove", "octo/hello", "--user", "grace", "--yes")
    assert cotex("repo", "share", "octo/hello", "--with", "grace").code == 0
    assert cotex("repo", "add", "octo/hello", "--user", "grace").code == 4


async def test_sharing_is_in_force_in_the_running_server(server, cotex):
    ada, grace = server.user("ada"), server.user("grace")
    repo = server.track(ada)
    client = server.client(grace)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(repo)
        await cotex.beside("repo", "share", "octo/hello", "--with", "grace")
        await server.github.deliver(repo)
        await client.until_applied(socket, 1)
        await cotex.beside("repo", "unshare", "octo/hello", "--with", "grace")
        await server.github.deliver(repo)
        await cotex.beside("repo", "share", "octo/hello", "--with", "grace")
        await server.github.deliver(repo)
        await client.until_applied(socket, 2)
    assert client.seqs == [2, 4]


async def test_a_paused_repository_refuses_deliveries_until_it_is_resumed(server, cotex):
    repo = server.track(server.user("ada"))
    done = await cotex.beside("repo", "pause", "octo/hello")
    assert "cotex repo resume octo/hello" in done.err
    assert (await server.github.deliver(repo)).status_code == 403
    sent = await cotex.beside("event", "send", "--repo", "octo/hello")
    assert sent.code == 5
    assert (await cotex.beside("repo", "resume", "octo/hello", "--json")).json["status"] == "active"
    assert (await server.github.deliver(repo)).status_code == 200


async def test_a_filter_keeps_out_what_nobody_wants_and_says_so(server, cotex):
    server.track(server.user("ada"))
    await cotex.beside("repo", "filter", "octo/hello", "--events", "release", "--branches", "main")
    done = await cotex.beside("event", "send", "--repo", "octo/hello")
    assert done.code == 0
    assert "kept out by the filter" in done.err
    assert (await cotex.beside("event", "list", "--json")).json == []
    await cotex.beside("repo", "filter", "octo/hello")
    assert (await cotex.beside("event", "send", "--repo", "octo/hello", "--json")).json["filtered"] is False


def test_a_filter_for_one_member_is_theirs_alone(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex("repo", "share", "octo/hello", "--with", "grace")
    assert cotex("repo", "filter", "octo/hello", "--member", "grace", "--paths", "docs/*").code == 0
    shown = cotex("repo", "show", "octo/hello", "--json").json
    filters = {each["name"]: each["filter"]["paths"] for each in shown["members"]}
    assert filters == {"ada": [], "grace": ["docs/*"]}
    assert shown["filter"]["paths"] == []


@pytest.mark.parametrize("line", ["--events Push", "--events no_such_event!", "--user bob --events push"])
def test_what_can_be_no_filter_is_refused_and_changes_nothing(cotex, octo: Tracked, line: str):
    assert cotex("repo", "filter", "octo/hello", *line.split()).code in {2, 3}
    assert cotex("repo", "show", "octo/hello", "--json").json["filter"]["events"] == []
