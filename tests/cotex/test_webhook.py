import asyncio

import pytest

from cotex import client
from cotexd.operations.repositories import Tracked


def test_the_address_is_the_only_result(cotex, octo: Tracked):
    done = cotex("webhook", "url", "octo/hello", COTEX_PUBLIC_URL="https://cotex.example/")
    assert (done.out, done.err) == (f"https://cotex.example{octo.webhook_url}\n", "")
    as_json = cotex("webhook", "url", octo.id, "--json", COTEX_PUBLIC_URL="https://cotex.example")
    assert as_json.json == {"url": done.out.strip()}


def test_without_a_public_address_it_is_said_that_github_cannot_reach_this_one(cotex, octo: Tracked):
    done = cotex("webhook", "url", "octo/hello", COTEX_PORT="8123")
    assert done.out == f"http://127.0.0.1:8123{octo.webhook_url}\n"
    assert "public_url is not set" in done.err


def test_without_a_public_address_it_is_that_of_the_server_that_runs(cotex, octo: Tracked):
    server = cotex.serve()
    assert cotex("webhook", "url", "octo/hello").out == f"{server.url}{octo.webhook_url}\n"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_is_posted_to_the_address_arrives(server, cotex):
    repo = server.track(server.user("ada"))
    address = (await cotex.beside("webhook", "url", "octo/hello")).out.strip()
    sent = client.deliver, address, b'{"ref": "refs/heads/main"}', repo.webhook_secret
    answer = await asyncio.to_thread(*sent, event_type="push", delivery_id="1")
    assert answer.seq == 1


def test_an_unknown_repository_is_not_found(cotex, octo: Tracked):
    assert cotex("webhook", "url", "octo/other").code == 3
