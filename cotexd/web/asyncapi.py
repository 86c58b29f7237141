"""AsyncAPI 3.0 from the types that live.wire encodes and decodes: what is said on /ws, and on /api/events/stream."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from cotexd import __version__
from cotexd.live import session as lives
from cotexd.live import wire
from cotexd.web import schemas
from cotexd.web.auth import SUBPROTOCOL
from cotexd.web.openapi import Route
from cotexd.web.schemas import Schema

ABOUT = """\
Messages are JSON texts. The server promises order, at least once, and no silent gap. A client that does what follows \
sees each event once: `hello` sets its cursor to `<epoch>.<from>`; it drops an event whose `seq` is not beyond its \
cursor; it asks to `resume` from its cursor if an event's `prev` is beyond it; else it applies the event, and stores \
the cursor with the effect. Fields may be added, and are never renamed, removed or retyped."""
WEBSOCKET = f"""\
The token is in `Authorization`, or, from a browser, in the subprotocols `{SUBPROTOCOL}` and `cotex.bearer.<token>`; a \
bad one is 401 before the upgrade. A client without `v=2` is a legacy client: it gets what it has missed, then what \
happens, as `github_event`, `error` and a `system_event` that is a sentence, and may say nothing."""
STREAM = """\
Server-sent events: `data` is the message, `event` its `type`, `id` the cursor that a client has with it, which a \
browser sends back as `Last-Event-ID`. The messages are those of version 2. The answer ends where a WebSocket is \
closed; the next request is told why."""
CLOSE_CODES = {
    lives.INTERNAL: "the server made a mistake, which its log names: reconnect",
    lives.RESTARTING: "the server restarts: reconnect",
    lives.TOKEN: "the token has expired: reconnect with a fresh one",
    lives.NO_PONG: f"no sign of life for {lives.PONG_WITHIN:.0f} s after a ping: reconnect",
    lives.STALLED: f"nothing was read for {lives.STALLED_AFTER:.0f} s: reconnect, with a better line",
    lives.TOO_MANY: "too many connections: reconnect later",
    lives.FORBIDDEN: "the user is disabled, or the token revoked: don't reconnect",
    lives.BAD_MESSAGE: "not a message of this protocol: don't reconnect",
    lives.VERSION: "another version: don't reconnect",
}

# A type for each system_event: an envelope that has one name and one payload.
SYSTEM_MESSAGES: dict[str, type[msgspec.Struct]] = {
    name: msgspec.defstruct(
        f"{payload.__name__}Event",
        [("event", Literal[name]), ("payload", payload), ("timestamp", datetime)],
        namespace={"__doc__": payload.__doc__},
        tag_field="type",
        tag="system_event",
    )
    for payload, name in wire.SYSTEM_EVENTS.items()
}


FROM_SERVER: dict[str, type[msgspec.Struct]] = {
    "github_event": wire.GithubEvent,
    **SYSTEM_MESSAGES,
    "error": wire.Error,
    "told": wire.Told,
}
FROM_CLIENT: dict[str, type[msgspec.Struct]] = {
    f"client_{name}": message for name, message in wire.CLIENT_EVENTS.items()
}
ONLY_WEBSOCKET = {"told", "auth_ok"}
"""what nobody is told over an event stream"""


def document(websocket: Route, stream: Route) -> Schema:
    """The whole of it.

    :param websocket: /ws, as web.routes has it
    :param stream: /api/events/stream
    """
    messages = {**FROM_SERVER, **FROM_CLIENT}
    parameters = [each for route in (websocket, stream) for each in route.takes]
    shown, components = schemas.of([*messages.values(), *(each.kind for each in parameters)])
    kinds = {id(each): schema for each, schema in zip(parameters, shown[len(messages) :], strict=True)}

    def query(route: Route, where: str) -> Schema:
        taken = [each for each in route.takes if each.where == where]
        fields = {each.name: {"description": each.meaning, **kinds[id(each)]} for each in taken}
        return {"type": "object", "properties": fields}

    streamed = [name for name in FROM_SERVER if name not in ONLY_WEBSOCKET]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "cotexd",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            name: {
                "host": "{host}",
                "protocol": protocol,
                "variables": {"host": {"default": "localhost:8080"}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
            for name, protocol in (("websocket", "ws"), ("http", "http"))
        },
        "channels": {
            "websocket": {
                "address": websocket.path,
                "title": "WebSocket",
                "description": WEBSOCKET,
                "servers": [{"$ref": "#/servers/websocket"}],
                "messages": {name: _component("messages", name) for name in messages},
                "bindings": {"ws": {"method": "GET", "query": query(websocket, "query")}},
                "x-close-codes": {str(code): meaning for code, meaning in sorted(CLOSE_CODES.items())},
            },
            "stream": {
                "address": stream.path,
                "title": "Server-sent events",
                "description": STREAM,
                "servers": [{"$ref": "#/servers/http"}],
                "messages": {name: _component("messages", name) for name in streamed},
            },
        },
        "operations": {
            "tell": _operation("send", "websocket", "What the server says", FROM_SERVER),
            "listen": _operation("receive", "websocket", "What a client of version 2 may say", FROM_CLIENT),
            "stream": {
                **_operation("send", "stream", "What the server says", streamed),
                "bindings": {"http": {"method": "GET", "query": query(stream, "query")}},
            },
        },
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "title": _title(name),
                    "summary": components[kind.__name__]["description"],
                    "payload": {"$ref": schemas.REF.format(name=kind.__name__)},
                }
                for name, kind in messages.items()
            },
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(action: str, channel: str, summary: str, messages: Iterable[str]) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _component(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _title(name: str) -> str:
    """As it is on the wire: its type, and which of them."""
    if name in FROM_CLIENT:
        return f"client_event {name.removeprefix('client_')}"
    if name in SYSTEM_MESSAGES:
        return f"system_event {name}"
    return {"told": "system_event to a legacy client"}.get(name, name)
