"""Our own issuer, as supabase-js speaks with it; the real clients do so in test_supabase.py."""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from actors import Client
from conftest import PASSWORD, Server, eventually, hash_of_password, inside, with_password

from cotexd.domain import passwords
from cotexd.operations import accounts, audit, sessions, signing
from cotexd.store import Tx
from cotexd.store.models import RefreshToken
from cotexd.web import identity
from cotexd.web.limits import MAX_GUESSES, MAX_SIGN_INS

# What is limited is counted in one minute, however long a test takes.
pytestmark = pytest.mark.usefixtures("minute")
# What the database has no part in is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ISSUER = "cotexd/auth/v1"


async def ask(server: Server, grant_type: str, **body: Any) -> httpx.Response:
    headers = {"apikey": "any-key", "x-supabase-api-version": "2024-01-01", "x-client-info": "supabase-js"}
    return await server.request("POST", f"/auth/v1/token?grant_type={grant_type}", json=body, headers=headers)


async def sign_in(server: Server, login: str = "ada@example.com", password: str = PASSWORD) -> httpx.Response:
    return await ask(server, "password", email=login, password=password)


async def refresh(server: Server, refresh_token: str) -> httpx.Response:
    return await ask(server, "refresh_token", refresh_token=refresh_token)


async def with_token(server: Server, method: str, path: str, session: dict[str, Any]) -> httpx.Response:
    return await server.request(
        method, path, headers={"authorization": f"Bearer {session['access_token']}", "apikey": "any-key"}
    )


def begun(server: Server, name: str = "ada") -> dict[str, Any]:
    """A session of a user with a password, without comparing that."""
    ada = server.store.look(accounts.find, name)
    granted = server.store.run(sessions.begin, ada.id, hash_of_password(), ISSUER)
    return {"access_token": granted.access_token, "refresh_token": granted.refresh_token}


def refused(answer: httpx.Response) -> tuple[int, str]:
    """The status and the error's code of a refusal in the protocol's own form."""
    assert set(answer.json()) == {"code", "error_code", "msg"}
    assert answer.json()["code"] == answer.status_code
    assert answer.json()["msg"]
    return answer.status_code, answer.json()["error_code"]


def age(tx: Tx, by: timedelta) -> None:
    """Let the time pass since refresh tokens were used."""
    for row in RefreshToken.select().where(RefreshToken.used_at.is_null(False)):
        RefreshToken.update(used_at=row.used_at - by).where(RefreshToken.hash == row.hash).execute()
    del tx


# Signing in.


async def test_signing_in_answers_with_a_session(server: Server):
    ada = with_password(server)
    before = datetime.now(UTC)
    answer = await sign_in(server)
    session = answer.json()
    assert answer.status_code == 200
    assert set(session) == {
        "access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user",
    }  # fmt: skip
    assert (session["token_type"], 3595 <= session["expires_in"] <= 3600) == ("bearer", True)
    assert 0 <= session["expires_at"] - int(before.timestamp()) - 3600 <= 10
    user = session["user"]
    assert (user["id"], user["email"], user["role"]) == (ada.id, "ada@example.com", "authenticated")
    assert user["aud"] == "authenticated"
    assert answer.headers["cache-control"] == "no-store"
    assert (await with_token(server, "GET", "/auth/v1/user", session)).json() == user
    assert (await with_token(server, "GET", "/api/me", session)).json()["user"]["name"] == "ada"


async def test_the_access_token_is_checked_by_whoever_knows_our_published_keys(server: Server):
    ada = with_password(server)
    token = begun(server)["access_token"]
    keys = (await server.get("/auth/v1/.well-known/jwks.json")).json()
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, ["ES256"], audience="authenticated", issuer=ISSUER)
    assert (claims["sub"], claims["email"], claims["role"]) == (ada.id, "ada@example.com", "authenticated")
    assert claims["exp"] - claims["iat"] in {3599, 3600}
    assert uuid.UUID(claims["session_id"])
    assert (claims["aal"], claims["is_anonymous"]) == ("aal1", False)
    assert claims["amr"][0]["method"] == "password"


