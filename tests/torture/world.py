"""What all parts of a run share: who is who in the database, what was answered, what has been done."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cotexd.domain.filter import Filter
from cotexd.operations import accounts, members, repositories, tokens, upkeep
from cotexd.store import Store, Tx
from cotexd.store.models import Event

from .history import Answer, Entry, Span
from .plan import ONLY, Plan
from .server import Server

TOKENS_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Repo:
    id: str
    name: str
    secret: str


class World:
    """It also is the hand that shares, purges and looks beside the server, as commands do."""

    def __init__(self, plan: Plan, server: Server) -> None:
        self.plan = plan
        self.server = server
        self.store = Store(server.database, server.data)
        self.users = [
            self.store.run(accounts.create, f"user-{user}", tier="pro").id for user in range(plan.users)
        ]
        self.repos: list[Repo] = []
        self.spans: list[Span] = []
        self._make_repositories()
        self.epoch = self.store.look(_state)[0]
        self.answers: list[Answer] = []
        self.done: set[str] = set()
        """GUIDs that were answered 200"""
        self.counts: Counter[str] = Counter()
        self.floor = 0
        """events up to here are purged, or are being purged right now"""
        self.ids: dict[int, str] = {}
        """what clients were told which event is which"""
        self.limit = 0
        """of deliveries: the sender waits there for the chaos hand"""
        self.calm = asyncio.Event()
        """set for the end: no more slowness, no more hanging up"""

    def token(self, user: int, label: str) -> str:
        return self.store.run(tokens.issue, self.users[user], TOKENS_FOR, label=label).token

    async def share(self, repo: int, user: int) -> None:
        """Let a user in from now on; what they see is written down with the head at which they came."""
        since = await asyncio.to_thread(self.store.run, self._share, repo, user)
        self.spans.append(Span(user, repo, since, None))

    async def unshare(self, span: Span) -> None:
        until = await asyncio.to_thread(self.store.run, self._unshare, span.repo, span.user)
        self.spans[self.spans.index(span)] = span._replace(until=until)

    async def purge(self, upto: int) -> None:
        """As the retention would, when the event after `upto` is just too young for it."""
        self.floor = max(self.floor, upto)
        while await asyncio.to_thread(self.store.run, _purge, upto):
            pass

    async def state(self) -> tuple[int, int]:
        """The log's head and floor."""
        return (await asyncio.to_thread(self.store.look, _state))[1:]

    def log(self) -> list[Entry]:
        """All that lies in the database."""
        number = {repo.id: index for index, repo in enumerate(self.repos)}
        return [
            Entry(seq, event_id, guid, number[repo_id], event, bool(hidden))
            for seq, event_id, guid, repo_id, event, hidden in self.store.look(_entries)
        ]

    def _make_repositories(self) -> None:
        run = self.store.run
        for number, each in enumerate(self.plan.repos):
            made = run(repositories.add, self.users[each.owner], each.name)
            self.repos.append(Repo(made.id, each.name, made.webhook_secret))
            self.spans.append(Span(each.owner, number, 0, None))
            if each.filtered:
                run(repositories.set_filter, self.users[each.owner], made.id, Filter(events=ONLY))
            for user in each.members:
                self.spans.append(Span(user, number, run(self._share, number, user), None))

    def _share(self, tx: Tx, repo: int, user: int) -> int:
        owner = self.users[self.plan.repos[repo].owner]
        members.share(tx, owner, self.repos[repo].id, self.users[user])
        return repositories.head()

    def _unshare(self, tx: Tx, repo: int, user: int) -> int:
        owner = self.users[self.plan.repos[repo].owner]
        members.unshare(tx, owner, self.repos[repo].id, self.users[user])
        return repositories.head()


async def until(condition: Callable[[], bool]) -> None:
    """A poll, for what has no event to await."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.02)


def _state(tx: Tx) -> tuple[str, int, int]:
    ((epoch, head, floor),) = tx.rows("SELECT epoch, head, floor FROM log_state")
    return str(epoch), int(head), int(floor)


def _purge(tx: Tx, upto: int) -> int:
    youngest = Event.get(Event.seq == upto + 1).created_at
    return upkeep.purge(tx, tx.now - youngest)


def _entries(tx: Tx) -> list[tuple[int, str, str, str, str, int]]:
    return list(tx.rows("SELECT seq, id, delivery_id, repo_id, event_type, filtered FROM event ORDER BY seq"))
