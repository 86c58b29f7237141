"""The fake of GitHub does what GitHub does, as far as its documentation says; its answers are held to it besides."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fakegithub import FakeGitHub
from fakestripe.server import Server as Http

URL = "https://cotex.example.com/hook"


class Asking:
    """Somebody with a token."""

    def __init__(self, fake: FakeGitHub, token: str) -> None:
        self._base = fake.url
        self._http = httpx.Client(headers={"authorization": f"Bearer {token}"})

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._http.request(method, self._base + path, json=body, headers=given)

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def fake(github_api: FakeGitHub) -> FakeGitHub:
    github_api.repository("octo/hello")
    return github_api


@pytest.fixture
def ask(fake: FakeGitHub) -> Iterator[Asking]:
    asking = Asking(fake, fake.token())
    yield asking
    asking.close()


def hooks(*more: object) -> str:
    return "/".join(("/repos/octo/hello/hooks", *map(str, more)))


def config(**more: Any) -> dict[str, Any]:
    return {"url": URL, "content_type": "json", "secret": "s", **more}


def test_a_secret_is_never_shown_only_that_there_is_one(ask: Asking):
    made = ask("POST", hooks(), {"config": config(), "events": ["push"]}).json()
    assert made["config"]["secret"] == "********"
    assert made["last_response"]["status"] == "unused"
    bare = ask("POST", hooks(), {"config": config(url=URL + "2", secret=""), "events": ["push"]}).json()
    assert "secret" not in bare["config"]


def test_a_change_without_the_secret_takes_it_away_and_one_without_config_does_not(
    fake: FakeGitHub, ask: Asking
):
    hook_id = fake.hook("octo/hello", URL, "s")
    ask("PATCH", hooks(hook_id), {"events": ["issues"]})
    assert fake.hooks("octo/hello")[0].secret == "s"
    ask("PATCH", hooks(hook_id), {"config": {"url": URL}})
    assert fake.hooks("octo/hello")[0].secret == ""


def test_by_its_config_one_thing_is_changed(fake: FakeGitHub, ask: Asking):
    hook_id = fake.hook("octo/hello", URL, "s")
    ask("PATCH", hooks(hook_id, "config"), {"secret": "t"})
    hook = fake.hooks("octo/hello")[0]
    assert (hook.secret, hook.url) == ("t", URL)
    assert ask("GET", hooks(hook_id, "config")).json()["secret"] == "********"


def test_what_happens_is_sent_once_and_logged_however_it_went(fake: FakeGitHub, ask: Asking):
    hook_id = fake.hook("octo/hello", URL, "s")
    fake.happen("octo/hello", "push", {}, guid="g1")
    fake.happen("octo/hello", "issues", {})
    (attempt,) = ask("GET", hooks(hook_id, "deliveries")).json()
    assert (attempt["guid"], attempt["status_code"], attempt["event"]) == ("g1", 0, "push")


def test_it_is_really_sent_and_signed(fake: FakeGitHub):
    got: list[tuple[dict[str, str], bytes]] = []

    def take(_: str, __: str, headers: dict[str, str], body: bytes) -> Any:
        from fakestripe.door import Answer

        got.append((headers, body))
        return Answer(503, b"{}")

    receiver = Http(0, take)
    receiver.start()
    fake.route("https://cotex.example.com", f"http://127.0.0.1:{receiver.server_address[1]}")
    hook_id = fake.hook("octo/hello", URL, "It's a Secret to Everybody")
    fake.happen("octo/hello", "push", {"n": 1})
    receiver.stop()
    ((headers, body),) = got
    assert headers["x-github-event"] == "push"
    assert headers["x-hub-signature-256"].startswith("sha256=")
    assert b'"n": 1' in body
    (attempt,) = fake.deliveries(hook_id)
    assert (attempt.status_code, attempt.status) == (503, "Invalid HTTP Response: 503")


def test_a_redelivery_has_the_same_guid_and_another_id(fake: FakeGitHub, ask: Asking):
    hook_id = fake.hook("octo/hello", URL)
    guid = fake.happen("octo/hello", "push", {})
    (first,) = fake.deliveries(hook_id)
    assert ask("POST", hooks(hook_id, "deliveries", first.id, "attempts")).status_code == 202
    fake.settle()
    second, _ = ask("GET", hooks(hook_id, "deliveries")).json()
    assert (second["guid"], second["redelivery"]) == (guid, True)
    assert second["id"] > first.id


def test_deliveries_come_by_pages_and_are_forgotten_after_three_days(fake: FakeGitHub, ask: Asking):
    hook_id = fake.hook("octo/hello", URL)
    fake.happen("octo/hello", "push", {}, at=datetime.now(UTC) - timedelta(days=3, minutes=1))
    for _ in range(5):
        fake.happen("octo/hello", "push", {})
    seen = []
    page = ask("GET", hooks(hook_id, "deliveries?per_page=2"))
    while True:
        seen += [each["id"] for each in page.json()]
        if "next" not in page.links:
            break
        page = ask("GET", page.links["next"]["url"].removeprefix(fake.url))
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 5


def test_a_payload_can_be_gone(fake: FakeGitHub, ask: Asking):
    hook_id = fake.hook("octo/hello", URL)
    fake.happen("octo/hello", "push", {"n": 1})
    (attempt,) = fake.deliveries(hook_id)
    detail = hooks(hook_id, "deliveries", attempt.id)
    assert ask("GET", detail).json()["request"]["payload"]["n"] == 1
    fake.forget_payloads(hook_id)
    assert ask("GET", detail).json()["request"]["payload"] is None
    fake.forget_payloads(hook_id, how="gone", redeliver=False)
    assert ask("GET", detail).status_code == 404
    assert ask("POST", detail + "/attempts").status_code == 422


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"config": {"url": "http://localhost/x"}}, "public Internet"),
        ({"config": {"url": "nowhere"}}, "not a URL"),
        ({"config": {"url": URL}, "events": ["pish"]}, "pish"),
    ],
)
def test_what_github_refuses_is_422_with_its_reason(ask: Asking, wrong: dict[str, Any], said: str):
    refused = ask("POST", hooks(), wrong)
    assert refused.status_code == 422
    assert said in refused.json()["errors"][0]["message"]


def test_the_same_hook_twice_and_the_twenty_first_are_refused(fake: FakeGitHub, ask: Asking):
    body = {"config": config(), "events": ["push"]}
    assert [ask("POST", hooks(), body).status_code for _ in range(2)] == [201, 422]
    for number in range(19):
        fake.hook("octo/hello", f"{URL}{number}")
    refused = ask("POST", hooks(), {"config": config(url=URL + "x"), "events": ["push"]})
    assert "more than 20 hooks" in refused.json()["errors"][0]["message"]


def test_who_may_not_is_told_as_github_tells(fake: FakeGitHub):
    for token, status in (
        ("nobody", 401),
        (fake.token(scopes=("gist",)), 404),
        (fake.fine_grained(webhooks=None), 403),
        (fake.token(repos={"octo/other"}), 404),
    ):
        asking = Asking(fake, token)
        assert asking("GET", hooks()).status_code == status
        asking.close()


def test_what_has_not_changed_is_304_and_costs_nothing(fake: FakeGitHub, ask: Asking):
    first = ask("GET", hooks())
    before = fake.remaining
    again = ask("GET", hooks(), if_none_match=first.headers["etag"])
    assert (again.status_code, fake.remaining) == (304, before)
    assert ask("GET", hooks()).headers["x-ratelimit-remaining"] == str(before - 1)


def test_over_the_limit_nothing_is_answered_until_its_reset(fake: FakeGitHub, ask: Asking):
    fake.limit(remaining=1, reset_in=0.3)
    assert ask("GET", hooks()).status_code == 200
    refused = ask("GET", hooks())
    assert (refused.status_code, refused.headers["x-ratelimit-remaining"]) == (403, "0")
    while time.time() < fake.reset_at:
        time.sleep(0.02)
    assert ask("GET", hooks()).status_code == 200


def test_a_renamed_repository_leads_to_where_it_is(fake: FakeGitHub, ask: Asking):
    fake.rename("octo/hello", "octo/hi")
    moved = ask("GET", hooks())
    assert (moved.status_code, moved.headers["location"]) == (301, f"{fake.url}/repositories/1000/hooks")
    assert ask("GET", "/repositories/1000/hooks").status_code == 200


def test_what_is_not_as_github_describes_it_is_found(fake: FakeGitHub, ask: Asking):
    ask("GET", hooks() + "?pages=7")
    ask("POST", hooks(), {"config": config(), "events": ["push"], "colour": "red"})
    found, fake.mismatches = fake.mismatches, []
    assert any("pages" in each for each in found)
    assert any("colour" in each for each in found)
