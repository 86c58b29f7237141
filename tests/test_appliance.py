import asyncio
import resource
import shutil
import socket as sockets
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from actors import WAIT, Client, GitHub, logged
from conftest import Serve, Server, deliveries_waiting, eventually, holding, inside, serving
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from cotexd.appliance import Appliance
from cotexd.config import Settings
from cotexd.errors import Failed
from cotexd.live.session import FORBIDDEN, RESTARTING
from cotexd.operations import accounts, events, nodes, repositories, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store

FOREVER = timedelta(minutes=5)
"""longer than any test waits for anything"""


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A way in beside the server, whether that runs or not."""
    opened = Store(settings.database, settings.data_dir)
    yield opened
    opened.close()


@pytest.fixture
def ada(store: Store) -> Account:
    return store.run(accounts.create, "ada", tier="pro")


@pytest.fixture
def hello(store: Store, ada: Account) -> Tracked:
    return store.run(repositories.add, ada.id, "octo/hello")


@pytest.fixture
def token(store: Store, ada: Account) -> str:
    return store.run(tokens.issue, "ada", timedelta(hours=1)).token


@asynccontextmanager
async def github(url: str) -> AsyncIterator[GitHub]:
    async with httpx.AsyncClient(timeout=WAIT, trust_env=False) as http:
        yield GitHub(url, http)


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cotexd")]


async def stopped(appliance: Appliance) -> None:
    async with asyncio.timeout(WAIT):
        await appliance.stop()


async def code_of(socket: ClientConnection) -> int | None:
    """The code with which the server closes."""
    await asyncio.wait_for(socket.wait_closed(), WAIT)
    return socket.close_code


# Starting.


async def test_once_it_has_started_it_answers_and_says_where_it_is(server: Server):
    assert (await server.get("/readyz")).status_code == 200
    (running,) = server.store.look(nodes.running)
    assert (running.id, running.url) == (server.appliance.id, server.url)


async def test_everything_is_gone_once_it_has_stopped(settings: Settings, store: Store):
    before = threads()
    appliance = Appliance(settings)
    await appliance.start()
    assert len(store.look(nodes.running)) == 1
    assert len(threads()) > len(before)
    await stopped(appliance)
    assert store.look(nodes.running) == []
    assert threads() == before
    with sockets.socket() as again:
        again.bind(("127.0.0.1", port_of(appliance.url)))


async def test_it_may_be_told_twice_to_stop_and_before_it_has_started(settings: Settings):
    appliance = Appliance(settings)
    await stopped(appliance)
    await appliance.start()
    await asyncio.gather(stopped(appliance), stopped(appliance))
    await stopped(appliance)


async def test_a_port_that_is_taken_is_refused_and_who_has_it_goes_on(server: Server, settings: Settings):
    before = threads()
    second = Appliance(replace(settings, port=port_of(server.url)))
    with pytest.raises(Failed, match=f"port {port_of(server.url)}") as caught:
        await second.start()
    assert "--port" in caught.value.hint
    assert threads() == before
    assert (await server.get("/readyz")).status_code == 200


async def test_an_address_of_another_machine_is_refused(settings: Settings):
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(Failed, match=host):
            await Appliance(replace(settings, host=host)).start()


async def test_what_it_cannot_start_with_leaves_nothing_open(settings: Settings):
    before = threads()
    settings.data_dir.mkdir(mode=0o700)
    (settings.data_dir / "cotexd.key").touch(mode=0o600)
    (settings.data_dir / "cotexd.key").write_text("no key")
    port = free_port()
    with pytest.raises(Failed, match="key"):
        await Appliance(replace(settings, port=port)).start()
    assert threads() == before
    with sockets.socket() as again:
        again.bind(("127.0.0.1", port))


async def test_ipv6_is_an_address_like_any_other(settings: Settings):
    appliance = Appliance(replace(settings, host="::1"))
    await appliance.start()
    async with httpx.AsyncClient(timeout=WAIT, trust_env=False) as http:
        assert appliance.url.startswith("http://[::1]:")
        assert (await http.get(f"{appliance.url}/readyz")).status_code == 200
    await stopped(appliance)


async def test_it_may_have_as_many_clients_as_the_kernel_lets_it(server: Server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard


# Stopping.


async def test_a_request_that_was_begun_is_finished_and_its_event_arrives_before_the_farewell(
    settings: Settings, hello: Tracked, token: str
):
    appliance = Appliance(replace(settings, drain=FOREVER))
    await appliance.start()
    client = Client(appliance.url, token)
    context = inside()
    inner = context.store
    async with client.connected() as socket, github(appliance.url) as sender:
        await client.until_live(socket)
        async with holding(inner):
            delivery = asyncio.create_task(sender.deliver(hello))
            await eventually(lambda: deliveries_waiting(inner) > 0)
            stopping = asyncio.create_task(stopped(appliance))
            await eventually(lambda: context.draining)
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(f"{appliance.url}/readyz")).status_code == 503
            assert not stopping.done()
        assert (await delivery).json()["seq"] == 1
        await client.until_applied(socket, 1)
        assert await code_of(socket) == RESTARTING
        await stopping


async def test_a_request_that_outlasts_the_drain_is_cut_and_its_event_comes_after_the_restart(
    settings: Settings, hello: Tracked, token: str, store: Store
):
    appliance = Appliance(replace(settings, drain=timedelta(0)))
    await appliance.start()
    client = Client(appliance.url, token)
    inner = inside().store
    async with github(appliance.url) as sender:
        async with client.connected() as socket:
            await client.until_live(socket)
            async with holding(inner):
                delivery = asyncio.create_task(sender.deliver(hello))
                await eventually(lambda: deliveries_waiting(inner) > 0)
                stopping = asyncio.create_task(stopped(appliance))
                with pytest.raises(httpx.HTTPError):
                    await delivery
            await stopping
        assert store.look(events.log).head == 1
    async with serving(settings) as server:
        again = Client(server.url, token)
        again.cursor = client.cursor
        async with again.connected() as socket:
            await again.until_applied(socket, 1)
    assert client.seqs + again.seqs == [1]


async def test_nobody_who_only_stays_connected_holds_it_up(settings: Settings, token: str):
    appliance = Appliance(replace(settings, drain=FOREVER))
    await appliance.start()
    async with httpx.AsyncClient(timeout=WAIT, trust_env=False) as http:
        await http.get(f"{appliance.url}/livez")
        _, silent = await asyncio.open_connection("127.0.0.1", port_of(appliance.url))
        client = Client(appliance.url, token)
        async with client.connected() as socket:
            await client.until_live(socket)
            await stopped(appliance)
            assert await code_of(socket) == RESTARTING
        silent.close()


async def test_a_sender_that_left_in_the_middle_does_not_hold_it_up(
    settings: Settings, hello: Tracked, store: Store
):
    appliance = Appliance(replace(settings, drain=FOREVER))
    await appliance.start()
    inner = inside().store
    async with holding(inner):
        async with github(appliance.url) as sender:
            delivery = asyncio.create_task(sender.deliver(hello))
            await eventually(lambda: deliveries_waiting(inner) > 0)
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
        stopping = asyncio.create_task(stopped(appliance))
        await asyncio.sleep(0)
    await stopping
    assert store.look(events.log).head == 1


async def test_who_comes_while_it_drains_is_turned_away_for_now(
    settings: Settings, hello: Tracked, token: str
):
    appliance = Appliance(replace(settings, drain=FOREVER))
    await appliance.start()
    inside().draining = True
    with pytest.raises(InvalidStatus) as caught:
        async with Client(appliance.url, token).connected():
            pass
    assert caught.value.response.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) > 0
    async with github(appliance.url) as sender:
        assert (await sender.deliver(hello)).status_code == 200
    await stopped(appliance)


# Again, and beside another.


async def test_a_client_goes_on_where_it_was_after_a_restart(settings: Settings, hello: Tracked, token: str):
    first = Appliance(settings)
    await first.start()
    client = Client(first.url, token)
    async with client.connected() as socket, github(first.url) as sender:
        await client.until_live(socket)
        await sender.deliver(hello)
        await client.until_applied(socket, 1)
        await stopped(first)
    second = Appliance(settings)
    await second.start()
    async with github(second.url) as sender:
        await sender.deliver(hello)
        again = Client(second.url, token)
        again.cursor = client.cursor
        async with again.connected() as socket:
            await again.until_live(socket)
            await sender.deliver(hello)
            await again.until_applied(socket, 2)
    await stopped(second)
    assert (again.hello["resume"], again.seqs, again.gaps) == ("ok", [2, 3], [])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_database_that_was_set_back_is_another_log_and_its_clients_hear_of_the_gap(
    settings: Settings, hello: Tracked, token: str, store: Store, tmp_path: Path
):
    copy = tmp_path / "copy.db"
    async with serving(settings) as server:
        await server.github.deliver(hello)
        with sqlite3.connect(server.store.files.database) as live, sqlite3.connect(copy) as taken:
            live.backup(taken)
        client = Client(server.url, token)
        async with client.connected() as socket:
            await client.until_live(socket)
            await server.github.deliver(hello)
            await client.until_applied(socket, 1)
    store.close()
    for file in settings.data_dir.glob("cotexd.db*"):
        file.unlink()
    shutil.copy(copy, settings.data_dir / "cotexd.db")
    (settings.data_dir / "cotexd.db").chmod(0o600)
    async with serving(settings) as server:
        again = Client(server.url, token)
        again.cursor = client.cursor
        async with again.connected() as socket:
            await again.until_live(socket)
            assert again.hello["epoch"] != client.hello["epoch"]
            assert (again.hello["resume"], again.hello["from"]) == ("gap", 1)
            assert again.gaps[0]["reason"] == "epoch"
            await server.github.deliver(hello)
            await again.until_applied(socket, 1)
    assert again.seqs == [2]


async def test_two_servers_on_one_database_are_one_log_for_all_their_clients(
    servers: Serve, settings: Settings, ada: Account, hello: Tracked
):
    left, right = await servers(settings), await servers(settings)
    assert len(left.store.look(nodes.running)) == 2
    one, two = left.client(ada), right.client(ada)
    async with one.connected() as first, two.connected() as second:
        await one.until_live(first)
        await two.until_live(second)
        senders = [(left, right)[number % 2].github.deliver(hello) for number in range(40)]
        answers = await asyncio.gather(*senders)
        await one.until_applied(first, 40)
        await two.until_applied(second, 40)
    assert sorted(answer.json()["seq"] for answer in answers) == list(range(1, 41))
    assert one.seqs == two.seqs == list(range(1, 41))


async def test_a_delivery_that_comes_to_both_servers_is_one_event(
    servers: Serve, settings: Settings, hello: Tracked
):
    both = await servers(settings), await servers(settings)
    answers = await asyncio.gather(*(each.github.deliver(hello, guid="g") for each in both for _ in range(8)))
    assert {answer.json()["seq"] for answer in answers} == {1}
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1


async def test_what_is_done_at_one_server_is_in_force_at_the_other(
    servers: Serve, settings: Settings, ada: Account, hello: Tracked
):
    left, right = await servers(settings), await servers(settings)
    client = right.client(ada)
    async with client.connected() as socket:
        await client.until_live(socket)
        answer = await left.request("POST", "/api/repos", ada, json={"repo_name": "octo/new"})
        assert answer.status_code == 201
        told = await client.until(socket, lambda message: message.get("event") == "notice")
        assert "octo/new" in told["payload"]["text"]
        left.store.run(accounts.disable, "ada")
        assert await code_of(socket) == FORBIDDEN


async def test_a_client_changes_from_one_server_to_the_other_and_misses_nothing(
    servers: Serve, settings: Settings, ada: Account, hello: Tracked
):
    both = await servers(settings), await servers(settings)
    client = both[0].client(ada)
    count = 0
    for turn in range(6):
        here = both[turn % 2].client(ada)
        here.cursor, seen = client.cursor, client.applied
        async with here.connected() as socket:
            here.applied = seen
            await here.until_live(socket)
            count += 1
            await both[(turn + 1) % 2].github.deliver(hello)
            await here.until_applied(socket, count)
        client = here
        logged(both[0].store, hello)
        count += 1
    assert client.seqs == list(range(1, count))
