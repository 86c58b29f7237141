"""What `cotex tail` and `cotex forward` have in common: whose events, from which server, from where on."""

import base64
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from cotex import client, local, view
from cotex.client import Message
from cotex.kept import Kept
from cotexd.operations import tokens

Server = Annotated[
    str | None, typer.Option(envvar="COTEX_SERVER", help="The server; the one that runs here unless given.")
]
Token = Annotated[
    str | None, typer.Option(envvar="COTEX_TOKEN", help="Signs in; one is made here unless given.")
]
User = Annotated[str | None, typer.Option(help="Whose events, where no token is given.")]
Repo = Annotated[list[str] | None, typer.Option(help="Only of this repository; may be repeated.")]
Event = Annotated[list[str] | None, typer.Option(help="Only of this type; may be repeated.")]
Count = Annotated[int, typer.Option(min=0, help="Stop after so many events; 0 is never.")]
New = Annotated[bool, typer.Option("--new", help="Begin with the next event, not where the last one ended.")]

LIFETIME = timedelta(hours=12)
"""of a token that is made where none was given"""


class _Claims(msgspec.Struct, frozen=True):
    iss: str = ""
    sub: str = ""


class Following:
    """A stream of a user's events that is taken up again where it was left."""

    def __init__(
        self, server: str, token: client.Token, repos: list[str], events: list[str], kept: Kept, *, new: bool
    ) -> None:
        self.server = server
        self._token = token
        self._repos = repos
        self._events = events
        self._kept = kept
        self._new = new

    @property
    def token(self) -> str:
        return self._token if isinstance(self._token, str) else self._token()

    def messages(self) -> AsyncGenerator[Message]:
        return client.follow(
            self.server,
            self._token,
            cursor=None if self._new else self._kept.cursor,
            repos=self._repos,
            events=self._events,
            told=view.say,
        )

    def done(self, message: Message) -> None:
        """What a message asked for has been done: it need not come again."""
        if message.cursor:
            self._kept.keep(message.cursor)


@contextmanager
def following(
    context: typer.Context,
    command: str,
    *,
    server: str | None,
    token: str | None,
    user: str | None,
    repos: list[str] | None,
    events: list[str] | None,
    new: bool,
    purpose: str = "",
) -> Iterator[Following]:
    """:param purpose: more that tells one such stream from another"""
    signing: client.Token | None = token
    if token is None or server is None:
        with local.opened(context) as store:
            server = server or local.server_url(store)
            if token is None:
                signing = _maker(context, local.the_user(store, user).id, f"cotex {command}")
    if server.startswith("ws"):
        server = server.replace("ws", "http", 1)  # deliveries are fetched from there as well
    if signing is None:
        raise AssertionError("a token is given, or made")
    wanted_repos, wanted_events = sorted(set(repos or ())), sorted(set(events or ()))
    marks = (command, server, _whose(token, user), *wanted_repos, "", *wanted_events, purpose)
    with Kept(local.settings(context).data_dir, *marks) as kept:
        if not kept.mine:
            view.say(f"Another cotex {command} keeps the cursor of this; here it is not kept.")
        yield Following(server, signing, wanted_repos, wanted_events, kept, new=new)


def _maker(context: typer.Context, user_id: str, label: str) -> Callable[[], str]:
    """One token for half of its life, however often it is asked for; by the calendar, since a laptop sleeps."""
    token, good_until = "", 0.0

    def make() -> str:
        nonlocal token, good_until
        if time.time() >= good_until:
            with local.opened(context) as store:
                token = store.run(tokens.issue, user_id, LIFETIME, label=label).token
            good_until = time.time() + LIFETIME.total_seconds() / 2
        return token

    return make


def _whose(token: str | None, user: str | None) -> str:
    """Who it is for, as far as that can be told without asking, so that the user's next token goes on from there."""
    if token is None:
        return user or ""
    try:
        body = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Claims)
    except (IndexError, ValueError):
        return ""
    return f"{claims.iss} {claims.sub}"
