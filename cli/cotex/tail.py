"""`cotex tail`: live events in the terminal. It resumes by itself, and shows each event once."""

import asyncio
from contextlib import aclosing

import msgspec
import typer

from cotex import view
from cotex.client import Message
from cotex.following import Count, Event, Following, New, Repo, Server, Token, User, following
from cotexd.domain.event import Summary

app = view.single()


@app.command(
    epilog=view.examples("cotex tail --count 1", "cotex tail --repo octo/hello --event push --count 1 --json")
)
def tail(
    context: typer.Context,
    server: Server = None,
    token: Token = None,
    user: User = None,
    repo: Repo = None,
    event: Event = None,
    count: Count = 0,
    new: New = False,
    as_json: view.Json = False,
) -> None:
    """Follow events live, with --json one message a line. Started again, it goes on where it ended."""
    with following(
        context, "tail", server=server, token=token, user=user, repos=repo, events=event, new=new
    ) as source:
        asyncio.run(_show(source, count, as_json=as_json))


async def _show(source: Following, count: int, *, as_json: bool) -> None:
    seen, greeted = 0, False
    async with aclosing(source.messages()) as messages:
        async for message in messages:
            is_event = message.type == "github_event"
            if as_json:
                if message.event != "ping":
                    view.line(message.text)
            elif is_event:
                view.line(_sentence(message))
            elif message.event == "live" and not greeted:
                greeted = True
                view.say(f"Following {source.server}. Stop with Ctrl-C.")
            source.done(message)
            seen += is_event
            if count and seen >= count:
                return


def _sentence(message: Message) -> str:
    summary = msgspec.json.decode(message.payload, type=Summary)
    who = f" by {summary.actor}" if summary.actor else ""
    where = f" ({summary.branch})" if summary.branch and summary.branch not in summary.headline else ""
    return view.printable(
        f"{summary.timestamp.astimezone():%H:%M:%S}  {message.repo_name}  {summary.headline}{where}{who}"
    )
