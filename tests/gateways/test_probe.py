import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Server
from selfsigned import certificate

from cotexd import __version__
from cotexd.appliance import Appliance
from cotexd.config import Settings
from cotexd.errors import Unreachable
from cotexd.gateways import probe


async def test_our_own_server_is_known_by_its_version_and_tells_the_time(server: Server):
    seen = await probe.health(server.url)
    assert (seen.status, seen.version, seen.certificate_ends) == (200, __version__, None)
    assert seen.clock is not None
    assert abs(seen.clock - datetime.now(UTC)) < timedelta(seconds=30)


async def test_what_does_not_say_what_time_it_is_has_no_clock(server: Server):
    assert await probe.clock(f"{server.url}/livez") is None


async def test_a_handshake_that_came_through_is_refused_with_a_sign_that_it_did(server: Server):
    seen = await probe.handshake(server.url)
    assert (seen.status, seen.handshake_came) == (401, True)
    assert (await probe.health(server.url + "/ws#")).handshake_came is False


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
