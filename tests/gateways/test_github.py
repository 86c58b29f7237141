import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakegithub import FakeGitHub
from selfsigned import certificate

from cotexd.errors import CotexError, Failed, Forbidden, Invalid, Kind, NotFound, Unauthorized, Unreachable
from cotexd.gateways import github as gateway
from cotexd.gateways.github import Attempt, Client, GitHub, Limited, Wanted

URL = "https://cotex.example.com/api/webhooks/github/1"
WANTED = Wanted(URL, "s3cret", ("push", "issues"))


@pytest.fixture
def fake(github_api: FakeGitHub) -> FakeGitHub:
    github_api.repository("octo/hello")
    return github_api


@pytest.fixture
async def client(fake: FakeGitHub) -> AsyncIterator[Client]:
    opened = Client(fake.url)
    yield opened
    await opened.close()


@pytest.fixture
def github(client: Client, fake: FakeGitHub) -> GitHub:
    return client.as_(fake.token())


async def refused(asking: object, kind: type[CotexError]) -> CotexError:
    with pytest.raises(kind) as raised:
        await asking  # type: ignore[misc]
    return raised.value


async def test_a_hook_is_made_shown_changed_pinged_and_removed(github: GitHub, fake: FakeGitHub):
    made = await github.make("octo/hello", WANTED)
    assert (made.config.url, set(made.events), made.active) == (URL, {"push", "issues"}, True)
    assert await github.hook("octo/hello", made.id) == (await github.hooks("octo/hello"))[0]
    changed = await github.change("octo/hello", made.id, Wanted(URL, "another", ("push",)))
    assert changed.events == ("push",)
    await github.ping("octo/hello", made.id)
    assert fake.hooks("octo/hello")[0].secret == "another"
    await github.remove("octo/hello", made.id)
    assert await github.hooks("octo/hello") == []


async def test_a_secret_is_changed_and_nothing_else(github: GitHub, fake: FakeGitHub):
    hook_id = fake.hook("octo/hello", URL, "old", ("push",), content_type="form")
    await github.give_secret("octo/hello", hook_id, "new")
    hook = fake.hooks("octo/hello")[0]
    assert (hook.secret, hook.url, hook.content_type, hook.events) == ("new", URL, "form", ("push",))


async def test_the_token_is_shown_to_github_and_the_version_is_named(github: GitHub, fake: FakeGitHub):
    await github.hooks("octo/hello")
    headers = fake.requests[-1].headers
    assert headers["authorization"].startswith("Bearer ghp_")
    assert headers["x-github-api-version"] == gateway.VERSION
    assert headers["user-agent"].startswith("cotexd/")


async def test_more_hooks_than_a_page_are_all_seen(github: GitHub, fake: FakeGitHub):
    for number in range(120):
        fake.hook("octo/hello", f"{URL}{number}", "s", (f"event_{number}",))
    assert len(await github.hooks("octo/hello")) == 120


async def test_hooks_that_have_not_changed_cost_nothing(github: GitHub, fake: FakeGitHub):
    fake.hook("octo/hello", URL)
    first = await github.hooks("octo/hello")
    before = fake.remaining
    assert await github.hooks("octo/hello") == first
    assert fake.remaining == before
    fake.hook("octo/hello", URL + "2")
    assert len(await github.hooks("octo/hello")) == 2
    assert fake.remaining == before - 1


async def test_attempts_come_newest_first_page_by_page(github: GitHub, fake: FakeGitHub):
    hook_id = fake.hook("octo/hello", URL, "s")
    guids = [fake.happen("octo/hello", "push", {}) for _ in range(150)]
    first = await github.deliveries("octo/hello", hook_id)
    assert first is not None
    second = await github.deliveries("octo/hello", hook_id, cursor=first.following)
    assert second is not None
    assert [each.guid for each in (*first.attempts, *second.attempts)] == guids[::-1]
    assert second.following == ""
    assert await github.deliveries("octo/hello", hook_id, etag=first.etag) is None


async def attempt(github: GitHub, hook_id: int) -> Attempt:
    page = await github.deliveries("octo/hello", hook_id)
    assert page is not None
    return page.attempts[0]


async def test_a_payload_comes_as_compact_json_as_github_has_it(github: GitHub, fake: FakeGitHub):
    hook_id = fake.hook("octo/hello", URL, "s")
    fake.happen("octo/hello", "push", {"n": 1.50, "text": "ä\u2028 b", "big": 2**70})
    payload = await github.payload("octo/hello", hook_id, await attempt(github, hook_id))
    assert payload is not None
    assert b'"n":1.5,' in payload
    assert f'"big":{2**70}'.encode() in payload


