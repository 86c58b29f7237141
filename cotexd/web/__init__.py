"""HTTP in, HTTP out: mounts the routes, and answers every error in one form.

A handler understands, does one operation, and tells. It decides nothing that the command line would have to decide
again.
"""

import uuid

from sanic import Sanic
from sanic.config import Config

from cotexd.web import (
    edge,
    events,
    github,
    health,
    identity,
    me,
    reference,
    repos,
    shortcut,
    socket,
    stream,
    stripe,
)
from cotexd.web.context import App, Context
from cotexd.web.problem import refuse
from cotexd.web.protocol import TolerantRequest

__all__ = ["App", "Context", "build"]

MAX_HEAD = 24 * 1024
"""bytes of a request's head: a token may have 8 KiB, in the header or in a subprotocol"""
MAX_BODY = 64 * 1024
"""bytes of a request; the webhook routes stream, and have a bound of their own"""


def build(context: Context, *, alone: bool) -> App:
    """The whole of HTTP, on what `context` holds.

    :param alone: this is the only one in its process: Sanic may then rewrite its own classes, to be quicker
    """
    # Ours only: none from SANIC_* variables.
    config = Config(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "KEEP_ALIVE_TIMEOUT": 75,
            # A request's head, and the body of one that is not streamed, come within these seconds.
            "REQUEST_TIMEOUT": 15,
            "REQUEST_MAX_HEADER_SIZE": MAX_HEAD,
            "REQUEST_MAX_SIZE": MAX_BODY,
            "TOUCHUP": alone,
        },
        env_prefix=None,
    )
    app: App = Sanic(
        f"cotexd-{uuid.uuid4().hex[:8]}",
        config=config,
        ctx=context,
        configure_logging=False,
        request_class=TolerantRequest,
    )
    edge.mount(app)
    app.error_handler.add(Exception, refuse)
    for part in (events, health, identity, me, reference, repos, socket, stream, stripe):
        part.mount(app)
    hooks = github.Hooks(context.store)
    github.mount(app, hooks, refuse)
    shortcut.mount(app, hooks)
    return app
