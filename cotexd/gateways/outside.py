"""Connections to hosts that the configuration does not name: only ever to an address of the public Internet.

The name is resolved here, and the address that was found good is the one that is connected to; so neither a name that
leads into our own network, nor one that changes its mind in between (DNS rebinding), makes the server call a neighbour.
"""

import asyncio
import ipaddress
import socket
import ssl

import httpx

from cotexd import __version__

USER_AGENT = f"cotexd/{__version__}"
MAX_CONNECTIONS = 8


class PublicOnly(httpx.AsyncBaseTransport):
    """Passes requests on to `inner`, by address; a host without a public address cannot be connected to."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        addresses = await _public_addresses(host, request.url.port or 443)
        if not addresses:
            raise httpx.ConnectError(f"{host} has no address on the public Internet", request=request)
        # The Host header is there already; the certificate is checked for the name, not for the address.
        extensions = {**request.extensions, "sni_hostname": host}
        request = httpx.Request(
            request.method,
            request.url.copy_with(host=addresses[0]),
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def client(*, configured: bool, timeout: float, context: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """For one service: no redirects, no proxy of the environment, few connections.

    :param configured: its host stands in the configuration, and may be anywhere
    :param timeout: seconds for each step of a request
    :param context: what its certificate is checked by; the authorities that browsers know, unless given
    """
    inner = httpx.AsyncHTTPTransport(
        verify=context or True, trust_env=False, limits=httpx.Limits(max_connections=MAX_CONNECTIONS)
    )
    return httpx.AsyncClient(
        transport=inner if configured else PublicOnly(inner),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": USER_AGENT},
    )


async def _public_addresses(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    addresses = [str(address[0]) for _, _, _, _, address in found]
    # A machine without IPv6 still resolves it.
    return sorted((each for each in addresses if _is_public(each)), key=lambda each: ":" in each)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global
