"""Webhooks at GitHub: make and mend them, give them a new secret, and say how they stand.

Each step is looked up before it is done, and noted after; so whatever was interrupted, is finished by the next run.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import httpx
import msgspec

from cotexd.errors import CotexError, NotFound
from cotexd.gateways.github import MAX_HOOKS, Attempt, GitHub, Hook, Wanted
from cotexd.operations import hooks, nodes, recovery, repositories
from cotexd.operations.hooks import Known
from cotexd.store import Store

Agreement = Literal["agrees", "differs", "unknown"]
AGREES: Agreement = "agrees"
DIFFERS: Agreement = "differs"
UNKNOWN: Agreement = "unknown"
State = Literal["ok", "broken", "missing", "unknown"]
Ping = Literal["arrived", "missing", "unseen"]

ALL_EVENTS = ("*",)
PING_WITHIN = 8.0
"""seconds for a ping to come from GitHub to our server"""
_LOOK_EVERY = 0.2
"""seconds"""
NEAR_LIMIT = 18
"""hooks on one repository for one type of event; GitHub allows MAX_HOOKS"""


class SetUp(msgspec.Struct, frozen=True):
    """What `set_up` did."""

    repo_name: str
    hook_id: int
    url: str
    events: tuple[str, ...]
    created: bool
    changed: tuple[str, ...]
    """what was not as it must be"""
    ping: Ping
    """unseen where no server runs that it could come to"""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a repository's webhook stands."""

    repo_name: str
    repo_id: str
    state: State
    """there is no hook of ours; unknown: GitHub could not be asked"""
    problems: tuple[str, ...]
    hook_id: int | None
    url: str = ""
    active: bool | None = None
    events: tuple[str, ...] = ()
    missing_events: tuple[str, ...] = ()
    """that the repository's filter lets pass, and GitHub does not send"""
    secret: Agreement = UNKNOWN
    """GitHub never shows it, so only what it was given, or how it signs, tells"""
    reachable: bool | None = None
    """GitHub's last delivery got an answer; null where there was none yet"""
    last_response: str = ""
    last_delivery_at: datetime | None = None
    hooks: int | None = None
    """on this repository, of whomever"""
    repaired: int
    lost: int
    looked_at: datetime | None
    """when its deliveries at GitHub were last looked through"""
    settled_at: datetime | None
    """what GitHub delivered until then is here, or given up"""


class Listed(msgspec.Struct, frozen=True):
    """An attempt of GitHub's to deliver."""

    id: int
    delivery_id: str
    event: str
    action: str | None
    delivered_at: datetime
    status: str | None
    status_code: int | None
    redelivery: bool
    in_log: bool


async def find(github: GitHub, known: Known, bases: tuple[str, ...]) -> Hook | None:
    """The hook at GitHub that calls our own address of this repository, if there is one.

    Only what GitHub's API shows counts: the hook's id in a request's header is anybody's to write.

    :param bases: the addresses of this server; if none is known, any that has the repository's own path
    """
    return ours(await github.hooks(known.repo_name), known, bases)


def ours(there: list[Hook], known: Known, bases: tuple[str, ...], *, anywhere: bool = False) -> Hook | None:
    """The same, of the hooks that are there.

    :param anywhere: also one that calls where this server is not, or not any more
    """
    candidates = [each for each in there if is_ours(each.config.url, known, bases, anywhere=anywhere)]
    # Two would only send everything twice; the one that is known keeps its history.
    return min(candidates, key=lambda each: (each.id != known.hook_id, each.id), default=None)


async def the_hook(github: GitHub, known: Known, bases: tuple[str, ...]) -> Hook:
    """The same.

    :raises NotFound: there is none
    """
    found = await find(github, known, bases)
    if found is None:
        raise NotFound(
            f"GitHub has no hook of {known.repo_name} that calls this server.",
            hint=f"Make it: cotex webhook setup {known.repo_name}",
        )
    return found


def is_ours(url: str, known: Known, bases: tuple[str, ...], *, anywhere: bool = False) -> bool:
    """Whether a hook's URL is this server's address of the repository."""
    try:
        plain = _plain(url)
    except ValueError:
        return False
    good = [base for base in (*bases, known.base) if base]
    return plain.path.endswith(known.path) and (
        anywhere or not good or any(plain == _plain(base + known.path) for base in good)
    )


