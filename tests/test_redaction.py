import dataclasses
import json
import os
import subprocess
import sys
import traceback
from collections import OrderedDict, namedtuple
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.redaction import HIDDEN, MAX_DEPTH, MAX_TEXT, is_secret, redact, redact_text

# The part of each that signs in, and the secret as a whole as it is met.
RANDOM = "q7Zk2XwPf9LmVt4RbYhN8cJs"
HEX = "0123456789abcdef" * 4
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEi{RANDOM}.{RANDOM}"
LOOKS = {
    "a token": JWT,
    "a token for browsers": f"cotex.bearer.{JWT}",
    "a header": f"Authorization: Bearer {RANDOM}",
    "a header in small letters": f"authorization: bearer {RANDOM}",
    "a signature": f"sha256={HEX}",
    "an older signature": f"SHA1={HEX[:40]}",
    "a webhook's secret": HEX,
    "a key of Stripe": f"sk_live_{RANDOM}",
    "a restricted key of Stripe": f"rk_test_{RANDOM}",
    "a secret of Stripe": f"whsec_{RANDOM}/+==",
    "a token of GitHub": f"ghp_{RANDOM}",
    "a token of a GitHub app": f"ghs_{RANDOM}",
    "a finer token of GitHub": f"github_pat_11ABC_{RANDOM}",
    "a hash of a password": f"$argon2id$v=19$m=65536,t=3,p=4${RANDOM}${RANDOM}",
    "a password in an address": f"postgresql://cotex:{RANDOM}@db.example/x",
    "a password alone in an address": f"redis://:{RANDOM}@cache.example/0",
    "a query": f"/x?token={RANDOM}&b=1",
    "a form": f"grant_type=password&password={RANDOM}",
    "another form": f"refresh_token={RANDOM};client_secret={RANDOM}",
}


def leaks(shown: object) -> bool:
    text = str(shown)
    return RANDOM in text or HEX[:24] in text


LOOKING = pytest.mark.parametrize("secret", LOOKS.values(), ids=LOOKS.keys())


@LOOKING
def test_what_looks_like_a_secret_is_hidden_anywhere_in_a_text(secret: str):
    for text in (secret, f"it says {secret} here", f"({secret})", f"\n{secret}\n", f"{secret}, {secret}"):
        shown = redact_text(text)
        assert not leaks(shown), shown
        assert HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "octo/hello",
        "9f2c1e04-51d2-4a3c-8a1e-0c9b7c0f4b11",
        "a commit 3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
        "https://cotex.example.com/api/repos?id=5",
        "POST /auth/v1/token?grant_type=password",
        "eyJ is how they begin",
        "sk_live",
        "a token, a secret and a password",
        "https://ada@github.com/octo/hello",
        "ünïcödé 密码",
        "",
    ],
)
def test_what_is_no_secret_is_shown_as_it_is(text: str):
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "access_token",
        "refresh_token",
        "id-token",
        "secret",
        "SECRET",
        "webhook_secret",
        "supabase.jwt_secret",
        "client_secret",
        "signature",
        "X-Hub-Signature",
        "X-Hub-Signature-256",
        "stripe-signature",
        "password",
        "passwords",
        "new_password",
        "passwd",
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "apikey",
        "api_key",
        "payload",
        "body",
        "jwt",
        "private",
        "private_key",
        "credentials",
        "accessToken",
        "webhookSecret",
    ],
)
def test_whatever_has_the_name_of_a_secret_is_hidden(name: str):
    assert is_secret(name)
    for value in (RANDOM, [RANDOM], {"x": RANDOM}, RANDOM.encode(), 5, None):
        assert redact({name: value}) == {name: HIDDEN}


@pytest.mark.parametrize(
    "name",
    [
        "user",
        "repo",
        "label",
        "kid",
        "tokens_refused",
        "secretary",
        "somebody",
        "bodyguard",
        "event",
        "payload_size",
    ],
)
def test_a_name_that_only_sounds_like_one_is_shown(name: str):
    assert redact({name: "x"}) == {name: "x"}


def wrapped(value: Any) -> list[Any]:
    """A value in everything that it may come in."""
    point = namedtuple("point", "x")  # noqa: PYI024  # an old one, as libraries have them
    held = dataclasses.make_dataclass("held", ["x"])
    struct = msgspec.defstruct("struct", ["x"])
    return [
        [value],
        (value,),
        {"x": value},
        {"x": [{"y": (value,)}]},
        OrderedDict(x=value),
        MappingProxyType({"x": value}),
        point(value),
        held(value),
        struct(value),
        ValueError(value),
    ]


@LOOKING
def test_a_secret_is_hidden_whatever_it_is_wrapped_in(secret: str):
    for each in [*wrapped(secret), {secret}, frozenset([secret])]:
        assert not leaks(redact(each)), each


def test_a_secret_is_hidden_as_a_key_too():
    for secret in LOOKS.values():
        assert not leaks(redact({secret: 1}))
        assert not leaks(redact({"x": {("a", secret): 1}}))


def test_whatever_a_mapping_is_keyed_by_it_can_be_written_as_json():
    json.dumps(redact({("user", "ada"): "debug", 5: {None: 1, b"x": 2}}))


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"xx"), memoryview(b"xxx")], ids=["bytes", "bytearray", "view"]
)
def test_of_bytes_only_their_number_is_shown(value: bytes):
    assert redact(value) == f"<{len(value)} bytes>"
    assert redact({"x": [value]}) == {"x": [f"<{len(value)} bytes>"]}


