"""Which web pages and desktop shells may call from a browser (RFC 6454): an exact list, with `*.` for subdomains.

`https://app.example.com`, `https://*.example.com` (any depth below, not the domain itself), `cotex://app`,
`tauri://localhost`, and `*` for all. No Origin at all is a native client, which no such list concerns.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from cotexd.errors import Invalid

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._\[\]:-]+")


def parse(text: str) -> str:
    """An entry of the list in its canonical form.

    :raises Invalid: not an origin
    """
    entry = text.strip().rstrip("/").lower()
    if entry == "*":
        return entry
    try:
        parts = urlsplit(entry)
    except ValueError:
        parts = urlsplit("")
    if (
        not parts.scheme
        or not parts.netloc
        or "@" in parts.netloc
        or parts.path + parts.query + parts.fragment
    ):
        raise Invalid(f'"{text}" is not an origin, as https://app.example.com')
    if "*" in parts.netloc and (not parts.netloc.startswith("*.") or "*" in parts.netloc[1:]):
        raise Invalid(f'"{text}": a * stands only for the subdomains, as https://*.example.com')
    return entry


def allows(origin: str, allowed: Sequence[str], host: str) -> bool:
    """:param host: the Host that was asked: a page of the server's own is always allowed"""
    origin = origin.lower()
    if "*" in allowed or origin in allowed:
        return True
    if not _ORIGIN.fullmatch(origin):
        return False
    scheme, _, rest = origin.partition("://")
    if scheme in {"http", "https"} and rest == host.lower():
        return True
    return any(_below(scheme, rest, entry) for entry in allowed)


def _below(scheme: str, rest: str, entry: str) -> bool:
    entry_scheme, _, domain = entry.partition("://*")
    return bool(domain) and scheme == entry_scheme and rest.endswith(domain) and len(rest) > len(domain)