async def set_up(
    store: Store,
    github: GitHub,
    repo_id: str,
    base: str,
    events: tuple[str, ...] = (),
    *,
    bases: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> SetUp:
    """Make a repository's webhook at GitHub, or find it and mend what is not as it must be; then have it pinged.

    :param base: under which GitHub reaches this server; nothing here asks it
    :param events: what it is to send; () is what a hook that is there sends, and everything for a new one
    :param bases: other addresses of this server: a hook that calls one of them goes before one that is out of date
    :param say: is told each step
    :raises CotexError: what GitHub refuses, in words
    """
    known, secret = await store.read(hooks.known, repo_id), await store.read(repositories.secret_of, repo_id)
    url = base + known.path
    there = await github.hooks(known.repo_name)
    found = ours(there, known, (base, *bases)) or ours(there, known, (), anywhere=True)
    wanted = Wanted(url, secret, events or (found.events if found else ALL_EVENTS))
    changed: tuple[str, ...] = ()
    if found is not None:
        page = await github.deliveries(known.repo_name, found.id)
        changed = _differences(found, wanted, _secret_of(known, found, page.attempts if page else ()))
    if found is None:
        hook = await github.make(known.repo_name, wanted)
        say(f"Hook {hook.id} is made: {', '.join(hook.events)} to {url}")
    elif changed:
        hook = await github.change(known.repo_name, found.id, wanted)
        say(f"Hook {hook.id} is mended: {', '.join(changed)}.")
    else:
        hook = found
        say(f"Hook {hook.id} is as it must be.")
    made = ("created",) if found is None else changed
    await store.write(hooks.set_up, repo_id, hook.id, base, secret, made)
    went = await ping(store, github, known, hook.id, say)
    return SetUp(known.repo_name, hook.id, url, hook.events, found is None, changed, went)


async def rotate(
    store: Store,
    github: GitHub,
    repo_id: str,
    overlap: timedelta,
    *,
    bases: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Ping:
    """Give a repository's hook a new secret, without a delivery that is refused; returns how its ping went.

    First both secrets hold here, then GitHub gets the new one. Where that was interrupted, GitHub still signs with
    the old one; so another new one is made only when GitHub has the last.

    :param bases: the addresses of this server
    :raises NotFound: GitHub shows no hook that calls this server; nothing is changed
    """
    known = await store.read(hooks.known, repo_id)
    hook = await the_hook(github, known, bases)
    if await store.write(hooks.begin_rotation, repo_id, overlap):
        say("The new secret holds here, beside the old one.")
    else:
        say("A new secret is here already, and GitHub does not have it yet: going on from there.")
    secret = await store.read(repositories.secret_of, repo_id)
    await github.give_secret(known.repo_name, hook.id, secret)
    await store.write(hooks.gave, repo_id, secret, overlap)
    say("GitHub signs with the new one.")
    return await ping(store, github, known, hook.id, say)


async def standing(store: Store, github: GitHub, repo_id: str, bases: tuple[str, ...]) -> Standing:
    """How a repository's webhook stands at GitHub."""
    known = await store.read(hooks.known, repo_id)
    there = await github.hooks(known.repo_name)
    found = ours(there, known, bases)
    if found is None:
        problem = f"GitHub has no hook that calls this server. Make it: cotex webhook setup {known.repo_name}"
        return msgspec.structs.replace(_unasked(known, "missing", problem), hook_id=None, hooks=len(there))
    page = await github.deliveries(known.repo_name, found.id)
    attempts = page.attempts if page else ()
    missing = () if "*" in found.events else tuple(sorted(set(known.events) - set(found.events)))
    secret = _secret_of(known, found, attempts)
    problems = _problems(known, found, secret, missing, there)
    response = found.answered
    return msgspec.structs.replace(
        _unasked(known, "broken" if problems else "ok", *problems),
        hook_id=found.id,
        url=found.config.url,
        active=found.active,
        events=found.events,
        missing_events=missing,
        secret=secret,
        reachable=None if response.status in {None, "unused"} else response.code is not None,
        last_response=f"{response.code or ''} {response.status or ''}".strip(),
        last_delivery_at=attempts[0].delivered_at if attempts else None,
        hooks=len(there),
    )


def unasked(known: Known, error: CotexError) -> Standing:
    """How it stands where GitHub could not be asked."""
    return _unasked(known, "unknown", error.message)


async def listing(store: Store, github: GitHub, known: Known, hook: Hook, limit: int) -> list[Listed]:
    """The newest attempts of a hook, and whether the log has them."""
    found: list[Attempt] = []
    cursor = ""
    while len(found) < limit:
        page = await github.deliveries(known.repo_name, hook.id, cursor=cursor)
        if page is None:
            break
        found += page.attempts
        cursor = page.following
        if not cursor:
            break
    del found[limit:]
    guids = {each.guid for each in found if each.event != "ping"}
    lacking = await store.read(recovery.not_in_log, known.repo_id, guids)
    return [
        Listed(
            each.id,
            each.guid,
            each.event,
            each.action,
            each.delivered_at,
            each.status,
            each.status_code,
            each.redelivery,
            in_log=each.guid in guids - lacking,
        )
        for each in found
    ]


async def ping(
    store: Store, github: GitHub, known: Known, hook_id: int, say: Callable[[str], None] = lambda _: None
) -> Ping:
    """Ask for a ping, and wait until our own server has taken it, signed with the secret of now."""
    before = (await store.read(hooks.known, known.repo_id)).pinged_at
    await github.ping(known.repo_name, hook_id)
    if not await store.read(nodes.running):
        say("A ping is asked for; no server runs here that could take it: cotex serve")
        return "unseen"
    try:
        async with asyncio.timeout(PING_WITHIN):
            while True:
                now = await store.read(hooks.known, known.repo_id)
                if now.pinged_at != before and now.pinged_anew:
                    say("GitHub's ping has arrived.")
                    return "arrived"
                await asyncio.sleep(_LOOK_EVERY)
    except TimeoutError:
        response = (await github.hook(known.repo_name, hook_id)).answered
        told = f"{response.code or ''} {response.message or response.status or ''}".strip()
        say(f"GitHub's ping has not arrived. GitHub says: {told or 'nothing yet'}")
        return "missing"


def _differences(found: Hook, wanted: Wanted, secret: Agreement) -> tuple[str, ...]:
    config = found.config
    checks = {
        "URL": config.url == wanted.url,
        "content type": config.content_type == "json",
        "TLS verification": str(config.insecure_ssl) == "0",
        "events": set(found.events) == set(wanted.events),
        "active": found.active,
        "secret": secret == AGREES,
    }
    return tuple(name for name, good in checks.items() if not good)


def _problems(
    known: Known, found: Hook, secret: Agreement, missing: tuple[str, ...], there: list[Hook]
) -> tuple[str, ...]:
    mend = f"Mend it: cotex webhook setup {known.repo_name}"
    code = found.answered.code
    crowded = max((_hooks_for(event, there) for event in found.events), default=0)
    checks = (
        (not found.active, f"The hook is not active. {mend}"),
        (found.config.content_type != "json", f"It sends forms. {mend}"),
        (str(found.config.insecure_ssl) != "0", f"GitHub does not check our certificate. {mend}"),
        (bool(missing), f"It does not send {', '.join(missing)}. {mend} --events …"),
        (secret == DIFFERS, f"Its secret is another one. {mend}"),
        (
            found.answered.status not in {None, "unused"} and code is None,
            "GitHub does not reach this server.",
        ),
        (
            code is not None and code >= httpx.codes.BAD_REQUEST and not known.paused,
            f"The last delivery was answered {code}.",
        ),
        (crowded >= NEAR_LIMIT, f"{crowded} hooks are on this repository, and GitHub allows {MAX_HOOKS}."),
    )
    return tuple(problem for wrong, problem in checks if wrong)


def _hooks_for(event: str, there: list[Hook]) -> int:
    return sum(event in each.events or "*" in each.events or event == "*" for each in there)


def _secret_of(known: Known, found: Hook, attempts: tuple[Attempt, ...]) -> Agreement:
    """Whether GitHub signs with the secret that holds here: by what it was given, and how it was answered since."""
    if not found.config.secret or known.secret_given is False:
        return DIFFERS
    since = known.secret_given_at
    last = next(
        (each for each in attempts if each.status_code and (since is None or each.delivered_at > since)), None
    )
    if last is not None and last.status_code == httpx.codes.UNAUTHORIZED:
        return DIFFERS
    return AGREES if known.secret_given or (last is not None and last.succeeded) else UNKNOWN


def _unasked(known: Known, state: State, *problems: str) -> Standing:
    return Standing(
        repo_name=known.repo_name,
        repo_id=known.repo_id,
        state=state,
        hook_id=known.hook_id,
        repaired=known.repaired,
        lost=known.lost,
        looked_at=known.looked_at,
        settled_at=known.settled_at,
        problems=problems,
    )


def _plain(url: str) -> SplitResult:
    """A URL, so that two that mean the same are the same.

    :raises ValueError: it is none
    """
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts._replace(netloc=f"{parts.hostname}:{port}")
