"""Whose address a request comes from, where proxies stand between (RFC 7239, and X-Forwarded-For before it).

A header says what its sender likes. It counts only as far as the hop that wrote it is a proxy that the configuration
names: from our peer backwards, the first address that is no such proxy is the client's.
"""

import functools
import ipaddress
import re
from collections.abc import Iterator, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS = 20
# The last element of a Forwarded header, and a parameter of it (RFC 7239, section 4).
_ELEMENT = re.compile(r'(?:^|,)((?:[^",]|"[^"]*")*)$')
_PARAMETER = re.compile(r'\s*([^=;"\s]+)\s*=\s*(?:"([^"]*)"|([^;"\s]*))\s*(?:;|$)')


def client(peer: str, forwarded: str, x_forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The client's address.

    :param peer: the address at the other end of the connection; "" where there is none (a Unix socket)
    :param forwarded: counts only where there is no X-Forwarded-For: a proxy that writes that one hands the client's
      own Forwarded on as it came
    """
    found = peer
    hops = (
        _hops(forwarded) if not x_forwarded_for.strip() else reversed(x_forwarded_for.split(",")[-MAX_HOPS:])
    )
    for hop in hops:
        if not is_in(found, trusted):
            break
        address = parse(hop.strip())
        if address is None:
            break  # "unknown", or nonsense: nothing before it can be believed
        found = str(address)
    return found


def _hops(forwarded: str) -> Iterator[str]:
    """The `for` of each element, the last one first."""
    for _ in range(MAX_HOPS):
        element = _ELEMENT.search(forwarded)
        if element is None:
            return
        named = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(element[1])}
        yield named.get("for", "")
        forwarded = forwarded[: element.start()]
        if not forwarded:
            return


def is_in(address: str, networks: Sequence[Network]) -> bool:
    parsed = parse(address)
    return parsed is not None and any(parsed in network for network in networks)


def is_loopback(address: str) -> bool:
    parsed = parse(address)
    return parsed is not None and parsed.is_loopback


@functools.lru_cache(4096)
def group(address: str) -> str:
    """What is limited together: an IPv4 address, or the /64 that one subscriber of IPv6 has."""
    parsed = parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


@functools.lru_cache(4096)
def parse(text: str) -> Address | None:
    """An address with or without a port, IPv6 with or without brackets; None if it is none."""
    bare = text
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed
