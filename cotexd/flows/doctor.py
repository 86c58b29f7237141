"""Is everything as it must be? A finding for each thing to look at, whether it is configured or not.

What one finds wrong does not end the others: at two in the morning a person wants the whole list.
"""

import asyncio
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from cotexd import __version__
from cotexd.domain import duration
from cotexd.errors import CotexError, Failed, Unreachable
from cotexd.flows import hooks as flows
from cotexd.flows.access import Access
from cotexd.flows.billing import Account, BillingDisabled
from cotexd.gateways import probe
from cotexd.gateways.github import NoToken
from cotexd.gateways.probe import Seen
from cotexd.gateways.stripe import EVENTS
from cotexd.operations import backups, hooks, nodes
from cotexd.store import Store, StoreFiles, migrations, utc_now

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
AT_GITHUB_WITHIN = 60.0
"""seconds for all repositories together"""
AT_ONCE = 4
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


def files(places: StoreFiles, *, fix: bool) -> Finding:
    """:param fix: close what others can look into"""
    loose = [
        (path, wanted)
        for path, wanted in [(places.folder, 0o700), *((each, 0o600) for each in _files(places))]
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & ~wanted
    ]
    if not loose:
        return Finding("files", "ok", f"{places.folder} is closed to others")
    if fix:
        for path, wanted in loose:
            path.chmod(wanted)
        return Finding("files", "ok", f"closed to others: {', '.join(path.name for path, _ in loose)}")
    names = ", ".join(path.name for path, _ in loose)
    commands = " && ".join(f"chmod {wanted:o} {path}" for path, wanted in loose)
    return Finding("files", "fail", f"others on this machine can look into {names}", commands)


def space(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    told = f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} are free at {folder}"
    if usage.free < NO_SPACE:
        return Finding("space", "fail", told, "cotex config show retention, and a larger disk")
    if usage.free < LITTLE_SPACE:
        return Finding("space", "warn", told, "keep less: COTEX_RETENTION=7d, or a larger disk")
    return Finding("space", "ok", told)


def unchecked(checks: Iterable[str], why: str) -> list[Finding]:
    return [Finding(each, "warn", f"not checked: {why}") for each in checks]


async def examine(patient: Patient) -> list[Finding]:
    """All that needs the database, in the order of CHECKS, `space` left out."""
    looks: tuple[tuple[str, Callable[[Patient], Awaitable[Finding]], float], ...] = (
        ("database", _database, AT_GITHUB_WITHIN),
        ("schema", _schema, WITHIN),
        ("clock", _clock, WITHIN),
        ("server", _server, WITHIN),
        ("public_url", _public_url, WITHIN),
        ("tls", _tls, WITHIN),
        ("websocket", _websocket, WITHIN),
        ("github", _github, AT_GITHUB_WITHIN),
        ("stripe", _stripe, WITHIN),
        ("backup", _backup, WITHIN),
    )
    return [await _bounded(name, look(patient), within) for name, look, within in looks]


async def _bounded(check: str, look: Awaitable[Finding], within: float) -> Finding:
    try:
        async with asyncio.timeout(within):
            return await look
    except TimeoutError:
        return Finding(check, "warn", f"no answer within {within:.0f} s")
    except CotexError as error:
        return Finding(check, "fail", error.message, error.hint)


async def _database(patient: Patient) -> Finding:
    damage = await asyncio.to_thread(patient.store.damage)
    if damage:
        return Finding("database", "fail", f"it is damaged: {damage}", "restore a backup")
    about = await asyncio.to_thread(patient.store.describe)
    return Finding("database", "ok", f"{about.engine}, {about.size_bytes / 2**20:.1f} MiB, is whole")


async def _schema(patient: Patient) -> Finding:
    found = (await asyncio.to_thread(patient.store.describe)).schema
    # Opening has brought it up to date, or refused.
    status: Status = "ok" if found == migrations.SCHEMA else "fail"
    return Finding(
        "schema", status, f"{found} of {migrations.SCHEMA}", "" if status == "ok" else "cotex db migrate"
    )


async def _clock(patient: Patient) -> Finding:
    there, whose = None, ""
    if patient.public_url:
        with_it = await _seen(probe.health(patient.public_url))
        there, whose = (with_it.clock, patient.public_url) if isinstance(with_it, Seen) else (None, "")
    if there is None and await patient.access.has_token():
        there, whose = await probe.clock(patient.access.base), patient.access.base
    if there is None:
        return Finding("clock", "ok", "nothing to compare it with")
    off = abs(utc_now() - there)
    told = f"{off.total_seconds():.0f} s off that of {whose}"
    if off < OFF:
        return Finding("clock", "ok", told)
    return Finding("clock", "fail" if off > FAR_OFF else "warn", told, "timedatectl set-ntp true")


