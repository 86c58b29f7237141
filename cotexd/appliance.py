"""The composition root: opens store, hub, schedule and web in this order, and closes them in reverse."""

import asyncio
import contextlib
import dataclasses
import errno
import functools
import gc
import os
import resource
import signal
import socket
import ssl
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from cotexd import __version__, config, metrics, systemd, telemetry
from cotexd.config import Settings
from cotexd.errors import CotexError, Failed
from cotexd.flows.access import Access
from cotexd.flows.backups import Backups
from cotexd.flows.billing import Account, Terms
from cotexd.flows.recovery import Recovery
from cotexd.gateways import jwks, outside
from cotexd.live.hub import Hub
from cotexd.operations import nodes, signing, tiers, tokens
from cotexd.operations.identities import Provisioning
from cotexd.operations.nodes import Server
from cotexd.schedule import Schedule
from cotexd.store import Store
from cotexd.web import App, Context, build
from cotexd.web.attach import sign_in
from cotexd.web.auth import Authenticator
from cotexd.web.limits import Limits
from cotexd.web.protocol import Protocol

BACKLOG = 2048
"""connections that the kernel keeps for us while we are busy"""
COLLECT_AFTER = (50_000, 50, 100)
"""objects, and collections of the younger generations (gc.set_threshold): a twentieth of a delivery's time"""
RELOADABLE = frozenset(
    {
        "accept_sha1",
        "allowed_origins",
        "drain",
        "log_level",
        "max_connections",
        "max_connections_per_user",
        "metrics_networks",
        "rate_limit",
        "trusted_proxies",
    }
)
"""options that are in force at once; tiers, users and secrets always are"""

_logger = structlog.get_logger("cotexd")


