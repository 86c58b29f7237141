"""`cotex db`"""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import msgspec
import typer

from cotex import local, view
from cotexd import __version__
from cotexd.config import Settings
from cotexd.errors import Failed, Invalid, NotFound, Unavailable
from cotexd.operations import backups, nodes, upkeep
from cotexd.operations import check as checks
from cotexd.store import StoreFiles, files, make_private, rows, touch_private, url_of, utc_now
from cotexd.store import backup as backups_of
from cotexd.store import copy as copies
from cotexd.store import dialect as dialects
from cotexd.store.sealing import Opened, is_sealed

app = view.group("The database.")

CHECK_WITHIN = 3600.0
"""seconds: who types it wants to know"""


@app.command(epilog=view.examples("cotex db status", "cotex db status --json"))
def status(context: typer.Context, as_json: view.Json = False) -> None:
    """Show which database it is, its schema, its size and its log."""
    with local.opened(context) as store:
        state = {**asdict(store.describe()), **msgspec.structs.asdict(store.look(nodes.totals))}
    if as_json:
        view.document(state)
    else:
        view.facts(list(state.items()))


@app.command(epilog=view.examples("cotex db migrate", "cotex db migrate --json"))
def migrate(context: typer.Context, as_json: view.Json = False) -> None:
    """Bring the schema up to date. Every command and the server do so when they start."""
    with local.opened(context) as store:
        done = {"migrated": store.migrated, "schema": store.describe().schema}
    if as_json:
        view.document(done)
    else:
        view.say(f"The schema is {done['schema']}; {done['migrated']} steps were taken.")


@app.command(epilog=view.examples("cotex db check", "cotex db check --json"))
def check(context: typer.Context, as_json: view.Json = False) -> None:
    """Check the database: its own integrity, orphans, cursors ahead of the log; exits with 1 if something is wrong."""
    with local.opened(context) as store:
        damage = store.dialect.damage(CHECK_WITHIN)
        found = store.look(checks.check)
    if damage:
        found = msgspec.structs.replace(found, good=False, problems=(damage, *found.problems))
    _show_check(found, as_json=as_json)


@app.command(
    epilog=view.examples(
        "cotex db backup cotex.backup",
        "cotex db backup cotex.backup --without-key --json",
        "echo 'correct horse battery' | cotex db backup cotex.backup --encrypt",
    )
)
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to; it must not be there yet.")],
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Leave out the key that opens the secrets.")
    ] = False,
    encrypt: Annotated[
        bool,
        typer.Option("--encrypt", help="Ask for a passphrase that opens it; without a terminal, read it."),
    ] = False,
    as_json: view.Json = False,
) -> None:
    """Write a backup, while the server runs or not: one moment's whole database, compressed, and the key."""
    current = local.settings(context)
    passphrase = _passphrase(again=True) if encrypt else ""
    with local.opened(context) as store:
        key = "" if without_key else current.key or store.files.key.read_text().strip()
        with view.progress("rows") as shown, backups_of.new_file(file, passphrase) as out:
            head = store.look(
                lambda tx: backups_of.write(
                    tx, store.dialect, out, version=__version__, key=key, progress=shown
                )
            )
        # A database that has moved, or cannot be written, is backed up all the same.
        with contextlib.suppress(Unavailable):
            store.run(backups.note)
    size = file.stat().st_size
    if as_json:
        view.document(
            {
                "file": str(file),
                "size_bytes": size,
                "epoch": head.epoch,
                "head": head.head,
                "key": bool(key),
                "encrypted": encrypt,
            }
        )
        return
    view.say(f"{file}: {size / 2**20:.1f} MiB, the log up to {head.head}.")
    if encrypt:
        view.say("The passphrase opens it, and nothing else does: there is no way around one that is lost.")
    elif key:
        view.say("It holds the key that opens the secrets: keep it as you keep the server (mode 0600).")
    else:
        view.say("The key is not in it: without it, the secrets in it open for nobody.")


@app.command(
    epilog=view.examples(
        "cotex db restore cotex.backup --yes", "cotex db restore cotex.backup --verify --yes --json"
    )
)
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A backup.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check the database afterwards.")] = False,
    yes: view.Yes = False,
    as_json: view.Json = False,
) -> None:
    """Put a backup in the place of what there is: all of it, or nothing. The server must be stopped.

    The log gets a new epoch: clients that are beyond the backup are told of the gap, and what GitHub still has of it
    is fetched at the next start.
    """
    current = local.settings(context)
    places = StoreFiles(current.data_dir)
    with _opened(file) as source:
        head = backups_of.read_head(source)
        about = f"{head.made_at:%Y-%m-%d %H:%M} UTC, the log up to {head.head}"
        view.confirm(f"Put the backup of {about} in the place of what there is?", yes=yes)
        source.seek(0)
        with view.progress("rows") as shown, _key_put(places, "" if current.key else head.key) as key:
            _restore(current, source, current.key or key, shown)
    with local.opened(context) as store:
        found = store.look(checks.check) if verify else None
    if as_json:
        view.document({"epoch": head.epoch, "head": head.head, "made_at": head.made_at, "checked": found})
    else:
        view.say(f"Restored: {about}.")
    if found is not None and not found.good:
        _show_check(found, as_json=False)


