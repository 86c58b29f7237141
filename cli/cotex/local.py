"""The appliance's own data on this machine: its settings, and its store. What is missing is made."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer

from cotexd import config
from cotexd.config import Settings
from cotexd.errors import Conflict, CotexError, NotFound, Unreachable
from cotexd.operations import accounts, nodes, repositories, secrets
from cotexd.operations.accounts import Account
from cotexd.store import Actor, Store, Tx, acted_by

T = TypeVar("T")


def settings(context: typer.Context, **flags: object) -> Settings:
    """:param flags: of this command; those of `cotex` itself are in the context"""
    given = {**(context.obj or {}), **{name: value for name, value in flags.items() if value is not None}}
    return config.load(given)


@contextmanager
def opened(context: typer.Context) -> Iterator[Store]:
    """The store, for as long as the block runs."""
    current = settings(context)
    store = Store(current.database, current.data_dir, current.key)
    try:
        with acted_by(Actor(_who_types(), "cli")):
            yield store
    finally:
        store.close()


def run_started(context: typer.Context, do: Callable[[Store], Awaitable[T]]) -> T:
    """Run a flow, as the server would: on a started store of our own."""

    async def run() -> T:
        with opened(context) as store:
            store.start(lambda _: None, lambda: None)
            try:
                return await do(store)
            finally:
                await store.stop()

    return asyncio.run(run())


def users(incomplete: str) -> list[str]:
    """For a shell's completion."""
    return _begin_with(incomplete, lambda store: [each.name for each in store.look(accounts.all_of_them)])


def repos(incomplete: str) -> list[str]:
    """For a shell's completion."""
    return _begin_with(
        incomplete, lambda store: [each.repo_name for each in store.look(repositories.everyone)]
    )


def tiers(incomplete: str) -> list[str]:
    """For a shell's completion."""
    return _begin_with(incomplete, lambda store: [each.name for each in store.look(accounts.all_tiers)])


def _begin_with(incomplete: str, names: Callable[[Store], list[str]]) -> list[str]:
    """A shell that asks gets names or nothing: it has no place for an error."""
    try:
        current = config.load()
        store = Store(current.database, current.data_dir, current.key)
        try:
            return [name for name in names(store) if name.startswith(incomplete)]
        finally:
            store.close()
    except CotexError:
        return []


def stripe_key(tx: Tx) -> str:
    return secrets.get(tx, secrets.STRIPE_KEY)


def _who_types() -> str:
    """The account on this machine, for the audit trail; through sudo, the one behind it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container's user need not have a name


def the_user(store: Store, named: str | None) -> Account:
    """The user that was named, or the only one there is.

    :raises NotFound: nobody has this name, or there is no user at all
    :raises Conflict: there are several, and none was named
    """
    if named is not None:
        return store.look(accounts.find, named)
    everybody = store.look(accounts.all_of_them)
    if not everybody:
        raise NotFound("There is no user yet.", hint="Add one: cotex user add ada")
    if len(everybody) > 1:
        names = ", ".join(account.name for account in everybody[:10])
        raise Conflict("There are several users.", hint=f"Say which, with --user: {names}")
    return everybody[0]


def server_url(store: Store) -> str:
    """Where the server that runs on this database listens.

    :raises Unreachable: none runs
    """
    running = store.look(nodes.running)
    if not running:
        raise nobody(store)
    return running[0].url


def nobody(store: Store) -> Unreachable:
    """No server writes to this database."""
    last = store.look(nodes.last_seen)
    if last is None:
        return Unreachable("No server is running on this database.", hint="Start it: cotex serve")
    since = last.seen_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return Unreachable(
        f"The server at {last.url} (process {last.pid}) has not written to this database since {since}.",
        hint="If it still runs, cotex doctor says why it cannot; else start it: cotex serve",
    )
