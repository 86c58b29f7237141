"""Which key opens this database. It is made once, on the first start, and never a second time."""

import stat
from pathlib import Path

from cotexd.domain.vault import Vault, new_key
from cotexd.errors import Failed
from cotexd.store import files
from cotexd.store.models import Setting

_FINGERPRINT = "key_fingerprint"


def unlock(configured: str, path: Path) -> Vault:
    """The vault of the bound database, within a write transaction (so that two first starts make one key).

    :param configured: the key from the configuration, "" if it has none
    :param path: where a key of our own lies
    :raises Failed: the key is missing or another one, or others can read its file
    """
    wanted = fingerprint()
    key = configured or _read(path)
    if wanted is None:
        vault = Vault(key or _make(path))
        Setting.insert(name=_FINGERPRINT, value=vault.fingerprint).execute()
        return vault
    if not key:
        raise Failed(
            f"This database has secrets, and the key that opens them is not in {path}.",
            hint="Put the key file back, or set COTEX_KEY or COTEX_KEY_FILE. A new key would open nothing.",
        )
    vault = Vault(key)
    if vault.fingerprint != wanted:
        raise Failed(
            f"The key is not the one of this database ({vault.fingerprint[:8]}, not {wanted[:8]}).",
            hint=f"Put the right key into {path}, or set COTEX_KEY or COTEX_KEY_FILE.",
        )
    return vault


def fingerprint() -> str | None:
    """Of the key of the bound database; None if it has had none yet."""
    row = Setting.get_or_none(Setting.name == _FINGERPRINT)
    return None if row is None else str(row.value)


def _read(path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise Failed(
                f"Others on this machine can read the key {path} (mode {mode:04o}).",
                hint=f"Close it: chmod 600 {path}",
            )
        return path.read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Failed(f"The key {path} cannot be read: {error.strerror}.") from error


def _make(path: Path) -> str:
    key = new_key()
    try:
        with files.whole(path) as half:
            half.write_text(key + "\n")
    except OSError as error:
        raise Failed(f"The key {path} cannot be written: {error.strerror}.") from error
    return key
