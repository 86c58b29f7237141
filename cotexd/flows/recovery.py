"""Gap repair: GitHub does not send again what it could not deliver, so it is asked for what is not here.

For each repository whose hook is known, the attempts that GitHub remembers are listed, newest first, back to a while
before the point up to which all is settled. What the log lacks, whatever GitHub was once answered, is fetched and goes
through the same operation as a live delivery, oldest first; where GitHub does not show the payload any more, it is
asked to send it again. Nothing here needs to be undone: what is interrupted, the next look does.
"""

import asyncio
import random
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import msgspec
import structlog

from cotexd import metrics
from cotexd.domain import github as deliveries
from cotexd.errors import CotexError, Failed, Forbidden, Invalid, NotFound, Unreachable
from cotexd.flows import hooks as flows
from cotexd.flows.access import Access
from cotexd.gateways.github import Attempt, GitHub, Hook, Limited, NoToken
from cotexd.operations import events, hooks, nodes, recovery
from cotexd.operations.events import Incoming
from cotexd.operations.hooks import Known
from cotexd.operations.recovery import Missing
from cotexd.store import Store, Tx, utc_now

MAX_PAGES = 5_000
"""of 100 attempts in one look; more than a token may ask for in an hour"""
OVERLAP = timedelta(minutes=15)
"""by which a look begins before what is settled: attempts come late into GitHub's list"""
AT_ONCE = 4
"""repositories, and payloads of one repository, that are asked for together"""
BATCH = 20
"""repositories whose turn it is, in one read"""
JITTER = 0.1
"""of the interval, either way, so that servers don't ask in step"""
WITHOUT_HOOK = 12
"""intervals until a repository is looked at again that GitHub shows no hook of"""
PATIENCE = 15.0
"""seconds in which a person waits for what GitHub was asked to send again"""
_LOOK_EVERY = 0.2
"""seconds"""

Lacking = Callable[[Tx, str, Collection[str]], set[str]]
"""which of a repository's GUIDs are to be fetched"""

_logger = structlog.get_logger("cotexd.repair")


class Repaired(msgspec.Struct, frozen=True):
    """What a look through one repository's deliveries found, in deliveries."""

    repo_name: str
    checked: int = 0
    missing: int = 0
    """that the log did not have"""
    recovered: int = 0
    requested: int = 0
    """that GitHub was asked to send again, and has not yet"""
    lost: int = 0
    """that can't be had any more"""
    problem: str | None = None


class _Seen(msgspec.Struct, frozen=True):
    """What GitHub's list holds of the time that is looked at."""

    missing: tuple[Missing, ...]
    """oldest first"""
    checked: int
    newest: datetime | None
    etag: str