async def _server(patient: Patient) -> Finding:
    running = await asyncio.to_thread(patient.store.look, nodes.running)
    if not running:
        return Finding("server", "warn", "none runs on this database", "cotex serve")
    other = [each.version for each in running if each.version != __version__]
    if other:
        told = f"{running[0].url} is version {other[0]}, and this command {__version__}"
        return Finding("server", "warn", told, "restart it with the version that is installed")
    return Finding("server", "ok", f"{len(running)} running, version {__version__}")


async def _public_url(patient: Patient) -> Finding:
    if not patient.public_url:
        return _not_public("public_url")
    seen = await _seen(probe.health(patient.public_url))
    if isinstance(seen, Unreachable):
        told = f"{patient.public_url} does not answer: {seen.message}"
        return Finding("public_url", "fail", told, "docs/operations.md: behind a proxy")
    if not seen.version:
        told = f"what answers at {patient.public_url} ({seen.status}) is not cotexd"
        return Finding("public_url", "fail", told, "docs/operations.md: behind a proxy")
    return Finding("public_url", "ok", f"{patient.public_url} is cotexd {seen.version}")


async def _tls(patient: Patient) -> Finding:
    if not patient.public_url:
        return _not_public("tls")
    if not patient.public_url.startswith("https://"):
        told = "without it, tokens and events can be read on their way"
        return Finding(
            "tls", "warn", told, "a proxy with a certificate (config/Caddyfile), or tls.cert and tls.key"
        )
    seen = await _seen(probe.health(patient.public_url))
    if isinstance(seen, Unreachable):
        if "CERTIFICATE" in seen.message:
            return Finding(
                "tls", "fail", seen.message, "GitHub delivers to no certificate that it cannot check"
            )
        return Finding("tls", "warn", "not checked: it does not answer")
    if seen.certificate_ends is None:
        return Finding("tls", "ok", "the certificate is good")
    left = seen.certificate_ends - utc_now()
    told = f"the certificate is good until {seen.certificate_ends:%Y-%m-%d}"
    if left < CERTIFICATE_ENDS_SOON:
        return Finding("tls", "warn", told, "renew it")
    return Finding("tls", "ok", told)


async def _websocket(patient: Patient) -> Finding:
    if not patient.public_url:
        return _not_public("websocket")
    seen = await _seen(probe.handshake(patient.public_url))
    if isinstance(seen, Unreachable):
        return Finding("websocket", "warn", "not checked: it does not answer")
    if not seen.handshake_came:
        told = f"the handshake does not come through: {patient.public_url}/ws answers {seen.status}"
        return Finding("websocket", "fail", told, "let the proxy pass upgrades: docs/operations.md")
    return Finding("websocket", "ok", "the handshake comes through")


async def _github(patient: Patient) -> Finding:
    store, tracked = patient.store, await asyncio.to_thread(patient.store.look, hooks.all_known)
    if not tracked:
        if await patient.access.has_token():
            return Finding("github", "ok", "there is a token, and no repository is tracked yet")
        return _no_token(NoToken())
    bases = (patient.public_url,) if patient.public_url else ()
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(known: hooks.Known) -> flows.Standing:
        async with gate:
            try:
                github = await patient.access.github(known.repo_id)
                return await flows.standing(store, github, known.repo_id, bases)
            except NoToken:
                raise
            except CotexError as error:
                return flows.unasked(known, error)

    try:
        found = await asyncio.gather(*map(look, tracked))
    except NoToken as error:
        return _no_token(error)
    wrong = [each for each in found if each.state != "ok"]
    if not wrong:
        return Finding("github", "ok", f"{len(found)} hooks are as they must be")
    told = "; ".join(f"{each.repo_name}: {' '.join(each.problems)}" for each in wrong[:10])
    fail = any(each.state in {"broken", "missing"} for each in wrong)
    return Finding("github", "fail" if fail else "warn", told, f"cotex webhook setup {wrong[0].repo_name}")


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
        return Finding("backup", "warn", "none was ever made", "docs/operations.md: backup")
    age = datetime.now(UTC) - last
    told = f"the last is {duration.show(timedelta(hours=age // timedelta(hours=1)))} old"
    return Finding("backup", "warn" if age > BACKUP_OLD else "ok", told)


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


def _files(places: StoreFiles) -> list[Path]:
    beside = [places.database.with_name(places.database.name + end) for end in ("", "-wal", "-shm")]
    return [places.key, places.lineage, *beside]
