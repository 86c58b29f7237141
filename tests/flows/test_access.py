import pytest
from hooked import World

from cotexd.errors import NotFound
from cotexd.gateways.github import NoToken
from cotexd.operations import repositories, secrets
from cotexd.operations.repositories import Tracked


@pytest.fixture
def tracked(world: World) -> Tracked:
    world.github.repository("octo/hello")
    return world.store.run(repositories.add, world.ada.id, "octo/hello")


async def test_each_repository_may_have_a_token_of_its_own(world: World, tracked: Tracked):
    own = world.github.token(repos={"octo/hello"})
    other = world.github.token(repos={"octo/docs"})
    world.store.run(secrets.put, secrets.GITHUB_TOKEN, own, repo_id=tracked.id)
    async with world.at_github(token=other) as (store, access):
        assert await (await access.github(tracked.id)).hooks("octo/hello") == []
        store.run(secrets.remove, secrets.GITHUB_TOKEN, repo_id=tracked.id)
        with pytest.raises(NotFound):
            await (await access.github(tracked.id)).hooks("octo/hello")


async def test_the_configurations_token_goes_before_the_one_that_was_set(world: World, tracked: Tracked):
    world.store.run(secrets.put, secrets.GITHUB_TOKEN, "ghp_wrong")
    async with world.at_github() as (_, access):
        assert await (await access.github(tracked.id)).hooks("octo/hello") == []


async def test_without_a_token_it_is_said_which_one_is_needed(world: World, tracked: Tracked):
    async with world.at_github(token="") as (_, access):
        with pytest.raises(NoToken) as raised:
            await access.github(tracked.id)
    assert "admin:repo_hook" in raised.value.hint
