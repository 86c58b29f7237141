"""Tokens from outside, over HTTP: who comes in by them, as whom, and for how long."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import fakeissuer
import httpx
import pytest
from actors import WAIT, Client, legacy, receive
from conftest import Serve, Server, eventually, with_password
from fakeissuer import FakeIssuer

from cotexd.config import Settings
from cotexd.gateways import jwks
from cotexd.operations import accounts, audit, removal

# Tokens are not read from a database.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
async def issuer() -> AsyncIterator[FakeIssuer]:
    async with fakeissuer.running() as found:
        yield found


@pytest.fixture
def settings(settings: Settings, issuer: FakeIssuer) -> Settings:
    return replace(settings, **issuer.supabase)


async def me(server: Server, token: str) -> httpx.Response:
    return await server.get("/api/me", headers={"authorization": f"Bearer {token}"})


async def who(server: Server, token: str) -> dict[str, Any]:
    answer = await me(server, token)
    assert answer.status_code == 200, answer.text
    user: dict[str, Any] = answer.json()["user"]
    return user


def everybody(server: Server) -> list[str]:
    return [account.id for account in server.store.look(accounts.all_of_them)]


# Who they become.


@pytest.mark.parametrize("algorithm", ["HS256", "ES256", "RS256"])
async def test_the_first_valid_token_of_supabase_makes_the_user_under_its_own_id(
    server: Server, issuer: FakeIssuer, algorithm: str
):
    kid = issuer.new_key("RS256") if algorithm == "RS256" else None
    subject = str(uuid.uuid4())
    user = await who(server, issuer.token(algorithm, kid=kid, sub=subject))
    assert (user["id"], user["tier"], user["name"]) == (subject, "free", f"user-{subject[:8]}")
    assert await who(server, issuer.token(algorithm, kid=kid, sub=subject, email="new@example.com")) == user
    assert everybody(server) == [subject]
    (made,) = server.store.look(audit.listing, limit=10, action="user.provision")
    assert (made.target, made.detail) == (user["name"], {"issuer": issuer.iss, "subject": subject})


async def test_many_first_tokens_at_once_make_one_user(server: Server, issuer: FakeIssuer):
    subject = str(uuid.uuid4())
    found = await asyncio.gather(*(who(server, issuer.token(sub=subject)) for _ in range(20)))
    assert {user["id"] for user in found} == {subject}
    assert everybody(server) == [subject]


async def test_a_subject_that_is_no_uuid_or_is_taken_gets_an_id_of_ours(server: Server, issuer: FakeIssuer):
    ada = server.user("ada")
    for subject in ("auth0|1234", "ada", ada.id, ada.id.upper()):
        user = await who(server, issuer.token(sub=subject))
        assert uuid.UUID(user["id"]).version == 4
        assert user["id"] != ada.id
        assert user["name"].startswith("user-")
    assert len(everybody(server)) == 5


async def test_an_address_never_links_accounts(server: Server, issuer: FakeIssuer):
    ada = with_password(server, "ada")
    server.track(ada)
    token = issuer.token(email="ada@example.com", email_verified=True)
    user = await who(server, token)
    assert (user["id"] != ada.id, user["name"] != "ada") == (True, True)
    repos = await server.get("/api/repos", headers={"authorization": f"Bearer {token}"})
    assert repos.json() == []
    other = await who(server, issuer.token(email="ada@example.com", email_verified=True))
    assert other["id"] not in {user["id"], ada.id}


async def test_a_name_is_never_made_from_what_the_person_chose(server: Server, issuer: FakeIssuer):
    chosen = {"name": "ada", "user_name": "ada", "preferred_username": "ada", "full_name": "ada"}
    token = issuer.token(email="ada@elsewhere.example", user_metadata=chosen, **chosen)
    assert (await who(server, token))["name"].startswith("user-")
    assert server.user("ada").name == "ada"


async def test_an_address_counts_only_where_the_issuer_itself_says_that_it_is_verified(
    server: Server, issuer: FakeIssuer
):
    told = {"email": "grace@example.com", "email_verified": True}
    assert (await who(server, issuer.token(user_metadata=told, app_metadata=told)))["email"] == ""
    assert (await who(server, issuer.token(email_verified="true")))["email"] == ""
    assert (await who(server, issuer.token(email_verified=True)))["email"] == "grace@example.com"


@on_sqlite
async def test_nothing_in_the_metadata_gives_anything(server: Server, issuer: FakeIssuer):
    claimed = {
        "tier": "pro",
        "role": "service_role",
        "scope": "everything",
        "claims_admin": True,
        "sub": server.user("ada").id,
        "is_anonymous": False,
    }
    token = issuer.token(app_metadata=claimed, user_metadata=claimed, role="service_role")
    user = await who(server, token)
    assert (user["tier"], user["repo_limit"]) == ("free", 2)
    assert user["id"] not in {claimed["sub"], ""}


@on_sqlite
async def test_a_scope_that_another_issuer_writes_is_not_ours(server: Server, issuer: FakeIssuer):
    assert (await me(server, issuer.token(scope="openid profile email"))).status_code == 200


@on_sqlite
async def test_an_anonymous_user_has_no_account(server: Server, issuer: FakeIssuer):
    answer = await me(server, issuer.token(is_anonymous=True, email_verified=True))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert everybody(server) == []


# Who may.


async def test_without_provisioning_only_those_come_in_who_are_here(
    servers: Serve, settings: Settings, issuer: FakeIssuer
):
    token = issuer.token()
    server = await servers(settings)
    known = await who(server, token)
    await server.appliance.stop()
    closed = await servers(replace(settings, auto_provision=False))
    assert await who(closed, token) == known
    answer = await me(closed, issuer.token())
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert everybody(closed) == [known["id"]]


@on_sqlite
async def test_only_verified_addresses_of_the_named_domains_are_let_in(
    servers: Serve, settings: Settings, issuer: FakeIssuer
):
    server = await servers(replace(settings, email_domains=("example.com",)))
    metadata = {"email": "eve@example.com", "email_verified": True}
    for claims, status in (
        ({"email": "eve@example.com", "email_verified": True}, 200),
        ({"email": "EVE@Example.COM", "email_verified": True}, 200),
        ({"email": "eve@example.com", "email_verified": False}, 403),
        ({"email": "eve@example.com", "email_verified": "true"}, 403),
        ({"email": "eve@example.com", "email_verified": 1}, 403),
        ({"email": "eve@example.com", "user_metadata": metadata}, 403),
        ({"email": "eve@elsewhere.example", "email_verified": True, "user_metadata": metadata}, 403),
        ({"email": "eve@sub.example.com", "email_verified": True}, 403),
        ({"email": "eve@notexample.com", "email_verified": True}, 403),
        ({"email": "example.com@elsewhere.example", "email_verified": True}, 403),
        ({"email": None, "email_verified": True}, 403),
    ):
        assert (await me(server, issuer.token(**claims))).status_code == status, claims
    assert len(everybody(server)) == 2


@on_sqlite
async def test_what_is_no_address_is_of_no_domain(servers: Serve, settings: Settings, issuer: FakeIssuer):
    server = await servers(replace(settings, email_domains=("example.com",)))
    for email in ("example.com", "@example.com"):
        assert (await me(server, issuer.token(email=email, email_verified=True))).status_code == 403, email


@on_sqlite
async def test_an_issuer_that_is_trusted_to_verify_need_not_say_so(
    servers: Serve, settings: Settings, issuer: FakeIssuer
):
    openid = replace(
        settings,
        supabase_url="",
        supabase_jwt_secret="",
        issuers=(issuer.openid(trust_email=True),),
        email_domains=("example.com",),
    )
    server = await servers(openid)
    assert (await me(server, issuer.token(aud="cotex-app"))).status_code == 200
    assert (await me(server, issuer.token(aud="cotex-app", email="eve@elsewhere.example"))).status_code == 403


async def test_a_disabled_or_removed_user_stays_out_whatever_their_issuer_says(
    server: Server, issuer: FakeIssuer
):
    subject = str(uuid.uuid4())
    await who(server, issuer.token(sub=subject))
    server.store.run(accounts.disable, subject)
    assert (await me(server, issuer.token(sub=subject))).status_code == 403
    server.store.run(accounts.enable, subject)
    assert (await me(server, issuer.token(sub=subject))).status_code == 200
    token = issuer.token(sub=subject)
    async with Client(server.url, token).connected() as socket:
        server.store.run(removal.remove_user, subject)
        await socket.wait_closed()
        assert socket.close_code == 4500


# Several issuers.


async def test_two_issuers_side_by_side_are_two_people_for_the_same_subject(
    servers: Serve, settings: Settings, issuer: FakeIssuer
):
    async with fakeissuer.running() as other:
        server = await servers(replace(settings, issuers=(other.openid(),)))
        subject = str(uuid.uuid4())
        first = await who(server, issuer.token(sub=subject))
        second = await who(server, other.token(sub=subject, aud="cotex-app"))
        assert first["id"] == subject != second["id"]
        assert await who(server, other.token(sub=subject, aud="cotex-app")) == second
        # Each has an audience, algorithms and keys of its own.
        for token in (
            other.token(),
            issuer.token(aud="cotex-app"),
            other.token("HS256", aud="cotex-app", key=issuer.secret),
            issuer.token(kid=other.es256, key=other.keys[other.es256]),
            other.token(aud="cotex-app", kid=issuer.es256, key=issuer.keys[issuer.es256]),
            other.token(aud="cotex-app", iss=issuer.iss),
        ):
            assert (await me(server, token)).status_code == 401


@on_sqlite
async def test_supabase_may_name_itself_otherwise(servers: Serve, settings: Settings, issuer: FakeIssuer):
    server = await servers(replace(settings, supabase_issuer="https://project.example/auth/v1"))
    assert (await me(server, issuer.token(iss="https://project.example/auth/v1"))).status_code == 200
    assert (await me(server, issuer.token())).status_code == 401


@on_sqlite
async def test_without_a_legacy_secret_no_shared_secret_signs_in(
    servers: Serve, settings: Settings, issuer: FakeIssuer
):
    server = await servers(replace(settings, supabase_jwt_secret=""))
    assert (await me(server, issuer.token("HS256"))).status_code == 401
    assert (await me(server, issuer.token("ES256"))).status_code == 200


@on_sqlite
async def test_a_shared_secret_alone_needs_no_keys_from_anywhere(
    servers: Serve, settings: Settings, issuer: FakeIssuer
):
    server = await servers(replace(settings, supabase_url="", supabase_issuer=issuer.iss))
    assert (await me(server, issuer.token("HS256"))).status_code == 200
    assert (await me(server, issuer.token("HS256", kid="hosted-legacy"))).status_code == 200
    assert (await me(server, issuer.token("ES256"))).status_code == 401
    assert issuer.fetches == 0


# Its keys.


@on_sqlite
async def test_a_kid_on_a_token_of_the_legacy_secret_is_fine_unless_it_names_a_published_key(
    server: Server, issuer: FakeIssuer
):
    assert (await me(server, issuer.token("HS256", kid="hosted-legacy"))).status_code == 200
    assert (await me(server, issuer.token("HS256", kid=issuer.es256))).status_code == 401


@on_sqlite
async def test_a_new_key_of_the_issuer_is_good_at_once_and_a_retired_one_with_the_next_fetch_is_not(
    server: Server, issuer: FakeIssuer
):
    old = issuer.token()
    assert (await me(server, old)).status_code == 200
    retired = issuer.keys.pop(issuer.es256)
    new = issuer.new_key()
    assert (await me(server, issuer.token(kid=new))).status_code == 200
    assert (await me(server, old)).status_code == 401
    assert (await me(server, issuer.token(kid=issuer.es256, key=retired))).status_code == 401
    assert issuer.fetches == 2


@on_sqlite
async def test_several_who_come_with_the_new_key_at_once_all_come_in(server: Server, issuer: FakeIssuer):
    subject = str(uuid.uuid4())
    await who(server, issuer.token(sub=subject))
    new = issuer.new_key()
    issuer.open.clear()
    asking = [asyncio.ensure_future(me(server, issuer.token(kid=new, sub=subject))) for _ in range(5)]
    await eventually(lambda: issuer.fetches == 2)
    issuer.open.set()
    answers = await asyncio.gather(*asking)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert issuer.fetches == 2


@on_sqlite
async def test_while_the_issuer_is_away_what_is_known_of_it_stays_good(server: Server, issuer: FakeIssuer):
    assert (await me(server, issuer.token())).status_code == 200
    issuer.away = True
    assert (await me(server, issuer.token())).status_code == 200
    assert (await me(server, issuer.token("HS256"))).status_code == 200
    assert (await me(server, issuer.token(kid=issuer.new_key()))).status_code == 401
    assert (await me(server, issuer.token())).status_code == 200


@on_sqlite
async def test_an_issuer_that_was_never_there_is_asked_to_come_again_for(
    server: Server, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jwks, "RETRY", 0.2)
    issuer.away = True
    answer = await me(server, issuer.token())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert (await me(server, issuer.token("HS256"))).status_code == 200
    issuer.away = False
    token = issuer.token()

    async def good() -> bool:
        return (await me(server, token)).status_code == 200

    await eventually(good)


@on_sqlite
async def test_others_are_served_while_an_issuer_does_not_answer(server: Server, issuer: FakeIssuer):
    issuer.open.clear()
    waiting = asyncio.ensure_future(me(server, issuer.token()))
    await eventually(lambda: issuer.fetches == 1)
    assert (await server.get("/api/me", server.user("ada"))).status_code == 200
    assert not waiting.done()
    issuer.open.set()
    assert (await waiting).status_code == 200


@on_sqlite
async def test_a_checked_signature_does_not_keep_a_token_good(server: Server, issuer: FakeIssuer):
    # The leeway is 30 s: it has one or two left.
    token = issuer.token(exp=int(time.time()) - 28)
    assert (await me(server, token)).status_code == 200

    async def over() -> bool:
        return (await me(server, token)).status_code == 401

    await eventually(over)


async def test_the_desktop_app_connects_with_a_token_of_supabase(server: Server, issuer: FakeIssuer):
    subject = str(uuid.uuid4())
    token = issuer.token(sub=subject)
    await who(server, token)
    repo = server.track(server.store.look(accounts.find, subject))
    async with legacy(server.url, token) as socket:
        await server.github.deliver(repo)
        while (message := await receive(socket))["type"] != "github_event":
            pass
        assert (message["user_id"], message["seq"]) == (subject, 1)


async def test_a_socket_outlives_its_token_by_the_grace_and_no_more(server: Server, issuer: FakeIssuer):
    async with Client(server.url, issuer.token(exp=int(time.time()) - 23)).connected() as socket:
        async with asyncio.timeout(WAIT):
            await socket.wait_closed()
        assert socket.close_code == 4001