async def test_what_is_published_of_a_key_is_its_public_part(server: Server):
    answer = await server.get("/auth/v1/.well-known/jwks.json")
    assert re.fullmatch(r"public, max-age=\d+", answer.headers["cache-control"])
    assert len(answer.json()["keys"]) == 2
    for key in answer.json()["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}
        assert (key["alg"], key["use"], key["key_ops"]) == ("ES256", "sig", ["verify"])


@on_sqlite
@pytest.mark.parametrize("login", ["ADA@Example.com", " ada@example.com ", "ada"])
async def test_one_signs_in_with_the_address_in_any_case_or_with_the_name(server: Server, login: str):
    ada = with_password(server)
    assert (await sign_in(server, login)).json()["user"]["id"] == ada.id


@on_sqlite
async def test_a_wrong_password_and_nobody_are_one_answer(server: Server):
    with_password(server)
    server.user("eve")
    answers = [
        await sign_in(server, "ada@example.com", "wrong password"),
        await sign_in(server, "ada@example.com", ""),
        await sign_in(server, "ada@example.com", "x" * 60_000),
        await sign_in(server, "ada@example.com", PASSWORD + "\0"),
        await sign_in(server, "nobody@example.com"),
        await sign_in(server, "eve"),
        await sign_in(server, ""),
        await sign_in(server, "ada@example.com\0"),
    ]
    assert {refused(answer) for answer in answers} == {(400, "invalid_credentials")}
    assert len({answer.text for answer in answers}) == 1


@on_sqlite
async def test_that_somebody_is_disabled_is_told_to_those_who_know_the_password_only(server: Server):
    with_password(server)
    server.store.run(accounts.disable, "ada")
    assert refused(await sign_in(server)) == (403, "user_banned")
    assert refused(await sign_in(server, password="wrong password")) == (400, "invalid_credentials")


@on_sqlite
@pytest.mark.parametrize(
    ("grant_type", "content", "code"),
    [
        ("password", b"", "validation_failed"),
        ("password", b"{}", "validation_failed"),
        ("password", b"[1]", "validation_failed"),
        ("password", b'{"email":"ada@example.com","password":5}', "validation_failed"),
        ("password", b'{"email":"ada@example.com","password":"\\ud800"}', "validation_failed"),
        ("password", b"[" * 60_000, "validation_failed"),
        ("refresh_token", b"{}", "validation_failed"),
        ("refresh_token", b'{"refresh_token":null}', "validation_failed"),
        ("", b"{}", "unsupported_grant_type"),
        ("id_token", b"{}", "unsupported_grant_type"),
        ("pkce", b"{}", "unsupported_grant_type"),
    ],
)
async def test_what_cannot_be_understood_is_refused_in_the_protocols_form(
    server: Server, grant_type: str, content: bytes, code: str
):
    answer = await server.request("POST", f"/auth/v1/token?grant_type={grant_type}", content=content)
    assert refused(answer) == (400, code)


async def test_a_new_password_ends_what_the_old_one_began(server: Server):
    with_password(server)
    session = begun(server)
    async with Client(server.url, session["access_token"]).connected() as socket:
        new = passwords.hash_of("another horse")
        server.store.run(sessions.set_password, "ada", new)
        await socket.wait_closed()
        assert socket.close_code == 4500
    assert refused(await with_token(server, "GET", "/auth/v1/user", session)) == (401, "bad_jwt")
    assert refused(await refresh(server, session["refresh_token"])) == (400, "session_not_found")
    assert (await sign_in(server)).status_code == 400
    assert (await sign_in(server, password="another horse")).status_code == 200


async def test_a_sign_in_whose_password_is_changed_meanwhile_comes_to_nothing(server: Server):
    ada = with_password(server)
    server.store.run(sessions.set_password, "ada", "another hash")
    with pytest.raises(sessions.Unauthorized):
        server.store.run(sessions.begin, ada.id, hash_of_password(), ISSUER)


@on_sqlite
async def test_more_sign_ins_at_once_than_can_wait_are_asked_to_come_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(identity, "MAX_WAITING", 3)
    with_password(server)
    answers = await asyncio.gather(*(sign_in(server) for _ in range(8)))
    later = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(later) < 8
    assert {refused(answer) for answer in later} == {(503, "overloaded")}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in later)
    assert (await sign_in(server)).status_code == 200


