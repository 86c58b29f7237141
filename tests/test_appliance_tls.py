"""The appliance with a certificate: TLS on its own port, without a proxy."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from actors import WAIT, Client, GitHub
from conftest import Serve, eventually
from selfsigned import certificate, new_key
from websockets.asyncio.client import connect

from cotexd.appliance import Appliance
from cotexd.config import Settings
from cotexd.errors import Failed


@pytest.fixture
def database() -> str:
    """SQLite: TLS ends before a database is asked."""
    return ""


@pytest.fixture
def secure(settings: Settings, tmp_path: Path) -> Settings:
    for name, content in zip(("cert.pem", "key.pem"), certificate(), strict=True):
        (tmp_path / name).write_bytes(content)
    return replace(settings, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")


@pytest.fixture
def trusting() -> ssl.SSLContext:
    """What a client has who trusts our certificate."""
    return ssl.create_default_context(cadata=certificate()[0].decode())


async def test_with_a_certificate_everything_goes_by_tls(
    servers: Serve, secure: Settings, trusting: ssl.SSLContext
):
    server = await servers(secure)
    assert server.url.startswith("https://127.0.0.1:")
    ada = server.user("ada")
    repo = server.track(ada)
    client = server.client(ada)
    async with (
        httpx.AsyncClient(verify=trusting, trust_env=False) as http,
        client.connected(ssl=trusting) as socket,
    ):
        await client.until_live(socket)
        github = GitHub(server.url, http)
        for _ in range(2):
            assert (await github.deliver(repo)).status_code == 200
        await client.until_applied(socket, 2)
        bearer = {"authorization": f"Bearer {server.token(ada)}"}
        answer = await http.get(f"{server.url}/api/github-events?limit=1", headers=bearer)
        assert answer.headers["link"].startswith(f"<{server.url}/api/github-events?")


async def test_a_browser_connects_with_its_token_as_a_subprotocol(
    servers: Serve, secure: Settings, trusting: ssl.SSLContext
):
    server = await servers(secure)
    token = server.token(server.user("ada"))
    address = server.url.replace("https", "wss") + "/ws?v=2"
    offered = ["cotex.v2", f"cotex.bearer.{token}"]
    async with connect(address, ssl=trusting, subprotocols=offered, origin=server.url, proxy=None) as socket:
        assert "hello" in await asyncio.wait_for(socket.recv(), WAIT)


def client_hello(version: bytes) -> bytes:
    """The first message of a client (RFC 5246, 7.4.1.2) by hand: libraries don't offer the old versions any more."""
    suites = bytes.fromhex("c02bc009c00a")
    extensions = bytes.fromhex("000a000400020017000d000400020403")
    body = version + bytes(32) + b"\0" + len(suites).to_bytes(2) + suites + b"\1\0"
    body += len(extensions).to_bytes(2) + extensions
    handshake = b"\1" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2) + handshake


async def test_who_speaks_no_tls_or_an_old_one_is_not_served(servers: Serve, secure: Settings):
    server = await servers(secure)
    address = urlsplit(server.url)
    for first, answered in (
        (client_hello(b"\x03\x03"), b"\x16"),
        (client_hello(b"\x03\x02"), b""),
        (client_hello(b"\x03\x01"), b""),
        (b"GET /health HTTP/1.1\r\n\r\n", b""),
    ):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(first)
        answer = await asyncio.wait_for(reader.read(1), WAIT)
        writer.transport.abort()
        # An alert, if anything, is no answer.
        assert answer.strip(b"\x15") == answered, first


async def test_who_does_not_trust_the_certificate_gets_nothing(servers: Serve, secure: Settings):
    server = await servers(secure)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await server.http.get(f"{server.url}/health")


async def test_a_handshake_that_never_ends_holds_up_nobody(
    servers: Serve, secure: Settings, trusting: ssl.SSLContext
):
    server = await servers(secure)
    address = urlsplit(server.url)
    waiting = [await asyncio.open_connection(address.hostname, address.port) for _ in range(100)]
    async with httpx.AsyncClient(verify=trusting, trust_env=False) as http:
        assert (await http.get(f"{server.url}/health")).status_code == 200
    for _, writer in waiting:
        writer.transport.abort()


async def test_a_client_that_goes_is_forgotten(servers: Serve, secure: Settings, trusting: ssl.SSLContext):
    server = await servers(secure)
    client = Client(server.url, server.token(server.user("ada")))
    async with httpx.AsyncClient(verify=trusting, trust_env=False) as http:

        async def connected() -> bool:
            text = (await http.get(f"{server.url}/metrics")).text
            return 'cotexd_sockets{protocol="v2"} 1.0' in text

        async def gone() -> bool:
            return not await connected()

        async with client.connected(ssl=trusting) as socket:
            await client.until_live(socket)
            await eventually(connected)
        await eventually(gone)


@pytest.mark.parametrize("broken", ["no such file", "no certificate", "another's key", "no key"])
async def test_a_certificate_that_cannot_be_used_is_told_before_anything_runs(secure: Settings, broken: str):
    assert secure.tls_cert is not None
    assert secure.tls_key is not None
    if broken == "no such file":
        secure.tls_cert.unlink()
    elif broken == "no certificate":
        secure.tls_cert.write_text("nonsense")
    elif broken == "no key":
        secure.tls_key.write_text("")
    else:
        secure.tls_key.write_bytes(new_key())
    with pytest.raises(Failed, match="cannot be used") as refused:
        await Appliance(secure).start()
    assert "PEM" in refused.value.hint
