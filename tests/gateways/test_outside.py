import asyncio
import socket
from typing import Any

import httpx
import pytest
from conftest import Server

from cotexd.gateways import outside
from cotexd.gateways.github import Client


class Inner(httpx.AsyncBaseTransport):
    """What would connect: it only says where to."""

    def __init__(self) -> None:
        self.went: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.went.append(request)
        return httpx.Response(200)


@pytest.fixture
def asked() -> Inner:
    return Inner()


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104  # not what to bind to
    "::1",
    "fe80::1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "not resolved",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_that_leads_into_our_own_network_is_not_called(
    asked: Inner, monkeypatch: pytest.MonkeyPatch, address: str
):
    resolves_to(monkeypatch, [address] if address != "not resolved" else [])
    async with httpx.AsyncClient(transport=outside.PublicOnly(asked)) as client:
        with pytest.raises(httpx.ConnectError, match="no address on the public Internet"):
            await client.get("https://api.github.com/x")
    assert asked.went == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "0x7f000001", "2130706433"])
async def test_an_address_of_our_own_is_not_called_either(asked: Inner, host: str):
    async with httpx.AsyncClient(transport=outside.PublicOnly(asked)) as client:
        with pytest.raises((httpx.ConnectError, httpx.InvalidURL)):
            await client.get(f"https://{host}/x")
    assert asked.went == []


async def test_the_address_that_was_found_good_is_the_one_that_is_called(
    asked: Inner, monkeypatch: pytest.MonkeyPatch
):
    """A name that changes its mind between the look and the call changes nothing."""
    resolves_to(monkeypatch, ["10.0.0.1", "140.82.121.6"])
    async with httpx.AsyncClient(transport=outside.PublicOnly(asked)) as client:
        await client.get("https://api.github.com/repos?x=1")
    (request,) = asked.went
    assert str(request.url) == "https://140.82.121.6/repos?x=1"
    assert request.headers["host"] == "api.github.com"
    assert request.extensions["sni_hostname"] == "api.github.com"


async def test_a_host_of_the_configuration_may_be_anywhere(server: Server):
    async with outside.client(configured=True, timeout=5) as client:
        assert (await client.get(f"{server.url}/livez")).status_code == 200


async def test_no_redirect_is_followed_and_no_proxy_of_the_environment_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with outside.client(configured=True, timeout=5) as client:
        assert client.follow_redirects is False
        assert (await client.get(f"{server.url}/livez")).status_code == 200


async def test_githubs_own_api_is_only_called_on_the_internet(monkeypatch: pytest.MonkeyPatch):
    resolves_to(monkeypatch, ["127.0.0.1"])
    client = Client()
    with pytest.raises(httpx.ConnectError, match="no address"):
        await client.http.get(client.base)
    await client.close()


def resolves_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    """What every name leads to, whatever the real ones say."""

    async def resolve(host: str, port: int, **more: Any) -> list[Any]:
        del host, more
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
