import asyncio
import uuid
from datetime import UTC, datetime

import pytest
from actors import push
from conftest import Server, database_away, eventually, fill_the_disk, free_the_disk, inside

from cotexd import __version__
from cotexd.store import moving, writer


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


async def test_a_server_whose_disk_is_full_says_so_and_is_ready_when_there_is_room(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    repo = server.track(server.user("ada"))
    await inside().store.write(fill_the_disk)
    large = push(note=[uuid.uuid4().hex for _ in range(30_000)])
    assert (await server.github.deliver(repo, large)).status_code == 503
    answer = await server.get("/readyz")
    assert answer.status_code == 503
    assert "The database" in answer.json()["detail"]
    assert (await server.get("/livez")).status_code == 200
    await inside().store.write(free_the_disk)
    monkeypatch.setattr(writer, "FAILING_FOR", 0.0)
    assert (await server.get("/readyz")).status_code == 200
    assert (await server.github.deliver(repo, large)).status_code == 200


async def test_a_server_whose_database_has_moved_is_not_ready_and_says_so_but_not_to_strangers_where_it_is(
    server: Server,
):
    store = inside().store
    await store.write(lambda tx: moving.put(tx.database, moving.MOVED_TO, "postgresql://db/cotex"))
    with pytest.raises(moving.Moved):
        await store.write(lambda _: None)
    answer = await server.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "The database has moved" in answer.json()["detail"]
    assert "postgresql" not in answer.text
