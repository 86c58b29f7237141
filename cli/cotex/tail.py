"""`cotex tail`: live events in the terminal. It resumes by itself, and shows each event once."""

from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from cotex import client, local, view
from cotex.client import Message
from cotexd.domain.event import Summary
from cotexd.operations import tokens

app = view.single()

LIFETIME = timedelta(hours=12)
"""of the token that is made where none was given"""


@app.command(
    epilog=view.examples("cotex tail --count 1", "cotex tail --repo octo/hello --event push --count 1 --json")
)
def tail(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(envvar="COTEX_SERVER", help="The server; the one that runs here unless given."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="COTEX_TOKEN", help="Signs in; one is made here unless given.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Whose events, where no token is given.")] = None,
    repo: Annotated[str | None, typer.Option(help="Only of this repository.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this type.")] = None,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many events; 0 is never.")] = 0,
    as_json: view.Json = False,
) -> None:
    """Follow events live, with --json one message a line."""
    if token is None or server is None:
        with local.opened(context) as store:
            server = server or local.server_url(store)
            if token is None:
                account = local.the_user(store, user)
                token = store.run(tokens.issue, account.id, LIFETIME, label="cotex tail").token
    seen = 0
    for message, text in client.follow(server, token):
        is_event = message.type == "github_event"
        if is_event and not _wanted(message, repo, event):
            continue
        if as_json:
            if message.event != "ping":
                view.line(text)
        elif is_event:
            view.line(_sentence(message))
        elif message.event == "live" and not seen:
            view.say(f"Following {server}. Stop with Ctrl-C.")
        elif message.event == "gap":
            view.say("Some events are older than the server keeps them, and are missing here.")
        seen += is_event
        if count and seen >= count:
            return


def _wanted(message: Message, repo: str | None, event: str | None) -> bool:
    return (repo is None or repo.lower() == message.repo_name.lower()) and (
        event is None or event == message.event
    )


def _sentence(message: Message) -> str:
    summary = msgspec.json.decode(message.payload, type=Summary)
    who = f" by {summary.actor}" if summary.actor else ""
    where = f" ({summary.branch})" if summary.branch and summary.branch not in summary.headline else ""
    return view.printable(
        f"{summary.timestamp.astimezone():%H:%M:%S}  {message.repo_name}  {summary.headline}{where}{who}"
    )
