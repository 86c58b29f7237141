"""Is everything as it must be? A finding for each thing to look at, whether it is configured or not.

What one finds wrong does not end the others: at two in the morning a person wants the whole list.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec

from cotexd import __version__
from cotexd.domain import duration
from cotexd.errors import CotexError, Failed, Forbidden, Unauthorized, Unavailable, Unreachable
from cotexd.flows import hooks as flows
from cotexd.flows.access import Access
from cotexd.flows.billing import Account, BillingDisabled
from cotexd.flows.hooks import Standing
from cotexd.gateways import probe
from cotexd.gateways.github import NoToken
from cotexd.gateways.probe import Seen
from cotexd.gateways.stripe import EVENTS
from cotexd.operations import backups, hooks, nodes, signing
from cotexd.operations import check as checks
from cotexd.operations.hooks import Known
from cotexd.store import Store, Tx, migrations, utc_now

Status = Literal["ok", "warn", "fail"]

CHECKS = (
    "configuration",
    "files",
    "database",
    "schema",
    "space",
    "clock",
    "server",
    "public_url",
    "tls",
    "websocket",
    "github",
    "stripe",
    "backup",
)
WITHIN = 10.0
"""seconds for one check"""
LONG = 60.0
"""seconds for those that may take long: the whole database, and all repositories at GitHub"""
AT_ONCE = 4
MAX_NAMED = 10
LITTLE_SPACE, NO_SPACE = 2**30, 100 * 2**20
"""bytes"""
OFF, FAR_OFF = timedelta(seconds=5), timedelta(seconds=60)
"""of the clock: Stripe's signatures and tokens are good for minutes"""
CERTIFICATE_ENDS_SOON = timedelta(days=14)
BACKUP_OLD = timedelta(days=7)


class Finding(msgspec.Struct, frozen=True):
    check: str
    status: Status
    detail: str
    fix: str = ""
    """what to type"""


class Patient(msgspec.Struct, frozen=True):
    """What is looked at, once it could be opened."""

    store: Store
    public_url: str
    access: Access
    stripe: Account


Look = Callable[[Patient], Awaitable[Finding]]


def files(folder: Path, secret: Iterable[Path], *, fix: bool) -> Finding:
    """:param secret: files that nobody else may read, if they are there
    :param fix: close what others can look into, and open to us what we cannot write
    """
    try:
        wanted = {path: 0o600 if path != folder else 0o700 for path in (folder, *secret) if path.exists()}
        loose = [path for path in wanted if stat.S_IMODE(path.stat().st_mode) & 0o077]
        # A database's companions, made by who could only read it, keep everybody from writing.
        shut = [path for path in wanted if not os.access(path, os.R_OK | os.W_OK, effective_ids=True)]
        if fix:
            for path in (*loose, *shut):
                path.chmod(wanted[path])
    except OSError as error:
        told = f"they cannot be looked at, or mended: {error.strerror}: {error.filename}"
        return Finding("files", "fail", told, "run it as the account that the server runs as")
    if not (loose or shut):
        return Finding("files", "ok", f"{folder} is closed to others")
    told = "; ".join(
        f"{what}: {', '.join(path.name for path in found)}"
        for what, found in (("others on this machine can look into", loose), ("cannot be written", shut))
        if found
    )
    if fix:
        return Finding("files", "ok", f"mended: {told}")
    commands = " && ".join(f"chmod {wanted[path]:o} {path}" for path in (*loose, *shut))
    return Finding("files", "fail", told, commands)


def space(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    told = f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} are free at {folder}"
    if usage.free < NO_SPACE:
        return Finding("space", "fail", told, "make room, or take a larger disk")
    if usage.free < LITTLE_SPACE:
        return Finding("space", "warn", told, "make room, or take a larger disk")
    return Finding("space", "ok", told)


def unchecked(checks: Iterable[str], why: str) -> list[Finding]:
    return [Finding(each, "warn", f"not checked: {why}") for each in checks]


async def examine(patient: Patient) -> list[Finding]:
    """All that needs the database."""
    looks: tuple[tuple[str, Look, float], ...] = (
        ("database", _database, LONG + WITHIN),
        ("schema", _schema, WITHIN),
        ("clock", _clock, WITHIN),
        ("server", _server, WITHIN),
        ("github", _github, LONG + WITHIN),
        ("stripe", _stripe, WITHIN),
        ("backup", _backup, WITHIN),
    )
    ours = await patient.store.read(_keys)
    return [
        *[await _bounded(name, look(patient), within) for name, look, within in looks],
        *await from_outside(patient.public_url, ours),
    ]


