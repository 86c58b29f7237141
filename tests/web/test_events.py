import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from actors import join, leave, logged, push
from conftest import Server

from cotexd.domain import github
from cotexd.operations import events, repositories, upkeep
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Event

FIXED = {"id", "repo_id", "repo_name", "event_type", "payload", "created_at"}
ADDED = {"delivery_id", "seq", "summary", "is_delivered", "expires_at", "repaired"}
# What is refused before a database is asked is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def cursor(server: Server, seq: int) -> str:
    return f"{server.store.look(events.log).epoch}.{seq}"


async def seqs(server: Server, user: Account, query: str = "") -> list[int]:
    answer = await server.get(f"/api/github-events{query}", user)
    assert answer.status_code == 200, answer.text
    return [event["seq"] for event in answer.json()]


async def acknowledge(server: Server, user: Account, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await server.request("POST", "/api/github-events/ack", user, json=body)
    return answer.status_code, answer.json()


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


# The list.


async def test_an_event_is_listed_with_githubs_own_json(server: Server, ada: Account, hello: Tracked):
    body = json.dumps(push(7), indent=3).encode()
    answer = await server.github.deliver(hello, body, guid="the-guid")
    listed = await server.get("/api/github-events", ada)
    assert body in listed.content
    (event,) = listed.json()
    assert set(event) == FIXED | ADDED
    assert event["id"] == answer.json()["event_id"]
    assert (event["repo_id"], event["repo_name"], event["event_type"]) == (hello.id, "octo/hello", "push")
    assert (event["delivery_id"], event["seq"], event["is_delivered"]) == ("the-guid", 1, False)
    assert event["payload"] == push(7)
    assert (event["summary"]["id"], event["summary"]["headline"]) == ("the-guid", "1 commit pushed to main")
    kept = datetime.fromisoformat(event["expires_at"]) - datetime.fromisoformat(event["created_at"])
    assert kept == server.appliance.settings.retention


async def test_events_are_listed_newest_first_30_unless_told(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 40)
    assert await seqs(server, ada) == list(range(40, 10, -1))
    assert await seqs(server, ada, "?limit=3") == [40, 39, 38]


async def test_nothing_is_an_empty_list(server: Server, ada: Account):
    answer = await server.get("/api/github-events", ada)
    assert (answer.json(), answer.headers.get("link")) == ([], None)


async def test_the_links_walk_everything_exactly_once_while_more_is_coming(
    server: Server, ada: Account, hello: Tracked
):
    other = server.track(server.user("eve"), "octo/other")
    for _ in range(10):
        logged(server.store, hello, 2)
        logged(server.store, other)
    mine = await seqs(server, ada, "?limit=100")
    walked: list[int] = []
    address: str | None = f"{server.url}/api/github-events?limit=3"
    bearer = {"authorization": f"Bearer {server.token(ada)}"}
    while address:
        answer = await server.http.get(address, headers=bearer)
        walked += [event["seq"] for event in answer.json()]
        address = answer.links.get("next", {}).get("url")
        logged(server.store, hello)
    assert walked == mine
    assert len(mine) == 20


async def test_a_link_is_on_the_host_that_was_asked_and_keeps_the_question(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 3)
    query = f"repo_id={hello.id}&event_type=push&limit=1&since=2026-01-01T00:00:00Z"
    answer = await server.get(f"/api/github-events?{query}", ada, headers={"host": "cotex.example:8443"})
    following = urlsplit(answer.links["next"]["url"])
    assert (following.scheme, following.netloc) == ("http", "cotex.example:8443")
    assert following.path == "/api/github-events"
    asked = parse_qs(following.query)
    assert asked.pop("cursor")
    assert asked == parse_qs(query)
    assert await seqs(server, ada, f"?{following.query}") == [2]


async def test_the_last_page_has_no_link(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 4)
    for limit, more in ((1, True), (3, True), (4, False), (5, False)):
        answer = await server.get(f"/api/github-events?limit={limit}", ada)
        assert ("link" in answer.headers) is more, limit


@on_sqlite
@pytest.mark.parametrize(
    "given",
    ["x", "e.1", "====", "ä", base64.urlsafe_b64encode(b"-1").decode(), "OTk5" * 20, "4peP", "%00"],
)
async def test_a_cursor_that_the_route_never_gave_is_refused(server: Server, ada: Account, given: str):
    answer = await server.get(f"/api/github-events?cursor={given}", ada)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_events_are_found_by_repository_and_by_type(server: Server, ada: Account, hello: Tracked):
    other = server.track(ada, "octo/other")
    logged(server.store, hello)
    logged(server.store, other)
    logged(server.store, other, event="issues")
    assert await seqs(server, ada, f"?repo_id={other.id}") == [3, 2]
    assert await seqs(server, ada, "?event_type=push") == [2, 1]
    assert await seqs(server, ada, f"?repo_id={other.id}&event_type=push") == [2]
    assert await seqs(server, ada, "?event_type=release") == []


async def test_events_are_found_by_time_in_any_zone(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 3)
    moment = datetime(2026, 11, 24, 12, tzinfo=UTC)
    for seq in (1, 2, 3):
        at = moment + timedelta(hours=seq)
        server.store.run(
            lambda _, seq=seq, at=at: Event.update(created_at=at).where(Event.seq == seq).execute()
        )
    assert await seqs(server, ada, "?since=2026-11-24T14:00:00Z") == [3, 2]
    assert await seqs(server, ada, "?until=2026-11-24T14:00:00Z") == [2, 1]
    assert await seqs(server, ada, "?since=2026-11-24T13:30:00Z&until=2026-11-24T14:30:00Z") == [2]
    assert await seqs(server, ada, f"?since={quote('2026-11-24T16:00:00+02:00')}") == [3, 2]
    assert await seqs(server, ada, f"?since={quote('0001-01-01T00:00:00+14:00')}") == [3, 2, 1]
    assert await seqs(server, ada, f"?until={quote('9999-12-31T23:59:59-14:00')}") == [3, 2, 1]


@on_sqlite
@pytest.mark.parametrize(
    "given", ["yesterday", "2026-11-24", "2026-11-24T12:00:00", "1700000000", "2026-13-01T00Z"]
)
async def test_a_time_without_its_zone_is_refused(server: Server, ada: Account, given: str):
    for name in ("since", "until"):
        answer = await server.get(f"/api/github-events?{name}={given}", ada)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_only_what_no_client_has_acknowledged_is_undelivered(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 4)
    await acknowledge(server, ada, cursor=cursor(server, 2))
    assert await seqs(server, ada, "?undelivered=true") == [4, 3]
    listed = (await server.get("/api/github-events", ada)).json()
    assert {event["seq"]: event["is_delivered"] for event in listed} == {1: True, 2: True, 3: False, 4: False}


# What is whose.


async def test_anothers_events_are_nowhere(server: Server, ada: Account, hello: Tracked):
    eve = server.user("eve")
    answer = await server.github.deliver(hello)
    event_id = answer.json()["event_id"]
    assert await seqs(server, eve) == []
    assert (await server.get("/api/github-events/recent", eve)).json() == {"event_ids": [], "count": 0}
    for path in (
        f"/api/github-events?repo_id={hello.id}",
        f"/api/github-events/recent?repo_id={hello.id}",
        f"/api/github-events/event?id={event_id}",
        "/api/github-events/event?recent=true",
    ):
        answer = await server.get(path, eve)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert event_id not in answer.text


async def test_a_member_sees_events_from_joining_until_leaving(server: Server, ada: Account, hello: Tracked):
    eve = server.user("eve")
    logged(server.store, hello)
    server.store.run(join, eve.id, hello.id)
    logged(server.store, hello, 2)
    server.store.run(leave, eve.id, hello.id)
    logged(server.store, hello)
    assert await seqs(server, eve) == [3, 2]
    assert await seqs(server, ada) == [4, 3, 2, 1]


async def test_the_events_of_a_removed_repository_are_gone(server: Server, ada: Account, hello: Tracked):
    event_id = (await server.github.deliver(hello)).json()["event_id"]
    server.store.run(repositories.remove, ada.id, hello.id)
    assert await seqs(server, ada) == []
    assert (await server.get(f"/api/github-events/event?id={event_id}", ada)).status_code == 404


async def test_an_event_that_is_older_than_the_retention_is_gone(
    server: Server, ada: Account, hello: Tracked
):
    event_id = (await server.github.deliver(hello)).json()["event_id"]
    server.store.run(upkeep.purge, timedelta(0))
    await server.github.deliver(hello)
    assert await seqs(server, ada) == [2]
    assert (await server.get(f"/api/github-events/event?id={event_id}", ada)).status_code == 404


# The newest, and one.


async def test_recent_are_the_ids_of_the_newest_five_unless_told(
    server: Server, ada: Account, hello: Tracked
):
    other = server.track(ada, "octo/other")
    logged(server.store, hello, 6)
    logged(server.store, other)
    listed = (await server.get("/api/github-events", ada)).json()
    ids = [event["id"] for event in listed]
    for query, expected in (
        ("", ids[:5]),
        ("?limit=2", ids[:2]),
        (f"?repo_id={other.id}", ids[:1]),
        (f"?repo_id={hello.id}&limit=100", ids[1:]),
    ):
        answer = (await server.get(f"/api/github-events/recent{query}", ada)).json()
        assert answer == {"event_ids": expected, "count": len(expected)}, query


async def test_recent_events_come_whole_if_they_are_asked_for(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 6)
    answer = (await server.get("/api/github-events/recent?include_payload=true", ada)).json()
    assert answer["count"] == len(answer["events"]) == 5
    assert answer["events"] == (await server.get("/api/github-events?limit=5", ada)).json()
    assert "expires_at" in answer["events"][0]


async def test_one_event_is_found_by_its_id_or_as_the_newest(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 2)
    newest, oldest = (await server.get("/api/github-events", ada)).json()
    one = "/api/github-events/event"
    assert (await server.get(f"{one}?id={oldest['id']}", ada)).json() == oldest
    assert (await server.get(f"{one}?recent=true", ada)).json() == newest
    assert (await server.get(f"{one}?id={oldest['id']}&recent=true", ada)).json() == oldest


async def test_one_event_has_to_be_named(server: Server, ada: Account):
    for query in ("", "?recent=false", "?id="):
        answer = await server.get(f"/api/github-events/event{query}", ada)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert (await server.get("/api/github-events/event?recent=true", ada)).status_code == 404
    assert (await server.get("/api/github-events/event?id=1", ada)).status_code == 404


# A delivery as GitHub made it.

DELIVERY = "/api/github-events/delivery"


async def test_a_delivery_is_given_again_byte_for_byte_and_signed_for_the_owner(
    server: Server, ada: Account, hello: Tracked
):
    body = json.dumps(push(7), indent=3).encode() + b" \n"
    sent = await server.github.deliver(hello, body, event="pull_request", guid="the-guid")
    answer = await server.get(f"{DELIVERY}?id={sent.json()['event_id']}", ada)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-github-event"] == "pull_request"
    assert answer.headers["x-github-delivery"] == "the-guid"
    for header, algorithm, size in (
        ("x-hub-signature-256", hashlib.sha256, 64),
        ("x-hub-signature", hashlib.sha1, 40),
    ):
        name, _, given = answer.headers[header].partition("=")
        made = hmac.new(hello.webhook_secret.encode(), body, algorithm).hexdigest()
        assert (name, given) == (algorithm().name, made)
        assert len(given) == size


async def test_what_is_given_again_is_taken_as_the_same_delivery(
    server: Server, ada: Account, hello: Tracked
):
    sent = (await server.github.deliver(hello)).json()
    answer = await server.get(f"{DELIVERY}?id={sent['event_id']}", ada)
    named = ("content-type", "x-github-event", "x-github-delivery", "x-hub-signature-256")
    again = await server.http.post(
        f"{server.url}/api/webhooks/github/{hello.id}",
        content=answer.content,
        headers={name: answer.headers[name] for name in named},
    )
    assert (again.status_code, again.json()["duplicate"], again.json()["seq"]) == (200, True, sent["seq"])


async def test_a_form_is_given_again_as_the_json_that_was_in_it(server: Server, ada: Account, hello: Tracked):
    body = json.dumps(push(7), indent=1).encode()
    form = b"payload=" + quote(body).encode()
    sent = await server.github.deliver(
        hello, form, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    answer = await server.get(f"{DELIVERY}?id={sent.json()['event_id']}", ada)
    assert (answer.content, answer.headers["content-type"]) == (body, "application/json")
    signed = github.sign(body, hello.webhook_secret).decode()
    assert answer.headers["x-hub-signature-256"] == signed


async def test_after_a_rotation_it_is_signed_with_the_secret_of_today(
    server: Server, ada: Account, hello: Tracked
):
    sent = await server.github.deliver(hello)
    given = {"webhook_secret": "another-secret-of-octo-hello"}
    assert (await server.request("PATCH", f"/api/repos?id={hello.id}", ada, json=given)).status_code == 200
    answer = await server.get(f"{DELIVERY}?id={sent.json()['event_id']}", ada)
    signed = github.sign(answer.content, given["webhook_secret"]).decode()
    assert answer.headers["x-hub-signature-256"] == signed


async def test_a_member_gets_the_delivery_and_no_signature(server: Server, ada: Account, hello: Tracked):
    eve = server.user("eve")
    server.store.run(join, eve.id, hello.id)
    body = json.dumps(push(7)).encode()
    sent = await server.github.deliver(hello, body)
    answer = await server.get(f"{DELIVERY}?id={sent.json()['event_id']}", eve)
    assert (answer.status_code, answer.content) == (200, body)
    assert not [name for name in answer.headers if "signature" in name]


async def test_who_was_a_member_gets_what_came_until_then_and_no_signature(
    server: Server, ada: Account, hello: Tracked
):
    eve = server.user("eve")
    server.store.run(join, eve.id, hello.id)
    seen = (await server.github.deliver(hello)).json()["event_id"]
    server.store.run(leave, eve.id, hello.id)
    later = (await server.github.deliver(hello)).json()["event_id"]
    answer = await server.get(f"{DELIVERY}?id={seen}", eve)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if "signature" in name]
    assert (await server.get(f"{DELIVERY}?id={later}", eve)).status_code == 404


async def test_a_delivery_that_is_another_users_purged_or_of_a_removed_repository_is_not_there(
    server: Server, ada: Account, hello: Tracked
):
    eve, other = server.user("eve"), server.track(ada, "octo/other")
    old = (await server.github.deliver(hello)).json()["event_id"]
    server.store.run(upkeep.purge, timedelta(0))
    mine = (await server.github.deliver(hello)).json()["event_id"]
    removed = (await server.github.deliver(other)).json()["event_id"]
    server.store.run(repositories.remove, ada.id, other.id)
    for user, event_id in ((eve, mine), (ada, old), (ada, removed), (ada, "none")):
        answer = await server.get(f"{DELIVERY}?id={event_id}", user)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await server.get(f"{DELIVERY}?id={mine}", ada)).status_code == 200
    answer = await server.get(DELIVERY, ada)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


