import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
import msgspec
import psutil
import pytest
from actors import WAIT, exchange, push
from conftest import (
    Serve,
    Server,
    deliveries_waiting,
    eventually,
    fill_the_disk,
    free_the_disk,
    holding,
    inside,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cotexd.config import Settings
from cotexd.domain.github import MAX_BODY, MAX_DEPTH, NO_SECRETS, sign
from cotexd.operations import events, history, repositories
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store.models import Repository
from cotexd.store.writer import MAX_QUEUED
from cotexd.web import github as route
from cotexd.web.limits import MAX_BAD_SIGNATURES

# What is refused before a database is asked is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def ada(server: Server) -> Account:
    return server.user("ada")


@pytest.fixture
def hello(server: Server, ada: Account) -> Tracked:
    return server.track(ada)


async def nothing_is_stored(server: Server, repo: Tracked) -> None:
    """And the server lives: the next good delivery is the log's first event."""
    answer = await server.github.deliver(repo)
    assert (answer.status_code, answer.json()["seq"]) == (200, 1)
    assert len(server.store.look(history.listing, repo_id=repo.id, limit=10)) == 1


def raw(repo: Tracked, body: bytes = b"", *, end: bytes = b"", **changed: bytes | None) -> bytes:
    """A signed delivery as bytes; `changed` are headers, with _ for -, None leaves one out.

    :param end: stands for the body, where another one is sent than was signed
    """
    headers: dict[str, bytes | None] = {
        "host": b"cotexd",
        "connection": b"close",
        "content-type": b"application/json",
        "x-github-event": b"push",
        "x-github-delivery": str(uuid.uuid4()).encode(),
        "x-hub-signature-256": sign(body, repo.webhook_secret),
        "content-length": b"%d" % len(body),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    lines = [name.encode() + b": " + value for name, value in headers.items() if value is not None]
    start = f"POST /api/webhooks/github/{repo.id} HTTP/1.1".encode()
    return b"\r\n".join([start, *lines, b"", end or body])


@asynccontextmanager
async def connection(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


# Verified and committed.


async def test_a_delivery_is_answered_with_its_event_and_its_place_in_the_log(
    server: Server, ada: Account, hello: Tracked
):
    for seq in (1, 2):
        answer = await server.github.deliver(hello, push(seq))
        told = answer.json()
        assert (answer.status_code, told) == (200, {**told, "seq": seq, "duplicate": False})
        assert set(told) == {"event_id", "seq", "duplicate"}
        stored = await server.get(f"/api/github-events/event?id={told['event_id']}", ada)
        assert (stored.json()["seq"], stored.json()["payload"]) == (seq, push(seq))


async def test_a_redelivery_is_answered_with_the_first_event(server: Server, hello: Tracked):
    first = (await server.github.deliver(hello, guid="the-guid")).json()
    for payload in (push(), push(2)):
        again = await server.github.deliver(hello, payload, guid="the-guid")
        assert (again.status_code, again.json()) == (200, {**first, "duplicate": True})
    assert (await server.github.deliver(hello)).json()["seq"] == 2


async def test_of_many_deliveries_at_once_with_one_guid_one_is_new(server: Server, hello: Tracked):
    answers = await asyncio.gather(*(server.github.deliver(hello, guid="the-guid") for _ in range(20)))
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + 19 * [True]
    assert {answer.json()["seq"] for answer in answers} == {1}


async def test_a_guid_is_another_delivery_at_another_repository(server: Server, ada: Account, hello: Tracked):
    other = server.track(ada, "octo/other")
    for repo in (hello, other):
        assert not (await server.github.deliver(repo, guid="the-guid")).json()["duplicate"]


async def test_the_payload_of_a_form_is_what_is_kept(server: Server, ada: Account, hello: Tracked):
    payload = json.dumps(push(3, note="ä & b = c+d %41")).encode()
    body = b"payload=" + quote_plus(payload).encode()
    answer = await server.github.deliver(hello, body, headers={"content-type": FORM})
    assert answer.status_code == 200
    listed = await server.get("/api/github-events", ada)
    assert payload in listed.content
    assert listed.json()[0]["summary"]["commit_shas"] == [f"{3:040x}"]


@on_sqlite
async def test_a_body_may_come_in_chunks_and_after_an_invitation(server: Server, hello: Tracked):
    body = json.dumps(push()).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    for more in ({}, {"expect": b"100-continue"}):
        answer = await exchange(
            server.url,
            raw(hello, body, end=chunks, content_length=None, transfer_encoding=b"chunked", **more),
        )
        assert answer.status_code in {100, 200}
        assert b'"duplicate":false' in answer.content


@on_sqlite
async def test_the_largest_body_is_taken_and_one_byte_more_is_not(server: Server, hello: Tracked):
    largest = b'{"x":"%b"}' % (b"x" * (MAX_BODY - 8))
    assert (await server.github.deliver(hello, largest)).status_code == 200
    answer = await server.github.deliver(hello, largest + b" ")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# Ping.


async def test_a_ping_is_a_sign_of_life_and_no_event(server: Server, hello: Tracked):
    answer = await server.github.deliver(hello, {"zen": "Keep it logically awesome."}, event="ping")
    assert answer.status_code == 200
    assert server.store.look(lambda _: Repository.get_by_id(hello.id).pinged_at) is not None
    await nothing_is_stored(server, hello)


async def test_a_ping_with_a_wrong_signature_is_none(server: Server, hello: Tracked):
    answer = await server.github.deliver(hello, {"zen": "?"}, event="ping", secret="wrong")
    assert answer.status_code == 401
    assert server.store.look(lambda _: Repository.get_by_id(hello.id).pinged_at) is None


# Who signed it.


def unknown(repo: Tracked) -> dict[str, Any]:
    return {"repo": replaced(repo, id=str(uuid.uuid4()))}


def replaced(repo: Tracked, **fields: str) -> Tracked:
    return msgspec.structs.replace(repo, **fields)


SHA256, SHA1 = "x-hub-signature-256", "x-hub-signature"
UNSIGNED: dict[str, Any] = {
    "wrong": lambda repo: {"secret": "wrong"},
    "missing": lambda repo: {"headers": {SHA256: None}},
    "empty": lambda repo: {"headers": {SHA256: ""}},
    "of another body": lambda repo: {"headers": {SHA256: sign(b"{}", repo.webhook_secret).decode()}},
    "without its name": lambda repo: {"headers": {SHA256: "0" * 64}},
    "under the name of the older": lambda repo: {
        "headers": {SHA256: None, SHA1: sign(json.dumps(push()).encode(), repo.webhook_secret).decode()}
    },
    "in capitals": lambda repo: {
        "headers": {SHA256: sign(json.dumps(push()).encode(), repo.webhook_secret).decode().upper()}
    },
    "wrong beside a good one by SHA-1": lambda repo: {
        "headers": {
            SHA256: "sha256=" + "0" * 64,
            SHA1: sign(json.dumps(push()).encode(), repo.webhook_secret, "sha1").decode(),
        }
    },
    "empty beside a good one by SHA-1": lambda repo: {
        "headers": {
            SHA256: "",
            SHA1: sign(json.dumps(push()).encode(), repo.webhook_secret, "sha1").decode(),
        }
    },
    "unknown repository": unknown,
    "unknown repository, signed with what stands for its secret": lambda repo: {
        **unknown(repo),
        "secret": NO_SECRETS[0],
    },
    "no id of a repository": lambda repo: {"repo": replaced(repo, id="%00%ff%20'")},
}


async def test_who_is_not_known_by_a_signature_gets_one_and_the_same_answer(server: Server, hello: Tracked):
    told = {}
    for kind, make in UNSIGNED.items():
        sent = make(hello)
        headers = {"x-request-id": "same", **sent.pop("headers", {})}
        answer = await server.github.deliver(sent.pop("repo", hello), headers=headers, **sent)
        told[kind] = (answer.status_code, sorted(answer.headers.items()), answer.content)
    assert {kind: each for kind, each in told.items() if each != told["wrong"]} == {}
    assert told["wrong"][0] == 401
    assert json.loads(told["wrong"][2])["code"] == "bad_signature"
    await nothing_is_stored(server, hello)


async def test_a_removed_repository_is_an_unknown_one_at_once(server: Server, ada: Account, hello: Tracked):
    assert (await server.github.deliver(hello)).status_code == 200
    server.store.run(repositories.remove, ada.id, hello.id)
    answer = await server.github.deliver(hello)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert server.store.look(events.log).head == 1


@on_sqlite
@pytest.mark.parametrize("name", [b"x-hub-signature-256", b"x-hub-signature"])
async def test_a_signature_of_any_bytes_is_a_wrong_one(server: Server, hello: Tracked, name: bytes):
    body = json.dumps(push()).encode()
    for value in (b"sha256=\xff\xfe", "sha256=ä".encode(), b"\xed\xa0\x80", b"sha1=\x80", b"\x00"):
        sent = raw(hello, body, x_hub_signature_256=None).replace(
            b"\r\n\r\n", b"\r\n" + name + b": " + value + b"\r\n\r\n", 1
        )
        answer = await exchange(server.url, sent)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature"), value
    await nothing_is_stored(server, hello)


async def test_sha1_counts_where_nothing_better_came(server: Server, ada: Account, hello: Tracked):
    answer = await server.github.deliver(hello, algorithm="sha1")
    assert (answer.status_code, answer.json()["seq"]) == (200, 1)


@on_sqlite
async def test_sha1_can_be_turned_off(servers: Serve, settings: Settings):
    server = await servers(replace(settings, accept_sha1=False))
    repo = server.track(server.user("ada"))
    answer = await server.github.deliver(repo, algorithm="sha1")
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    await nothing_is_stored(server, repo)


async def test_both_secrets_are_good_during_a_rotation(server: Server, hello: Tracked):
    assert (await server.github.deliver(hello)).status_code == 200
    new = server.store.run(repositories.rotate_secret, hello.id)
    for secret in (new.webhook_secret, hello.webhook_secret):
        assert (await server.github.deliver(hello, secret=secret)).status_code == 200


async def test_the_old_secret_is_refused_once_its_time_is_over(server: Server, hello: Tracked):
    new = server.store.run(repositories.rotate_secret, hello.id, overlap=timedelta(0))
    assert (await server.github.deliver(hello, secret=new.webhook_secret)).status_code == 200

    async def refused() -> bool:
        return (await server.github.deliver(hello)).status_code == 401

    await eventually(refused)


# What is no delivery.


def deep(levels: int) -> bytes:
    return b'{"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no event": ({"headers": {"x-github-event": None}}, 400, "invalid_payload"),
    "an event that is no name": ({"headers": {"x-github-event": "Push It"}}, 400, "invalid_payload"),
    "no guid": ({"headers": {"x-github-delivery": None}}, 400, "invalid_payload"),
    "a guid that is none": ({"headers": {"x-github-delivery": "a b"}}, 400, "invalid_payload"),
    "an endless guid": ({"headers": {"x-github-delivery": "a" * 101}}, 400, "invalid_payload"),
    "nothing": ({"payload": b" "}, 400, "invalid_payload"),
    "an array": ({"payload": b"[]"}, 400, "invalid_payload"),
    "a string": ({"payload": b'"{}"'}, 400, "invalid_payload"),
    "no json": ({"payload": b"{'x':1}"}, 400, "invalid_payload"),
    "cut short": ({"payload": b'{"x":"'}, 400, "invalid_payload"),
    "two objects": ({"payload": b"{}{}"}, 400, "invalid_payload"),
    "not a number": ({"payload": b'{"x":NaN}'}, 400, "invalid_payload"),
    "not UTF-8": ({"payload": b'{"x":"\xff"}'}, 400, "invalid_payload"),
    "UTF-16": ({"payload": "{}".encode("utf-16")}, 400, "invalid_payload"),
    "one level too deep": ({"payload": deep(MAX_DEPTH + 1)}, 400, "invalid_payload"),
    "10,000 levels": ({"payload": deep(10_000)}, 400, "invalid_payload"),
    "a million levels and no end": ({"payload": b'{"x":' + b"[" * 1_000_000}, 400, "invalid_payload"),
    "a form without payload": (
        {"payload": b"zen=1&load=%7B%7D", "headers": {"content-type": FORM}},
        400,
        "invalid_payload",
    ),
    "a form whose payload is no object": (
        {"payload": b"payload=%5B%5D", "headers": {"content-type": FORM}},
        400,
        "invalid_payload",
    ),
    "a form with bytes that are no text": (
        {"payload": b"payload=%7B%22x%22:%22%ff%22%7D", "headers": {"content-type": FORM}},
        400,
        "invalid_payload",
    ),
    "json that says it is a form": ({"headers": {"content-type": FORM}}, 400, "invalid_payload"),
    "another content type": ({"headers": {"content-type": "text/xml"}}, 415, "unsupported_media_type"),
    "no content type": ({"headers": {"content-type": None}}, 415, "unsupported_media_type"),
}


@on_sqlite
async def test_what_is_no_delivery_is_refused_by_name_and_nothing_is_stored(server: Server, hello: Tracked):
    told = {}
    for kind, (sent, _, _) in REFUSED.items():
        answer = await server.github.deliver(hello, **sent)
        told[kind] = (answer.status_code, answer.json()["code"])
    assert told == {kind: (status, code) for kind, (_, status, code) in REFUSED.items()}
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_as_deep_as_allowed_is_taken(server: Server, hello: Tracked):
    assert (await server.github.deliver(hello, deep(MAX_DEPTH))).status_code == 200
    assert (await server.github.deliver(hello, b'{"x":"' + b"[" * 10_000 + b'"}')).status_code == 200


@on_sqlite
@examples(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), form=st.booleans(), event=st.sampled_from(["push", "issues", "odd_one"]))
async def test_no_signed_body_makes_a_mistake_of_the_server(
    server: Server, hello: Tracked, body: bytes, form: bool, event: str
):
    kind = FORM if form else "application/json"
    sent = b"payload=" + body if form else body
    answer = await server.github.deliver(hello, sent, event=event, headers={"content-type": kind})
    assert answer.status_code in {200, 400}


@on_sqlite
async def test_a_payload_without_a_good_signature_is_not_even_parsed(server: Server, hello: Tracked):
    for payload in (b"no json", deep(10_000)):
        answer = await server.github.deliver(hello, payload, secret="wrong")
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")


@on_sqlite
async def test_no_header_of_a_delivery_comes_back_as_another_one(server: Server, hello: Tracked):
    for name in (b"X-GitHub-Event", b"X-GitHub-Delivery", b"X-Request-ID", b"X-Hub-Signature-256"):
        for between in (b"\n", b"\r", b"\0", b"%0d%0a", b"\r\n "):
            line = name + b": a" + between + b"Set-Cookie: a=b"
            sent = raw(hello, b"{}", **{name.decode().lower().replace("-", "_"): None})
            answer = await exchange(server.url, sent.replace(b"\r\nhost", b"\r\n" + line + b"\r\nhost", 1))
            assert answer.status_code in {200, 400, 401}, line
            assert "set-cookie" not in answer.headers
            assert b"Set-Cookie" not in answer.content
    path = raw(replaced(hello, id="a%0d%0aSet-Cookie:%20a=b"), b"{}")
    assert "set-cookie" not in (await exchange(server.url, path)).headers


# What is too much, or does not come.


@on_sqlite
async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(server: Server, hello: Tracked):
    for length in (MAX_BODY + 1, 10**18, 10**400):
        async with connection(server) as (reader, writer):
            writer.write(raw(hello, b"{", content_length=b"%d" % length))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)
            assert head.startswith(b"HTTP/1.1 413 "), length
            assert b"connection: close" in head
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_a_hundred_megabytes_in_chunks_are_refused_and_never_held_in_memory(
    server: Server, hello: Tracked
):
    chunk = b"80000\r\n" + b" " * 0x80000 + b"\r\n"
    memory, most, sent = psutil.Process(), 0, 0
    before = memory.memory_info().rss
    async with connection(server) as (reader, writer):
        writer.write(raw(hello, content_length=None, transfer_encoding=b"chunked"))
        head = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
        try:
            while sent < 100 * 2**20:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
                most = max(most, memory.memory_info().rss - before)
        except ConnectionError:
            pass  # refused, and told so, before all of it was sent
        answer = await asyncio.wait_for(head, WAIT)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent > MAX_BODY
    assert most < 2 * MAX_BODY, "more was kept than a delivery may have"
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_a_body_that_breaks_off_is_no_delivery(server: Server, hello: Tracked):
    body = json.dumps(push()).encode()
    chunked: dict[str, bytes | None] = {"content_length": None, "transfer_encoding": b"chunked"}
    for sent in (
        raw(hello, body)[:-1],
        raw(hello, body)[: -len(body)],
        raw(hello, body, end=b"%x\r\n%b" % (len(body), body), **chunked),
        raw(hello, body, end=b"%x\r\n%b\r\n" % (len(body), body), **chunked),
        raw(hello, body, end=b"%x\r\n%b\r\n0\r\n" % (len(body), body), **chunked),
    ):
        async with connection(server) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), WAIT)
            assert b" 200 " not in answer
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_chunks_that_are_none_are_refused(server: Server, hello: Tracked):
    body = json.dumps(push()).encode()
    for chunks in (b"zz\r\n", b"-5\r\nhello\r\n", b"x" * 100, b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"):
        answer = await exchange(
            server.url,
            raw(hello, body, end=chunks, content_length=None, transfer_encoding=b"chunked"),
        )
        assert answer.status_code == 400, chunks
        assert answer.headers["content-type"] == "application/problem+json"
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_a_body_that_does_not_come_in_time_is_refused_and_the_connection_closed(
    server: Server, hello: Tracked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(route, "BODY_WITHIN", 0.1)
    monkeypatch.setattr(route, "LINGER", 0.1)
    answer = await exchange(server.url, raw(hello, json.dumps(push()).encode())[:-1])
    assert (answer.status_code, answer.json()["code"]) == (400, "slow_sender")
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_a_refused_sender_that_sends_on_reads_its_answer(server: Server, hello: Tracked):
    body = b" " * 2**20
    for changed, status in (({"content_type": b"text/xml"}, 415), ({"x_github_event": None}, 400)):
        answer = await exchange(server.url, raw(hello, body, **changed))
        assert answer.status_code == status


@on_sqlite
async def test_after_a_refusal_nothing_of_its_body_is_taken_for_a_request(server: Server, hello: Tracked):
    inner = raw(hello, json.dumps(push()).encode())
    answer = await exchange(server.url, raw(hello, inner, connection=b"keep-alive", content_type=b"text/xml"))
    assert answer.status_code == 415
    assert b"HTTP/1.1" not in answer.content
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_a_refused_sender_that_leaves_without_its_body_costs_nothing_more(
    server: Server, hello: Tracked
):
    others = handling()
    for unsent in ({"transfer_encoding": b"chunked", "content_length": None}, {"content_length": b"1000"}):
        async with connection(server) as (reader, writer):
            writer.write(raw(hello, content_type=b"text/xml", **unsent))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)
            assert head.startswith(b"HTTP/1.1 415 ")
    await eventually(lambda: handling() <= others)


# Paused, full, down.


async def test_a_paused_repository_refuses_and_takes_again_when_it_is_resumed(
    server: Server, ada: Account, hello: Tracked
):
    server.store.run(repositories.pause, ada.id, hello.id)
    answer = await server.github.deliver(hello, guid="the-guid")
    assert (answer.status_code, answer.json()["code"]) == (403, "repo_paused")
    assert "3 days" in answer.json()["detail"]
    wrong = await server.github.deliver(hello, secret="wrong")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "bad_signature")
    server.store.run(repositories.resume, ada.id, hello.id)
    again = await server.github.deliver(hello, guid="the-guid")
    assert (again.status_code, again.json()["seq"], again.json()["duplicate"]) == (200, 1, False)