@app.command(
    epilog=view.examples(
        "cotex db copy --to postgresql://cotex@db/cotex",
        "cotex db copy --to sqlite:///new.db --json",
        "cotex db copy --undo",
    )
)
def copy(
    context: typer.Context,
    to: Annotated[
        str, typer.Option(help="URL of an empty database.", envvar="COTEX_COPY_TO", show_envvar=False)
    ] = "",
    undo: Annotated[
        bool, typer.Option("--undo", help="Let a database that has moved be written again.")
    ] = False,
    as_json: view.Json = False,
) -> None:
    """Move to another database: copy all of it while the server runs, then close this one to writes.

    If it is interrupted, the same command goes on where it was. Then start the server with COTEX_DATABASE set to the
    new one: clients and webhooks go on as if nothing had happened. Until then this one is read, and refuses writes.
    """
    if not undo and not to:
        raise Invalid(
            "Say where to, or what to undo.", hint="cotex db copy --to URL, or cotex db copy --undo"
        )
    with local.opened(context) as store:
        here = store.dialect
    if undo:
        moved = copies.undo(here)
        view.say(
            "It had not moved."
            if moved is None
            else f"It had moved to {moved}, and is written again from now on."
        )
        return
    there = dialects.of(to, time.sleep)
    shown_as = dialects.redacted(to)
    if isinstance(there, dialects.Sqlite):
        touch_private(there.path)
        shown_as = f"sqlite:///{there.path.resolve()}"
    if shown_as == dialects.HIDDEN:
        raise dialects.not_a_url(to)
    with view.progress("events") as shown:
        done = copies.Copy(here, there, shown_as, utc_now, shown).run()
    if as_json:
        view.document({"to": shown_as, **asdict(done)})
        return
    view.say(
        f"{done.events} events and {done.rows} other rows, compared by their hashes; the log up to {done.head}."
    )
    view.say(
        f"Nothing could be written for {done.closed_seconds:.1f} s. This database refuses writes from now on."
    )
    view.say("Start the server on the new one now: COTEX_DATABASE, in the same data folder.")


@app.command(epilog=view.examples("cotex db purge --dry-run", "cotex db purge --yes"))
def purge(
    context: typer.Context,
    yes: view.Yes = False,
    dry_run: view.DryRun = False,
    as_json: view.Json = False,
) -> None:
    """Purge now what is older than the retention; a server that runs does so by itself, every minute."""
    retention = local.settings(context).retention
    before = utc_now() - retention
    with local.opened(context) as store:
        count = store.look(upkeep.purgeable, retention)
        if not dry_run:
            view.confirm(f"Purge {count} events from before {before:%Y-%m-%d %H:%M} UTC?", yes=yes)
            total, count = count, 0
            with view.progress("events") as shown:
                while some := store.run(upkeep.purge, retention):
                    count += some
                    shown(count, total)
                    time.sleep(upkeep.REST)
    if as_json:
        view.document({"events": count, "before": before, "dry_run": dry_run})
    else:
        view.say(
            f"{count} events from before {before:%Y-%m-%d %H:%M} UTC {'would be' if dry_run else 'are'} purged."
        )


def _restore(current: Settings, source: BinaryIO, key: str, progress: rows.Progress) -> None:
    """Restore into the database of the settings, which need not be one that can be opened."""
    dialect = dialects.of(url_of(current.database, current.data_dir), time.sleep)
    if isinstance(dialect, dialects.Sqlite):
        touch_private(dialect.path)
    database = dialect.open(read_only=False, patient=True)
    try:
        with dialects.unavailable():
            backups_of.restore(database, dialect, source, utc_now(), key, progress)
    finally:
        database.close()


@contextmanager
def _key_put(places: StoreFiles, key: str) -> Iterator[str]:
    """Put a key into the data folder, once the block has ended well; another one that is there is kept beside it.

    :param key: "" is the one that is there
    :returns: the key that is there then
    :raises Failed: it cannot be written there
    """
    make_private(places)
    there = places.key.read_text().strip() if places.key.exists() else ""
    if not key or key == there:
        yield there
        return
    try:
        with files.whole(places.key) as half:
            half.write_text(key + "\n")
            yield key
            if there:
                places.key.rename(places.key.with_name(f"{places.key.name}.{utc_now():%Y%m%d%H%M%S}"))
    except OSError as error:
        raise Failed(f"The key {places.key} cannot be written: {error.strerror}.") from error


def _show_check(found: checks.Checked, *, as_json: bool) -> None:
    if as_json:
        view.document(found)
    elif found.good:
        view.say(f"It is whole: {found.events} events, the log up to {found.head}.")
    for problem in () if as_json else found.problems:
        view.say(problem)
    if not found.good:
        raise typer.Exit(1)


def _passphrase(*, again: bool) -> str:
    """:raises Invalid: it is empty"""
    passphrase = view.secret("Passphrase", stdin=not view.is_terminal(), again=again)
    if not passphrase:
        raise Invalid("The passphrase is empty.", hint="Type one, or pipe it in.")
    return passphrase


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as source:
            yield cast("BinaryIO", Opened(source, _passphrase(again=False))) if is_sealed(source) else source
    except OSError as error:
        raise NotFound(f"{file} cannot be read: {error.strerror}.") from error
