from typing import Any

import msgspec
import pytest

from cotex import following
from cotexd.operations.repositories import Tracked


def token(claims: dict[str, Any]) -> str:
    import base64

    body = base64.urlsafe_b64encode(msgspec.json.encode(claims)).decode().rstrip("=")
    return f"e30.{body}.x"


def test_a_fresh_token_of_the_same_user_goes_on_with_the_old_cursor():
    first, second = token({"iss": "i", "sub": "u", "jti": "1"}), token({"iss": "i", "sub": "u", "jti": "2"})
    assert following._whose(first, None) == following._whose(second, None) == "i u"


@pytest.mark.parametrize("odd", ["", "a.b", "a.!.c", "a.e30", "nonsense"])
def test_a_token_that_cannot_be_read_is_left_to_the_server_to_refuse(odd: str):
    assert following._whose(odd, None).strip() == ""


def test_another_user_s_events_are_another_stream(cotex, octo: Tracked):
    cotex("user", "add", "grace")
    cotex("repo", "add", "octo/other", "--user", "grace")
    cotex.serve()
    for user in ("ada", "grace"):
        tail = cotex.start("tail", "--user", user, "--count", "1")
        tail.err.until("Following")
        for repo in ("octo/hello", "octo/other"):
            assert cotex("event", "send", "--repo", repo).code == 0
        assert tail.done().code == 0
    cursors = [each for each in (cotex.data / "cursors").iterdir() if not each.suffix]
    assert len(cursors) == 2
