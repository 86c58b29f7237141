"""Write docs/reference from the two documents that the server serves, and from the commands: `make reference`."""

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main

from cotex import main as cli
from cotexd.web import openapi, reference

FOLDER = Path(__file__).with_name("reference")
NOTE = "<!-- Made from the code's types by `make reference`: what is changed here is lost. -->"
SYSTEM_EVENT = 'A system_event is `{"type":"system_event","event":<its name>,"payload":{…},"timestamp"}`.'
CLIENT_EVENT = 'A client_event is `{"type":"client_event","event":<its name>,…}`.'

Schema = dict[str, Any]


def pages() -> dict[str, str]:
    """The text of each file."""
    rest = json.loads(reference.encoded(reference.openapi_document()))
    messages = json.loads(reference.encoded(reference.asyncapi_document()))
    return {
        "rest.md": _page(_rest(rest)),
        "messages.md": _page(_messages(messages)),
        "cli.md": _page(_commands()),
    }


def _page(lines: Iterable[str]) -> str:
    return "\n".join([NOTE, "", *lines]).rstrip() + "\n"


# The command line.


def _commands() -> Iterator[str]:
    yield from ("# The command line", "", *_help(typer.main.get_command(cli.app), "cotex"))
    for name in cli.COMMANDS:
        command = typer.main.get_command(importlib.import_module(f"cotex.{name}").app)
        yield from (f"## cotex {name}", "", *_help(command, f"cotex {name}"))
        for word, each in getattr(command, "commands", {}).items():
            yield from (f"### cotex {name} {word}", "", *_help(each, f"cotex {name} {word}"))


def _help(command: Any, words: str) -> Iterator[str]:
    """As `--help` shows it."""
    with command.make_context(words, [], resilient_parsing=True, terminal_width=100) as context:
        yield from ("```text", *command.get_help(context).rstrip().splitlines(), "```", "")


# REST.


def _rest(document: Schema) -> Iterator[str]:
    yield from ("# REST, route by route", "", document["info"]["description"], "")
    yield from ("For programs it is at `/openapi.json` of a running server.", "")
    yield from ("## What every route may answer", "")
    yield from _table(
        ("status", "code"), [(str(status), _code(code)) for status, code in sorted(openapi.EVERYWHERE)]
    )
    yield "Another method than those below is 405 `method_not_allowed`. A route that asks for a token may also answer"
    yield "401 `unauthorized`, 403 `forbidden` or `insufficient_scope`, and 429 `rate_limited`."
    yield ""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "head"
    ]
    for tag in document["tags"]:
        yield from (f"## {tag['name']}", "")
        for method, path, operation in operations:
            if operation["tags"] == [tag["name"]]:
                yield from _operation(document, method, path, operation)
    yield from ("## Types", "")
    yield from _types(document)


def _operation(document: Schema, method: str, path: str, operation: Schema) -> Iterator[str]:
    yield from (f"### {method} `{path}`", "", f"{operation['summary']}. {_access(operation['security'])}", "")
    if "parameters" in operation:
        rows = [
            (
                _code(each["name"]) + ("" if each["required"] else "?"),
                each["in"],
                _kind(each["schema"]),
                each["description"],
            )
            for each in operation["parameters"]
        ]
        yield from _table(("parameter", "in", "type", ""), rows)
    if "requestBody" in operation:
        body = operation["requestBody"]
        (kind, *_) = {_kind(content["schema"]) for content in body["content"].values()}
        optional = "" if body["required"] else ", which may be left out"
        yield from (f"Body{optional}: {kind} as {', '.join(map(_code, body['content']))}.", "")
    answers = [
        row
        for status, given in operation["responses"].items()
        for row in _answers(status, _followed(document, given))
    ]
    yield from _table(("status", "body", ""), answers)


def _access(security: list[Schema]) -> str:
    if not security:
        return "No token is asked for."
    scopes = security[0]["bearer"]
    return f"Scope: {_code(scopes[0])}." if scopes else "Not for tokens with scopes."