class Recovery:
    """The server's own looking: at its start, when a repository is resumed, and every interval."""

    def __init__(self, store: Store, access: Access, public_url: str, interval: timedelta) -> None:
        self._store = store
        self._access = access
        self._bases = (public_url,) if public_url else ()
        self._interval = interval
        self._etags: dict[str, str] = {}
        """of the list of a repository of which all was settled, by its id"""
        self._rests: dict[GitHub, datetime] = {}
        """until when, by token: GitHub has limited it"""

    async def start(self) -> None:
        await self._store.write(recovery.start_over)

    async def look(self) -> None:
        """Look at every repository that is due."""
        anyone = await self._access.has_token()
        while due := await self._store.read(recovery.due, BATCH, only_with_token=not anyone):
            gate = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._look_at(repo_id, gate) for repo_id in due))

    async def _look_at(self, repo_id: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            due_again = utc_now() + self._interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
            if not await self._store.write(recovery.claim, repo_id, due_again):
                return
            try:
                github = await self._access.github(repo_id)
                rests_until = self._rests.get(github)
                if rests_until is not None and rests_until > utc_now():
                    await self._store.write(recovery.postpone, repo_id, rests_until)
                    return
                await self._repair(repo_id, github)
            except Limited as error:
                metrics.REPAIR_LOOKS.labels("limited").inc()
                _logger.info("github_limited", wait_s=round(error.wait))
                self._rests[github] = utc_now() + timedelta(seconds=error.wait)
                await self._store.write(recovery.postpone, repo_id, self._rests[github])
            except (NoToken, NotFound) as error:
                metrics.REPAIR_LOOKS.labels("no_hook").inc()
                later = utc_now() + self._interval * WITHOUT_HOOK
                await self._store.write(recovery.fail, repo_id, error.message, later)
            except CotexError as error:
                metrics.REPAIR_LOOKS.labels("failed").inc()
                _logger.warning("repair_postponed", repo_id=repo_id, reason=error.message)
                await self._store.write(recovery.fail, repo_id, error.message, due_again)

    async def _repair(self, repo_id: str, github: GitHub) -> None:
        known = await self._store.read(hooks.known, repo_id)
        etag = self._etags.pop(repo_id, "")
        begin = _beginning(known)
        found, _, etag = await _look(self._store, github, known, self._bases, begin, etag=etag)
        if etag:
            self._etags[repo_id] = etag
        metrics.REPAIR_LOOKS.labels("repaired" if found.missing else "clean").inc()
        if found.missing:
            _logger.info("repaired", **msgspec.structs.asdict(found))


async def repair(
    store: Store,
    github: GitHub,
    repo_id: str,
    bases: tuple[str, ...],
    *,
    since: datetime | None = None,
    dry_run: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Repaired:
    """Look through all that GitHub remembers of one repository, as a person asks for it.

    :param bases: the addresses of this server
    :param since: how far back, instead of as far as it was tracked
    :param progress: is called after each delivery that was taken care of
    :raises NotFound: GitHub shows no hook that calls this server
    :raises Limited: it may be asked later; what was recovered stays
    """
    known = await store.read(hooks.known, repo_id)
    begin = max(_tracked_since(known), since or _tracked_since(known))
    if dry_run:
        hook = await _hook(store, github, known, bases)
        seen = await _list(store, github, known, hook, begin, lacking=recovery.not_in_log)
        return Repaired(known.repo_name, seen.checked, len(seen.missing))
    # Also what was given up: a person asks for it.
    found, asked, _ = await _look(
        store, github, known, bases, begin, lacking=recovery.not_in_log, progress=progress
    )
    arrived = await _arrived(store, repo_id, asked)
    return msgspec.structs.replace(
        found, recovered=found.recovered + arrived, requested=found.requested - arrived
    )


async def _look(
    store: Store,
    github: GitHub,
    known: Known,
    bases: tuple[str, ...],
    begin: datetime,
    *,
    etag: str = "",
    lacking: Lacking = recovery.unknown,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Repaired, set[str], str]:
    """Repair what is missing since `begin`.

    :returns: also the GUIDs that GitHub was asked to send again; and its list's etag, if all of it is settled
    """
    hook = await _hook(store, github, known, bases)
    seen = await _list(store, github, known, hook, begin, etag=etag, lacking=lacking)
    work = _Work(store, github, known, hook, progress)
    try:
        await work.take(seen.missing)
    except CotexError:
        await store.write(recovery.count_repaired, known.repo_id, work.recovered)
        raise
    upto = min([seen.newest or known.settled_at or begin, *(each.sent_at for each in work.unsettled)])
    # What lies between is not looked at: it may be missing.
    leaves_a_hole = begin > (known.settled_at or _tracked_since(known))
    await store.write(
        recovery.settle,
        known.repo_id,
        None if leaves_a_hole else upto,
        repaired=work.recovered,
        problem=work.problem,
    )
    found = Repaired(
        known.repo_name, seen.checked, len(seen.missing), work.recovered, work.requested, work.lost
    )
    return found, work.asked, "" if work.unsettled else seen.etag


async def _hook(store: Store, github: GitHub, known: Known, bases: tuple[str, ...]) -> Hook:
    """Our hook, by what GitHub's API shows at this moment."""
    found = await flows.the_hook(github, known, bases)
    if found.id != known.hook_id:
        await store.write(hooks.note, known.repo_id, found.id)
    return found


async def _list(
    store: Store,
    github: GitHub,
    known: Known,
    hook: Hook,
    begin: datetime,
    *,
    etag: str = "",
    lacking: Lacking,
) -> _Seen:
    """What GitHub tried to deliver since `begin`, and the log lacks."""
    last: dict[str, Attempt] = {}
    first: dict[str, datetime] = {}
    early: set[str] = set()
    cursor, seen_etag = "", ""
    for _ in range(MAX_PAGES):
        page = await github.deliveries(known.repo_name, hook.id, cursor=cursor, etag="" if cursor else etag)
        if page is None:
            return _Seen((), 0, None, etag)
        seen_etag = seen_etag or page.etag
        for each in page.attempts:
            if each.delivered_at < _tracked_since(known):
                early.add(each.guid)
            elif each.delivered_at >= begin and each.event != "ping":
                last.setdefault(each.guid, each)  # newest first
                first[each.guid] = each.delivered_at
        if not page.attempts or page.following in {"", cursor}:
            break
        cursor = page.following
        if any(each.delivered_at < begin for each in page.attempts):
            break
    missing = await store.read(lacking, known.repo_id, last.keys() - early)
    found = [Missing(guid, last[guid].event, first[guid], last[guid].id) for guid in missing]
    found.sort(key=lambda each: (each.sent_at, each.attempt))
    newest = max((each.delivered_at for each in last.values()), default=None)
    return _Seen(tuple(found), len(last), newest, seen_etag)


class _Work:
    """Getting what is missing, and what became of it."""

    def __init__(
        self, store: Store, github: GitHub, known: Known, hook: Hook, progress: Callable[[], None]
    ) -> None:
        self._store = store
        self._github = github
        self._known = known
        self._hook = hook
        self._progress = progress
        self.recovered = self.requested = self.lost = 0
        self.asked: set[str] = set()
        self.unsettled: list[Missing] = []
        self.problem = ""
        """why something could not be had"""

    async def take(self, missing: tuple[Missing, ...]) -> None:
        """Oldest first, a few payloads at a time: they go into the log in their order.

        One that GitHub does not give keeps no other back; if it gives none, or wants to be left alone, that is the end.
        """
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            fetched = await asyncio.gather(*map(self._fetch, some), return_exceptions=True)
            failed = [each for each in fetched if isinstance(each, BaseException)]
            for each, payload in zip(some, fetched, strict=True):
                if isinstance(payload, Failed | Unreachable):
                    self._put_off(each, payload)
                elif not isinstance(payload, BaseException):
                    await self._keep(each, payload)
                    self._progress()
            fatal = [each for each in failed if not isinstance(each, Failed | Unreachable)]
            away = len(failed) == len(some) and all(isinstance(each, Unreachable) for each in failed)
            if fatal or away:
                raise (fatal or failed)[0]

    async def _fetch(self, missing: Missing) -> bytes | None:
        attempt = Attempt(missing.attempt, missing.delivery_id, missing.event_type, missing.sent_at)
        return await self._github.payload(self._known.repo_name, self._hook.id, attempt)

    async def _keep(self, missing: Missing, payload: bytes | None) -> None:
        if payload is None:
            await self._ask(missing)
            return
        try:
            incoming = await asyncio.to_thread(_incoming, self._known, missing, payload)
        except Invalid as error:
            await self._give_up(missing, error.message)
            return
        await self._store.write_many(events.accept_many, incoming)
        self.recovered += 1
        metrics.REPAIRED.labels("recovered").inc()

    async def _ask(self, missing: Missing) -> None:
        """Have GitHub send it again, unless it was asked to already."""
        repo_id = self._known.repo_id
        turn = await self._store.write(recovery.turn_of, repo_id, missing)
        if turn == "over":
            self._count_lost(missing, "GitHub was asked for it several times, and it has not come.")
            return
        if turn == "ask":
            await self._store.write(recovery.about_to_ask, repo_id, missing)
            try:
                await self._github.redeliver(self._known.repo_name, self._hook.id, missing.attempt)
            except (NotFound, Invalid) as error:
                # Or has the hook gone, or the token lost its sight of it? Then nothing can be said of a delivery.
                await self._github.hook(self._known.repo_name, self._hook.id)
                await self._give_up(missing, error.message)
                return
            except (Failed, Forbidden, Unreachable) as error:
                # A token that may only read can still fetch the others.
                self._put_off(missing, error)
                return
            await self._store.write(recovery.asked, repo_id, missing)
            metrics.REPAIRED.labels("requested").inc()
        self.requested += 1
        self.asked.add(missing.delivery_id)
        self.unsettled.append(missing)

    def _put_off(self, missing: Missing, error: CotexError) -> None:
        """Leave it to the next look."""
        self.unsettled.append(missing)
        self.problem = error.message

    async def _give_up(self, missing: Missing, reason: str) -> None:
        await self._store.write(recovery.give_up, self._known.repo_id, missing)
        self._count_lost(missing, reason)

    def _count_lost(self, missing: Missing, reason: str) -> None:
        self.lost += 1
        metrics.REPAIRED.labels("lost").inc()
        _logger.warning(
            "delivery_lost", repo=self._known.repo_name, delivery=missing.delivery_id, reason=reason
        )


async def _arrived(store: Store, repo_id: str, asked: set[str]) -> int:
    """How many of these deliveries come within PATIENCE."""
    left, waited = asked, 0.0
    servers = await store.read(nodes.running)
    while left and servers and waited < PATIENCE:
        await asyncio.sleep(_LOOK_EVERY)
        waited += _LOOK_EVERY
        left = await store.read(recovery.not_in_log, repo_id, left)
    return len(asked) - len(left)


def _incoming(known: Known, missing: Missing, payload: bytes) -> Incoming:
    headers = deliveries.read_headers(
        {
            "content-type": "application/json",
            "x-github-event": missing.event_type,
            "x-github-delivery": missing.delivery_id,
        }
    )
    delivery = deliveries.read_body(known.repo_id, headers, payload, "api")
    return events.prepare(delivery, known.repo_name, missing.sent_at, sent_at=missing.sent_at, pack=True)


def _beginning(known: Known) -> datetime:
    tracked = _tracked_since(known)
    return tracked if known.settled_at is None else max(tracked, known.settled_at - OVERLAP)


def _tracked_since(known: Known) -> datetime:
    """To the second, as GitHub's times are."""
    return known.created_at.replace(microsecond=0)
