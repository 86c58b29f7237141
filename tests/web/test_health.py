import asyncio
from datetime import UTC, datetime

import pytest
from conftest import Server, database_away, eventually, inside

from cotexd import __version__


async def test_health_says_that_it_is_there_since_when_it_was_asked_and_which_version(server: Server):
    before = datetime.now(UTC)
    answer = await server.get("/health")
    assert set(answer.json()) == {"status", "timestamp", "version"}
    assert (answer.json()["status"], answer.json()["version"]) == ("ok", __version__)
    assert before <= datetime.fromisoformat(answer.json()["timestamp"]) <= datetime.now(UTC)


async def test_it_is_alive_and_ready_once_it_has_started(server: Server):
    assert (await server.get("/livez")).json() == {"status": "ok"}
    assert (await server.get("/readyz")).json() == {"status": "ready"}


async def test_a_server_that_drains_is_alive_and_not_ready(server: Server):
    inside().draining = True
    assert (await server.get("/livez")).status_code == 200
    answer = await server.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


@pytest.mark.parametrize("database", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
async def test_a_server_whose_database_is_away_is_alive_and_ready_again_when_that_is_back(
    server: Server, database: str
):
    async def ready() -> bool:
        return (await server.get("/readyz")).status_code == 200

    async with database_away(database):
        answers = await asyncio.gather(*(server.get("/readyz") for _ in range(8)))
        assert {answer.status_code for answer in answers} == {503}
        assert (await server.get("/livez")).status_code == 200
        assert (await server.get("/health")).status_code == 200
    await eventually(ready)
