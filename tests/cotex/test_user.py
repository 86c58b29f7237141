import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from actors import WAIT
from websockets.sync.client import connect

from cotexd.operations.repositories import Tracked


def names(cotex) -> list[str]:
    return [each["name"] for each in cotex("user", "list", "--json").json]


def test_add_shows_the_user_and_says_what_is_next(cotex, database: str):
    done = cotex("user", "add", "ada", "--email", "ada@example.com", "--tier", "pro")
    assert done.code == 0
    for fact in (
        "name\tada",
        "e-mail\tada@example.com",
        "tier\tpro (admin)",
        "repositories\t0 of 10",
        "disabled\tno",
    ):
        assert fact + "\n" in done.out
    assert done.err == "Next: cotex repo add octo/hello --user ada\n"
    assert names(cotex) == ["ada"]


def test_a_name_is_given_once_unless_if_not_exists(cotex):
    first = cotex("user", "add", "ada", "--json")
    again = cotex("user", "add", "ada", "--tier", "pro")
    assert again.code == 4
    assert "cotex user show ada" in again.err
    assert cotex("user", "add", "ada", "--if-not-exists", "--json") == first


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "ä", "a" * 64])
def test_what_can_be_no_name_is_refused(cotex, name: str):
    assert cotex("user", "add", "--", name).code == 2
    assert names(cotex) == []


@pytest.mark.parametrize(("flags", "code"), [(["--email", "ada"], 2), (["--tier", "gold"], 3)])
def test_what_can_be_no_user_is_refused_whole(cotex, flags: list[str], code: int):
    assert cotex("user", "add", "ada", *flags).code == code
    assert names(cotex) == []


def test_list_is_by_name(cotex):
    for name in ("grace", "ada", "linus"):
        cotex("user", "add", name)
    assert names(cotex) == ["ada", "grace", "linus"]
    assert [line.split("\t")[0] for line in cotex("user", "list").out.splitlines()] == [
        "ada",
        "grace",
        "linus",
    ]


def test_disable_and_enable_are_safe_to_repeat_and_shown(cotex, octo: Tracked):
    for _ in range(2):
        assert "cotex user enable ada" in cotex("user", "disable", "ada").err
    assert "disabled\tyes\n" in cotex("user", "show", "ada").out
    for _ in range(2):
        assert cotex("user", "enable", "ada").code == 0
    assert "disabled\tno\n" in cotex("user", "show", "ada").out