# Acknowledging.


async def test_reading_acknowledges_nothing(server: Server, ada: Account, hello: Tracked):
    event_id = (await server.github.deliver(hello)).json()["event_id"]
    for path in ("", "/recent?include_payload=true", "/event?recent=true", f"/event?id={event_id}"):
        await server.get(f"/api/github-events{path}", ada)
    assert await seqs(server, ada, "?undelivered=true") == [1]


async def test_an_ack_answers_with_its_cursor_and_never_goes_back(
    server: Server, ada: Account, hello: Tracked
):
    logged(server.store, hello, 3)
    for seq in (3, 1):
        given = cursor(server, seq)
        assert await acknowledge(server, ada, cursor=given) == (200, {"cursor": given})
    assert await seqs(server, ada, "?undelivered=true") == []


async def test_what_one_user_acknowledges_is_not_delivered_to_another(
    server: Server, ada: Account, hello: Tracked
):
    eve = server.user("eve")
    server.store.run(join, eve.id, hello.id)
    logged(server.store, hello)
    await acknowledge(server, eve, cursor=cursor(server, 1))
    assert await seqs(server, eve, "?undelivered=true") == []
    assert await seqs(server, ada, "?undelivered=true") == [1]


async def test_an_ack_of_a_device_is_where_its_socket_goes_on(server: Server, ada: Account, hello: Tracked):
    logged(server.store, hello, 3)
    await acknowledge(server, ada, cursor=cursor(server, 1), device="laptop")
    client = server.client(ada, device="laptop")
    async with client.connected() as socket:
        await client.until_live(socket)
    assert (client.hello["resume"], client.hello["from"], client.seqs) == ("ok", 1, [2, 3])


@on_sqlite
@pytest.mark.parametrize(
    "given", ["", "1", "e.", ".1", "{epoch}.2", "0000.1", "{epoch}.-1", "{epoch}.1\n", "{epoch}"]
)
async def test_a_cursor_of_another_log_or_beyond_this_one_is_not_acknowledged(
    server: Server, ada: Account, hello: Tracked, given: str
):
    logged(server.store, hello)
    epoch = server.store.look(events.log).epoch
    status, told = await acknowledge(server, ada, cursor=given.format(epoch=epoch))
    assert (status, told["code"]) == (400, "invalid_cursor")
    assert await seqs(server, ada, "?undelivered=true") == [1]


async def test_a_device_whose_name_cannot_be_one_is_refused(server: Server, ada: Account):
    for name in ("x" * 101, "a\nb", "\0"):
        status, told = await acknowledge(server, ada, cursor=cursor(server, 0), device=name)
        assert (status, told["code"]) == (400, "invalid")
