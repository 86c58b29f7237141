from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from actors import logged, push
from conftest import Clock

from cotexd.operations import accounts, cursors, members, repositories, secrets, tokens
from cotexd.operations.accounts import Account
from cotexd.operations.cursors import Ack, Keeper
from cotexd.operations.repositories import Tracked
from cotexd.store import Store


@pytest.fixture
def full(store: Store, ada: Account, hello: Tracked) -> Store:
    """Something of most things: events, cursors, secrets, sharing, tokens."""
    grace = store.run(accounts.create, "grace", tier="pro")
    store.run(members.share, ada.id, hello.id, "grace")
    store.run(cursors.attach, ada.id, device="laptop", cursor=None)
    logged(store, hello, 250, payload=push())
    store.run(cursors.acknowledge_many, [Ack(Keeper(ada.id, "device", "laptop"), 200)])
    store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_s3cret")
    store.run(repositories.rotate_secret, hello.id)
    store.run(tokens.issue, grace.id, label="ci")
    return store


Other = Callable[[str], Store]


@pytest.fixture
def other(tmp_path: Path, request: pytest.FixtureRequest, clock: Clock) -> Iterator[Other]:
    """Another, empty store, with the key of the first."""
    opened: list[Store] = []

    def make(url: str) -> Store:
        folder = tmp_path / f"other-{len(opened)}"
        folder.mkdir(mode=0o700)
        key = tmp_path / "data" / "cotexd.key"
        (folder / "cotexd.key").touch(mode=0o600)
        (folder / "cotexd.key").write_bytes(key.read_bytes())
        opened.append(Store(url, folder, "", clock))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
