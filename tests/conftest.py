"""Real parts for every test: a database of its own, on SQLite and on Postgres; a server on a free port."""

import asyncio
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import documented
import httpx
import limits.storage.memory
import limits.strategies
import private_postgres
import psycopg
import pytest
from actors import WAIT, Client, GitHub
from fakegithub import FakeGitHub
from fakegithub.description import Description
from hooked import World
from sanic import Sanic
from tables import another_postgres

from cotexd.appliance import Appliance
from cotexd.config import Settings
from cotexd.domain import passwords
from cotexd.operations import accounts, events, repositories, sessions, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store, Tx, dialect, migrations
from cotexd.web import App, Context
from cotexd.web import limits as web_limits

for _name in [name for name in os.environ if name.startswith("COTEX_") and name != "COTEX_PAYLOADS"]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str | None]:
    """The URL of a private PostgreSQL server; None where none can be had."""
    # Not pytest's own folder: a socket's path may not be longer than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cotexd-pg-") as folder:
        started = private_postgres.start(Path(folder))
        if started is None:
            yield None
            return
        url, stop = started
        yield url
        stop()


@pytest.fixture(scope="session")
def migrated(request: pytest.FixtureRequest) -> str:
    """The name of a PostgreSQL database to make others from: that takes a tenth of migrating each."""
    url = another_postgres(request)
    made = dialect.of(url, lambda _: None)
    database = made.open(read_only=False)
    migrations.migrate(database, made)
    database.close()
    return urlsplit(url).path.strip("/")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of this test's own, as after its first migration; "" is SQLite in the data folder."""
    if request.param == "sqlite":
        yield ""
        return
    url = another_postgres(request, request.getfixturevalue("migrated"))
    with psycopg.connect(url, autocommit=True) as connection:
        # No two logs have the same name.
        connection.execute("UPDATE log_state SET epoch = %s", [migrations.new_epoch()])
    yield url
    with psycopg.connect(request.getfixturevalue("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {urlsplit(url).path.strip('/')} WITH (FORCE)")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, duration: timedelta) -> None:
        self.now += duration


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: str, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """A store as the command line has it."""
    opened = Store(database, tmp_path / "data", "", clock)
    yield opened
    opened.close()


@pytest.fixture
def ada(store: Store) -> Account:
    return store.run(accounts.create, "ada", email="ada@example.com")


@pytest.fixture
def hello(store: Store, ada: Account) -> Tracked:
    """octo/hello, tracked by ada, with its secret."""
    return store.run(repositories.add, ada.id, "octo/hello")


@dataclass(frozen=True)
class Server:
    """A running appliance, and what a test does with it."""

    appliance: Appliance
    store: Store
    http: httpx.AsyncClient
    github: GitHub

    @property
    def url(self) -> str:
        return self.appliance.url

    def user(self, name: str, tier: str = "pro") -> Account:
        return self.store.run(accounts.create, name, tier=tier)

    def track(self, user: Account, name: str = "octo/hello") -> Tracked:
        return self.store.run(repositories.add, user.id, name)

    def token(self, user: Account, lifetime: timedelta = timedelta(hours=1)) -> str:
        return self.store.run(tokens.issue, user.id, lifetime).token

    def client(self, user: Account, **query: str) -> Client:
        return Client(self.url, self.token(user), **query)

    async def get(self, path: str, user: Account | None = None, **options: Any) -> httpx.Response:
        return await self.request("GET", path, user, **options)

    async def request(
        self, method: str, path: str, user: Account | None = None, **options: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token(user)}"} if user else {}
        return await self.http.request(
            method, self.url + path, headers={**headers, **options.pop("headers", {})}, **options
        )


Serve = Callable[..., Any]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    appliance = Appliance(settings)
    await appliance.start()
    # A second way in, as a command typed beside the server has it.
    beside = await asyncio.to_thread(Store, settings.database, settings.data_dir, "")
    try:
        async with httpx.AsyncClient(
            timeout=WAIT, trust_env=False, event_hooks={"response": [documented.check]}
        ) as http:
            yield Server(appliance, beside, http, GitHub(appliance.url, http))
    finally:
        await appliance.stop()
        beside.close()


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return Settings(port=0, data_dir=tmp_path / "data", database=database, drain=timedelta(seconds=2))


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with serving(settings) as running:
        yield running