async def from_outside(public_url: str, ours: frozenset[str] = frozenset()) -> list[Finding]:
    """What is seen of the server through whatever stands before it.

    :param ours: the ids of this server's signing keys, where they are known
    """
    return [
        await _bounded("public_url", _public_url(public_url, ours), WITHIN),
        await _bounded("tls", _tls(public_url), WITHIN),
        await _bounded("websocket", _websocket(public_url), WITHIN),
    ]


async def _bounded(check: str, look: Awaitable[Finding], within: float) -> Finding:
    try:
        async with asyncio.timeout(within):
            return await look
    except TimeoutError:
        return Finding(check, "warn", f"no answer within {within:.0f} s")
    except CotexError as error:
        return Finding(check, "fail", error.message, error.hint)


async def _database(patient: Patient) -> Finding:
    about = await asyncio.to_thread(patient.store.describe)
    told = f"{about.engine}, {about.size_bytes / 2**20:.1f} MiB"
    await patient.store.write(checks.take_a_write)  # a disk that is full or read-only does not
    try:
        damage = await asyncio.to_thread(patient.store.dialect.damage, LONG)
    except Unavailable as error:
        return Finding("database", "warn", f"{told}; not checked to its end: {error.message}")
    if damage:
        return Finding("database", "fail", f"{told}, is damaged: {damage}", "restore a backup")
    return Finding("database", "ok", f"{told}, is whole")


async def _schema(patient: Patient) -> Finding:
    found = (await asyncio.to_thread(patient.store.describe)).schema
    # Opening has brought it up to date, or refused.
    status: Status = "ok" if found == migrations.SCHEMA else "fail"
    return Finding(
        "schema", status, f"{found} of {migrations.SCHEMA}", "" if status == "ok" else "cotex db migrate"
    )


async def _clock(patient: Patient) -> Finding:
    # Our own server's time would be this machine's.
    try:
        there = await patient.access.clock()
    except Unreachable as error:
        return Finding("clock", "warn", f"not checked: {error.message}")
    if there is None:
        return Finding("clock", "ok", "nothing to compare it with: with a token, it is GitHub's")
    off = abs(utc_now() - there)
    told = f"{off.total_seconds():.0f} s off GitHub's"
    if off < OFF:
        return Finding("clock", "ok", told)
    return Finding("clock", "fail" if off > FAR_OFF else "warn", told, "timedatectl set-ntp true")


async def _server(patient: Patient) -> Finding:
    running = await asyncio.to_thread(patient.store.look, nodes.running)
    if not running:
        return Finding("server", "warn", "none runs on this database", "cotex serve")
    other = next((each for each in running if each.version != __version__), None)
    if other is not None:
        told = f"{other.url} is version {other.version}, and this command {__version__}"
        return Finding("server", "warn", told, "restart it with the version that is installed")
    return Finding("server", "ok", f"{len(running)} running, version {__version__}")


async def _public_url(public_url: str, ours: frozenset[str]) -> Finding:
    if not public_url:
        return _not_public("public_url")
    seen = await _seen(probe.health(public_url))
    fix = "docs/operations.md: put a proxy with TLS before it"
    if isinstance(seen, Unreachable):
        return Finding("public_url", "fail", f"{public_url} does not answer: {seen.message}", fix)
    if not seen.version:
        return Finding(
            "public_url", "fail", f"what answers at {public_url} ({seen.status}) is not cotexd", fix
        )
    if ours and not ours & await probe.keys(public_url):
        return Finding("public_url", "fail", f"what answers at {public_url} is another cotexd than this", fix)
    return Finding("public_url", "ok", f"{public_url} is cotexd {seen.version}")


async def _tls(public_url: str) -> Finding:
    if not public_url:
        return _not_public("tls")
    if not public_url.startswith("https://"):
        told = "without it, tokens and events can be read on their way"
        return Finding(
            "tls", "warn", told, "a proxy with a certificate (config/Caddyfile), or tls.cert and tls.key"
        )
    seen = await _seen(probe.health(public_url))
    if isinstance(seen, Unreachable):
        if "CERTIFICATE" in seen.message:
            return Finding(
                "tls", "fail", seen.message, "GitHub delivers only where it can check the certificate"
            )
        return Finding("tls", "warn", "not checked: it does not answer")
    if seen.certificate_ends is None:
        return Finding("tls", "ok", "the certificate is good")
    told = f"the certificate is good until {seen.certificate_ends:%Y-%m-%d}"
    if seen.certificate_ends - utc_now() < CERTIFICATE_ENDS_SOON:
        return Finding("tls", "warn", told, "renew it")
    return Finding("tls", "ok", told)


