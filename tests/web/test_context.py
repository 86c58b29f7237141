import pytest
from actors import logged
from conftest import Server

from cotexd.errors import Unavailable
from cotexd.operations import events
from cotexd.web.context import Room

# What is refused before a database is asked is tested with one of them.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@on_sqlite
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", "1e1", "٣", "+1", "%201", "1" * 400, "0x1"])
async def test_what_is_no_number_of_things_is_refused(server: Server, value: str):
    answer = await server.get(f"/api/github-events?limit={value}", server.user("ada"))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "from 1 to 100" in answer.json()["detail"]


async def test_a_number_over_the_most_is_the_most(server: Server):
    ada = server.user("ada")
    logged(server.store, server.track(ada), 101)
    for limit, count in (("1", 1), ("100", 100), ("101", 100), ("999999999", 100)):
        assert len((await server.get(f"/api/github-events?limit={limit}", ada)).json()) == count


async def test_a_flag_is_true_or_1_and_nothing_else(server: Server):
    ada = server.user("ada")
    for value, whole in {"true": True, "TRUE": True, "1": True, "0": False, "yes": False, "": False}.items():
        answer = await server.get(f"/api/github-events/recent?include_payload={value}", ada)
        assert ("events" in answer.json()) is whole, value


async def test_an_empty_parameter_is_one_that_is_not_there(server: Server):
    ada = server.user("ada")
    server.track(ada)
    for path in ("/api/repos?id=", "/api/github-events?limit=&cursor=&repo_id=&since=&undelivered="):
        answer = await server.get(path, ada)
        assert isinstance(answer.json(), list), path


async def test_of_two_parameters_of_one_name_the_first_counts(server: Server):
    ada = server.user("ada")
    logged(server.store, server.track(ada), 3)
    assert len((await server.get("/api/github-events?limit=1&limit=3", ada)).json()) == 1


NO_BODIES = {
    "empty": b"",
    "no json": b"repo_name=octo/hello",
    "an array": b"[]",
    "nothing": b"null",
    "without the name": b"{}",
    "a name that is a number": b'{"repo_name":1}',
    "cut short": b'{"repo_name":"octo/hel',
    "more behind it": b'{"repo_name":"octo/hello"} {}',
    "not UTF-8": b'{"repo_name":"octo/\xff"}',
    "half a surrogate pair": b'{"repo_name":"octo/\\ud800"}',
    "deep": b'{"repo_name":' + b"[" * 30_000,
    "deep and whole": b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b',"repo_name":"octo/hello"}',
}


@on_sqlite
@pytest.mark.parametrize("kind", NO_BODIES)
async def test_a_body_that_a_route_does_not_take_is_refused(server: Server, kind: str):
    ada = server.user("ada")
    answer = await server.request("POST", "/api/repos", ada, content=NO_BODIES[kind])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert (await server.get("/api/repos", ada)).json() == []


async def test_more_fields_than_a_route_knows_are_passed_over(server: Server):
    ada = server.user("ada")
    body = {"repo_name": "octo/hello", "user_id": "somebody", "role": "owner", "colour": {"is": "red"}}
    answer = await server.request("POST", "/api/repos", ada, json=body)
    assert answer.status_code == 201
    assert answer.json()["repository"]["user_id"] == ada.id


async def test_a_body_needs_no_content_type(server: Server):
    ada = server.user("ada")
    log = server.store.look(events.log)
    answer = await server.request(
        "POST", "/api/github-events/ack", ada, content=f'{{"cursor":"{log.epoch}.0"}}'.encode()
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


def test_bodies_of_nobody_knows_whom_take_so_much_room_and_no_more():
    room = Room(1000)
    with room.held() as take:
        take(600)
        with room.held() as other:
            other(400)
            with pytest.raises(Unavailable, match="more than it can hold"):
                take(1)
        take(400)
    with room.held() as take:
        take(1000)