class Appliance:
    """A whole server as an object: a test starts one on port 0 with a temporary folder."""

    def __init__(self, settings: Settings, *, alone: bool = False) -> None:
        """:param alone: it is the only one that this process will ever start"""
        self.settings = settings
        self.id = uuid.uuid4().hex
        self._alone = alone
        self._started_at = datetime.now(UTC)
        self._address = ""
        self._context: Context | None = None
        self._closing: list[Callable[[], object]] = []
        self._drained_by = 0.0
        self._patient = False

    @property
    def url(self) -> str:
        """Where it listens, once it has started."""
        return self._address

    async def start(self) -> None:
        """Open everything; when it returns, requests are answered.

        :raises CotexError: what is wrong with the key, the database or the port; nothing stays open
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self.settings
        listening = _listen(settings.host, settings.port)
        self._closing.append(listening.close)
        self._address = _address_of(listening, "http" if settings.tls_cert is None else "https")
        _allow_many_files()

        store = await asyncio.to_thread(Store, settings.database, settings.data_dir, settings.key)
        hub = Hub(
            store,
            self.id,
            max_connections=settings.max_connections,
            max_connections_per_user=settings.max_connections_per_user,
        )
        self._closing.append(store.stop)
        if store.start(hub.publish, hub.moved, self.id):
            _logger.warning(
                "new_epoch", why="the database was swapped or set back; clients are told of the gap"
            )
        self._closing.append(lambda: store.write(nodes.leave, self.id))
        await hub.open()
        self._closing.append(hub.close)
        _logger.info("store_open", database=store.dialect.name, head=hub.head)

        context = await self._furnish(store, hub)
        self._context = context
        access = Access(store, settings.github_token, settings.github_api_url, settings.github_ca_cert)
        self._closing.append(access.close)
        repairs = Recovery(store, access, settings.public_url, settings.repair_interval)
        backups = Backups(
            store,
            settings.backup_folder or settings.data_dir / "backups",
            settings.backup_every,
            settings.backups_kept,
            settings.key,
            settings.backup_passphrase,
        )
        schedule = Schedule(
            store, context.stripe, repairs, backups, settings.retention, lambda: self._describe(hub)
        )
        await schedule.start(self._describe(hub))
        self._closing.append(schedule.stop)

        self._closing.append(await self._serve(build(context, alone=self._alone), listening))
        self._closing.append(lambda: hub.drain(self._drain_left(), patient=self._patient))
        self._closing.append(lambda: setattr(context, "draining", True))
        metrics.BUILD.labels(__version__).set(1)
        metrics.STARTED.set(self._started_at.timestamp())
        _logger.info("ready", url=self.url)
        systemd.tell("READY=1", f"STATUS=Serving {self.url}")

    async def _furnish(self, store: Store, hub: Hub) -> Context:
        settings = self.settings
        http = outside.client(configured=True, timeout=jwks.TIMEOUT)
        self._closing.append(http.aclose)
        authenticator = Authenticator(
            store,
            await store.write(tokens.signing_key),
            config.own_issuer(settings),
            tuple(jwks.KeyRing(issuer, http) for issuer in config.trusted_issuers(settings)),
            Provisioning(settings.auto_provision, settings.email_domains),
        )
        await store.write(signing.in_use)
        await store.write(tiers.set_grace, settings.grace)
        sold = await store.read(tiers.price_of, "pro", "month")
        if settings.stripe_price and settings.stripe_price != sold:
            await store.write(tiers.edit, "pro", price=settings.stripe_price)
        context = Context(
            store,
            hub,
            authenticator,
            Limits(settings.rate_limit),
            settings.retention,
            settings.accept_sha1,
            Account(store, settings.stripe_key, settings.stripe_api_url, settings.stripe_webhook_secrets),
            Terms(
                settings.public_url,
                settings.trial_days,
                settings.promotion_codes,
                settings.automatic_tax,
                settings.seats,
            ),
            settings.allowed_origins,
            settings.trusted_proxies,
            settings.metrics_networks,
        )
        hub.sign_in = functools.partial(sign_in, context)
        return context

    def reload(self, settings: Settings) -> None:
        """Take over what can be changed while running, and say what can't."""
        changed = {
            option.name: config.key_of(option)
            for option in config.declared()
            if getattr(settings, option.name) != getattr(self.settings, option.name)
        }
        taken = changed.keys() & RELOADABLE
        self.settings = dataclasses.replace(
            self.settings, **{name: getattr(settings, name) for name in taken}
        )
        telemetry.levels.configure(settings.log_level)
        if self._context is not None:
            self._context.accept_sha1 = settings.accept_sha1
            self._context.allowed_origins = settings.allowed_origins
            self._context.metrics_networks = settings.metrics_networks
            self._context.trusted_proxies = settings.trusted_proxies
            self._context.limits.rate_limit = settings.rate_limit
            self._context.hub.max_connections = settings.max_connections
            self._context.hub.max_connections_per_user = settings.max_connections_per_user
        _logger.info(
            "reloaded",
            changed=[key for name, key in changed.items() if name in taken],
            needs_restart=[key for name, key in changed.items() if name not in taken],
        )

    async def _serve(self, app: App, listening: socket.socket) -> Callable[[], object]:
        """Serve HTTP; returns what stops it: no new connections, then the requests that were begun are finished."""
        server = await app.create_server(
            sock=listening,
            ssl=_tls(self.settings),
            backlog=BACKLOG,
            protocol=Protocol,
            return_asyncio_server=True,
            asyncio_server_kwargs={"start_serving": False},
        )
        if server is None:
            raise Failed("The HTTP server did not start.")
        await server.startup()
        await server.before_start()
        await server.start_serving()
        await server.after_start()

        async def stop() -> None:
            server.close()
            connections = server.connections
            for connection in list(connections):
                connection.close_if_idle()
            while connections and self._drain_left():
                # Sanic tells nobody when a request is finished.
                await asyncio.sleep(0.02)
                for connection in list(connections):
                    connection.close_if_idle()
            for connection in list(connections):
                connection.abort()
            app.shutdown_tasks(0)
            app.unregister_app(app)

        return stop

    async def stop(self, *, patient: bool = False) -> None:
        """Close everything in reverse: what was begun is finished, within the drain time, and what was said is kept.

        :param patient: clients are given time to go elsewhere, before they are sent
        """
        closing, self._closing = self._closing, []
        self._patient = patient
        systemd.tell("STOPPING=1", "STATUS=Sending its clients away")
        if closing:
            drain = self.settings.drain.total_seconds()
            self._drained_by = asyncio.get_running_loop().time() + drain
        for close in reversed(closing):
            try:
                done = close()
                if asyncio.iscoroutine(done):
                    await done
            except CotexError as error:
                # The database may be what is gone; the rest is closed all the same.
                _logger.warning("close_failed", reason=error.message)
        if closing:
            _logger.info("stopped")

    def _drain_left(self) -> float:
        """Seconds: clients and requests have them together, since who stops us has one patience."""
        return max(0.0, self._drained_by - asyncio.get_running_loop().time())

    def _describe(self, hub: Hub) -> Server:
        return Server(
            id=self.id,
            url=self.url,
            version=__version__,
            pid=os.getpid(),
            connections=len(hub),
            head=hub.head,
            started_at=self._started_at,
        )


