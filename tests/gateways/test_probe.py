import dataclasses
from pathlib import Path

import pytest
from conftest import Server
from selfsigned import certificate

from cotexd import __version__
from cotexd.appliance import Appliance
from cotexd.config import Settings
from cotexd.errors import Unreachable
from cotexd.gateways import probe
from cotexd.operations import signing


async def test_our_own_server_is_known_by_its_version_and_its_keys(server: Server):
    seen = await probe.health(server.url)
    assert (seen.status, seen.version, seen.certificate_ends) == (200, __version__, None)
    ours = {each.kid for each in server.store.look(signing.listing)}
    assert await probe.keys(server.url) == ours


async def test_what_has_no_keys_has_none(server: Server):
    assert await probe.keys(f"{server.url}/livez?") == frozenset()


@pytest.mark.parametrize(("connection", "came"), [("Upgrade", True), ("close", False)])
async def test_a_handshake_that_came_through_is_refused_with_a_sign_that_it_did(
    server: Server, connection: str, came: bool
):
    """A proxy that passes no upgrades drops the two headers of its own connection, and passes the others."""
    seen = await probe.handshake(server.url)
    assert (seen.status, seen.handshake_came) == (401, True)
    key = {"sec-websocket-version": "13", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    upgrade = {"upgrade": "websocket"} if came else {}
    answer = await server.get("/ws", headers={"connection": connection, **upgrade, **key})
    assert (answer.status_code, "sec-websocket-version" in answer.headers) == (401, came)


async def test_where_nobody_answers_it_is_unreachable():
    with pytest.raises(Unreachable):
        await probe.health("http://127.0.0.1:9")


async def test_a_certificate_that_nobody_knows_is_no_good(settings: Settings, tmp_path: Path):
    for name, content in zip(("cert.pem", "key.pem"), certificate(), strict=True):
        (tmp_path / name).write_bytes(content)
    secure = dataclasses.replace(settings, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
    appliance = Appliance(secure)
    await appliance.start()
    try:
        with pytest.raises(Unreachable, match="CERTIFICATE"):
            await probe.health(appliance.url)
    finally:
        await appliance.stop()