def _answers(status: str, answer: Schema) -> Iterator[tuple[str, str, str]]:
    """What a route answers, without what all of its kind may."""
    if int(status) < 400:
        kinds = [_kind(each["schema"]) for each in answer.get("content", {}).values()]
        yield status, ", ".join(kinds), answer["description"]
        return
    common = {code for _, code in openapi.EVERYWHERE} | {error.code for error in openapi.REQUIRED_WITH_TOKEN}
    for content in answer["content"].values():
        form, having = content["schema"]["allOf"]
        properties = having["properties"]
        own = "error_code" in properties
        codes = properties["error_code" if own else "code"]["enum"]
        told = [_code(code) for code in codes if own or code not in common]
        if told:
            yield status, _kind(form), ", ".join(told)


# Messages.


def _messages(document: Schema) -> Iterator[str]:
    yield from ("# Messages, one by one", "", document["info"]["description"], "")
    yield from ("For programs it is at `/asyncapi.json` of a running server.", "")
    for channel in document["channels"].values():
        yield from (f"## {channel['title']}: `{channel['address']}`", "", channel["description"], "")
        if "bindings" in channel:
            asked = channel["bindings"]["ws"]["query"]["properties"]
            yield from _table(
                ("parameter", "type", ""),
                [(f"`{name}`?", _kind(each), each["description"]) for name, each in asked.items()],
            )
        if "x-close-codes" in channel:
            codes = channel["x-close-codes"].items()
            yield from _table(("close code", ""), [(code, f"{meaning}.") for code, meaning in codes])
    for operation, form in (("tell", SYSTEM_EVENT), ("listen", CLIENT_EVENT)):
        said = document["operations"][operation]
        yield from (f"## {said['summary']}", "", form, "")
        for each in said["messages"]:
            yield from _message(document, each["$ref"].rsplit("/", 1)[1])
    yield from ("## Types", "")
    sent = [_followed(document, each["payload"]) for each in document["components"]["messages"].values()]
    told = [*sent, *(_followed(document, each) for each in map(_system_payload, sent) if each)]
    yield from _types(document, without=told)


def _message(document: Schema, name: str) -> Iterator[str]:
    message = document["components"]["messages"][name]
    streams = document["channels"]["stream"]["messages"]
    only = "" if name in streams or name.startswith("client_") else " Only on a WebSocket."
    yield from (f"### {message['title']}", "", f"{message['summary']}{only}", "")
    schema = _followed(document, message["payload"])
    payload = _system_payload(schema)
    if payload:
        yield from _fields(_followed(document, payload), "`payload`")
    else:
        yield from _fields(schema)


def _system_payload(message: Schema) -> Schema:
    """Where the payload of a system_event is described; all of them are alike but for it."""
    fields = message["properties"]
    return fields["payload"] if "enum" in fields.get("event", {}) and "payload" in fields else {}


# Both.


def _types(document: Schema, without: Sequence[Schema] = ()) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        if schema not in without:
            yield from (f"### {name}", "")
            if "description" in schema:
                yield from (schema["description"], "")
            yield from _fields(schema)


def _fields(schema: Schema, head: str = "field") -> Iterator[str]:
    needed = schema.get("required", ())
    rows = [
        (_code(name) + ("" if name in needed else "?"), _kind(each), each.get("description", ""))
        for name, each in schema["properties"].items()
    ]
    return _table((head, "type", ""), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(head)} |"
        yield "|" + "---|" * len(head)
        for row in rows:
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        yield ""


def _kind(schema: Schema) -> str:
    """A type in words, with a link to where it is described."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(_code(json.dumps(each)) for each in schema["enum"])
    match schema.get("type", "any"):
        case "array":
            return f"list of {_kind(schema['items'])}"
        case "object" if (
            isinstance(schema.get("additionalProperties"), dict) and schema["additionalProperties"]
        ):
            return f"object of {_kind(schema['additionalProperties'])}"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case kind:
            return str(kind)


def _followed(document: Schema, shown: Schema) -> Schema:
    if "$ref" not in shown:
        return shown
    found = document
    for part in shown["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
