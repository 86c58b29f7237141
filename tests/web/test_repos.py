import asyncio
from datetime import datetime

import pytest
from actors import join
from conftest import Server

from cotexd.operations import repositories, tiers
from cotexd.operations.accounts import Account

FIXED = {"id", "user_id", "repo_name", "webhook_secret", "created_at", "updated_at"}
ADDED = {"webhook_url", "status", "role", "last_event_at"}


async def add(server: Server, user: Account, name: str = "octo/hello", **more: str) -> dict:
    answer = await server.request("POST", "/api/repos", user, json={"repo_name": name, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_repository_is_made_and_its_secret_is_told_once(server: Server):
    ada = server.user("ada")
    made = await add(server, ada)
    repo = made["repository"]
    assert set(made) == {"repository", "webhook_url"}
    assert set(repo) >= FIXED | ADDED
    assert (repo["user_id"], repo["repo_name"], repo["status"], repo["role"], repo["last_event_at"]) == (
        ada.id,
        "octo/hello",
        "active",
        "owner",
        None,
    )
    assert made["webhook_url"] == repo["webhook_url"] == f"/api/webhooks/github/{repo['id']}"
    assert len(bytes.fromhex(repo["webhook_secret"])) == 32
    assert datetime.fromisoformat(repo["created_at"]).utcoffset() is not None
    assert (await server.get("/api/repos", ada)).json() == [{**repo, "webhook_secret": ""}]
    assert (await server.get(f"/api/repos?id={repo['id']}", ada)).json() == {**repo, "webhook_secret": ""}


async def test_deliveries_are_checked_with_the_secret_that_was_told(server: Server):
    ada = server.user("ada")
    made = await add(server, ada)
    repo = server.store.look(repositories.get, ada.id, made["repository"]["id"])
    secret = made["repository"]["webhook_secret"]
    assert (await server.github.deliver(repo, secret=secret)).status_code == 200
    shown = (await server.get("/api/repos", ada)).json()[0]
    assert shown["last_event_at"] > shown["created_at"]


async def test_a_secret_of_ones_own_is_taken(server: Server):
    ada = server.user("ada")
    made = await add(server, ada, webhook_secret="correct horse")
    assert made["repository"]["webhook_secret"] == "correct horse"
    repo = server.store.look(repositories.get, ada.id, made["repository"]["id"])
    assert (await server.github.deliver(repo, secret="correct horse")).status_code == 200


async def test_what_is_no_name_of_a_repository_is_refused(server: Server):
    ada = server.user("ada")
    for name in ("", "hello", "octo/", "/hello", "octo/hello/x", "octo/..", "oc to/x", "octo/\0", "octo/ä"):
        answer = await server.request("POST", "/api/repos", ada, json={"repo_name": name})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), name


async def test_what_can_be_no_secret_is_refused_and_not_repeated(server: Server):
    ada = server.user("ada")
    for secret in ("line\nbreak", "x" * 256):
        body = {"repo_name": "octo/hello", "webhook_secret": secret}
        answer = await server.request("POST", "/api/repos", ada, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
        assert "line" not in answer.text
        assert "xxx" not in answer.text


async def test_a_repository_that_is_tracked_already_is_a_conflict_in_any_case_of_its_name(server: Server):
    ada = server.user("ada")
    await add(server, ada)
    for name in ("octo/hello", "Octo/HELLO"):
        answer = await server.request("POST", "/api/repos", ada, json={"repo_name": name})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_another_user_may_track_the_same_repository(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    await add(server, ada)
    await add(server, eve)
    assert len((await server.get("/api/repos", eve)).json()) == 1


async def test_one_more_than_the_tier_allows_is_forbidden(server: Server):
    ada = server.user("ada", tier="free")
    await add(server, ada, "octo/one")
    await add(server, ada, "octo/two")
    answer = await server.request("POST", "/api/repos", ada, json={"repo_name": "octo/three"})
    assert (answer.status_code, answer.json()["code"]) == (403, "over_limit")
    server.store.run(tiers.set_tier, "ada", "pro")
    await add(server, ada, "octo/three")


async def test_many_at_once_are_never_more_than_the_tier_allows(server: Server):
    ada = server.user("ada", tier="free")
    answers = await asyncio.gather(
        *(
            server.request("POST", "/api/repos", ada, json={"repo_name": f"octo/{number}"})
            for number in range(8)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201] + 6 * [403]


async def test_repositories_are_listed_by_name(server: Server):
    ada = server.user("ada")
    for name in ("octo/b", "acme/z", "Octo/a"):
        await add(server, ada, name)
    listed = (await server.get("/api/repos", ada)).json()
    assert [repo["repo_name"] for repo in listed] == ["acme/z", "Octo/a", "octo/b"]


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_removed_repository_is_gone(server: Server, by: str):
    ada = server.user("ada")
    repo = server.track(ada)
    named = {"id": repo.id, "name": "OCTO/hello"}[by]
    answer = await server.request("DELETE", f"/api/repos?{by}={named}", ada)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await server.get("/api/repos", ada)).json() == []
    assert (await server.get(f"/api/repos?id={repo.id}", ada)).status_code == 404
    assert (await server.request("DELETE", f"/api/repos?{by}={named}", ada)).status_code == 404


async def test_removing_without_saying_what_removes_nothing(server: Server):
    ada = server.user("ada")
    server.track(ada)
    answer = await server.request("DELETE", "/api/repos", ada)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert len((await server.get("/api/repos", ada)).json()) == 1


async def test_anothers_repository_is_not_found_like_one_that_never_was(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    repo = server.track(ada)
    never = "00000000-0000-4000-8000-000000000000"
    for method, query in (("GET", "id={}"), ("DELETE", "id={}"), ("DELETE", "name={}")):
        told = []
        for named in (repo.id, never):
            path = f"/api/repos?{query.format(named)}"
            answer = await server.request(method, path, eve, headers={"x-request-id": "same"})
            assert answer.status_code == 404
            told.append(answer.text.replace(named, ""))
        assert told[0] == told[1]
    assert (await server.request("DELETE", "/api/repos?name=octo/hello", eve)).status_code == 404
    assert (await server.get("/api/repos", eve)).json() == []
    assert len((await server.get("/api/repos", ada)).json()) == 1


async def test_a_member_sees_a_shared_repository_and_cannot_remove_it(server: Server):
    ada, eve = server.user("ada"), server.user("eve")
    repo = server.track(ada)
    server.store.run(join, eve.id, repo.id)
    listed = (await server.get("/api/repos", eve)).json()
    assert [(each["id"], each["role"], each["webhook_secret"]) for each in listed] == [
        (repo.id, "member", "")
    ]
    assert (await server.request("DELETE", f"/api/repos?id={repo.id}", eve)).status_code == 404
    assert len((await server.get("/api/repos", ada)).json()) == 1
