"""Who asks GitHub's API: each repository with the token that is for it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from cotexd.gateways.github import Client, GitHub, NoToken
from cotexd.operations import secrets
from cotexd.store import Store, Tx


class Access:
    """GitHub's API with the right token for each repository: its own, the configuration's, or the server's."""

    def __init__(
        self,
        store: Store,
        token: str,
        api_url: str = "",
        ca_cert: Path | None = None,
        *,
        patience: float = 0.0,
        limited: Callable[[float], None] = lambda _: None,
    ) -> None:
        """:param token: the configuration's; see gateways.github.Client for the others"""
        self._store = store
        self._token = token
        self._client = Client(api_url, ca_cert, patience=patience, limited=limited)

    async def clock(self) -> datetime | None:
        """What time it is at GitHub; None if there is no token, or it does not say.

        :raises Unreachable: it does not answer
        """
        return await self._client.clock() if await self.has_token() else None

    async def github(self, repo_id: str) -> GitHub:
        """:raises NoToken: there is none"""
        token = await self._store.read(_token_of, repo_id)
        if not token.own and not (self._token or token.servers):
            raise NoToken
        return self._client.as_(token.own or self._token or token.servers)

    async def has_token(self) -> bool:
        """Whether there is one for repositories that have none of their own."""
        return bool(self._token or await self._store.read(secrets.get, secrets.GITHUB_TOKEN))

    async def close(self) -> None:
        await self._client.close()


class _Tokens(msgspec.Struct, frozen=True):
    own: str
    servers: str


def _token_of(tx: Tx, repo_id: str) -> _Tokens:
    own = secrets.get(tx, secrets.GITHUB_TOKEN, repo_id=repo_id)
    return _Tokens(own, secrets.get(tx, secrets.GITHUB_TOKEN))
