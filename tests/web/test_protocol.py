import asyncio
from urllib.parse import urlsplit

import pytest
import sanic
from actors import WAIT
from conftest import Server, inside_app

HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
BODY = (
    b"POST /api/repos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"
)


@pytest.fixture
def impatient(server: Server) -> Server:
    """A server that waits for a second where others wait for many."""
    inside_app().config.update(REQUEST_TIMEOUT=1, RESPONSE_TIMEOUT=1, KEEP_ALIVE_TIMEOUT=1)
    return server


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(server.url)
    return await asyncio.open_connection(address.hostname, address.port)


def test_it_is_the_sanic_whose_private_names_we_use():
    assert sanic.__version__.startswith("25.12.")


@pytest.mark.parametrize(
    ("first", "drop"), [(HEAD, b"X"), (BODY, b" "), (b"", b"\r")], ids=["head", "body", "nothing"]
)
async def test_a_request_that_comes_by_drops_is_cut_off(impatient: Server, first: bytes, drop: bytes):
    reader, writer = await connect(impatient)
    writer.write(first)
    rest = asyncio.ensure_future(reader.read())
    async with asyncio.timeout(WAIT):
        while not rest.done():
            writer.write(drop)
            await asyncio.wait([rest], timeout=0.1)
    writer.transport.abort()
    await asyncio.gather(rest, return_exceptions=True)
    assert (await impatient.get("/health")).status_code == 200


async def test_a_connection_serves_one_request_after_another(impatient: Server):
    reader, writer = await connect(impatient)
    for _ in range(3):
        writer.write(HEAD + b"\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT)
        assert head.startswith(b"HTTP/1.1 200")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await asyncio.wait_for(reader.readexactly(int(length.split(b":")[1])), WAIT)
    writer.transport.abort()
