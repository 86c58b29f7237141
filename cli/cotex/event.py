"""`cotex event`"""

import importlib.resources
import re
import uuid
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cotex import client, local, view
from cotexd.domain.headline import KINDS
from cotexd.errors import Invalid
from cotexd.operations import history, pulse, repositories, trace

app = view.group("Events that GitHub sent.")

SAMPLE = "sample_push.json"
MAX_LISTED = 10_000
"""events in one list: for more there is the history over REST, by pages"""
SHOWN = 30
"""events, for people"""


class Sent(msgspec.Struct, frozen=True):
    event_id: str
    seq: int
    duplicate: bool
    filtered: bool
    delivery_id: str
    event_type: str
    url: str


@app.command(
    "list", epilog=view.examples("cotex event list", "cotex event list --repo octo/hello --limit 5 --json")
)
def list_(
    context: typer.Context,
    repo: Annotated[str | None, typer.Option(help="Only of this repository.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_LISTED, help="How many; unless given 30, with --json all that fit."),
    ] = None,
    as_json: view.Json = False,
) -> None:
    """List stored events, newest first."""
    with local.opened(context) as store:
        repo_id = None if repo is None else store.look(repositories.find, repo).id
        listed = store.look(
            history.listing, repo_id=repo_id, limit=limit or (MAX_LISTED if as_json else SHOWN)
        )
        hours = store.look(pulse.by_hour) if view.draws() and not as_json and repo is None else []
    if as_json:
        view.document(listed)
    else:
        view.table(
            ("seq", "when", "repository", "event", "what", "delivery"),
            [
                (each.seq, each.created_at, each.repo_name, each.event_type, each.headline, each.delivery_id)
                for each in listed
            ],
        )
    if hours:
        view.say(f"Last {len(hours)} hours: {view.sparkline(hours)}  {sum(hours)} in all")


@app.command(epilog=view.examples("cotex event show 1", "cotex event show 1 --json"))
def show(
    context: typer.Context,
    event: Annotated[str, typer.Argument(help="An event's id, its seq, or GitHub's delivery GUID.")],
    as_json: view.Json = False,
) -> None:
    """Show one event, with --json also GitHub's payload."""
    with local.opened(context) as store:
        found = store.look(history.details, event)
    if as_json:
        view.document(found)
    else:
        view.facts(
            (
                ("event", found.event_type),
                ("what", found.headline),
                ("repository", found.repo_name),
                ("branch", found.branch),
                ("when", found.created_at),
                ("seq", found.seq),
                ("id", found.id),
                ("delivery", found.delivery_id),
                ("repaired", found.repaired),
                ("signed with", found.verified),
                ("payload", "stored" if found.payload is not None else "purged after the retention"),
            )
        )


@app.command("trace", epilog=view.examples("cotex event trace GUID", "cotex event trace GUID --json"))
def trace_(
    context: typer.Context,
    delivery: Annotated[str, typer.Argument(metavar="GUID", help="GitHub's GUID of the delivery.")],
    repo: Annotated[str | None, typer.Option(help="Of which repository, where several got it.")] = None,
    as_json: view.Json = False,
) -> None:
    """Show the life of one delivery: received, verified, committed, published, acknowledged by whom and when."""
    with local.opened(context) as store:
        repo_id = None if repo is None else store.look(repositories.find, repo).id
        found = store.look(trace.trace, delivery, repo_id=repo_id)
    if as_json:
        view.document(found)
        return
    view.facts(
        [
            (name.replace("_", " "), value)
            for name, value in msgspec.structs.asdict(found).items()
            if name != "devices" and value is not None and (value or name == "published")
        ]
    )
    view.table(
        ("user", "device", "kind", "acknowledged"),
        [(each.user, each.device, each.kind, each.acknowledged_at) for each in found.devices],
    )


@app.command(
    epilog=view.examples(
        "cotex event send --repo octo/hello",
        "cotex event send push.json --repo octo/hello --event push --json",
    )
)
def send(
    context: typer.Context,
    repo: Annotated[str, typer.Option(help="The repository whose webhook is called.")],
    file: Annotated[Path | None, typer.Argument(help="A payload; a sample push unless given.")] = None,
    event: Annotated[
        str | None, typer.Option(help="Its type; unless given, what the file's name begins with, or push.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The server; the one that runs here unless given.")] = None,
    delivery: Annotated[str | None, typer.Option(help="The delivery's GUID; a new one unless given.")] = None,
    as_json: view.Json = False,
) -> None:
    """Sign a payload as GitHub does, and post it to the server: the way from end to end."""
    payload = _payload(file)
    kind = event or _kind_of(file)
    with local.opened(context) as store:
        tracked = store.look(repositories.find, repo)
        secret = store.look(repositories.secret_of, tracked.id)
        base = url or local.server_url(store)
    delivery_id = delivery or str(uuid.uuid4())
    address = client.webhook_address(base, tracked.webhook_url)
    answer = client.deliver(address, payload, secret, event_type=kind, delivery_id=delivery_id)
    if answer.pinged:
        view.document({"pinged": True, "delivery_id": delivery_id}) if as_json else view.say(
            "The webhook answers."
        )
        return
    sent = Sent(answer.event_id, answer.seq, answer.duplicate, answer.filtered, delivery_id, kind, address)
    if as_json:
        view.document(sent)
    elif sent.duplicate:
        view.say(f"{tracked.repo_name} had this delivery already: event {sent.seq}.")
    elif sent.filtered:
        view.say(
            f"Sent, and kept out by the filter of {tracked.repo_name}: cotex repo show {tracked.repo_name}"
        )
    else:
        view.say(f"Sent, and stored as event {sent.seq}. Look at it: cotex event show {sent.seq}")


def _payload(file: Path | None) -> bytes:
    if file is None:
        return importlib.resources.files("cotex").joinpath(SAMPLE).read_bytes()
    try:
        return file.read_bytes()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}.") from error


def _kind_of(file: Path | None) -> str:
    """`push.json`, `push-3.json` and `pull_request.opened.json` say it themselves."""
    stem = "" if file is None else re.split(r"[.-]", file.name, maxsplit=1)[0]
    return stem if stem in KINDS or stem == "ping" else "push"
