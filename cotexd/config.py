"""Settings: defaults < TOML file < environment < flags, validated as a whole, each knowing where it came from.

Each option is declared once, in `Settings`. Its name in the TOML file is `key`; its environment variable is COTEX_ and
that name in capitals (COTEX_LOG_LEVEL); with _FILE behind it, the value is read from that file, for secrets.
"""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import platformdirs

from cotexd import options
from cotexd.domain import duration, origin
from cotexd.domain.address import Network
from cotexd.domain.tokens import ASYMMETRIC, ISSUER, MIN_SECRET, SESSION_AUDIENCE, Issuer
from cotexd.errors import Invalid

FILE_NAME = "cotex.toml"
CONFIG_VARIABLE = "COTEX_CONFIG"
MAX_RETENTION = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    host: str = options.option("127.0.0.1", options.host, "address to listen on; 0.0.0.0 is every one")
    port: int = options.option(8080, options.port, "port to listen on; 0 takes a free one", also="PORT")
    data_dir: Path = options.option(
        Path(), options.path, "folder of the key, and of the database unless it is elsewhere"
    )
    database: str = options.option(
        "", options.text, "postgresql://… ; empty is SQLite in data_dir", secret=True
    )
    key: str = options.option(
        "", options.text, "opens the secrets at rest; empty is the file in data_dir", secret=True
    )
    public_url: str = options.option("", options.url, "how GitHub and the clients reach this server")
    retention: timedelta = options.option(
        timedelta(days=14), options.between(timedelta(minutes=1), MAX_RETENTION), "how long payloads are kept"
    )
    backup_every: timedelta = options.option(
        timedelta(0),
        options.between(timedelta(0), MAX_RETENTION),
        "how often the server makes a backup by itself; 0s is never",
        key="backup.every",
    )
    backups_kept: int = options.option(
        7, options.count(1, 1000), "of those, how many stay", key="backup.keep"
    )
    backup_folder: Path | None = options.option(
        None, options.path, "where they are written; empty is backups in data_dir", key="backup.folder"
    )
    backup_passphrase: str = options.option(
        "",
        options.text,
        "that opens them; empty leaves them open to who can read the file",
        key="backup.passphrase",
        secret=True,
    )
    drain: timedelta = options.option(
        timedelta(seconds=8),
        options.seconds(0, 300),
        "how long a stopping server takes to send its clients away, and waits for the requests that it has begun",
        key="drain_seconds",
    )
    max_connections: int = options.option(
        20_000, options.count(1, 10**6), "clients that may be connected at once"
    )
    max_connections_per_user: int = options.option(
        5_000, options.count(1, 10**6), "of them, those of one user"
    )
    log_level: str = options.option(
        "info", options.one_of("debug", "info", "warning", "error"), "least severe line", key="log.level"
    )
    log_format: str = options.option(
        "auto", options.one_of("auto", "json", "text"), "auto is text on a terminal", key="log.format"
    )
    accept_sha1: bool = options.option(
        default=True,
        parse=options.flag,
        about="take GitHub's older signature where no SHA-256 came",
        key="webhooks.accept_sha1",
    )
    allowed_origins: tuple[str, ...] = options.option(
        (),
        options.list_of(origin.parse),
        "web pages and desktop shells that may call, as https://app.example.com, https://*.example.com, cotex://app",
        also="ALLOWED_ORIGINS",
    )
    rate_limit: int = options.option(
        600,
        options.count(1, 10**6),
        "requests a minute of one user; a tier may set its own",
        also="RATE_LIMIT",
    )
    trusted_proxies: tuple[Network, ...] = options.option(
        (),
        options.list_of(options.network),
        "networks of proxies whose X-Forwarded-For or Forwarded is believed",
    )
    metrics_networks: tuple[Network, ...] = options.option(
        (),
        options.list_of(options.network),
        "networks that may read /metrics, beside this machine",
        key="metrics.networks",
    )
    tls_cert: Path | None = options.option(
        None, options.path, "certificate chain, to speak TLS without a proxy", key="tls.cert"
    )
    tls_key: Path | None = options.option(None, options.path, "the certificate's key", key="tls.key")
    auto_provision: bool = options.option(
        default=True,
        parse=options.flag,
        about="a first valid token from outside makes a user",
        key="auth.auto_provision",
    )
    email_domains: tuple[str, ...] = options.option(
        (),
        options.list_of(options.domain),
        "only for verified addresses of these domains",
        key="auth.email_domains",
    )
    issuers: tuple[Issuer, ...] = options.option(
        (), options.issuers, "OpenID issuers whose tokens sign in", key="auth.issuers", secret=True
    )
    supabase_url: str = options.option(
        "", options.url, "the Supabase project whose tokens sign in", key="supabase.url", also="SUPABASE_URL"
    )
    supabase_jwt_secret: str = options.option(
        "",
        options.text,
        "its legacy JWT secret, if it signs with that",
        key="supabase.jwt_secret",
        secret=True,
        also="SUPABASE_JWT_SECRET",
    )
    supabase_issuer: str = options.option(
        "", options.text, "what its tokens name as issuer, if not <url>/auth/v1", key="supabase.issuer"
    )
    supabase_trust_email: bool = options.option(
        default=False,
        parse=options.flag,
        about="its e-mail addresses are confirmed: it demands that before it signs anybody in",
        key="supabase.trust_email",
    )
    stripe_key: str = options.option(
        "",
        options.text,
        "Stripe's secret key; empty is what `cotex secret set stripe-key` was given",
        key="stripe.secret_key",
        secret=True,
        also="STRIPE_SECRET_KEY",
    )
    stripe_webhook_secrets: tuple[str, ...] = options.option(
        (),
        options.list_of(str),
        "signing secret of Stripe's webhook endpoint; two, comma separated, in a rotation",
        key="stripe.webhook_secret",
        secret=True,
        also="STRIPE_WEBHOOK_SECRET",
    )
    stripe_api_url: str = options.option(
        "", options.url, "another address that speaks Stripe's API", key="stripe.api_url"
    )
    stripe_price: str = options.option(
        "",
        options.text,
        "the price at Stripe of a month of pro; more with `cotex tier edit`",
        key="stripe.price_id",
        also="STRIPE_PRICE_ID",
    )
    trial_days: int = options.option(
        0, options.count(0, 730), "days of trial, once a customer", key="billing.trial_days"
    )
    promotion_codes: bool = options.option(
        default=False, parse=options.flag, about="take promotion codes", key="billing.promotion_codes"
    )
    automatic_tax: bool = options.option(
        default=False, parse=options.flag, about="let Stripe compute taxes", key="billing.automatic_tax"
    )
    seats: int = options.option(1, options.count(1, 10_000), "quantity that is sold", key="billing.seats")
    grace: timedelta = options.option(
        timedelta(days=7),
        options.between(timedelta(0), timedelta(days=90)),
        "how long a user may be over the limit, and a payment be late",
        key="billing.grace",
    )
    github_token: str = options.option(
        "",
        options.text,
        "for GitHub's REST API; empty is what `cotex secret set github-token` was given",
        key="github.token",
        secret=True,
    )
    github_api_url: str = options.option(
        "",
        options.url,
        "GitHub's REST API, if not https://api.github.com: https://HOST/api/v3 of an Enterprise Server",
        key="github.api_url",
    )
    github_ca_cert: Path | None = options.option(
        None, options.path, "authority that an Enterprise Server's certificate is from", key="github.ca_cert"
    )
    repair_interval: timedelta = options.option(
        timedelta(minutes=5),
        options.seconds(1, 86_400),
        "how often GitHub is asked for deliveries that are not here",
    )
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """where each value came from, by key"""
    file: Path | None = None
    """the file that was read"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One option for people: never a secret's value."""

    key: str
    value: str
    origin: str
    about: str