async def test_a_ping_to_a_paused_repository_is_a_sign_of_life(server: Server, ada: Account, hello: Tracked):
    server.store.run(repositories.pause, ada.id, hello.id)
    assert (await server.github.deliver(hello, {"zen": "?"}, event="ping")).status_code == 200


@on_sqlite
async def test_when_more_is_to_be_written_than_fits_a_delivery_is_refused_for_now(
    server: Server, hello: Tracked
):
    store = inside().store
    async with holding(store):
        waiting = [asyncio.ensure_future(store.write(lambda _: None)) for _ in range(MAX_QUEUED)]
        await eventually(lambda: store.queued == MAX_QUEUED)
        answer = await server.github.deliver(hello)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    await asyncio.gather(*waiting)
    await nothing_is_stored(server, hello)


async def test_while_the_disk_is_full_a_delivery_is_refused_for_now(server: Server, hello: Tracked):
    await inside().store.write(fill_the_disk)
    large = push(note=[uuid.uuid4().hex for _ in range(30_000)])
    answer = await server.github.deliver(hello, large)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    await inside().store.write(free_the_disk)
    await nothing_is_stored(server, hello)


async def test_no_answer_comes_before_the_event_is_written(server: Server, hello: Tracked):
    async with holding(inside().store):
        delivering = asyncio.ensure_future(server.github.deliver(hello))
        await eventually(lambda: deliveries_waiting(inside().store) == 1)
        assert (await server.get("/livez")).status_code == 200
        assert not delivering.done()
    assert (await delivering).json()["seq"] == 1


