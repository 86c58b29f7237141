"""GitHub's own OpenAPI description, which the requests that we send, and what the fake answers, are held to.

It is in the npm package @octokit/openapi; `cut.mjs` takes the part about repositories' webhooks out of its 70 MB.
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
from fakestripe.door import Answer

from .api import Request

CUT = Path(__file__).parent / "npm" / "cut.mjs"


class Description:
    def __init__(self, file: Path) -> None:
        paths: dict[str, Any] = json.loads(file.read_text())
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operation)
            for path, methods in paths.items()
            for method, operation in methods.items()
        ]

    def check(self, request: Request, answer: Answer) -> list[str]:
        """In what a request, or its answer, is not as GitHub describes it."""
        if request.path == "/" or request.path.startswith("/repositories/"):
            return []  # what the part that is cut out says nothing of
        for method, pattern, operation in self._operations:
            if method == request.method and pattern.fullmatch(request.path):
                named = f"{request.method} {request.path}"
                found = [*_of_request(request, operation), *_of_answer(answer, operation)]
                return [f"{named}: {each}" for each in found]
        return [f"{request.method} {request.path} is not described"]


def _of_request(request: Request, operation: dict[str, Any]) -> list[str]:
    known = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
    # Pages are described by another document.
    found = [f"there is no parameter {name}" for name in request.query.keys() - known - {"page"}]
    if request.body is not None:
        body = operation.get("requestBody")
        if body is None:
            return [*found, "it has no body"]
        found += _faults(request.body, body["content"]["application/json"]["schema"])
    elif operation.get("requestBody", {}).get("required"):
        found.append("it needs a body")
    return found


def _of_answer(answer: Answer, operation: dict[str, Any]) -> list[str]:
    if answer.status in {301, 304, 307, 401, 404} or (
        answer.status == 403 and "403" not in operation["responses"]
    ):
        return []  # what any route may answer
    described = operation["responses"].get(str(answer.status))
    if described is None:
        return [f"{answer.status} is not described"]
    content = described.get("content", {}).get("application/json")
    return (
        []
        if content is None
        else [f"answer: {each}" for each in _faults(json.loads(answer.body), content["schema"])]
    )


def _faults(value: object, schema: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(_plain(schema))
    return [f"{each.json_path} {each.message}"[:300] for each in validator.iter_errors(value)]


def _plain(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in JSON Schema's words."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        name: _plain(each) for name, each in schema.items() if name not in {"nullable", "example", "examples"}
    }
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain
