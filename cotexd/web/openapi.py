"""OpenAPI 3.1 from the table of routes (web.routes) and the types that they read and answer.

A route says what is its own. What is everybody's is added here: what any route may be refused with, what a bearer token
brings with it, and the headers of every answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from cotexd import __version__
from cotexd.domain.scope import InsufficientScope
from cotexd.errors import CotexError, Forbidden, TooManyRequests, Unauthorized
from cotexd.web import schemas
from cotexd.web.problem import CODES, INTERNAL, MEDIA_TYPE, STATUS, Problem
from cotexd.web.schemas import Schema

ABOUT = """\
Errors are problem details (RFC 9457) with a stable `code`. What isn't yours is 404. Fields may be added to an object, \
and are never renamed, removed or retyped. Ids are UUIDs, times RFC 3339 in UTC. What is pushed is in /asyncapi.json."""
JSON = "application/json"
PUBLIC = None
"""asks for no token"""
UNSCOPED = "unscoped"
"""only for tokens without scopes"""
REQUIRED_WITH_TOKEN: tuple[type[CotexError], ...] = (
    Unauthorized,
    Forbidden,
    InsufficientScope,
    TooManyRequests,
)
"""with what any route that asks for a token may refuse"""
EVERYWHERE = [
    *((status, code) for status, code in CODES.items() if status not in {404, 405}),
    (int(HTTPStatus.INTERNAL_SERVER_ERROR), INTERNAL),
]
"""with what any route may refuse"""

_HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": ("The one that came, if it is sane, else one of ours.", {"type": "string"}),
    "RateLimit": ("How many requests are left of the limit, and when there are more.", {"type": "string"}),
    "RateLimit-Policy": ("The limit, and its window in seconds.", {"type": "string"}),
    "Retry-After": ("Seconds after which to try again.", {"type": "integer"}),
    "WWW-Authenticate": ("Bearer.", {"type": "string"}),
    "Link": ("The address of the next page, if there is one, as `rel=next` (RFC 8288).", {"type": "string"}),
    "X-GitHub-Event": ("As GitHub sent it.", {"type": "string"}),
    "X-GitHub-Delivery": ("As GitHub sent it.", {"type": "string"}),
    "X-Hub-Signature-256": ("For the owner: by the repository's secret.", {"type": "string"}),
    "X-Hub-Signature": ("For the owner: by the repository's secret, with SHA-1.", {"type": "string"}),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: object
    """its type"""
    meaning: str
    where: str = "query"
    """query, path or header"""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    kind: object
    """its type, or several of which it is one"""
    media_types: tuple[str, ...] = (JSON,)
    required: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    meaning: str
    kind: object = None
    """the type of its body, or several of which it is one; None is no body"""
    media_type: str = JSON
    headers: tuple[str, ...] = ()
    """those that it may have beside everybody's"""


@dataclass(frozen=True, slots=True)
class Route:
    """What a route is, takes and answers. Its path is Sanic's."""

    method: str
    path: str
    name: str
    summary: str
    scope: str | None
    answers: Mapping[int, Answer]
    takes: tuple[Parameter, ...] = ()
    body: Body | None = None
    refuses: tuple[type[CotexError], ...] = ()
    """with what, beside what every route of its kind may refuse"""
    in_its_words: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """/auth/v1 refuses in a form of its own: status → error_code"""

    @property
    def tag(self) -> str:
        return next((tag for beginning, tag in _TAGS.items() if self.path.startswith(beginning)), "Server")

    @property
    def signed_in(self) -> bool:
        return self.scope is not PUBLIC

    def refusals(self) -> dict[int, list[str]]:
        """Status → codes of problem details."""
        by_token = REQUIRED_WITH_TOKEN if self.signed_in and not self.in_its_words else ()
        found: dict[int, list[str]] = {}
        for status, code in (
            *EVERYWHERE,
            *((STATUS[error.kind], error.code) for error in (*by_token, *self.refuses)),
        ):
            codes = found.setdefault(status, [])
            if code not in codes:
                codes.append(code)
        return dict(sorted(found.items()))


_TAGS = {
    "/api/repos": "Repositories",
    "/api/github-events": "History",
    "/api/events": "Events as they happen",
    "/ws": "Events as they happen",
    "/api/me": "The user",
    "/api/checkout": "Billing",
    "/api/billing": "Billing",
    "/billing": "Billing",
    "/api/webhooks": "Webhooks",
    "/webhooks": "Webhooks",
    "/auth/v1": "Signing in",
}


def document(routes: Sequence[Route], refusal: type, also: Sequence[type] = ()) -> Schema:
    """The whole of it.

    :param refusal: the form in which `in_its_words` are said
    :param also: types to which others refer by their name only
    """
    kinds = [part for kind in _kinds(routes) for part in _choices(kind)]
    shown, components = schemas.of([*kinds, Problem, refusal, *also])
    writer = _Writer({id(kind): schema for kind, schema in zip(kinds, shown, strict=False)}, refusal.__name__)
    paths: dict[str, Schema] = {}
    for route in routes:
        path = _template(route.path)
        paths.setdefault(path, {})[route.method.lower()] = writer.operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cotexd",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": dict(sorted(writer.responses.items())),
            "headers": {
                name: {"description": meaning, "schema": schema}
                for name, (meaning, schema) in _HEADERS.items()
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Of `cotex user token`, of /auth/v1, or of an issuer that the server trusts.",
                }
            },
        },
    }


def _kinds(routes: Sequence[Route]) -> Iterator[object]:
    """Every type that has a schema."""
    for route in routes:
        yield from (parameter.kind for parameter in route.takes)
        if route.body is not None:
            yield route.body.kind
        yield from (answer.kind for answer in route.answers.values() if answer.kind is not None)


def _choices(kind: object) -> tuple[object, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _template(path: str) -> str:
    """`/x/<id:str>` → `/x/{id}`"""
    return "/".join(
        f"{{{part[1:].split(':')[0]}}}" if part.startswith("<") else part for part in path.split("/")
    )


class _Writer:
    """Routes → operations; refusals that several routes have are written once, as `responses`."""

    def __init__(self, shown: Mapping[int, Schema], refusal: str) -> None:
        self.responses: dict[str, Schema] = {"405.method_not_allowed": _problem(405, ["method_not_allowed"])}
        self._shown = shown
        self._refusal = refusal

    def operation(self, route: Route) -> Schema:
        operation: dict[str, Any] = {
            "operationId": f"{route.name}_head" if route.method == "HEAD" else route.name,
            "summary": route.summary,
            "tags": [route.tag],
            "security": [{"bearer": [] if route.scope == UNSCOPED else [route.scope]}]
            if route.signed_in
            else [],
        }
        if route.takes:
            operation["parameters"] = [self._parameter(each) for each in route.takes]
        if route.body is not None:
            schema = self._schema(route.body.kind)
            operation["requestBody"] = {
                "required": route.body.required,
                "content": {media_type: {"schema": schema} for media_type in route.body.media_types},
            }
        answers = {
            str(status): self._answer(answer, signed_in=route.signed_in)
            for status, answer in route.answers.items()
        }
        for status, codes in route.refusals().items():
            answers[str(status)] = self._refused(status, codes, route.in_its_words.get(status, ()))
        for status in route.in_its_words.keys() - route.refusals().keys():
            answers[str(status)] = self._refused(status, [], route.in_its_words[status])
        operation["responses"] = dict(sorted(answers.items()))
        return operation

    def _parameter(self, each: Parameter) -> Schema:
        return {
            "name": each.name,
            "in": each.where,
            "description": each.meaning,
            "required": each.required,
            "schema": self._schema(each.kind),
        }

    def _schema(self, kind: object) -> Schema:
        choices = [self._shown[id(each)] for each in _choices(kind)]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}

    def _answer(self, answer: Answer, *, signed_in: bool) -> Schema:
        limits = ("RateLimit", "RateLimit-Policy") if signed_in else ()
        shown: Schema = {
            "description": answer.meaning,
            "headers": _headers("X-Request-ID", *limits, *answer.headers),
        }
        if answer.kind is not None:
            shown["content"] = {answer.media_type: {"schema": self._schema(answer.kind)}}
        return shown

    def _refused(self, status: int, codes: list[str], words: Sequence[str]) -> Schema:
        if words:
            own = {"error_code": {"enum": list(words)}}
            shown = _problem(status, codes) if codes else _refusal(status)
            content = {
                JSON: {"schema": {"allOf": [{"$ref": schemas.REF.format(name=self._refusal)}, _having(own)]}}
            }
            return {**shown, "content": {**content, **shown.get("content", {})}}
        name = ".".join([str(status), *codes])
        self.responses[name] = _problem(status, codes)
        return {"$ref": f"#/components/responses/{name}"}


def _having(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _problem(status: int, codes: Sequence[str]) -> Schema:
    having = _having({"status": {"const": status}, "code": {"enum": list(codes)}})
    schema = {"allOf": [{"$ref": schemas.REF.format(name=Problem.__name__)}, having]}
    return {**_refusal(status), "content": {MEDIA_TYPE: {"schema": schema}}}


def _refusal(status: int) -> Schema:
    more = {401: ("WWW-Authenticate",), 429: ("RateLimit", "RateLimit-Policy", "Retry-After")}
    more[503] = ("Retry-After",)
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers("X-Request-ID", *more.get(status, ())),
    }


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
