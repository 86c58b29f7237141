from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Clock

from cotex import local
from cotexd.config import Settings
from cotexd.errors import Conflict, Invalid, NotFound, Unreachable
from cotexd.operations import accounts, nodes
from cotexd.operations.accounts import Account
from cotexd.operations.nodes import Server
from cotexd.store import Store


def context(**flags: str) -> SimpleNamespace:
    """What `cotex` itself was given, as a command finds it."""
    return SimpleNamespace(obj=flags)


def test_flags_go_before_the_environment_and_that_before_the_file_and_that_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "cotex.toml"
    file.write_text('host = "127.0.0.2"\nport = 2000\ndrain_seconds = 2\n')
    monkeypatch.setenv("COTEX_HOST", "127.0.0.3")
    monkeypatch.setenv("COTEX_PORT", "3000")
    found = local.settings(context(data_dir=str(tmp_path), config=str(file)), port=4000, host=None)
    assert (found.port, found.host, found.drain.total_seconds()) == (4000, "127.0.0.3", 2)
    assert found.retention == Settings().retention
    assert [found.origins[key] for key in ("port", "host", "drain_seconds")] == [
        "--port",
        "COTEX_HOST",
        str(file),
    ]


def test_a_command_s_own_flag_goes_before_that_of_cotex(tmp_path: Path):
    given = context(data_dir=str(tmp_path / "a"))
    assert local.settings(given, data_dir=str(tmp_path / "b")).data_dir == tmp_path / "b"
    assert local.settings(given, data_dir=None).data_dir == tmp_path / "a"


def test_the_store_is_closed_when_a_command_ends_and_when_it_is_refused(tmp_path: Path):
    given = context(data_dir=str(tmp_path / "data"))
    with local.opened(given) as store:
        store.run(accounts.create, "ada")
    assert sorted(path.name for path in store.files.folder.iterdir()) == ["cotexd.db", "cotexd.key"]
    with pytest.raises(NotFound), local.opened(given) as store:
        store.look(accounts.find, "bob")
    assert sorted(path.name for path in store.files.folder.iterdir()) == ["cotexd.db", "cotexd.key"]


def test_what_is_wrong_with_the_settings_is_said_before_anything_is_made(tmp_path: Path):
    (tmp_path / "cotex.toml").write_text("prot = 1\n")
    with pytest.raises(Invalid, match="Did you mean port"), local.opened(context(data_dir=str(tmp_path))):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cotex.toml"]


def test_the_only_user_need_not_be_named(store: Store, ada: Account):
    assert local.the_user(store, None) == ada
    assert local.the_user(store, "ada") == ada
    assert local.the_user(store, ada.id) == ada


def test_where_there_is_nobody_it_is_said_how_to_add_somebody(store: Store):
    with pytest.raises(NotFound) as caught:
        local.the_user(store, None)
    assert "cotex user add" in caught.value.hint


def test_of_several_users_one_must_be_named_and_it_is_said_who_there_is(store: Store, ada: Account):
    store.run(accounts.create, "grace")
    with pytest.raises(Conflict) as caught:
        local.the_user(store, None)
    assert "--user: ada, grace" in caught.value.hint
    assert local.the_user(store, "grace").name == "grace"


def test_no_server_is_unreachable_and_it_is_said_how_to_start_one(store: Store):
    with pytest.raises(Unreachable) as caught:
        local.server_url(store)
    assert "cotex serve" in caught.value.hint


def test_a_server_that_has_not_written_for_a_while_is_named(store: Store, clock: Clock):
    store.run(nodes.beat, Server("n", "http://there", "1.0", 7, 0, clock()))
    clock.forward(2 * nodes.ALIVE)
    with pytest.raises(
        Unreachable, match=r"http://there \(process 7\) has not written .* since 2026-"
    ) as refused:
        local.server_url(store)
    assert "cotex doctor" in refused.value.hint


async def test_the_server_that_runs_on_this_database_is_found(server):
    assert local.server_url(server.store) == server.url


@pytest.mark.parametrize("made", [b"\xff\xfe", b"", b"short\n"])
def test_a_damaged_key_is_refused_in_words(cotex, octo, made: bytes):
    (cotex.data / "cotexd.key").write_bytes(made)
    done = cotex.process("user", "list")
    assert (done.code, done.out) == (1, "")
    assert "Traceback" not in done.err
    assert "key" in done.err
    assert len(done.err.splitlines()) <= 3


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_data_folder_that_cannot_be_one_is_refused_in_words(cotex, tmp_path: Path, place: str):
    (tmp_path / "file").write_text("")
    done = cotex(
        "user", "list", COTEX_DATA_DIR=str(tmp_path / ("file" if place == "a file" else "file/data"))
    )
    assert done.code == 1
    assert "--data-dir" in done.err
