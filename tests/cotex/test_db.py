import re
import stat
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from actors import logged
from tables import another_postgres

from cotexd.domain.vault import new_key
from cotexd.operations import accounts, repositories
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, moving, utc_now


def test_status_says_which_database_it_is_and_how_it_stands(cotex, octo: Tracked, database: str):
    state = cotex("db", "status", "--json").json
    assert state["engine"] == ("postgresql" if database else "sqlite")
    assert (state["users"], state["repositories"], state["events"]) == (1, 1, 1)
    assert (state["head"], state["floor"]) == (1, 0)
    assert state["schema"] >= 1
    assert state["size_bytes"] > 0
    assert f"epoch\t{state['epoch']}\n" in cotex("db", "status").out


def test_the_first_command_migrates_and_the_next_finds_nothing_to_do(
    cotex, database: str, request: pytest.FixtureRequest
):
    where = {"COTEX_DATABASE": another_postgres(request)} if database else {}
    first, second = (cotex("db", "migrate", "--json", **where).json for _ in range(2))
    assert first["migrated"] > 0
    assert second == {"migrated": 0, "schema": first["schema"]}


def test_migrate_says_to_people_where_the_schema_is(cotex, octo: Tracked):
    done = cotex("db", "migrate")
    assert (done.code, done.out) == (0, "")
    assert "0 steps" in done.err


def test_a_database_that_is_away_is_said_in_words(cotex):
    done = cotex("db", "status", COTEX_DATABASE="postgresql://ada@127.0.0.1:1/cotex")
    assert (done.code, done.out) == (1, "")
    assert "cannot be used right now" in done.err
    assert len(done.err.splitlines()) <= 3


def test_a_file_that_is_no_database_is_said_in_words(cotex):
    cotex.data.mkdir(mode=0o700)
    file = cotex.data / "cotexd.db"
    file.write_bytes(b"this is no database, and long enough to be looked at " * 100)
    file.chmod(0o600)
    done = cotex("db", "status")
    assert (done.code, done.out) == (1, "")
    assert "backup" in done.err


def numbers(cotex, **environment: str) -> list[int]:
    return sorted(each["seq"] for each in cotex("event", "list", "--json", **environment).json)


