"""`cotex doctor`"""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from cotex import local, view
from cotexd.config import Settings
from cotexd.errors import CotexError
from cotexd.flows import doctor as flows
from cotexd.flows.access import Access
from cotexd.flows.billing import Account
from cotexd.flows.doctor import CHECKS, Finding, Patient
from cotexd.store import Store, StoreFiles, url_of
from cotexd.store import dialect as dialects
from cotexd.store.moving import Moved

app = view.single()


@app.command(epilog=view.examples("cotex doctor", "cotex doctor --fix", "cotex doctor --json"))
def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend: modes of files.")] = False,
    as_json: view.Json = False,
) -> None:
    """Look whether everything is as it must be, from the files to GitHub; exits with 1 if something is not."""
    found = sorted(_look(context, fix=fix), key=lambda each: CHECKS.index(each.check))
    if as_json:
        view.document(found)
    else:
        view.table(
            ("check", "", "what was found", "to mend it"),
            [(each.check, each.status, each.detail, each.fix) for each in found],
        )
    if any(each.status == "fail" for each in found):
        raise typer.Exit(1)


def _look(context: typer.Context, *, fix: bool) -> list[Finding]:
    try:
        current = local.settings(context)
    except (CotexError, OSError) as error:
        told = error.message.replace("\n", " ") if isinstance(error, CotexError) else str(error)
        first = Finding("configuration", "fail", told, "cotex config check")
        return [first, *flows.unchecked(CHECKS[1:], "the configuration is not good")]
    told = str(current.file or "no file, defaults and environment only")
    # Before the database is opened: that refuses what others can look into.
    found, why = [Finding("configuration", "ok", told)], ""
    try:
        found.append(flows.files(current.data_dir, _secret_files(current), fix=fix))
        with local.opened(context) as store:
            if (moved_to := store.describe().moved_to) is not None:
                hint = "Start the server with that one (COTEX_DATABASE), or: cotex db copy --undo"
                raise Moved(f"The database has moved to {moved_to}.", hint=hint)
            found += asyncio.run(_examine(store, current))
    except CotexError as error:
        why = "the database has moved" if isinstance(error, Moved) else "the database cannot be opened"
        found.append(Finding("database", "fail", error.message, error.hint))
        found += asyncio.run(flows.from_outside(current.public_url))
    if current.data_dir.exists():
        found.append(flows.space(current.data_dir))
    seen = {each.check for each in found}
    rest = [each for each in CHECKS if each not in seen]
    return [*found, *flows.unchecked(rest, why)]


def _secret_files(current: Settings) -> list[Path]:
    places = StoreFiles(current.data_dir)
    dialect = dialects.of(url_of(current.database, current.data_dir), time.sleep)
    path = dialect.path if isinstance(dialect, dialects.Sqlite) else None
    beside = [] if path is None else [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    return [places.key, places.lineage, *beside]


async def _examine(store: Store, current: Settings) -> list[Finding]:
    store.start(lambda _: None, lambda: None)
    access = Access(store, current.github_token, current.github_api_url, current.github_ca_cert)
    stripe = Account(store, current.stripe_key, current.stripe_api_url, current.stripe_webhook_secrets)
    try:
        return await flows.examine(Patient(store, current.public_url, access, stripe))
    finally:
        await access.close()
        await store.stop()