NAMED = [
    "password='{}'",
    'password="{}"',
    '"password":"{}"',
    '"password": "{}"',
    "'password': '{}'",
    "refresh_token='{}'",
    '"refresh_token": "{}"',
    "webhook_secret='{}'",
    "apikey: {}",
    "password: {}",
    "PASSWORD={}",
    "client_secret = {}",
]


@pytest.mark.parametrize("form", NAMED)
def test_a_secret_that_is_named_within_a_text_is_hidden(form: str):
    """As it stands in what a library says of a struct, a mapping, a JSON document or a header that it did not like."""
    for text in (form.format(RANDOM), f"invalid value {{{form.format(RANDOM)}, 'x': 1}} at $"):
        assert not leaks(redact_text(text)), redact_text(text)


def test_a_struct_that_holds_a_password_does_not_show_it():
    grant = msgspec.defstruct("PasswordGrant", [("password", str), ("email", str)])(RANDOM, "ada@example.com")
    for value in (grant, [grant], {"x": grant}, ValueError(grant), str(grant), repr(vars_of(grant))):
        assert not leaks(redact(value)), redact(value)


def vars_of(struct: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(struct)


@LOOKING
def test_a_secret_in_the_text_of_a_failure_is_hidden(secret: str):
    error = KeyError(secret)
    error.__cause__ = ValueError(secret)
    error.add_note(secret)
    text = "".join(traceback.format_exception(error))
    assert leaks(text)
    assert not leaks(redact({"exception": text}))


@LOOKING
@given(before=st.integers(0, 2 * MAX_TEXT), glue=st.sampled_from(" \n.,;(\"'"))
def test_no_length_of_a_line_brings_a_secret_to_light(secret: str, before: int, glue: str):
    shown = redact_text("x" * before + glue + secret)
    assert not leaks(shown), shown[-200:]
    assert len(shown) < 2 * MAX_TEXT


@LOOKING
def test_a_secret_that_lies_across_the_end_of_what_is_shown_is_hidden(secret: str):
    for shift in range(len(secret)):
        shown = redact_text("x" * (MAX_TEXT - shift - 1) + " " + secret + " x" * 5000)
        assert not leaks(shown), shown[-100:]
        assert len(shown) < 2 * MAX_TEXT


@LOOKING
def test_many_secrets_in_a_long_line_are_all_hidden(secret: str):
    assert not leaks(redact_text(f"{secret} " * 1000))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.recursive(
        st.sampled_from(sorted(LOOKS.values())),
        lambda inner: (
            st.lists(inner | JSON, min_size=1, max_size=4)
            | st.dictionaries(st.text(max_size=5), inner | JSON, min_size=1, max_size=4)
            | st.tuples(inner)
            | inner.map(ValueError)
        ),
        max_leaves=10,
    )
)
def test_no_structure_brings_a_secret_to_light(value: object):
    assert not leaks(redact(value))


@given(JSON, st.sampled_from(["token", "password", "x_secret", "Authorization", "payload"]))
def test_what_is_under_the_name_of_a_secret_is_hidden_at_any_depth(value: object, name: str):
    def deep(level: int) -> object:
        return {name: [value, RANDOM]} if level == 0 else {"x": [deep(level - 1)]}

    for level in range(MAX_DEPTH + 2):
        assert not leaks(redact(deep(level)))


@given(JSON)
def test_what_is_redacted_can_be_written_as_json_and_is_redacted_for_good(value: object):
    once = redact(value)
    json.dumps(once)
    assert json.dumps(redact(once)) == json.dumps(once)


def test_a_structure_without_an_end_has_one():
    loop: list[object] = [RANDOM * 0]
    loop.append(loop)
    ring: dict[str, object] = {}
    ring["x"] = ring
    json.dumps([redact(loop), redact(ring)])


def test_simple_values_are_left_as_they_are():
    for value in (None, True, 5, 1.5, "x"):
        assert redact(value) is value


# In the log itself.

WAYS = """
import logging, sys
import structlog
from cotexd import telemetry

def ways(secret):
    log, library = structlog.get_logger("cotexd.test"), logging.getLogger("some.library")
    log.info(secret)
    log.info("x", value=secret, values=[{"y": secret}])
    log.info("x %s", secret)
    log.bind(bound=secret).warning("x")
    library.warning("x %s", secret)
    library.warning(secret)
    library.warning("x", extra={"given": secret})
    library.warning("x %(y)s", {"y": secret})
    with structlog.contextvars.bound_contextvars(request=secret):
        log.info("x")
        library.warning("x")
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        log.exception("x")
        library.exception("x")
        log.info("x", exc_info=True)
    log.info("x", password="NAMED", headers={"apikey": "NAMED"}, payload={"x": "NAMED"})

telemetry.set_up("debug", sys.argv[1])
for secret in sys.argv[2:]:
    ways(secret)
"""


def written(form: str) -> list[str]:
    """What a process writes that logs every secret in every way."""
    done = subprocess.run(
        [sys.executable, "-c", WAYS, form, *LOOKS.values()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
    return done.stderr.splitlines()


def test_no_way_of_logging_brings_a_secret_into_a_line():
    lines = written("json")
    assert [line for line in lines if leaks(line) or "NAMED" in line] == []
    assert len([json.loads(line) for line in lines]) == 14 * len(LOOKS)


def test_nor_into_one_for_people():
    lines = written("text")
    assert [line for line in lines if leaks(line) or "NAMED" in line] == []
    assert sum(HIDDEN in line for line in lines) > 10 * len(LOOKS)
