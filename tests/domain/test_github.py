import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import github
from cotexd.errors import BadSignature, InvalidPayload, TooLarge, UnsupportedMediaType

SECRET = "It's a Secret to Everybody"
HEADERS = {"content-type": "application/json", "x-github-event": "push", "x-github-delivery": "a-guid"}


def read(body: bytes, form: bool = False, kind: str = "push"):
    return github.read_body("repo", github.Headers(kind, "a-guid", form), body, "sha256")


def test_githubs_own_test_vector_holds():
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert github.sign(b"Hello, World!", SECRET).decode() == signature
    assert github.check_signature({github.SIGNATURE_256: signature}, b"Hello, World!", [SECRET]) == "sha256"


def test_sha1_counts_where_no_sha256_came():
    headers = {github.SIGNATURE_1: github.sign(b"{}", SECRET, "sha1").decode()}
    assert github.check_signature(headers, b"{}", [SECRET]) == "sha1"


def test_a_good_sha1_does_not_save_a_wrong_sha256():
    headers = {
        github.SIGNATURE_256: "sha256=" + "0" * 64,
        github.SIGNATURE_1: github.sign(b"{}", SECRET, "sha1").decode(),
    }
    with pytest.raises(BadSignature):
        github.check_signature(headers, b"{}", [SECRET])


def test_sha1_can_be_turned_off():
    headers = {github.SIGNATURE_1: github.sign(b"{}", SECRET, "sha1").decode()}
    with pytest.raises(BadSignature):
        github.check_signature(headers, b"{}", [SECRET], accept_sha1=False)


def test_both_secrets_hold_during_a_rotation():
    headers = {github.SIGNATURE_256: github.sign(b"{}", "old").decode()}
    assert github.check_signature(headers, b"{}", ["new", "old"]) == "sha256"


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256",
        "ünïcödé",
        "sha256=\udcff\udcfe",
        "sha1=" + "0" * 40,
        "SHA256=" + "0" * 64,
        "\0",
    ],
)
def test_what_is_no_signature_is_refused_and_nothing_breaks(signature: str):
    with pytest.raises(BadSignature):
        github.check_signature({github.SIGNATURE_256: signature}, b"{}", [SECRET])


def test_no_signature_at_all_is_refused():
    with pytest.raises(BadSignature):
        github.check_signature({}, b"{}", [SECRET])


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_signature_is_good_for_its_own_bytes_only(body: bytes, other: bytes):
    headers = {github.SIGNATURE_256: github.sign(body, SECRET).decode()}
    if body == other:
        assert github.check_signature(headers, other, [SECRET]) == "sha256"
    else:
        with pytest.raises(BadSignature):
            github.check_signature(headers, other, [SECRET])


def test_headers_are_read():
    headers = github.read_headers({**HEADERS, "content-type": "application/json; charset=utf-8"})
    assert headers == github.Headers("push", "a-guid", form=False)


@pytest.mark.parametrize("missing", ["x-github-event", "x-github-delivery"])
def test_a_missing_header_is_invalid(missing: str):
    with pytest.raises(InvalidPayload):
        github.read_headers({name: value for name, value in HEADERS.items() if name != missing})


@pytest.mark.parametrize("value", ["push\r\nx: y", "Push", "pu sh", "ü", "x" * 65, ""])
def test_an_event_name_that_is_none_is_invalid(value: str):
    with pytest.raises(InvalidPayload):
        github.read_headers({**HEADERS, "x-github-event": value})


@pytest.mark.parametrize("value", ["a\r\nb", "a b", "ü", "x" * 101, "'; DROP TABLE event; --"])
def test_a_guid_that_is_none_is_invalid(value: str):
    with pytest.raises(InvalidPayload):
        github.read_headers({**HEADERS, "x-github-delivery": value})


@pytest.mark.parametrize("value", ["text/plain", "", "multipart/form-data", "application/jsonp"])
def test_another_content_type_is_unsupported(value: str):
    with pytest.raises(UnsupportedMediaType):
        github.read_headers({**HEADERS, "content-type": value})


def test_a_declared_length_over_the_bound_is_too_large_before_the_body_is_read():
    with pytest.raises(TooLarge):
        github.read_headers({**HEADERS, "content-length": str(github.MAX_BODY + 1)})
    assert github.read_headers({**HEADERS, "content-length": str(github.MAX_BODY)})


def test_the_payload_of_json_is_the_body_itself():
    body = b'{ "a" : [1, 2] }\n'
    delivery = read(body, kind="star")
    assert (delivery.payload, delivery.document) == (body, {"a": [1, 2]})
    assert read(body).payload == body


@given(st.text(max_size=60))
def test_the_payload_of_a_form_is_what_its_field_holds(text: str):
    payload = json.dumps({"text": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    body = f"first=1&payload={quote_plus(payload)}&last=2".encode()
    assert read(body, form=True).payload == payload


@pytest.mark.parametrize("body", [b"", b"a=b", b"Payload={}", b"payloads={}"])
def test_a_form_without_payload_is_invalid(body: bytes):
    with pytest.raises(InvalidPayload, match="payload"):
        read(body, form=True)


@pytest.mark.parametrize("kind", ["push", "star"])
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b'"text"', b"null", b'{"a":', b'{"a":1} x', b"{'a':1}", b'{"a":NaN}', b"\xff\xfe{}"],
)
def test_what_is_not_a_json_object_is_invalid(body: bytes, kind: str):
    with pytest.raises(InvalidPayload):
        read(body, kind=kind)


@pytest.mark.parametrize("kind", ["push", "star"])
def test_json_that_is_not_utf8_is_invalid(kind: str):
    for body in (b'{"a":"\xff"}', b'{"a":{"\xc3":1}}', b'{"ref":"\xed\xa0\x80"}'):
        with pytest.raises(InvalidPayload, match="UTF-8"):
            read(body, kind=kind)


@pytest.mark.parametrize("kind", ["push", "star"])
@pytest.mark.parametrize("depth", [201, 10_000, 1_000_000])
def test_json_nested_deeper_than_the_bound_is_invalid(depth: int, kind: str):
    with pytest.raises(InvalidPayload, match="nested"):
        read(b'{"a":' * depth + b"1" + b"}" * depth, kind=kind)


@pytest.mark.parametrize("kind", ["push", "star"])
def test_json_nested_as_deep_as_the_bound_is_taken(kind: str):
    body = b'{"a":' * 199 + b"[1]" + b"}" * 199
    assert read(body, kind=kind).payload == body


def test_brackets_within_strings_are_no_depth():
    assert read(json.dumps({"ref": '[{"\\' * 1000}).encode()).document


@pytest.mark.parametrize(
    "body", [rb'{"a":"\ud800"}', b'{"a":1e999}', b'{"a":123456789012345678901234567890}']
)
def test_odd_but_legal_json_is_taken(body: bytes):
    assert read(body).payload == body
