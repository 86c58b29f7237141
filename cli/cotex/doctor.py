"""`cotex doctor`"""

import asyncio
from typing import Annotated

import typer

from cotex import local, view
from cotexd.config import Settings
from cotexd.errors import CotexError
from cotexd.flows import doctor as flows
from cotexd.flows.access import Access
from cotexd.flows.billing import Account
from cotexd.flows.doctor import CHECKS, Finding, Patient
from cotexd.store import Store, StoreFiles

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
    except CotexError as error:
        first = Finding("configuration", "fail", error.message, "cotex config check")
        return [first, *flows.unchecked(CHECKS[1:], "the configuration is not good")]
    told = str(current.file or "no file, defaults and environment only")
    found = [Finding("configuration", "ok", told)]
    places = StoreFiles(current.data_dir)
    if current.data_dir.exists():
        found += [flows.files(places, fix=fix), flows.space(current.data_dir)]
    try:
        with local.opened(context) as store:
            if len(found) == 1:
                found += [flows.files(places, fix=fix), flows.space(current.data_dir)]
            return found + asyncio.run(_examine(store, current))
    except CotexError as error:
        seen = {each.check for each in found} | {"database"}
        rest = [each for each in CHECKS if each not in seen]
        broken = Finding("database", "fail", error.message, error.hint)
        return [*found, broken, *flows.unchecked(rest, "the database cannot be opened")]


async def _examine(store: Store, current: Settings) -> list[Finding]:
    store.start(lambda _: None, lambda: None)
    access = Access(store, current.github_token, current.github_api_url, current.github_ca_cert)
    stripe = Account(store, current.stripe_key, current.stripe_api_url, current.stripe_webhook_secrets)
    try:
        return await flows.examine(Patient(store, current.public_url, access, stripe))
    finally:
        await access.close()
        await store.stop()
