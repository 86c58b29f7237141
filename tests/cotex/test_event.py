import json
import signal
from pathlib import Path

import pytest
from actors import logged, push

from cotexd.operations import repositories
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    """A payload in a file whose name says nothing."""
    file = tmp_path / "payload.json"
    file.write_text(json.dumps(push(7)))
    return file


def test_list_is_newest_first_and_can_be_cut_and_narrowed(cotex, octo: Tracked):
    cotex("repo", "add", "octo/docs")
    store = Store(cotex.database, cotex.data)
    logged(store, octo, 2)
    logged(store, store.look(repositories.find, "octo/docs"))
    store.close()
    listed = cotex("event", "list", "--json").json
    assert [each["seq"] for each in listed] == [4, 3, 2, 1]
    assert [each["seq"] for each in cotex("event", "list", "--limit", "2", "--json").json] == [4, 3]
    assert [each["seq"] for each in cotex("event", "list", "--repo", "octo/docs", "--json").json] == [4]
    assert cotex("event", "list").out.split("\t")[0] == "4"
    assert cotex("event", "list", "--repo", "octo/other").code == 3


def test_people_see_thirty_events_and_programs_all(cotex, octo: Tracked):
    store = Store(cotex.database, cotex.data)
    logged(store, octo, 40)
    store.close()
    assert len(cotex("event", "list").out.splitlines()) == 30
    assert len(cotex("event", "list", "--json").json) == 41


def test_show_finds_an_event_by_its_id_its_seq_and_github_s_guid(cotex, octo: Tracked):
    listed = cotex("event", "list", "--json").json[0]
    found = [cotex("event", "show", str(listed[key]), "--json").json for key in ("id", "seq", "delivery_id")]
    assert found[0] == found[1] == found[2]
    assert found[0]["payload"] == push()
    assert found[0]["summary"]["headline"] == listed["headline"]


def test_show_says_in_a_line_each_what_a_person_asks(cotex, octo: Tracked):
    shown = dict(line.split("\t") for line in cotex("event", "show", "1").out.splitlines())
    assert shown["repository"] == "octo/hello"
    assert shown["branch"] == "main"
    assert shown["what"] == "1 commit pushed to main"
    assert shown["signed with"] == "sha256"
    assert shown["payload"] == "stored"


async def test_send_goes_the_whole_way_with_a_sample_where_no_file_is_given(server, cotex):
    ada = server.user("ada")
    server.track(ada)
    watching = server.client(ada)
    async with watching.connected() as socket:
        await watching.until_live(socket)
        done = await cotex.beside("event", "send", "--repo", "octo/hello")
        await watching.until_applied(socket, 1)
    assert (done.code, done.out) == (0, "")
    assert "cotex event show 1" in done.err
    assert watching.applied[0]["payload"]["headline"].endswith("pushed to main")


@sqlite
async def test_send_says_as_json_what_was_sent_where_and_as_what(server, cotex, payload: Path):
    repo = server.track(server.user("ada"))
    line = ("event", "send", str(payload), "--repo", repo.id, "--delivery", "guid-1", "--json")
    first, second = (await cotex.beside(*line)).json, (await cotex.beside(*line)).json
    assert first == {
        "event_id": first["event_id"],
        "seq": 1,
        "duplicate": False,
        "filtered": False,
        "delivery_id": "guid-1",
        "event_type": "push",
        "url": server.url + repo.webhook_url,
    }
    assert second == {**first, "duplicate": True}
    stored = (await cotex.beside("event", "show", "guid-1", "--json")).json
    assert stored["payload"] == json.loads(payload.read_text())


@sqlite
async def test_a_known_delivery_is_said_to_be_one(server, cotex):
    server.track(server.user("ada"))
    line = ("event", "send", "--repo", "octo/hello", "--delivery", "guid-1")
    assert "stored as event 1" in (await cotex.beside(*line)).err
    again = await cotex.beside(*line)
    assert again.code == 0
    assert "had this delivery already: event 1" in again.err


