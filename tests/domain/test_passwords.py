import argon2
import pytest

from cotexd.domain import passwords
from cotexd.errors import Invalid

PASSWORD = "correct horse battery"
HASH = passwords.hash_of(PASSWORD)


def test_a_password_is_good_and_no_other_is():
    assert passwords.verify(HASH, PASSWORD)
    for other in ("", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper()):
        assert not passwords.verify(HASH, other)


def test_what_is_kept_is_argon2id_with_a_salt_of_its_own_and_not_the_password():
    assert HASH.startswith("$argon2id$")
    assert PASSWORD not in HASH
    assert passwords.hash_of(PASSWORD) != HASH


@pytest.mark.parametrize("password", ["", "short12", "x" * 257])
def test_a_password_out_of_bounds_is_refused(password: str):
    with pytest.raises(Invalid, match="8 to 256"):
        passwords.hash_of(password)


@pytest.mark.parametrize(
    "password", ["pässwörter", "密码密码密码密码", "a\0bcdefgh", "half \ud800 a pair", "ü" * 256]
)
def test_a_password_is_any_text(password: str):
    stored = passwords.hash_of(password)
    assert passwords.verify(stored, password)
    assert not passwords.verify(stored, password.partition("\0")[0][:-1])


def test_a_password_that_is_too_long_is_never_good_not_even_its_beginning():
    longest = "x" * passwords.MAX_LENGTH
    stored = passwords.hash_of(longest)
    assert passwords.verify(stored, longest)
    assert not passwords.verify(stored, longest + "x")
    assert not passwords.verify(stored, longest + "x" * 1_000_000)


@pytest.mark.parametrize(
    "stored",
    ["", "x", "$argon2id$", HASH[:-10], HASH.replace("argon2id", "argon2x")],
    ids=["none", "short", "empty", "cut", "of another kind"],
)
def test_where_nothing_good_is_kept_no_password_is_good(stored: str):
    assert not passwords.verify(stored, PASSWORD)
    assert not passwords.verify(stored, "")


def test_an_account_that_is_not_there_costs_the_same_work_as_one_that_is():
    assert argon2.extract_parameters(passwords._nobody()) == argon2.extract_parameters(HASH)
    assert not passwords.verify("", "nobody's password")
