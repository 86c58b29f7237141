from cotexd.operations.repositories import Tracked


def test_status_says_which_database_it_is_and_how_it_stands(cotex, octo: Tracked, database: str):
    state = cotex("db", "status", "--json").json
    assert state["engine"] == ("postgresql" if database else "sqlite")
    assert (state["users"], state["repositories"], state["events"]) == (1, 1, 1)
    assert (state["head"], state["floor"]) == (1, 0)
    assert state["schema"] >= 1
    assert state["size_bytes"] > 0
    assert f"epoch\t{state['epoch']}\n" in cotex("db", "status").out


def test_the_first_command_migrates_and_the_next_finds_nothing_to_do(cotex, database: str):
    first, second = cotex("db", "migrate", "--json").json, cotex("db", "migrate", "--json").json
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
