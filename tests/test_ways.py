"""The two ways, end to end: the event's and the command's."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from actors import legacy, push, receive
from conftest import Server

from cotexd.operations import history

CORPUS = Path(os.environ.get("COTEX_PAYLOADS", Path(__file__).parents[2] / "shared" / "data" / "github"))


async def test_an_event_reaches_a_connected_client(server: Server) -> None:
    ada = server.user("ada")
    repo = server.track(ada)
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        answer = await server.github.deliver(repo, push(7))
        assert answer.status_code == 200
        assert answer.json() == {"event_id": answer.json()["event_id"], "seq": 1, "duplicate": False}
        await client.until_applied(socket, 1)
    message = client.applied[0]
    assert message["user_id"] == message["target_user_id"] == ada.id
    assert (message["event"], message["repo_name"], message["prev"]) == ("push", "octo/hello", 0)
    assert message["payload"]["headline"] == "1 commit pushed to main"
    assert message["payload"]["files"] == [
        {"path": "new-7.txt", "change": "added", "commit": f"{7:040x}"},
        {"path": "README.md", "change": "modified", "commit": f"{7:040x}"},
    ]


async def test_a_legacy_client_gets_what_it_missed_and_then_what_comes(server: Server) -> None:
    ada = server.user("ada")
    repo = server.track(ada)
    for number in range(3):
        await server.github.deliver(repo, push(number))
    async with legacy(server.url, server.token(ada)) as socket:
        assert [(await receive(socket))["seq"] for _ in range(3)] == [1, 2, 3]
        await server.github.deliver(repo)
        # That the repository was added may be told late.
        while (message := await receive(socket))["type"] == "system_event":
            pass
        assert message["seq"] == 4


async def test_nobody_sees_the_events_of_another(server: Server) -> None:
    ada, eve = server.user("ada"), server.user("eve")
    repo, other = server.track(ada), server.track(eve, "octo/other")
    client = server.client(eve)
    async with client.connected() as socket:
        await client.until_live(socket)
        await server.github.deliver(repo)
        await server.github.deliver(other)
        await client.until_applied(socket, 1)
    assert client.applied[0]["repo_name"] == "octo/other"
    assert (await server.get("/api/github-events", eve)).json()[0]["repo_name"] == "octo/other"


async def test_every_real_payload_is_kept_byte_for_byte_and_reaches_a_client(server: Server) -> None:
    files = sorted(CORPUS.glob("*.json"))
    if not files:
        pytest.skip(f"There are no payloads in {CORPUS}; COTEX_PAYLOADS names a folder of them.")
    ada = server.user("ada")
    repo = server.track(ada)
    client = server.client(ada)
    sent: dict[str, bytes] = {}
    async with client.connected() as socket:
        await client.until_live(socket)
        for file in files:
            kind, body = file.name.split(".")[0], file.read_bytes()
            answer = await server.github.deliver(repo, body, event=kind)
            assert answer.status_code == 200, (file.name, answer.text)
            if kind != "ping":
                sent[answer.json()["event_id"]] = body
        await client.until_applied(socket, len(sent))
    for message in client.applied:
        stored = server.store.look(history.details, message["event_id"])
        assert stored.payload is not None
        assert bytes(stored.payload) == sent[message["event_id"]]
        assert message["payload"]["headline"].strip()
        assert all(key in message["payload"] for key in ("files", "commit_shas", "metadata", "actor"))


async def test_what_a_command_changes_is_in_force_in_the_running_server(server: Server) -> None:
    ada = server.user("ada")
    client = server.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        repo = server.track(ada)
        told = await client.until(socket, lambda message: message.get("event") == "notice")
        assert told["payload"] == {"text": "Repository octo/hello was successfully added"}
        assert (await server.github.deliver(repo)).status_code == 200
        await client.until_applied(socket, 1)


async def test_fifty_identical_deliveries_at_once_are_one_event(server: Server) -> None:
    ada = server.user("ada")
    repo = server.track(ada)
    answers = await asyncio.gather(*(server.github.deliver(repo, guid="the-same") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1
    listed = (await server.get("/api/github-events", ada)).json()
    assert [event["delivery_id"] for event in listed] == ["the-same"]
    assert json.dumps(listed)
