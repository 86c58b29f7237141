"""What a token may be used for. A token without scopes may do all that its user may."""

from collections.abc import Iterable

from cotexd.errors import Forbidden, Invalid

EVENTS_READ = "events:read"
REPOS_READ = "repos:read"
REPOS_WRITE = "repos:write"
ACCOUNT_READ = "account:read"
BILLING_WRITE = "billing:write"
ALL = (EVENTS_READ, REPOS_READ, REPOS_WRITE, ACCOUNT_READ, BILLING_WRITE)

Scopes = frozenset[str] | None
"""None is everything"""


class InsufficientScope(Forbidden):
    code = "insufficient_scope"


def parse(text: str) -> Scopes:
    """`events:read,repos:write`; empty is everything.

    :raises Invalid: there is no such scope
    """
    names = [name.strip() for name in text.replace(" ", ",").split(",") if name.strip()]
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise Invalid(f"There is no scope {unknown[0]}.", hint=f"There are {', '.join(ALL)}.")
    return frozenset(names) or None


def show(scopes: Scopes) -> str:
    """The form that `parse` reads."""
    return "" if scopes is None else ",".join(sorted(scopes, key=ALL.index))


def demand(scopes: Scopes, needed: str | None) -> None:
    """:raises InsufficientScope: the token is for other things"""
    if scopes is not None and needed is not None and needed not in scopes:
        raise InsufficientScope(
            f"This token may not be used for this: it lacks the scope {needed}.",
            hint=f"Make one that may: cotex user token USER --scope {show(scopes | {needed})}",
        )


def known(names: Iterable[str]) -> Scopes:
    """The scopes among `names`, as a token of ours says them."""
    return frozenset(name for name in names if name in ALL)
