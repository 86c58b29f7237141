"""The forms of an option's value: from text or TOML to what the program uses, or a sentence that says why not."""

import ipaddress
from collections.abc import Callable
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from cotexd.domain import duration
from cotexd.domain.address import Network
from cotexd.domain.tokens import MIN_SECRET, Issuer
from cotexd.errors import Invalid

Parse = Callable[[object], object]


def option(
    default: Any,
    parse: Parse,
    about: str,
    *,
    key: str = "",
    secret: bool = False,
    also: str = "",
) -> Any:
    """:param also: a variable of the hosted backend, which is understood where ours is not set"""
    metadata = {"parse": parse, "about": about, "key": key, "secret": secret, "also": also}
    return field(default=default, metadata=metadata, repr=not secret)


def text(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid("must be text")
    return value


def host(value: object) -> str:
    host = text(value)
    if not host or any(character.isspace() or character in "/@" for character in host):
        raise Invalid("must be an address or a host name")
    return host


def port(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[-9:]) if not value[:-9].strip("0") else -1
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise Invalid("must be a number from 0 to 65535")
    return value


def flag(value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            value.lower()
        )
    if not isinstance(value, bool):
        raise Invalid("must be true or false")
    return value


def one_of(*choices: str) -> Parse:
    def parse(value: object) -> str:
        if value not in choices:
            raise Invalid(f"must be one of {', '.join(choices)}")
        return text(value)

    return parse


def between(least: timedelta, most: timedelta) -> Parse:
    def parse(value: object) -> timedelta:
        try:
            given = duration.parse(text(value))
        except Invalid as error:
            raise Invalid(f"must be a duration, as 30s, 10m, 24h or 14d ({error.message})") from None
        if not least <= given <= most:
            raise Invalid(f"must be from {duration.show(least)} to {duration.show(most)}")
        return given

    return parse


def seconds(least: int, most: int) -> Parse:
    """A number of seconds; a duration is one too."""
    limits = between(timedelta(seconds=least), timedelta(seconds=most))

    def parse(value: object) -> object:
        bare = isinstance(value, int) or (isinstance(value, str) and value.isdigit())
        return limits(f"{value}s" if bare else value)

    return parse


def url(value: object) -> str:
    url = text(value).rstrip("/")
    try:
        parts = urlsplit(url)
        good = not url or (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and parts.username is None  # a password would be shown, and sent, wherever the address is
        )
    except ValueError:
        good = False
    if not good:
        raise Invalid("must be an address that begins with https:// or http://")
    return url


def path(value: object) -> Path:
    if not text(value).strip():
        raise Invalid("must be a path")
    try:
        return Path(text(value)).expanduser().absolute()
    except RuntimeError:
        raise Invalid("begins with ~ and the name of nobody on this machine") from None


def count(least: int, most: int) -> Parse:
    def parse(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[-12:]) if not value[:-12].strip("0") else -1
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Invalid(f"must be a number from {least} to {most}")
        return value

    return parse


def list_of(parse_one: Callable[[str], object]) -> Parse:
    """A list in the file, a comma-separated one elsewhere."""

    def parse(value: object) -> tuple[object, ...]:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list) or not all(isinstance(each, str) for each in entries):
            raise Invalid("must be a list of texts")
        return tuple(parse_one(each.strip()) for each in entries if each.strip())

    return parse


def network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f'"{text}" is not a network, as 10.0.0.0/8 or 127.0.0.1') from None


def domain(text: str) -> str:
    return text.lower().removeprefix("@")


def issuers(value: object) -> tuple[Issuer, ...]:
    try:
        given = msgspec.convert(value, tuple[_IssuerTable, ...], strict=True)
    except msgspec.ValidationError as error:
        raise Invalid(f"is not a list of issuers: {error}") from None
    return tuple(each.checked() for each in given)


class _IssuerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table [[auth.issuers]] of the file."""

    issuer: str
    audience: str
    jwks_url: str = ""
    secret: str = ""
    algorithms: tuple[Literal["ES256", "RS256", "HS256"], ...] = ("ES256", "RS256")
    trust_email: bool = False

    def checked(self) -> Issuer:
        if not self.issuer or not self.audience:
            raise Invalid("need an issuer and an audience each")
        if not self.algorithms:
            raise Invalid(f"({self.issuer}) need an algorithm at least")
        if self.secret and len(self.secret.encode()) < MIN_SECRET:
            raise Invalid(f"({self.issuer}) need a secret of {MIN_SECRET} bytes or more for HS256")
        if ("HS256" in self.algorithms) != bool(self.secret):
            raise Invalid(f"({self.issuer}) need a secret for HS256, and only for that")
        if set(self.algorithms) - {"HS256"} and not url(self.jwks_url):
            raise Invalid(f"({self.issuer}) need a jwks_url for ES256 and RS256")
        return Issuer(
            self.issuer, self.audience, self.algorithms, self.jwks_url, self.secret, self.trust_email
        )