def test_a_token_is_the_only_result_and_good_for_as_long_as_was_said(cotex, octo: Tracked):
    done = cotex("user", "token", "ada", "--expires", "30d")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.out)
    assert done.out.strip() not in done.err
    issued = cotex("user", "token", "ada", "--expires", "30d", "--json").json
    left = datetime.fromisoformat(issued["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    assert issued["token"] != done.out.strip()


@pytest.mark.parametrize("lifetime", ["0s", "soon", "1", "-1d", "3651d", "999999999w"])
def test_a_lifetime_that_is_none_is_refused(cotex, octo: Tracked, lifetime: str):
    done = cotex("user", "token", "ada", "--expires", lifetime)
    assert (done.code, done.out) == (2, "")


def test_a_disabled_user_gets_no_token_and_it_is_said_what_to_do_first(cotex, octo: Tracked):
    cotex("user", "disable", "ada")
    done = cotex("user", "token", "ada")
    assert (done.code, done.out) == (5, "")
    assert "cotex user enable ada" in done.err


async def test_a_token_signs_in_is_useless_while_its_user_is_disabled_and_good_again_after(server, cotex):
    await cotex.beside("user", "add", "ada")
    token = (await cotex.beside("user", "token", "ada")).out.strip()
    headers = {"authorization": f"Bearer {token}"}
    assert (await server.get("/api/repos", headers=headers)).status_code == 200
    await cotex.beside("user", "disable", "ada")
    assert (await server.get("/api/repos", headers=headers)).status_code == 403
    await cotex.beside("user", "enable", "ada")
    assert (await server.get("/api/repos", headers=headers)).status_code == 200


async def test_disabling_closes_the_user_s_connections_and_nobody_else_s(server, cotex):
    ada, grace = server.user("ada"), server.user("grace")
    async with server.client(ada).connected() as hers, server.client(grace).connected() as another_s:
        await cotex.beside("user", "disable", "ada")
        await asyncio.wait_for(hers.wait_closed(), WAIT)
        assert hers.close_code == 4500
        assert await (await another_s.ping()) >= 0


def test_a_token_says_nothing_but_whose_it_is_and_for_how_long(cotex, octo: Tracked):
    import jwt

    token = cotex("user", "token", "ada").out.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == octo.user_id
    assert claims["iss"] == "cotexd"
    assert claims.keys() <= {"iss", "aud", "sub", "iat", "exp", "jti"}


def test_a_token_is_listed_by_its_label_without_its_value(cotex, octo: Tracked):
    token = cotex("user", "token", "ada", "--label", "ci", "--scope", "events:read").out.strip()
    cotex("user", "token", "ada", "--label", "laptop")
    done = cotex("user", "tokens", "ada", "--json")
    assert {each["label"]: each["scopes"] for each in done.json} == {"ci": ["events:read"], "laptop": None}
    assert token not in done.out
    assert "everything" in cotex("user", "tokens", "ada").out


@pytest.mark.parametrize("flags", [["--label", "ci"], ["--all"]])
async def test_a_revoked_token_is_good_for_nothing_from_then_on(server, cotex, flags: list[str]):
    server.user("ada")
    token = (await cotex.beside("user", "token", "ada", "--label", "ci")).out.strip()
    headers = {"authorization": f"Bearer {token}"}
    assert (await server.get("/api/repos", headers=headers)).status_code == 200
    assert (await cotex.beside("user", "revoke", "ada", *flags)).code == 0
    assert (await server.get("/api/repos", headers=headers)).status_code == 401


def test_revoking_one_token_leaves_the_others(cotex, octo: Tracked):
    for label in ("ci", "laptop"):
        cotex("user", "token", "ada", "--label", label)
    assert cotex("user", "revoke", "ada", "--label", "ci").code == 0
    listed = {each["label"]: each["revoked_at"] for each in cotex("user", "tokens", "ada", "--json").json}
    assert listed["ci"] is not None
    assert listed["laptop"] is None


def test_it_must_be_said_which_token_is_revoked(cotex, octo: Tracked):
    for flags in ([], ["--label", "ci", "--all"]):
        done = cotex("user", "revoke", "ada", *flags)
        assert done.code == 2
        assert "cotex user tokens ada" in done.err


def test_a_token_is_only_for_scopes_that_there_are(cotex, octo: Tracked):
    done = cotex("user", "token", "ada", "--scope", "events:read,root")
    assert (done.code, done.out) == (2, "")
    assert "events:read" in done.err


async def test_a_password_signs_in_as_soon_as_it_is_set(server, cotex):
    server.user("ada")
    line = ("user", "passwd", "ada", "--email", "ada@example.com", "--stdin")
    assert (await cotex.beside(*line, stdin="correct horse battery\n")).code == 0
    given = {"email": "ada@example.com", "password": "correct horse battery"}
    answer = await server.request("POST", "/auth/v1/token?grant_type=password", json=given)
    assert answer.status_code == 200
    assert answer.json()["access_token"]


def test_a_password_is_asked_for_twice_and_never_shown(cotex, octo: Tracked):
    line = ("user", "passwd", "ada", "--email", "ada@example.com")
    shown = cotex.on_a_terminal(
        *line, answers={"Password: ": "correct horse\n", "confirmation: ": "correct horse\n"}
    )
    assert shown.code == 0
    assert "correct horse" not in shown.err


@pytest.mark.parametrize("typed", ["", "short\n", "x" * 257])
def test_what_can_be_no_password_is_refused(cotex, octo: Tracked, typed: str):
    done = cotex("user", "passwd", "ada", "--email", "ada@example.com", "--stdin", stdin=typed)
    assert (done.code, done.out) == (2, "")


def test_without_a_terminal_a_password_is_not_asked_for(cotex, octo: Tracked):
    done = cotex("user", "passwd", "ada", "--email", "ada@example.com", stdin="correct horse battery\n")
    assert done.code == 2
    assert "--stdin" in done.err


def test_remove_takes_a_user_with_their_repositories_and_only_theirs(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex("repo", "add", "octo/docs", "--user", "grace")
    assert cotex("user", "remove", "ada", "--dry-run").code == 0
    assert cotex("user", "remove", "ada").code == 2
    assert names(cotex) == ["ada", "grace"]
    assert cotex("user", "remove", "ada", "--yes", "--json").json["id"] == octo.user_id
    assert names(cotex) == ["grace"]
    assert [each["repo_name"] for each in cotex("repo", "list", "--json").json] == ["octo/docs"]


async def test_a_removed_user_is_out_at_once(server, cotex):
    ada = server.user("ada")
    token = server.token(ada)
    async with server.client(ada).connected() as socket:
        await cotex.beside("user", "remove", "ada", "--yes")
        await asyncio.wait_for(socket.wait_closed(), WAIT)
    assert (await server.get("/api/repos", headers={"authorization": f"Bearer {token}"})).status_code == 401


def test_devices_say_how_far_each_has_come_and_what_is_connected(cotex, octo: Tracked):
    server = cotex.serve()
    token = cotex("user", "token", "ada").out.strip()
    address = server.url.replace("http", "ws", 1) + "/ws?v=2&device=laptop"
    with connect(address, additional_headers={"authorization": f"Bearer {token}"}, proxy=None) as socket:
        for _ in range(2):
            assert cotex("event", "send", "--repo", "octo/hello").code == 0
        seqs = []
        while len(seqs) < 2:
            message = json.loads(socket.recv(WAIT))
            seqs += [message["seq"]] if message["type"] == "github_event" else []
        socket.send(json.dumps({"type": "client_event", "event": "ack", "seq": seqs[0]}))
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            (device,) = cotex("user", "devices", "ada", "--json").json
            if device["lag"] == 1 and device["connected_since"]:
                break
    assert (device["device"], device["protocol"], device["lag"]) == ("laptop", "v2", 1)
    assert device["cursor"].endswith(f".{seqs[0]}")
    assert (device["address"], device["buffer"], device["connections"]) == ("127.0.0.1", 0, 1)
    while time.monotonic() < until and cotex("user", "devices", "ada", "--json").json[0]["connected_since"]:
        pass
    (device,) = cotex("user", "devices", "ada", "--json").json
    assert (device["connected_since"], device["connections"], device["address"]) == (None, 0, "")
    assert "laptop" in cotex("user", "devices", "ada").out