async def eventually(condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    """Wait until something that must become true is; a poll, for what has no event to await."""
    async with asyncio.timeout(WAIT):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def servers() -> AsyncIterator[Serve]:
    """Start servers by their settings; all of them are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(settings: Settings) -> Server:
            return await stack.enter_async_context(serving(settings))

        yield start


def inside_app() -> App:
    """The application of the server that this test started; one for a whole file may run beside it."""
    return list(Sanic._app_registry.values())[-1]


def inside() -> Context:
    """What that server holds: to hold it up, or to look at its sockets."""
    return inside_app().ctx


@asynccontextmanager
async def holding(store: Store) -> AsyncIterator[None]:
    """While this lasts, what is written to a started store waits in its queue."""
    hold, held = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_: Tx) -> None:
        loop.call_soon_threadsafe(held.set)
        hold.wait(WAIT)

    first = asyncio.ensure_future(store.write(wait))
    await held.wait()
    try:
        yield
    finally:
        hold.set()
        await first


def deliveries_waiting(store: Store) -> int:
    """In the queue of a started store, whatever else waits there."""
    assert store._writer is not None
    return sum(job.many is events.accept_many for job in store._writer._jobs)


PASSWORD = "correct horse battery"


@functools.cache
def hash_of_password() -> str:
    """Of PASSWORD, once for all tests: it takes a core for a while."""
    return passwords.hash_of(PASSWORD)


def with_password(server: Server, name: str = "ada") -> Account:
    """A new user who signs in as <name>@example.com with PASSWORD."""
    server.user(name)
    return server.store.run(sessions.set_password, name, hash_of_password(), f"{name}@example.com")


@asynccontextmanager
async def database_away(url: str) -> AsyncIterator[None]:
    """While this lasts, the PostgreSQL server lets nobody into this database."""
    parts = urlsplit(url)
    name = parts.path.strip("/")
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def fill_the_disk(tx: Tx) -> None:
    """From now on there is no room for an event."""
    if tx.database.param == "?":
        pages = tx.database.execute_sql("PRAGMA page_count").fetchone()[0]
        tx.database.execute_sql(f"PRAGMA max_page_count = {pages + 1}")
        return
    tx.database.execute_sql(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
    )
    tx.database.execute_sql("CREATE TRIGGER full_disk BEFORE INSERT ON event EXECUTE FUNCTION no_room()")


def free_the_disk(tx: Tx) -> None:
    if tx.database.param == "?":
        tx.database.execute_sql("PRAGMA max_page_count = 1000000")
    else:
        tx.database.execute_sql("DROP TRIGGER full_disk ON event")


class Minute:
    """The clock of all rate limits. It stands still, in the middle of a minute: a test never crosses into the next."""

    def __init__(self) -> None:
        self.now = time.time() // 60 * 60 + 20

    def time(self) -> float:
        return self.now


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> Minute:
    clock = Minute()
    for module in (limits.storage.memory, limits.strategies, web_limits):
        monkeypatch.setattr(module, "time", clock)
    return clock


INSTALLING = 240
"""seconds until a test gives up on the network"""


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of real clients on Node, beside their packages as the lock file names them."""
    folder = tmp_path_factory.mktemp("clients")
    _npm_ci(Path(__file__).parent / "clients", folder, "NO REAL CLIENTS ARE TRIED")
    return folder


@pytest.fixture(scope="session")
def github_description(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The part of GitHub's own description of its API that is about webhooks; fetched once for all workers."""
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / "github"
    folder.mkdir(exist_ok=True)
    cut = folder / "hooks.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cut.exists():
            npm = Path(__file__).parent / "fakegithub" / "npm"
            _npm_ci(npm, folder, "NOTHING IS HELD TO GITHUB'S DESCRIPTION")
            half = folder / "half.json"
            subprocess.run(["node", "cut.mjs", half], cwd=folder, check=True, timeout=INSTALLING)
            half.rename(cut)
    return cut


@pytest.fixture
def github_api(github_description: Path) -> Iterator[FakeGitHub]:
    """GitHub's API, faked; what is sent to it, and what it answers, is as GitHub itself describes it."""
    with FakeGitHub() as fake:
        fake.description = Description(github_description)
        yield fake
    assert fake.mismatches == []


@pytest.fixture
def world(settings: Settings, github_api: FakeGitHub) -> Iterator[World]:
    made = World(settings, github_api)
    yield made
    made.store.close()


def _npm_ci(packages: Path, folder: Path, otherwise: str) -> None:
    """Copy what lies in `packages`, and install what its lock file names; skip loudly where that can't be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("There is no Node with npm, and CI is set.")
        pytest.skip(f"THERE IS NO NODE WITH NPM: {otherwise}.")
    for file in packages.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    done = subprocess.run(
        [npm, "ci", "--omit=dev", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALLING,
    )
    if done.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"npm could not install the packages, and CI is set: {done.stderr}")
        pytest.skip(f"NPM COULD NOT INSTALL THE PACKAGES, {otherwise}: {done.stderr}")