@pytest.mark.parametrize("how", ["null", "empty", "gone"])
async def test_a_payload_that_is_not_shown_in_full_is_none(github: GitHub, fake: FakeGitHub, how: str):
    hook_id = fake.hook("octo/hello", URL, "s")
    fake.happen("octo/hello", "push", {})
    fake.forget_payloads(hook_id, how=how)
    assert await github.payload("octo/hello", hook_id, await attempt(github, hook_id)) is None


async def test_a_payload_of_another_delivery_is_refused(github: GitHub, fake: FakeGitHub):
    hook_id = fake.hook("octo/hello", URL, "s")
    fake.happen("octo/hello", "push", {})
    there = await attempt(github, hook_id)
    wrong = Attempt(there.id, "another", "push", there.delivered_at)
    await refused(github.payload("octo/hello", hook_id, wrong), Failed)


async def test_a_repository_that_was_renamed_is_followed(github: GitHub, fake: FakeGitHub):
    fake.rename("octo/hello", "octo/hi")
    made = await github.make("octo/hello", WANTED)
    assert (await github.hooks("octo/hello"))[0].id == made.id == fake.hooks("octo/hi")[0].id


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_the_token_goes_to_no_other_host(github: GitHub, fake: FakeGitHub, status: int):
    with FakeGitHub() as elsewhere:
        fake.fail(
            "GET", "/hooks$", status=status, headers={"Location": elsewhere.url + "/repos/octo/hello/hooks"}
        )
        error = await refused(github.hooks("octo/hello"), Failed)
        assert "goes nowhere else" in error.message
        assert elsewhere.requests == []


async def test_a_link_to_the_next_page_leads_to_no_other_host(github: GitHub, fake: FakeGitHub):
    hook_id = fake.hook("octo/hello", URL, "s")
    fake.happen("octo/hello", "push", {})
    body = [{"id": 1, "guid": "g", "event": "push", "delivered_at": "2026-11-25T00:00:00Z"}]
    with FakeGitHub() as elsewhere:
        link = f'<{elsewhere.url}/repos/octo/hello/hooks/{hook_id}/deliveries?cursor=v1_9>; rel="next"'
        fake.fail("GET", "/deliveries$", status=200, headers={"Link": link}, body=body)
        page = await github.deliveries("octo/hello", hook_id)
        assert page is not None
        assert page.following == "v1_9"
        await github.deliveries("octo/hello", hook_id, cursor=page.following)
        assert elsewhere.requests == []


async def test_who_is_sent_round_and_round_gives_up(github: GitHub, fake: FakeGitHub):
    here = fake.url + "/repos/octo/hello/hooks"
    fake.fail("GET", "/hooks$", status=302, times=9, headers={"Location": here})
    await refused(github.hooks("octo/hello"), Failed)


async def test_an_enterprise_server_is_asked_below_the_whole_base():
    with FakeGitHub(base="/api/v3") as enterprise:
        enterprise.repository("octo/hello")
        client = Client(enterprise.url)
        assert await client.as_(enterprise.token()).hooks("octo/hello") == []
        await client.close()


async def test_a_token_that_github_does_not_know_is_said(client: Client):
    error = await refused(client.as_("ghp_wrong").hooks("octo/hello"), Unauthorized)
    assert "cotex secret set github-token" in error.hint


@pytest.mark.parametrize("token", ["classic", "fine-grained"])
async def test_a_scope_that_is_missing_is_named(client: Client, fake: FakeGitHub, token: str):
    given = fake.token(scopes=("gist",)) if token == "classic" else fake.fine_grained(webhooks=None)
    error = await refused(client.as_(given).hooks("octo/hello"), Forbidden)
    assert "admin:repo_hook" in error.hint
    assert "Webhooks (read and write)" in error.hint


async def test_a_token_that_may_only_read_cannot_make_a_hook(client: Client, fake: FakeGitHub):
    github = client.as_(fake.fine_grained(webhooks="read"))
    assert await github.hooks("octo/hello") == []
    await refused(github.make("octo/hello", WANTED), Forbidden)


async def test_a_private_repository_that_the_token_does_not_see_is_not_found(
    client: Client, fake: FakeGitHub
):
    fake.repository("octo/secret", private=True)
    error = await refused(client.as_(fake.token(repos={"octo/hello"})).hooks("octo/secret"), NotFound)
    assert "private" in error.hint