def load(
    flags: Mapping[str, object | None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings.

    :param flags: by field name, `config` for the file; None is "not given"
    :param environment: the process's own unless given
    :raises Invalid: all that is wrong, in one message
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    variables = os.environ if environment is None else environment
    problems: list[str] = []
    values: dict[str, Any] = {"data_dir": platformdirs.user_data_path("cotex")}
    origins: dict[str, str] = {}

    def take(option: Field[Any], value: object, origin: str) -> None:
        try:
            values[option.name] = option.metadata["parse"](value)
            origins[key_of(option)] = origin
        except Invalid as error:
            problems.append(f"{key_of(option)} {error.message} ({origin})")

    def take_outside() -> None:
        for option, value, source in _from_environment(variables, problems):
            take(option, value, source)
        for option in declared():
            if option.name in given:
                take(option, given[option.name], "--" + option.name.replace("_", "-"))

    # Twice: the data folder says where the file is, and what is outside the file goes before it.
    take_outside()
    file = _file(given, variables, values["data_dir"])
    first_problems, problems = problems, []
    for option, value in _from_file(file, problems) if file else ():
        take(option, value, str(file))
    take_outside()
    problems = list(dict.fromkeys(problems + first_problems))
    if problems:
        raise Invalid("The configuration is not good:\n  " + "\n  ".join(problems))
    settings = Settings(**values, origins=origins, file=file)
    problems = _contradictions(settings)
    if problems:
        raise Invalid("The configuration is not good:\n  " + "\n  ".join(problems))
    return settings


def trusted_issuers(settings: Settings) -> tuple[Issuer, ...]:
    """Everybody outside whose tokens sign in: Supabase, if it is configured, and [[auth.issuers]]."""
    url, secret = settings.supabase_url, settings.supabase_jwt_secret
    if not url and not settings.supabase_issuer:
        return settings.issuers
    supabase = Issuer(
        iss=settings.supabase_issuer or f"{url}/auth/v1",
        audience=SESSION_AUDIENCE,
        algorithms=(*(ASYMMETRIC if url else ()), *(("HS256",) if secret else ())),
        jwks_url=f"{url}/auth/v1/.well-known/jwks.json" if url else "",
        secret=secret,
        trust_email=settings.supabase_trust_email,
    )
    return (supabase, *settings.issuers)


def own_issuer(settings: Settings) -> str:
    """The `iss` of the tokens that /auth/v1 makes."""
    return f"{settings.public_url or 'cotexd'}/auth/v1"


def _contradictions(settings: Settings) -> list[str]:
    problems = []
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.append("tls.cert and tls.key go together: one of them is missing")
    if settings.supabase_jwt_secret and not settings.supabase_url and not settings.supabase_issuer:
        problems.append(
            "supabase.jwt_secret needs supabase.url, or supabase.issuer, to know whose tokens it checks"
        )
    if settings.supabase_issuer and not settings.supabase_url and not settings.supabase_jwt_secret:
        problems.append("supabase.issuer needs supabase.url or supabase.jwt_secret, to check its tokens with")
    if 0 < len(settings.supabase_jwt_secret.encode()) < MIN_SECRET:
        problems.append(f"supabase.jwt_secret is shorter than the {MIN_SECRET} bytes that HS256 demands")
    named = [each.iss for each in trusted_issuers(settings)]
    own = {own_issuer(settings), ISSUER}
    problems += [
        f"{iss} is named as an issuer twice" for iss in sorted({x for x in named if named.count(x) > 1})
    ]
    problems += [f"{iss} is the server's own issuer" for iss in named if iss in own]
    return problems


def shown(settings: Settings) -> list[Shown]:
    """Every option with its value and where it came from; a secret's value is `***`."""
    from cotexd.store.dialect import redacted

    rows = []
    for option in declared():
        value = getattr(settings, option.name)
        if option.name == "database" and value:
            text = redacted(value)
        elif option.metadata["secret"]:
            text = "***" if value else ""
        elif isinstance(value, timedelta):
            text = duration.show(value)
        elif isinstance(value, tuple):
            text = ", ".join(map(str, value))
        else:
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        key = key_of(option)
        rows.append(Shown(key, text, settings.origins.get(key, "default"), option.metadata["about"]))
    return rows


def declared() -> Iterator[Field[Any]]:
    return (each for each in fields(Settings) if "parse" in each.metadata)


def key_of(option: Field[Any]) -> str:
    """Its name in the file: `log.level` is `level` in the table [log]."""
    return option.metadata["key"] or option.name


def variable_of(option: Field[Any]) -> str:
    return "COTEX_" + key_of(option).replace(".", "_").upper()


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _file(given: Mapping[str, object], variables: Mapping[str, str], data_dir: Path) -> Path | None:
    named = given.get("config") or variables.get(CONFIG_VARIABLE)
    if named:
        try:
            return Path(str(named)).expanduser().absolute()
        except RuntimeError:
            raise Invalid(f"{named} cannot be read: there is nobody of that name on this machine.") from None
    beside = data_dir / FILE_NAME
    try:
        return beside if beside.exists() else None
    except OSError as error:
        raise Invalid(
            f"The data folder {data_dir} cannot be looked into: {error.strerror}.",
            hint="Run it as the account that the server runs as, or name another: --data-dir.",
        ) from error


def _from_file(path: Path, problems: list[str]) -> Iterator[tuple[Field[Any], object]]:
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
        return
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path} is not TOML: {error}")
        return
    known = {key_of(option): option for option in declared()}
    for key, value in _flatten(document):
        if key in known:
            yield known[key], value
        else:
            problems.append(f"There is no option {key}{_did_you_mean(key, known)} ({path})")


def _flatten(document: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_environment(
    variables: Mapping[str, str], problems: list[str]
) -> Iterator[tuple[Field[Any], object, str]]:
    known = {variable_of(option): option for option in declared()}
    for option in declared():
        ours = variable_of(option)
        if variables.get(option.metadata["also"]) and not {ours, f"{ours}_FILE"} & variables.keys():
            yield option, variables[option.metadata["also"]], option.metadata["also"]
    for name, value in sorted(variables.items()):
        plain = name.removesuffix("_FILE")
        if name in known:
            yield known[name], value, name
        elif name.endswith("_FILE") and plain in known:
            try:
                yield known[plain], Path(value).read_text().strip(), name
            except (OSError, UnicodeDecodeError):
                problems.append(f"{name} names a file that cannot be read: {value}")
        elif name.startswith("COTEX_") and difflib.get_close_matches(name, known, 1, 0.85):
            # Others may use the prefix (a Kubernetes service does): only what looks like a slip is one.
            problems.append(f"There is no variable {name}{_did_you_mean(name, known)}")


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f". Did you mean {close[0]}?" if close else ""
