"""What /openapi.json says, held against every answer that any test gets: nothing is answered that isn't in it."""

import functools
import json
import re
from typing import Any

import httpx
import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from cotexd.web import reference

Schema = dict[str, Any]
HERE = "urn:openapi"


async def check(response: httpx.Response) -> None:
    """An event hook of httpx.

    :raises AssertionError: this answer is not documented
    """
    operation = operation_of(response.request)
    if operation is None or response.headers.get("content-type", "").startswith("text/event-stream"):
        return
    await response.aread()
    found = faults(operation, response)
    assert not found, f"{response.request.method} {response.request.url.path} {response.status_code}: {found}"


def operation_of(request: httpx.Request) -> Schema | None:
    """None where there is no such route, or none with this method: it is answered 404 or 405."""
    path = request.url.raw_path.decode().split("?")[0]
    for pattern, operations in _routes():
        if pattern.fullmatch(path):
            return operations.get(request.method.lower())
    return None


def faults(operation: Schema, response: httpx.Response) -> list[str]:
    told = operation["responses"].get(str(response.status_code))
    if told is None:
        return ["the status is not documented"]
    told = _resolved(told)
    content = told.get("content", {})
    if not content or response.request.method == "HEAD":
        return ["a body where none is documented"] if response.content else []
    given = response.headers.get("content-type", "")
    media_type = next((each for each in content if each.split(";")[0] == given.split(";")[0]), None)
    if media_type is None:
        return [f"{given} is not documented"]
    missing = [
        name
        for name in told.get("headers", {})
        if name in {"X-Request-ID", "RateLimit", "Retry-After"} and name not in response.headers
    ]
    body = response.json() if media_type.endswith("json") else response.text
    errors = _validator(json.dumps(content[media_type]["schema"])).iter_errors(body)
    return [
        *(f"the header {name} is missing" for name in missing),
        *(f"{error.json_path}: {error.message[:200]}" for error in errors),
    ]


@functools.cache
def document() -> Schema:
    """With closed objects: a field that a type doesn't have is one that nobody documented."""
    made: Schema = json.loads(json.dumps(reference.openapi_document()))
    for schema in made["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return made


@functools.cache
def _routes() -> list[tuple[re.Pattern[str], Schema]]:
    return [
        (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), operations)
        for path, operations in document()["paths"].items()
    ]


def _resolved(shown: Schema) -> Schema:
    if "$ref" not in shown:
        return shown
    found = document()
    for part in shown["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


@functools.cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    registry = Registry().with_resource(HERE, Resource.from_contents(document(), DRAFT202012))
    beside = json.loads(schema.replace('"#/', f'"{HERE}#/'))
    return jsonschema.Draft202012Validator(beside, registry=registry)