@sqlite
@pytest.mark.parametrize(
    ("name", "flags", "kind"),
    [
        ("push.json", [], "push"),
        ("issues-3.json", [], "issues"),
        ("pull_request.opened.json", [], "pull_request"),
        ("payload.json", [], "push"),
        ("push.json", ["--event", "release"], "release"),
    ],
)
async def test_an_event_is_what_it_is_said_to_be_else_what_its_file_is_called(
    server, cotex, tmp_path: Path, name: str, flags: list[str], kind: str
):
    server.track(server.user("ada"))
    (tmp_path / name).write_text("{}")
    line = ("event", "send", str(tmp_path / name), "--repo", "octo/hello", *flags, "--json")
    assert (await cotex.beside(*line)).json["event_type"] == kind
    assert (await cotex.beside("event", "show", "1", "--json")).json["event_type"] == kind


@sqlite
async def test_a_ping_is_answered_and_is_no_event(server, cotex):
    server.track(server.user("ada"))
    line = ("event", "send", "--repo", "octo/hello", "--event", "ping")
    assert (await cotex.beside(*line)).err == "The webhook answers.\n"
    assert (await cotex.beside(*line, "--json")).json["pinged"] is True
    assert (await cotex.beside("event", "list", "--json")).json == []


@sqlite
@pytest.mark.parametrize("form", ["{server}", "{server}/", "{server}{path}"])
async def test_send_takes_a_server_s_address_or_that_of_the_webhook(server, cotex, form: str):
    repo = server.track(server.user("ada"))
    url = form.format(server=server.url, path=repo.webhook_url)
    done = await cotex.beside("event", "send", "--repo", "octo/hello", "--url", url, "--json")
    assert done.json["url"] == server.url + repo.webhook_url


@sqlite
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"a":' * 300 + b"1" + b"}" * 300])
async def test_what_the_server_refuses_is_told_in_its_words(server, cotex, payload: Path, body: bytes):
    server.track(server.user("ada"))
    payload.write_bytes(body)
    done = await cotex.beside("event", "send", str(payload), "--repo", "octo/hello")
    assert (done.code, done.out) == (2, "")
    assert "refused (400)" in done.err
    assert len(done.err.splitlines()) <= 3


@sqlite
async def test_a_payload_that_is_too_large_is_refused(server, cotex, payload: Path):
    server.track(server.user("ada"))
    payload.write_bytes(b'{"a": "' + b"x" * (25 * 1024 * 1024) + b'"}')
    assert (await cotex.beside("event", "send", str(payload), "--repo", "octo/hello")).code == 5


def test_a_file_that_cannot_be_read_is_refused_before_anything_is_sent(cotex, octo: Tracked, tmp_path: Path):
    for file in (tmp_path, tmp_path / "nowhere.json"):
        done = cotex("event", "send", str(file), "--repo", "octo/hello")
        assert done.code == 2
        assert "cannot be read" in done.err


def test_a_server_that_was_killed_is_unreachable(cotex, octo: Tracked):
    assert cotex.serve().end(signal.SIGKILL).code == -signal.SIGKILL
    done = cotex("event", "send", "--repo", "octo/hello")
    assert done.code == 6
    assert "No server answers at http://127.0.0.1:" in done.err


async def test_what_is_sent_is_signed_with_the_secret_of_today(server, cotex):
    server.track(server.user("ada"))
    await cotex.beside("repo", "secret", "octo/hello", "--rotate", "--overlap", "0s")
    assert (await cotex.beside("event", "send", "--repo", "octo/hello")).code == 0


def test_on_a_terminal_the_last_day_is_drawn(cotex, octo: Tracked):
    done = cotex.on_a_terminal("event", "list")
    assert f"Last 24 hours: {'·' * 23}█  1 in all" in done.err
    assert "Last 24" not in cotex("event", "list").err
