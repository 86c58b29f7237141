"""`cotex forward`: deliveries go on to an address of one's own, as GitHub made them, each once they were taken."""

import asyncio
import random
import time
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
import typer

from cotex import client, view
from cotex.client import BACKOFF, TIMEOUT, Message
from cotex.following import Count, Event, Following, New, Repo, Server, Token, User, following
from cotexd.domain.event import Summary
from cotexd.domain.github import SIGNATURE_1, SIGNATURE_256, sign
from cotexd.errors import Forbidden, Invalid, Unauthorized

app = view.single()

PASSED_ON = ("content-type", "x-github-event", "x-github-delivery", SIGNATURE_256, SIGNATURE_1)
"""headers of a delivery"""
LATER = frozenset({408, 425, 429})
"""answers that ask to try again, beside those from 500 on"""


class Forwarded(msgspec.Struct, frozen=True):
    """What became of a delivery."""

    seq: int
    event_id: str
    delivery_id: str
    event_type: str
    repo_name: str
    status: int | None
    """of the answer; null if the server no longer has the delivery"""
    attempts: int
    ms: int
    """the last attempt took"""


@app.command(
    epilog=view.examples(
        "cotex forward --to http://localhost:3000/hook --count 1",
        "cotex forward --to http://localhost:3000/hook --repo octo/hello --event push --count 1 --json",
    )
)
def forward(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="Where deliveries go, as http://localhost:3000/hook")],
    server: Server = None,
    token: Token = None,
    user: User = None,
    repo: Repo = None,
    event: Event = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            envvar="COTEX_WEBHOOK_SECRET_FILE",
            help="Sign with the secret in this file, not with the repository's.",
        ),
    ] = None,
    count: Count = 0,
    new: New = False,
    as_json: view.Json = False,
) -> None:
    """Pass deliveries on to an address of your own, in order, with GitHub's headers and a valid signature.

    What is not taken (no answer, 5xx, 429) is tried again, and those after it wait. Any other answer is one.
    Deliveries are signed with the repository's secret where it is yours, else with one that you give.
    """
    client.check_address(to)
    if not to.startswith("http"):
        raise Invalid(f'"{to}" takes no webhooks.', hint="As in http://localhost:3000/hook")
    secret = None if secret_file is None else _secret(secret_file)
    with following(
        context,
        "forward",
        server=server,
        token=token,
        user=user,
        repos=repo,
        events=event,
        new=new,
        purpose=to,
    ) as source:
        asyncio.run(_forward(source, to, secret, count, as_json=as_json))


async def _forward(source: Following, to: str, secret: str | None, count: int, *, as_json: bool) -> None:
    done, greeted = 0, False
    async with (
        httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http,
        aclosing(source.messages()) as messages,
    ):
        async for message in messages:
            if message.type == "github_event":
                forwarded = await _pass_on(http, source, message, to, secret)
                if as_json:
                    view.line(forwarded)
                else:
                    view.line(_sentence(message, forwarded))
                done += 1
            elif message.event == "live" and not greeted:
                greeted = True
                view.say(f"Forwarding from {source.server} to {to}. Stop with Ctrl-C.")
            source.done(message)
            if count and done >= count:
                return


async def _pass_on(
    http: httpx.AsyncClient, source: Following, message: Message, to: str, secret: str | None
) -> Forwarded:
    delivery = await _fetch(http, source, message)
    status, attempts, began = None, 0, time.monotonic()
    if delivery is not None:
        headers = _headers(delivery, secret)
        wait = BACKOFF[0]
        while True:
            attempts, began = attempts + 1, time.monotonic()
            status = await _post(http, to, delivery.content, headers)
            if status is not None and status < 500 and status not in LATER:
                break
            if attempts == 1:
                view.say(
                    f"{to} does not take event {message.seq} ({status or 'no answer'}); it is tried again."
                )
            await asyncio.sleep(random.uniform(0, wait))  # noqa: S311  # jitter, no secret
            wait = min(wait * 2, BACKOFF[1])
    return Forwarded(
        message.seq,
        message.event_id,
        _summary(message).id,
        message.event,
        message.repo_name,
        status,
        attempts,
        round((time.monotonic() - began) * 1000),
    )


async def _fetch(http: httpx.AsyncClient, source: Following, message: Message) -> httpx.Response | None:
    """The delivery itself; None if the server has it no more.

    :raises Unauthorized, Forbidden: the server does not let us in any more
    """
    wait = BACKOFF[0]
    while True:
        try:
            answer = await http.get(
                f"{source.server.rstrip('/')}/api/github-events/delivery",
                params={"id": message.event_id},
                headers={"authorization": f"Bearer {source.token}"},
            )
        except httpx.HTTPError:
            answer = None
        if answer is not None and answer.is_success:
            return answer
        if answer is not None and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer is not None and answer.status_code == httpx.codes.UNAUTHORIZED:
            raise Unauthorized("The token is not good any more.", hint="Give a fresh one with --token.")
        if answer is not None and answer.status_code == httpx.codes.FORBIDDEN:
            raise Forbidden("The server does not let this token read events.")
        await asyncio.sleep(random.uniform(0, wait))  # noqa: S311  # jitter, no secret
        wait = min(wait * 2, BACKOFF[1])


async def _post(http: httpx.AsyncClient, to: str, body: bytes, headers: dict[str, str]) -> int | None:
    """The status of the answer; None if there is none."""
    try:
        return (await http.post(to, content=body, headers=headers)).status_code
    except httpx.HTTPError:
        return None


def _headers(delivery: httpx.Response, secret: str | None) -> dict[str, str]:
    """:raises Forbidden: it can't be signed"""
    headers = {name: delivery.headers[name] for name in PASSED_ON if name in delivery.headers}
    if secret is not None:
        headers[SIGNATURE_256] = sign(delivery.content, secret).decode()
        headers[SIGNATURE_1] = sign(delivery.content, secret, "sha1").decode()
    if SIGNATURE_256 not in headers:
        raise Forbidden(
            "The server signs deliveries for a repository's owner only.",
            hint="Sign with a secret of your own: --secret-file FILE",
        )
    return {"accept": "*/*", "user-agent": "GitHub-Hookshot/cotex", **headers}


def _secret(file: Path) -> str:
    """:raises Invalid: there is none"""
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} can't be read: {getattr(error, 'strerror', None) or 'no text'}.") from None
    if not secret:
        raise Invalid(f"{file} is empty: a secret is needed to sign with.")
    return secret


def _summary(message: Message) -> Summary:
    return msgspec.json.decode(message.payload, type=Summary)


def _sentence(message: Message, forwarded: Forwarded) -> str:
    summary = _summary(message)
    outcome = "the server has it no more" if forwarded.status is None else f"{forwarded.status}"
    again = f" after {forwarded.attempts} attempts" if forwarded.attempts > 1 else ""
    return view.printable(
        f"{summary.timestamp.astimezone():%H:%M:%S}  {message.repo_name}  {message.event}  {summary.headline}"
        f"  → {outcome} in {forwarded.ms} ms{again}"
    )
