"""Signed bytes and headers → a Delivery, or the reason why not.

Source: GitHub's "Validating webhook deliveries" and "Webhook events and payloads".
"""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

import msgspec

from cotexd.domain.payload import decode
from cotexd.errors import BadSignature, InvalidPayload, TooLarge, UnsupportedMediaType

MAX_BODY = 25 * 1024 * 1024
"""bytes; GitHub sends no more"""
MAX_DEPTH = 200
"""levels of nested objects and arrays"""
SIGNATURE_256 = "x-hub-signature-256"
SIGNATURE_1 = "x-hub-signature"
# What an unknown repository is checked against, so that it costs the same as a known one.
NO_SECRETS = ("a repository that is not here",)

_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


class Headers(msgspec.Struct, frozen=True, gc=False):
    """What a delivery's headers say of it, checked."""

    event_type: str
    delivery_id: str
    form: bool


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One signed delivery. `payload` is GitHub's JSON as received, `document` what payload.decode makes of it.

    `verified` says how it was signed: sha256 or sha1.
    """

    repo_id: str
    delivery_id: str
    event_type: str
    payload: bytes
    document: dict[str, object]
    verified: str


def read_headers(headers: Mapping[str, str]) -> Headers:
    """Check what can be refused before a byte of the body is read.

    :param headers: by lower-case name
    :raises InvalidPayload: no event name or no GUID, or not in their form
    :raises UnsupportedMediaType: neither JSON nor a form
    :raises TooLarge: Content-Length says that it is over MAX_BODY
    """
    content_type = headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if content_type not in {"application/json", "application/x-www-form-urlencoded"}:
        raise UnsupportedMediaType(
            "A webhook's body is application/json or application/x-www-form-urlencoded.",
            hint='Set the webhook\'s "Content type" at GitHub to application/json.',
        )
    event_type = headers.get("x-github-event", "")
    if not _EVENT_TYPE.fullmatch(event_type):
        raise InvalidPayload("X-GitHub-Event is missing, or is not the name of an event.")
    delivery_id = headers.get("x-github-delivery", "")
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise InvalidPayload("X-GitHub-Delivery is missing, or is not a delivery's GUID.")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > MAX_BODY:
        raise TooLarge(f"The body is over {MAX_BODY // 2**20} MB, the most that GitHub sends.")
    return Headers(event_type, delivery_id, form=content_type.endswith("urlencoded"))


def check_signature(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], *, accept_sha1: bool = True
) -> str:
    """Say how `body` was signed: "sha256" or "sha1".

    SHA-1 counts only where no SHA-256 header came. All secrets are tried (two hold during a rotation), and always
    the same work is done, so that the time tells nothing.

    :raises BadSignature: no signature, or one that no secret makes
    """
    if SIGNATURE_256 in headers or not accept_sha1:
        given, algorithm = headers.get(SIGNATURE_256, ""), "sha256"
    else:
        given, algorithm = headers.get(SIGNATURE_1, ""), "sha1"
    # As bytes: compare_digest raises on a str that is not ASCII, and header values come with surrogate escapes.
    signature = given.encode("utf-8", "surrogateescape")
    good = False
    for secret in secrets:
        good |= hmac.compare_digest(sign(body, secret, algorithm), signature)
    if not good:
        raise BadSignature
    return algorithm


def sign(body: bytes, secret: str, algorithm: str = "sha256") -> bytes:
    """The value of GitHub's signature header for `body`, as ASCII bytes."""
    digest = hmac.digest(secret.encode(), body, getattr(hashlib, algorithm))
    return f"{algorithm}={digest.hex()}".encode()


def read_body(repo_id: str, headers: Headers, body: bytes, verified: str) -> Delivery:
    """Take the payload out of a body whose signature is good.

    :raises InvalidPayload: a form without payload; not UTF-8; not a JSON object; nested deeper than MAX_DEPTH
    """
    payload = _payload_of_form(body) if headers.form else body
    document = parse_object(headers.event_type, payload)
    return Delivery(repo_id, headers.delivery_id, headers.event_type, payload, document, verified)


def parse_object(kind: str, payload: bytes) -> dict[str, object]:
    """Parse the JSON object that an event of type `kind` has.

    :raises InvalidPayload: not UTF-8, not a JSON object, or nested deeper than MAX_DEPTH
    """
    try:
        document = decode(kind, payload)
    except UnicodeDecodeError:
        raise InvalidPayload("The payload is not UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError:
        document = _parse_leniently(payload)
    if not isinstance(document, dict):
        raise InvalidPayload("The payload is not a JSON object.")
    # Fewer brackets than levels allowed: true of nearly every payload, and costs a microsecond.
    if _number_of(b"{", payload) + _number_of(b"[", payload) > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise _too_deep()
    return document


def _payload_of_form(body: bytes) -> bytes:
    for pair in body.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"payload":
            return unquote_to_bytes(value.replace(b"+", b" "))
    raise InvalidPayload("The form has no field named payload.")


def _parse_leniently(payload: bytes) -> object:
    """Parse what RFC 8259 allows and msgspec does not: half a surrogate pair, a number beyond a double."""
    try:
        return json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidPayload("The payload is not UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise InvalidPayload("The payload is not JSON, or was cut short.") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _number_of(one: bytes, payload: bytes) -> int:
    """What `count` says, which looks at byte after byte, where `replace` leaps: six times as quick."""
    return len(payload) - len(payload.replace(one, b""))


def _depth(payload: bytes) -> int:
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(payload):
        first = payload[match.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def _too_deep() -> InvalidPayload:
    return InvalidPayload(f"The payload is nested deeper than {MAX_DEPTH} levels.")
