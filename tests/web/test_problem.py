from conftest import Server

from cotexd.errors import Kind
from cotexd.web.problem import STATUS


def test_every_kind_of_error_has_a_status():
    assert set(STATUS) == set(Kind)


async def test_an_error_is_a_problem_with_a_code_and_the_id_of_its_request(server: Server):
    answer = await server.get("/api/repos", headers={"x-request-id": "mine-1"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "A bearer token is needed.",
        "hint": "Make one with `cotex user token USER`.",
        "code": "unauthorized",
        "request_id": "mine-1",
    }