def test_a_backup_is_whole_and_closed_to_others_and_says_what_is_in_it(cotex, octo: Tracked, tmp_path: Path):
    file = tmp_path / "cotex.backup"
    done = cotex("db", "backup", str(file), "--json")
    assert done.code == 0, done.err
    state = cotex("db", "status", "--json").json
    assert done.json == {
        "encrypted": False,
        "file": str(file),
        "size_bytes": file.stat().st_size,
        "epoch": state["epoch"],
        "head": 1,
        "key": True,
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    (row,) = [each for each in cotex("doctor", "--json").json if each["check"] == "backup"]
    assert row["status"] == "ok"


def test_a_backup_that_is_encrypted_is_opened_by_its_passphrase_alone(cotex, octo: Tracked, tmp_path: Path):
    file = tmp_path / "cotex.backup"
    done = cotex("db", "backup", str(file), "--encrypt", "--json", stdin="correct horse battery\n")
    assert (done.code, done.json["encrypted"]) == (0, True)
    key = (cotex.data / "cotexd.key").read_text().strip()
    assert key.encode() not in file.read_bytes()
    cotex("user", "add", "eve")
    wrong = cotex("db", "restore", str(file), "--yes", stdin="correct house battery\n")
    assert (wrong.code, "does not open" in wrong.err) == (2, True)
    assert len(cotex("user", "list", "--json").json) == 2
    assert cotex("db", "restore", str(file), "--yes", stdin="correct horse battery\n").code == 0
    assert [each["name"] for each in cotex("user", "list", "--json").json] == ["ada"]
    assert cotex("db", "backup", str(tmp_path / "none"), "--encrypt", stdin="\n").code == 2
    assert not (tmp_path / "none").exists()


def test_what_is_there_already_is_not_written_over(cotex, octo: Tracked, tmp_path: Path):
    file = tmp_path / "cotex.backup"
    file.write_text("something else")
    assert cotex("db", "backup", str(file)).code == 4
    assert file.read_text() == "something else"


def test_a_backup_that_cannot_be_written_is_said_in_words(cotex, octo: Tracked, tmp_path: Path):
    assert cotex("db", "backup", str(tmp_path / "nowhere" / "cotex.backup")).code == 1


def test_a_backup_alone_is_enough_to_go_on_on_an_empty_machine(cotex, octo: Tracked, tmp_path: Path):
    file = tmp_path / "cotex.backup"
    cotex("db", "backup", str(file))
    there = type(cotex)(tmp_path / "there", "")
    done = there("db", "restore", str(file), "--verify", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["checked"]["good"] is True
    assert numbers(there) == numbers(cotex) == [1]
    assert (there.data / "cotexd.key").read_text() == (cotex.data / "cotexd.key").read_text()
    assert stat.S_IMODE((there.data / "cotexd.key").stat().st_mode) == 0o600
    server = there.serve()
    assert there("event", "send", "--repo", "octo/hello").code == 0
    assert numbers(there) == [1, 2]
    assert server.end().code == 0


def test_a_restore_takes_the_place_of_what_there_is_and_keeps_a_key_that_is_another(
    cotex, octo: Tracked, tmp_path: Path
):
    file = tmp_path / "cotex.backup"
    cotex("db", "backup", str(file))
    there = type(cotex)(tmp_path / "there", "")
    there("user", "add", "eve")
    before = (there.data / "cotexd.key").read_text()
    assert there("db", "restore", str(file)).code == 2
    assert [each["name"] for each in there("user", "list", "--json").json] == ["eve"]
    assert there("db", "restore", str(file), "--yes").code == 0
    assert [each["name"] for each in there("user", "list", "--json").json] == ["ada"]
    (kept,) = there.data.glob("cotexd.key.*")
    assert kept.read_text() == before


def test_a_backup_without_the_key_needs_it_where_it_is_restored(cotex, octo: Tracked, tmp_path: Path):
    file = tmp_path / "cotex.backup"
    assert cotex("db", "backup", str(file), "--without-key", "--json").json["key"] is False
    key = (cotex.data / "cotexd.key").read_text().strip()
    there = type(cotex)(tmp_path / "there", "")
    lacking = there("db", "restore", str(file), "--yes")
    assert lacking.code == 1
    assert "COTEX_KEY" in lacking.err
    assert there("db", "restore", str(file), "--yes", COTEX_KEY=key).code == 0
    assert numbers(there, COTEX_KEY=key) == [1]


def test_beside_a_server_that_runs_a_backup_is_made_and_nothing_is_restored(
    cotex, octo: Tracked, tmp_path: Path
):
    cotex.serve()
    file = tmp_path / "cotex.backup"
    assert cotex("event", "send", "--repo", "octo/hello").code == 0
    assert cotex("db", "backup", str(file), "--json").json["head"] == 2
    assert cotex("db", "restore", str(file), "--yes").code == 4
    assert numbers(cotex) == [1, 2]


def test_a_client_that_had_more_than_the_backup_is_told_of_the_gap(cotex, octo: Tracked, tmp_path: Path):
    file = tmp_path / "cotex.backup"
    cotex("db", "backup", str(file))
    epoch = cotex("db", "status", "--json").json["epoch"]
    server = cotex.serve()
    cotex("event", "send", "--repo", "octo/hello")
    server.end()
    assert cotex("db", "restore", str(file), "--yes").code == 0
    server = cotex.serve()
    token = cotex("user", "token", "ada").out.strip()
    answer = httpx.get(
        f"{server.url}/api/events?after={epoch}.2", headers={"authorization": f"Bearer {token}"}
    ).json()
    (gap,) = answer["messages"]
    assert (gap["event"], gap["payload"]["reason"]) == ("gap", "epoch")
    assert answer["cursor"].endswith(".1")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x28\xb5\x2f\xfd" + b"\0" * 100])
def test_what_is_no_backup_is_refused_and_nothing_is_changed(
    cotex, octo: Tracked, tmp_path: Path, content: bytes
):
    file = tmp_path / "cotex.backup"
    file.write_bytes(content)
    done = cotex("db", "restore", str(file), "--yes")
    assert done.code == 2
    assert "no backup" in done.err
    assert numbers(cotex) == [1]
    assert cotex("db", "restore", str(tmp_path / "none"), "--yes").code == 3


def test_check_says_that_it_is_whole_and_what_is_not(cotex, octo: Tracked):
    good = cotex("db", "check", "--json")
    assert (good.code, good.json["good"], good.json["events"]) == (0, True, 1)
    store = Store(cotex.database, cotex.data)
    store.run(lambda tx: tx.change("UPDATE log_state SET head = 0"))
    store.close()
    bad = cotex("db", "check", "--json")
    assert (bad.code, bad.json["problems"]) == (1, ["1 events lie beyond the log's head"])
    assert "beyond the log's head" in cotex("db", "check").err


def empty(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> str:
    """The URL of an empty database of the other kind."""
    return f"sqlite:///{tmp_path / 'new.db'}" if database else another_postgres(request)


@pytest.mark.postgres
def test_a_copy_takes_all_to_the_other_kind_of_database_while_a_server_runs(
    cotex, octo: Tracked, database: str, tmp_path: Path, request: pytest.FixtureRequest
):
    url = empty(request, tmp_path, database)
    server = cotex.serve()
    assert cotex("event", "send", "--repo", "octo/hello").code == 0
    done = cotex("db", "copy", "--to", url, "--json")
    assert done.code == 0, done.err
    assert (done.json["events"], done.json["head"]) == (2, 2)
    assert done.json["closed_seconds"] < 5
    refused = cotex("event", "send", "--repo", "octo/hello")
    assert refused.code != 0
    assert "503" in refused.err
    assert httpx.get(f"{server.url}/livez").status_code == 200
    assert numbers(cotex) == [1, 2]
    token = cotex("user", "token", "ada")
    assert (token.code, "has moved" in token.err) == (1, True)
    assert server.end().code == 0
    assert cotex("db", "check", COTEX_DATABASE=url).code == 0
    cotex.serve(COTEX_DATABASE=url)
    assert cotex("event", "send", "--repo", "octo/hello", COTEX_DATABASE=url).code == 0
    assert numbers(cotex, COTEX_DATABASE=url) == [1, 2, 3]


def test_a_copy_is_undone_and_says_so(cotex, octo: Tracked, tmp_path: Path):
    assert "had not moved" in cotex("db", "copy", "--undo").err
    done = cotex("db", "copy", "--to", f"sqlite:///{tmp_path / 'new.db'}")
    assert done.code == 0
    assert "refuses writes from now on" in done.err
    assert cotex("db", "status", "--json").json["moved_to"] == f"sqlite:///{tmp_path / 'new.db'}"
    assert (tmp_path / "new.db").stat().st_mode & 0o077 == 0
    assert cotex("user", "add", "eve").code == 1
    assert "written again" in cotex("db", "copy", "--undo").err
    assert cotex("db", "status", "--json").json["moved_to"] is None
    assert cotex("user", "add", "eve").code == 0


def test_a_copy_to_where_something_is_is_refused_and_changes_nothing(cotex, octo: Tracked):
    here = cotex.database or f"sqlite:///{cotex.data / 'cotexd.db'}"
    done = cotex("db", "copy", "--to", here)
    assert (done.code, "not empty" in done.err) == (4, True)
    assert cotex("user", "add", "eve").code == 0


def test_the_password_of_where_it_is_copied_to_is_not_shown(cotex, octo: Tracked):
    done = cotex("db", "copy", "--to", "postgresql://ada:s3cret@127.0.0.1:1/cotex")
    assert (done.code, "cannot be used right now" in done.err) == (1, True)
    assert "s3cret" not in done.out + done.err
    assert cotex("user", "add", "eve").code == 0


@pytest.mark.postgres
@pytest.mark.parametrize("password", ["hunter%2word", "hunter%zz"])
def test_a_url_that_the_driver_cannot_read_is_refused_without_its_password(
    cotex, octo: Tracked, password: str
):
    done = cotex("db", "copy", COTEX_COPY_TO=f"postgresql://u:{password}@db/cotex")
    assert (done.code, "is not the URL of a database" in done.err) == (2, True)
    assert "hunter" not in done.out + done.err


@pytest.mark.postgres
def test_a_url_that_could_not_be_shown_is_refused(cotex, octo: Tracked):
    """The source remembers where it moved as it is shown, and two such would look the same."""
    done = cotex("db", "copy", COTEX_COPY_TO="postgresql://u:hunter#2@db/cotex")
    assert (done.code, "is not the URL of a database" in done.err) == (2, True)
    assert "hunter" not in done.out + done.err
    assert cotex("user", "add", "eve").code == 0


def test_a_copy_into_a_relative_file_is_known_by_its_whole_path(
    cotex, octo: Tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    done = cotex("db", "copy", "--to", "sqlite:///new.db", "--json")
    assert done.json["to"] == f"sqlite:///{tmp_path}/a/new.db"
    assert (tmp_path / "a" / "new.db").exists()
    monkeypatch.chdir(tmp_path)
    again = cotex("db", "copy", "--to", "sqlite:///new.db", "--json")
    assert (again.code, "has moved to" in again.err) == (4, True)


def test_one_that_has_moved_can_be_backed_up_and_undone_where_its_target_is_in_the_environment(
    cotex, octo: Tracked, tmp_path: Path
):
    there = {"COTEX_COPY_TO": f"sqlite:///{tmp_path / 'new.db'}"}
    assert cotex("db", "copy", **there).code == 0
    assert cotex("db", "backup", str(tmp_path / "cotex.backup")).code == 0
    assert cotex("db", "copy", "--undo", **there).code == 0
    assert cotex("user", "add", "eve").code == 0


def test_a_purge_takes_what_is_older_than_the_retention_and_nothing_else(cotex):
    store = Store(cotex.database, cotex.data, "", lambda: utc_now() - timedelta(hours=1))
    tracked = store.run(repositories.add, store.run(accounts.create, "ada").id, "octo/hello")
    logged(store, tracked, 3)
    store.close()
    store = Store(cotex.database, cotex.data)
    logged(store, tracked)
    store.close()
    kept = {"COTEX_RETENTION": "1m"}
    assert cotex("db", "purge", "--dry-run", "--json", **kept).json["events"] == 3
    assert cotex("db", "purge", **kept).code == 2
    assert cotex("db", "status", "--json").json["events"] == 4
    assert cotex("db", "purge", "--yes", "--json", **kept).json["events"] == 3
    state = cotex("db", "status", "--json").json
    assert (state["events"], state["floor"], state["head"]) == (1, 3, 4)
    assert "0 events" in cotex("db", "purge", "--yes", **kept).err


def test_on_a_terminal_a_bar_says_how_far_it_is(cotex, octo: Tracked, tmp_path: Path):
    shown = cotex.on_a_terminal("db", "backup", str(tmp_path / "cotex.backup"), piped=True)
    found = re.search(r"(\d+)/(\d+)", shown.err)
    assert found is not None
    assert found[1] == found[2] != "0"
    again = cotex.on_a_terminal("db", "restore", str(tmp_path / "cotex.backup"), "--yes", piped=True)
    assert f"{found[2]}/{found[2]}" in again.err


def test_a_restore_whose_key_does_not_fit_changes_nothing(cotex, octo: Tracked, tmp_path: Path):
    file = str(tmp_path / "cotex.backup")
    assert cotex("db", "backup", file).code == 0
    (key,) = (cotex.data / "cotexd.key").read_text().split()
    done = cotex("db", "restore", file, "--yes", COTEX_KEY=new_key())
    assert (done.code, "Nothing was changed" in done.err) == (1, True)
    assert (cotex.data / "cotexd.key").read_text().strip() == key
    assert cotex("user", "show", "ada").code == 0


def test_what_can_not_be_written_can_be_backed_up(cotex, octo: Tracked, tmp_path: Path):
    store = Store(cotex.database, cotex.data)
    store.run(lambda tx: moving.put(tx.database, moving.MOVED_TO, "elsewhere"))
    store.close()
    done = cotex("db", "backup", str(tmp_path / "cotex.backup"))
    assert (done.code, (tmp_path / "cotex.backup").exists()) == (0, True)


@pytest.mark.parametrize("name", ["da#ta", "da?ta", "da%20ta", "da ta"])
def test_a_data_folder_may_have_any_name(cotex, tmp_path: Path, name: str):
    if cotex.database:
        return  # it has no file there
    assert cotex("--data-dir", str(tmp_path / name), "user", "add", "ada").code == 0
    assert {"cotexd.db", "cotexd.key"} <= {each.name for each in (tmp_path / name).iterdir()}


def test_a_target_that_is_no_database_is_told_from_the_source(cotex, octo: Tracked, tmp_path: Path):
    (tmp_path / "no.db").write_text("no database" * 1000)
    (tmp_path / "no.db").chmod(0o600)
    done = cotex("db", "copy", "--to", f"sqlite:///{tmp_path / 'no.db'}")
    assert "The target is damaged, or no database" in done.err