async def _websocket(public_url: str) -> Finding:
    if not public_url:
        return _not_public("websocket")
    seen = await _seen(probe.handshake(public_url))
    if isinstance(seen, Unreachable):
        return Finding("websocket", "warn", "not checked: it does not answer")
    if not seen.handshake_came:
        told = f"the handshake does not come through: {public_url}/ws answers {seen.status}"
        return Finding("websocket", "fail", told, "let the proxy pass upgrades: docs/operations.md")
    return Finding("websocket", "ok", "the handshake comes through")


async def _github(patient: Patient) -> Finding:
    tracked = await patient.store.read(hooks.all_known)
    if not tracked:
        if await patient.access.has_token():
            return Finding("github", "ok", "there is a token, and no repository is tracked yet")
        return _no_token(NoToken())
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(known: Known) -> tuple[Known, Standing | CotexError]:
        async with gate:
            return known, await _standing(patient, known)

    looking = [asyncio.create_task(look(each)) for each in tracked]
    done, late = await asyncio.wait(looking, timeout=LONG)
    for each in late:
        each.cancel()
    found = [each.result() for each in done]
    refused = [each for _, each in found if isinstance(each, Unauthorized | Forbidden)]
    if len(refused) == len(found) and all(isinstance(each, NoToken) for each in refused):
        return _no_token(NoToken())
    told = [
        f"{known.repo_name}: {each.message if isinstance(each, CotexError) else ' '.join(each.problems)}"
        for known, each in found
        if isinstance(each, CotexError) or each.state != "ok"
    ]
    if late:
        told.append(f"{len(late)} were not asked for in time")
    if not told:
        return Finding("github", "ok", f"{len(found)} hooks are as they must be")
    wrong = [each for _, each in found if isinstance(each, Standing) and each.state != "ok"]
    fix = refused[0].hint if refused else f"cotex webhook setup {wrong[0].repo_name}" if wrong else ""
    more = f" (and {len(told) - MAX_NAMED} more)" if len(told) > MAX_NAMED else ""
    status: Status = "fail" if refused or wrong else "warn"
    return Finding("github", status, "; ".join(told[:MAX_NAMED]) + more, fix)


async def _standing(patient: Patient, known: Known) -> Standing | CotexError:
    bases = (patient.public_url,) if patient.public_url else ()
    try:
        github = await patient.access.github(known.repo_id)
        return await flows.standing(patient.store, github, known.repo_id, bases)
    except CotexError as error:
        return error


async def _stripe(patient: Patient) -> Finding:
    try:
        stripe = await patient.stripe.stripe()
    except BillingDisabled:
        return Finding("stripe", "ok", "nothing is sold")
    mend = "cotex billing setup --amount … --currency …"
    try:
        await patient.stripe.webhook_secrets()
    except BillingDisabled:
        return Finding("stripe", "fail", "its webhooks' signing secret is not set", mend)
    if not patient.public_url:
        return _not_public("stripe")
    url = f"{patient.public_url}/webhooks/stripe"
    try:
        found = [each async for each in stripe.endpoints() if each.url == url]
    except Failed as error:
        return Finding("stripe", "fail", error.message, error.hint)
    except CotexError as error:
        return Finding("stripe", "warn", error.message, error.hint)
    if not found:
        return Finding("stripe", "fail", f"it has no endpoint {url}", mend)
    missing = set(EVENTS) - set(found[0].events)
    if missing or not found[0].enabled:
        told = f"it does not send {', '.join(sorted(missing))}" if missing else "its endpoint is disabled"
        return Finding("stripe", "fail", told, mend)
    return Finding("stripe", "ok", f"endpoint {found[0].id} is as it must be")


async def _backup(patient: Patient) -> Finding:
    last = await asyncio.to_thread(patient.store.look, backups.noted)
    if last is None:
        return Finding("backup", "warn", "none was ever made", "cotex db backup FILE")
    age = utc_now() - last
    told = f"the last is {duration.show(timedelta(hours=age // timedelta(hours=1)))} old"
    if age > BACKUP_OLD:
        return Finding("backup", "warn", told, "cotex db backup FILE")
    return Finding("backup", "ok", told)


async def _seen(asking: Awaitable[Seen]) -> Seen | Unreachable:
    try:
        return await asking
    except Unreachable as error:
        return error


def _no_token(error: NoToken) -> Finding:
    return Finding("github", "warn", "no token: what GitHub cannot deliver is not fetched", error.hint)


def _not_public(check: str) -> Finding:
    fix = "COTEX_PUBLIC_URL=https://cotex.example.com"
    return Finding(check, "warn", "no public_url: GitHub and clients do not know where this server is", fix)


def _keys(tx: Tx) -> frozenset[str]:
    return frozenset(each.kid for each in signing.listing(tx))