def run(load: Callable[[], Settings], started: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT; on SIGHUP, read the settings again.

    :param load: reads the settings
    :param started: is told the URL once requests are answered
    :raises CotexError: it could not start
    """
    # Sanic's advice to whoever writes a Sanic app, which on a terminal is said to whoever starts ours.
    os.environ.setdefault("SANIC_IGNORE_PRODUCTION_WARNING", "true")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_signal(load, started))


async def _serve_until_signal(load: Callable[[], Settings], started: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    stopping: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.put_nowait, number)
    appliance = Appliance(load(), alone=True)
    # From now on: before, it would be the end of us.
    loop.add_signal_handler(signal.SIGHUP, _reload, appliance, load)
    await appliance.start()
    # What is there now stays; and nearly all that a delivery makes is gone again before it could be part of a cycle.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    started(appliance.url)
    told = await stopping.get()
    # Whoever asks a second time does not want to wait.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    # A person who types Ctrl-C waits for it; what sends SIGTERM has a proxy before us, or starts us again.
    await appliance.stop(patient=told == signal.SIGTERM)


def _reload(appliance: Appliance, load: Callable[[], Settings]) -> None:
    try:
        appliance.reload(load())
    except CotexError as error:
        _logger.warning("reload_refused", reason=error.message)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _listen(host: str, port: int) -> socket.socket:
    """:raises Failed: no such address here, or the port is taken"""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Failed(f"{host} is not an address of this machine: {error.strerror}.") from error
    try:
        # A restart after a kill need not wait for the old connections to be forgotten.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise Failed(
            f"The server cannot listen on {host} port {port}: {error.strerror}.",
            hint="Choose an address of this machine: --host, or COTEX_HOST."
            if error.errno == errno.EADDRNOTAVAIL
            else "Choose another port: --port, or COTEX_PORT. To see who has it: cotex status",
        ) from error
    return listening


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """:raises Failed: the certificate or its key cannot be used"""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Failed(
            f"The certificate {settings.tls_cert} cannot be used: {error.strerror or error}.",
            hint="tls.cert is a PEM file with the whole chain, tls.key the PEM file of its key.",
        ) from error
    return context


def _allow_many_files() -> None:
    """Each client is a file to the kernel, and a shell's limit of 1,024 is soon reached."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _address_of(listening: socket.socket, scheme: str) -> str:
    """Where someone on this machine reaches it."""
    host, port = listening.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # what was bound, not what to bind
    return f"{scheme}://[{local}]:{port}" if ":" in local else f"{scheme}://{local}:{port}"
