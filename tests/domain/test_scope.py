import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain import scope
from cotexd.domain.scope import InsufficientScope
from cotexd.errors import Invalid

SOME = st.frozensets(st.sampled_from(scope.ALL), min_size=1)


@given(SOME | st.none())
def test_what_is_shown_is_read_as_the_same(scopes: frozenset[str] | None):
    assert scope.parse(scope.show(scopes)) == scopes


@pytest.mark.parametrize(
    "text", ["events:read,repos:write", " repos:write , events:read,", "events:read repos:write"]
)
def test_scopes_are_read_with_commas_or_spaces_in_any_order(text: str):
    assert scope.parse(text) == {"events:read", "repos:write"}


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_no_scope_at_all_is_everything(text: str):
    assert scope.parse(text) is None


@pytest.mark.parametrize("text", ["events", "EVENTS:READ", "events:read,all", "*"])
def test_a_scope_that_there_is_not_is_refused_with_those_that_there_are(text: str):
    with pytest.raises(Invalid) as caught:
        scope.parse(text)
    assert all(name in caught.value.hint for name in scope.ALL)


@given(SOME, st.sampled_from(scope.ALL))
def test_a_token_may_be_used_for_its_scopes_and_for_nothing_else(scopes: frozenset[str], needed: str):
    if needed in scopes:
        scope.demand(scopes, needed)
    else:
        with pytest.raises(InsufficientScope, match=needed) as caught:
            scope.demand(scopes, needed)
        assert caught.value.hint.endswith(f"--scope {scope.show(scopes | {needed})}")


def test_a_token_without_scopes_may_be_used_for_all_and_what_needs_none_is_for_all_tokens():
    for name in scope.ALL:
        scope.demand(None, name)
    scope.demand(frozenset(), None)


def test_a_token_with_no_scope_left_may_be_used_for_nothing():
    assert scope.known(["long:gone"]) == frozenset()
    for name in scope.ALL:
        with pytest.raises(InsufficientScope):
            scope.demand(scope.known([]), name)