# Refreshing.


async def test_a_refresh_gives_new_tokens_of_the_same_session(server: Server):
    with_password(server)
    first = begun(server)
    second = (await refresh(server, first["refresh_token"])).json()
    third = (await refresh(server, second["refresh_token"])).json()
    assert len({each["refresh_token"] for each in (first, second, third)}) == 3
    claims = [
        jwt.decode(each["access_token"], options={"verify_signature": False})
        for each in (first, second, third)
    ]
    assert len({each["session_id"] for each in claims}) == 1
    assert len({each["amr"][0]["timestamp"] for each in claims}) == 1
    for each in (first, second, third):
        assert (await with_token(server, "GET", "/auth/v1/user", each)).status_code == 200


async def test_a_client_that_lost_the_answer_asks_again_and_gets_the_same_successor(server: Server):
    with_password(server)
    first = begun(server)
    answers = await asyncio.gather(*(refresh(server, first["refresh_token"]) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    (successor,) = {answer.json()["refresh_token"] for answer in answers}
    assert (await refresh(server, successor)).status_code == 200


async def test_a_used_refresh_token_that_comes_back_later_ends_its_session(server: Server):
    with_password(server)
    stolen, elsewhere = begun(server), begun(server)
    successor = (await refresh(server, stolen["refresh_token"])).json()
    server.store.run(age, timedelta(seconds=11))
    async with Client(server.url, successor["access_token"]).connected() as socket:
        answer = await refresh(server, stolen["refresh_token"])
        assert refused(answer) == (400, "refresh_token_already_used")
        await socket.wait_closed()
        assert socket.close_code == 4500
    assert refused(await refresh(server, successor["refresh_token"])) == (400, "session_not_found")
    assert (await with_token(server, "GET", "/api/me", successor)).status_code == 401
    assert (await refresh(server, elsewhere["refresh_token"])).status_code == 200
    (told,) = server.store.look(audit.listing, limit=10, action="session.reused")
    assert told.target == "ada"


async def test_just_within_ten_seconds_it_is_no_theft(server: Server):
    with_password(server)
    first = begun(server)
    second = (await refresh(server, first["refresh_token"])).json()
    server.store.run(age, timedelta(seconds=6))
    again = await refresh(server, first["refresh_token"])
    assert again.json()["refresh_token"] == second["refresh_token"]


@on_sqlite
async def test_a_refresh_token_that_never_was_is_not_found(server: Server):
    with_password(server)
    for token in ("", "x", "\x00", "ä", begun(server)["refresh_token"][:-1], begun(server)["access_token"]):
        assert refused(await refresh(server, token)) == (400, "refresh_token_not_found")


async def test_a_disabled_user_refreshes_nothing_and_goes_on_once_they_are_enabled(server: Server):
    with_password(server)
    session = begun(server)
    server.store.run(accounts.disable, "ada")
    assert refused(await refresh(server, session["refresh_token"])) == (400, "user_banned")
    assert refused(await with_token(server, "GET", "/auth/v1/user", session)) == (403, "user_banned")
    server.store.run(accounts.enable, "ada")
    assert (await refresh(server, session["refresh_token"])).status_code == 200


# Signing out.


@pytest.mark.parametrize(
    ("scope", "this", "other"),
    [("", 401, 401), ("?scope=global", 401, 401), ("?scope=local", 401, 200), ("?scope=others", 200, 401)],
)
async def test_signing_out_ends_the_sessions_of_its_scope_at_once(
    server: Server, scope: str, this: int, other: int
):
    with_password(server)
    with_password(server, "bob")
    here, there, bobs = begun(server), begun(server), begun(server, "bob")
    answer = await with_token(server, "POST", f"/auth/v1/logout{scope}", here)
    assert (answer.status_code, answer.content) == (204, b"")
    for session, status in ((here, this), (there, other), (bobs, 200)):
        assert (await with_token(server, "GET", "/auth/v1/user", session)).status_code == status
        assert (await refresh(server, session["refresh_token"])).status_code == (
            200 if status == 200 else 400
        )


async def test_signing_out_closes_the_sockets_of_the_sessions_that_end(server: Server):
    with_password(server)
    here, there = begun(server), begun(server)
    async with (
        Client(server.url, here["access_token"]).connected() as mine,
        Client(server.url, there["access_token"]).connected() as another,
    ):
        await with_token(server, "POST", "/auth/v1/logout?scope=others", here)
        await another.wait_closed()
        assert another.close_code == 4500
        assert await mine.ping()


@on_sqlite
async def test_signing_out_without_a_token_or_by_another_scope_is_refused(server: Server):
    with_password(server)
    assert refused(await server.request("POST", "/auth/v1/logout")) == (401, "bad_jwt")
    answer = await with_token(server, "POST", "/auth/v1/logout?scope=everybody", begun(server))
    assert refused(answer) == (400, "validation_failed")


# The rest of the protocol.


@on_sqlite
async def test_who_asks_for_the_user_without_a_good_token_is_answered_in_the_protocols_form(server: Server):
    for headers in ({}, {"authorization": "Bearer x"}, {"apikey": "any-key"}):
        assert refused(await server.get("/auth/v1/user", headers=headers)) == (401, "bad_jwt")


@on_sqlite
async def test_it_says_what_it_offers_and_that_it_is_there(server: Server):
    settings = (await server.get("/auth/v1/settings")).json()
    assert (settings["disable_signup"], settings["external"]["email"]) == (True, True)
    assert (await server.get("/auth/v1/health")).json()["name"] == "cotexd"


@on_sqlite
async def test_nobody_signs_up_by_themselves(server: Server):
    for path in ("/auth/v1/signup", "/auth/v1/admin/users", "/auth/v1/otp", "/auth/v1/recover"):
        answer = await server.request("POST", path, json={"email": "eve@example.com", "password": PASSWORD})
        assert answer.status_code == 404
    assert server.store.look(accounts.all_of_them) == []


# Keys that rotate.


async def test_a_token_outlives_one_rotation_of_the_signing_keys_and_not_two(server: Server):
    with_password(server)
    session = begun(server)

    async def status() -> int:
        return (await with_token(server, "GET", "/auth/v1/user", session)).status_code

    published = (await server.get("/auth/v1/.well-known/jwks.json")).json()["keys"]
    assert await status() == 200
    server.store.run(signing.rotate)
    new = begun(server)
    assert jwt.get_unverified_header(new["access_token"])["kid"] == published[1]["kid"]
    assert (await with_token(server, "GET", "/auth/v1/user", new)).status_code == 200
    assert await status() == 200
    server.store.run(signing.rotate)
    await eventually(lambda: _is(status, 401))
    assert (await with_token(server, "GET", "/auth/v1/user", new)).status_code == 200
    # Its session goes on, with a token by the key that is in use.
    assert (await refresh(server, session["refresh_token"])).status_code == 200


async def _is(status: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await status() == wanted


@on_sqlite
async def test_no_password_refresh_token_or_private_key_lies_open_in_the_database(server: Server):
    with_password(server)
    session = (await sign_in(server)).json()
    pair = server.store.run(signing.in_use)
    private = re.search(rb'"d":\s*"([\w-]+)"', pair.private)
    assert private is not None
    folder = server.store.files.folder
    stored = b"".join(file.read_bytes() for file in folder.iterdir() if file.name.startswith("cotexd.db"))
    assert session["user"]["id"].encode() in stored
    for secret in (PASSWORD.encode(), session["refresh_token"].encode(), private[1]):
        assert secret not in stored


# Limits.


@on_sqlite
async def test_who_guesses_at_one_account_is_slowed_down_and_others_are_not(server: Server):
    with_password(server)
    with_password(server, "bob")
    for _ in range(MAX_GUESSES):
        assert (await sign_in(server, password="wrong password")).status_code == 400
    answer = await sign_in(server)
    assert refused(answer) == (429, "over_request_rate_limit")
    assert 0 < int(answer.headers["retry-after"]) <= 120
    assert re.fullmatch(r'"guesses";r=0;t=\d+', answer.headers["ratelimit"])
    assert (await sign_in(server, "bob@example.com")).status_code == 200


@on_sqlite
async def test_the_address_and_the_name_are_one_account_to_guess_at(server: Server):
    with_password(server)
    logins = ["ada@example.com", "ada", "ADA@example.com", " ada"]
    for number in range(MAX_GUESSES):
        assert (await sign_in(server, logins[number % 4], "wrong password")).status_code == 400
    assert [(await sign_in(server, login)).status_code for login in logins] == [429] * 4


@on_sqlite
async def test_guessing_at_once_is_no_quicker(server: Server):
    with_password(server)
    guesses = [asyncio.ensure_future(sign_in(server, password=f"wrong {n}")) for n in range(2 * MAX_GUESSES)]
    await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    # All of them are under way by now: no password is compared any more, be it the right one.
    assert (await sign_in(server)).status_code == 429
    answers = [await guess for guess in guesses]
    assert sum(answer.status_code == 400 for answer in answers) <= MAX_GUESSES


@on_sqlite
async def test_who_guesses_at_many_accounts_is_slowed_down_by_address(server: Server):
    with_password(server)
    for _ in range(5 * MAX_GUESSES):
        inside().limits.hit("guesses-of-address", "127.0.0.1", 5 * MAX_GUESSES)
    assert refused(await sign_in(server)) == (429, "over_request_rate_limit")


@on_sqlite
async def test_too_many_sign_ins_from_one_address_are_429(server: Server):
    with_password(server)
    for _ in range(MAX_SIGN_INS):
        inside().limits.hit("sign-ins", "127.0.0.1", MAX_SIGN_INS)
    answer = await sign_in(server)
    assert refused(answer) == (429, "over_request_rate_limit")
    assert int(answer.headers["retry-after"]) > 0


@on_sqlite
async def test_a_throttled_refresh_is_503_since_a_client_would_drop_its_session_on_429(server: Server):
    with_password(server)
    session = begun(server)
    answers = [await refresh(server, "guessed") for _ in range(10 * MAX_SIGN_INS)]
    assert {refused(answer) for answer in answers} == {(400, "refresh_token_not_found")}
    answer = await refresh(server, session["refresh_token"])
    assert refused(answer) == (503, "over_request_rate_limit")
    assert int(answer.headers["retry-after"]) > 0


@on_sqlite
async def test_every_answer_to_a_limited_question_says_how_one_stands(server: Server):
    with_password(server)
    session = begun(server)
    for answer in (
        await with_token(server, "GET", "/auth/v1/user", session),
        await sign_in(server),
        await sign_in(server, password="wrong password"),
        await refresh(server, session["refresh_token"]),
    ):
        assert re.fullmatch(r'"[a-z-]+";q=\d+;w=60', answer.headers.get("ratelimit-policy", "")), answer.text
        assert re.fullmatch(r'"[a-z-]+";r=\d+;t=\d+', answer.headers.get("ratelimit", ""))