async def test_an_archived_repository_is_said_to_be(github: GitHub, fake: FakeGitHub):
    fake.repository("octo/old", archived=True)
    error = await refused(github.make("octo/old", WANTED), Forbidden)
    assert "archived" in error.message


@pytest.mark.parametrize("url", ["http://localhost:8080/x", "https://127.0.0.1/x", "ftp://x"])
async def test_an_address_that_github_refuses_is_told_in_its_words(github: GitHub, url: str):
    error = await refused(github.make("octo/hello", Wanted(url, "s", ("push",))), Invalid)
    assert "url" in error.message


async def test_an_event_that_github_does_not_know_is_told(github: GitHub):
    error = await refused(github.make("octo/hello", Wanted(URL, "s", ("pish",))), Invalid)
    assert "pish" in error.message


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry-After": "7"}, 7),
        (403, {"Retry-After": "3"}, 3),
        (429, {}, 60),
        (403, {"Retry-After": "999999"}, 3600),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, 1),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, 60),
    ],
)
async def test_a_limit_says_how_long_it_lasts(
    github: GitHub, fake: FakeGitHub, status: int, headers: dict[str, str], wait: float
):
    fake.fail("GET", "/hooks$", status=status, headers=headers)
    error = await refused(github.hooks("octo/hello"), Limited)
    assert isinstance(error, Limited)
    assert (error.wait, error.kind) == (wait, Kind.LIMITED)


async def test_who_has_patience_waits_for_the_limit(fake: FakeGitHub):
    told: list[float] = []
    client = Client(fake.url, patience=2, limited=told.append)
    fake.secondary_limit(times=2, retry_after=1)
    assert await client.as_(fake.token()).hooks("octo/hello") == []
    assert told == [1, 1]
    fake.secondary_limit(times=1, retry_after=9)
    await refused(client.as_(fake.token()).hooks("octo/hello"), Limited)
    await client.close()


async def test_what_only_asks_is_asked_again_where_github_stumbles(github: GitHub, fake: FakeGitHub):
    fake.fail("GET", "/hooks$", status=502, times=1)
    fake.fail("GET", "/hooks$", cut=True)
    assert await github.hooks("octo/hello") == []
    assert len(fake.requests) == 3


async def test_what_changes_something_is_not(github: GitHub, fake: FakeGitHub):
    fake.fail("POST", "/hooks$", status=502)
    await refused(github.make("octo/hello", WANTED), Unreachable)
    assert len(fake.requests) == 1


async def test_github_that_stays_away_is_unreachable(github: GitHub, fake: FakeGitHub):
    fake.fail("GET", "/hooks$", cut=True, times=9)
    error = await refused(github.hooks("octo/hello"), Unreachable)
    assert "cannot be reached" in error.message


async def test_an_answer_of_another_form_is_refused(github: GitHub, fake: FakeGitHub):
    fake.fail("GET", "/hooks$", status=200, body={"hello": "I am a router"})
    error = await refused(github.hooks("octo/hello"), Failed)
    assert "/api/v3" in error.hint


async def test_an_answer_without_end_is_cut(
    github: GitHub, fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway, "MAX_BYTES", 1000)
    fake.fail("GET", "/hooks$", status=200, body=["x" * 2000])
    await refused(github.hooks("octo/hello"), Failed)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(certificate()[0])
    return tmp_path / "ca.pem"


@pytest.fixture
async def with_its_own_certificate(tmp_path: Path, authority: Path) -> AsyncIterator[str]:
    """An Enterprise Server, as far as TLS goes."""
    (tmp_path / "key.pem").write_bytes(certificate()[1])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, tmp_path / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")
        await writer.drain()
        writer.close()

    serving = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with serving:
        yield f"https://127.0.0.1:{serving.sockets[0].getsockname()[1]}/api/v3"


async def test_a_certificate_of_its_own_is_refused_unless_its_authority_is_named(
    with_its_own_certificate: str, authority: Path
):
    client = Client(with_its_own_certificate)
    error = await refused(client.as_("ghp_x").hooks("octo/hello"), Unreachable)
    assert "COTEX_GITHUB_CA_CERT" in error.hint
    await client.close()
    client = Client(with_its_own_certificate, authority)
    assert await client.as_("ghp_x").hooks("octo/hello") == []
    await client.close()


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no")
    for file in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        with pytest.raises(Failed, match=r"none|cannot be used"):
            Client("https://x", file)
