"""A data folder with repositories that are tracked, their hooks at GitHub, and a server on it that comes and goes."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from actors import Client, push
from fakegithub import FakeGitHub

from cotexd.config import Settings
from cotexd.flows.access import Access
from cotexd.operations import accounts, repositories, tiers, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.repositories import Tracked
from cotexd.store import Store
from cotexd.store.models import Event

PUBLIC = "https://cotex.example.com"


class World:
    def __init__(self, settings: Settings, github: FakeGitHub) -> None:
        self.github = github
        self.token = github.token()
        self.settings = dataclasses.replace(
            settings,
            public_url=PUBLIC,
            github_token=self.token,
            github_api_url=github.url,
            repair_interval=timedelta(seconds=1),
        )
        self.store = Store(settings.database, settings.data_dir)
        self.store.run(tiers.edit, "pro", repos=50)
        self.ada = self.store.run(accounts.create, "ada", tier="pro")
        self.hooks: dict[str, int] = {}

    def track(self, name: str = "octo/hello", user: Account | None = None, **more: Any) -> Tracked:
        """Tracked here, and with a hook that somebody made at GitHub."""
        tracked = self.store.run(repositories.add, (user or self.ada).id, name)
        if name not in self.github.repositories:
            self.github.repository(name)
        self.hooks[name] = self.github.hook(
            name, PUBLIC + tracked.webhook_url, tracked.webhook_secret, events=("*",), **more
        )
        return tracked

    def happen(self, count: int = 1, repo: str = "octo/hello", at: datetime | None = None) -> list[str]:
        return [self.github.happen(repo, "push", push(number), at=at) for number in range(count)]

    async def happens(self, event: str = "push") -> str:
        """The same beside a server on this loop, which must answer meanwhile."""
        return await asyncio.to_thread(self.github.happen, "octo/hello", event, {})

    def logged(self) -> Counter[str]:
        """GUIDs in the log, each with how often it is there."""
        return Counter(
            self.store.look(lambda _: [row.delivery_id for row in Event.select(Event.delivery_id)])
        )

    def is_reached_at(self, url: str) -> None:
        self.github.route(PUBLIC, url)

    def is_down(self) -> None:
        self.github.route(PUBLIC, None)

    def client(self, url: str, user: Account | None = None, **query: str) -> Client:
        token = self.store.run(tokens.issue, (user or self.ada).id, timedelta(hours=1)).token
        return Client(url, token, **query)

    @asynccontextmanager
    async def at_github(self, token: str | None = None) -> AsyncIterator[tuple[Store, Access]]:
        """What a command has: a started store of its own, and GitHub."""
        store = Store(self.settings.database, self.settings.data_dir)
        store.start(lambda _: None, lambda: None)
        access = Access(store, self.token if token is None else token, self.github.url)
        try:
            yield store, access
        finally:
            await access.close()
            await store.stop()