@on_sqlite
async def test_who_guesses_signatures_is_slowed_down_and_github_never(server: Server, hello: Tracked, minute):
    async def guess() -> httpx.Response:
        return await server.github.deliver(hello, secret="wrong")

    async def some(count: int) -> list[int]:
        return [answer.status_code for answer in await asyncio.gather(*(guess() for _ in range(count)))]

    statuses = [status for _ in range(MAX_BAD_SIGNATURES // 60 + 1) for status in await some(60)]
    assert statuses.count(401) == MAX_BAD_SIGNATURES
    assert set(statuses) == {401, 429}
    limited = await guess()
    assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
    assert int(limited.headers["retry-after"]) > 0
    await nothing_is_stored(server, hello)


@on_sqlite
async def test_the_limits_of_the_api_refuse_no_delivery(servers: Serve, settings: Settings):
    server = await servers(replace(settings, rate_limit=1))
    ada = server.user("ada")
    repo = server.track(ada)
    assert (await server.get("/api/repos", ada)).status_code == 200
    assert (await server.get("/api/repos", ada)).status_code == 429
    for seq in range(1, 11):
        answer = await server.github.deliver(repo)
        assert (answer.status_code, answer.json()["seq"]) == (200, seq)
        assert "ratelimit" not in answer.headers


# A peer that does not wait for its answer.


def handling() -> set[asyncio.Task[Any]]:
    """The tasks in which the server serves its connections."""
    return {
        task
        for task in asyncio.all_tasks()
        if "connection_task" in getattr(task.get_coro(), "__qualname__", "")
    }


async def test_a_peer_that_leaves_before_its_answer_loses_the_answer_and_no_event(
    server: Server, ada: Account, hello: Tracked
):
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        others = handling()
        async with holding(inside().store):
            for guid in (b"first", b"second", b"third"):
                async with connection(server) as (_, writer):
                    queued = deliveries_waiting(inside().store)
                    writer.write(raw(hello, json.dumps(push()).encode(), x_github_delivery=guid))
                    await eventually(lambda before=queued: deliveries_waiting(inside().store) == before + 1)
            await eventually(lambda: handling() <= others)
        await client.until_applied(socket, 3)
    assert client.seqs == [1, 2, 3]
    assert [message["payload"]["id"] for message in client.applied] == ["first", "second", "third"]
    again = await server.github.deliver(hello, guid="second")
    assert (again.json()["seq"], again.json()["duplicate"]) == (2, True)
