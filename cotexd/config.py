"""Settings: defaults < TOML file < environment < flags, validated as a whole, each knowing where it came from.

Each option is declared once, in `Settings`. Its name in the TOML file is `key`; its environment variable is COTEX_ and
that name in capitals (COTEX_LOG_LEVEL); with _FILE behind it, the value is read from that file, for secrets.
"""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from cotexd.domain import duration
from cotexd.errors import Invalid

FILE_NAME = "cotex.toml"
CONFIG_VARIABLE = "COTEX_CONFIG"
MAX_RETENTION = timedelta(days=365)


def _option(
    default: Any, parse: Callable[[object], object], about: str, *, key: str = "", secret: bool = False
) -> Any:
    return field(default=default, metadata={"parse": parse, "about": about, "key": key, "secret": secret})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid("must be text")
    return value


def _host(value: object) -> str:
    host = _text(value)
    if not host or any(character.isspace() or character in "/@" for character in host):
        raise Invalid("must be an address or a host name")
    return host


def _port(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise Invalid("must be a number from 0 to 65535")
    return value


def _flag(value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            value.lower()
        )
    if not isinstance(value, bool):
        raise Invalid("must be true or false")
    return value


def _one_of(*choices: str) -> Callable[[object], object]:
    def parse(value: object) -> str:
        if value not in choices:
            raise Invalid(f"must be one of {', '.join(choices)}")
        return _text(value)

    return parse


def _between(least: timedelta, most: timedelta) -> Callable[[object], object]:
    def parse(value: object) -> timedelta:
        try:
            given = duration.parse(_text(value))
        except Invalid as error:
            raise Invalid(f"must be a duration, as 30s, 10m, 24h or 14d ({error.message})") from None
        if not least <= given <= most:
            raise Invalid(f"must be from {duration.show(least)} to {duration.show(most)}")
        return given

    return parse


def _url(value: object) -> str:
    url = _text(value).rstrip("/")
    if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
        raise Invalid("must be an address that begins with https:// or http://")
    return url


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser().absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    host: str = _option("127.0.0.1", _host, "address to listen on; 0.0.0.0 is every one")
    port: int = _option(8080, _port, "port to listen on; 0 takes a free one")
    data_dir: Path = _option(Path(), _path, "folder of the key, and of the database unless it is elsewhere")
    database: str = _option("", _text, "postgresql://… ; empty is SQLite in data_dir", secret=True)
    key: str = _option("", _text, "opens the secrets at rest; empty is the file in data_dir", secret=True)
    public_url: str = _option("", _url, "how GitHub and the clients reach this server")
    retention: timedelta = _option(
        timedelta(days=14), _between(timedelta(minutes=1), MAX_RETENTION), "how long payloads are kept"
    )
    drain: timedelta = _option(
        timedelta(seconds=5),
        _between(timedelta(0), timedelta(minutes=5)),
        "how long a stopping server waits for the requests that it has begun",
    )
    log_level: str = _option(
        "info", _one_of("debug", "info", "warning", "error"), "least severe line", key="log.level"
    )
    log_format: str = _option(
        "auto", _one_of("auto", "json", "text"), "auto is text on a terminal", key="log.format"
    )
    accept_sha1: bool = _option(
        default=True,
        parse=_flag,
        about="take GitHub's older signature where no SHA-256 came",
        key="webhooks.accept_sha1",
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
        for option, value, origin in _from_environment(variables, problems):
            take(option, value, origin)
        for option in options():
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
    return Settings(**values, origins=origins, file=file)


def shown(settings: Settings) -> list[Shown]:
    """Every option with its value and where it came from; a secret's value is `***`."""
    from cotexd.store.dialect import redacted

    rows = []
    for option in options():
        value = getattr(settings, option.name)
        if option.name == "database" and value:
            text = redacted(value)
        elif option.metadata["secret"]:
            text = "***" if value else ""
        elif isinstance(value, timedelta):
            text = duration.show(value)
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
        key = key_of(option)
        rows.append(Shown(key, text, settings.origins.get(key, "default"), option.metadata["about"]))
    return rows


def options() -> Iterator[Field[Any]]:
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
        return Path(str(named)).expanduser().absolute()
    beside = data_dir / FILE_NAME
    return beside if beside.exists() else None


def _from_file(path: Path, problems: list[str]) -> Iterator[tuple[Field[Any], object]]:
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
        return
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path} is not TOML: {error}")
        return
    known = {key_of(option): option for option in options()}
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
    known = {variable_of(option): option for option in options()}
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
