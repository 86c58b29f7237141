import pytest

from cotexd.domain.vault import Vault, new_key
from cotexd.errors import Failed


def test_what_is_sealed_opens_again():
    vault = Vault(new_key())
    assert vault.open(vault.seal(b"secret", "repository 1"), "repository 1") == b"secret"


def test_the_same_secret_is_never_sealed_to_the_same_bytes():
    vault = Vault(new_key())
    assert vault.seal(b"secret", "x") != vault.seal(b"secret", "x")


def test_a_sealed_secret_does_not_open_for_another_purpose():
    vault = Vault(new_key())
    with pytest.raises(Failed):
        vault.open(vault.seal(b"secret", "repository 1"), "repository 2")


def test_a_sealed_secret_does_not_open_with_another_key():
    with pytest.raises(Failed):
        Vault(new_key()).open(Vault(new_key()).seal(b"secret", "x"), "x")


@pytest.mark.parametrize("key", ["", "short", "!" * 44, "A" * 44 + "A" * 44])
def test_what_is_no_key_is_refused(key: str):
    with pytest.raises(Failed, match="32 bytes"):
        Vault(key)


def test_a_fingerprint_tells_keys_apart():
    key = new_key()
    assert Vault(key).fingerprint == Vault(key + "\n").fingerprint != Vault(new_key()).fingerprint
