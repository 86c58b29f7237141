"""Removing a user, with all that is theirs."""

from cotexd.domain.tier import DEFAULT
from cotexd.operations import accounts, audit, notices, repositories, sessions, tokens
from cotexd.operations.accounts import Account
from cotexd.store import Tx
from cotexd.store.models import Acknowledgement, Customer, Device, Identity, Membership, Password, User


def remove_user(tx: Tx, name_or_id: str) -> Account:
    """Remove a user, what they track with its events, and every way in. Their name is free again.

    :raises NotFound: no such user
    """
    account = accounts.find(tx, name_or_id)
    for tracked in repositories.all_of(tx, account.id):
        if tracked.role == "owner":
            repositories.remove(tx, account.id, tracked.id)
    head = repositories.head()
    mine = (Membership.user_id == account.id) & Membership.until_seq.is_null()
    Membership.update(until_seq=head).where(mine).execute()
    sessions.end_all(tx, account.id)
    tokens.revoke(tx, account.id)
    for table in (Password, Identity, Device, Acknowledgement, Customer):
        table.delete().where(table.user_id == account.id).execute()
    # The row stays, for what refers to it; a name with a colon is nobody's.
    User.update(
        name=f"removed:{account.id}",
        email="",
        tier=DEFAULT,
        admin_tier=None,
        paid_tier=None,
        disabled_at=tx.now,
        removed_at=tx.now,
        updated_at=tx.now,
    ).where(User.id == account.id).execute()
    notices.post(tx, account.id, notices.DISABLED, "")
    audit.record(tx, "user.remove", account.name)
    return account
