"""Passwords: argon2id (RFC 9106), with the library's own choice of costs. About 200 ms of CPU: call it in a thread."""

import functools

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from cotexd.errors import Invalid

MIN_LENGTH = 8
MAX_LENGTH = 256
"""characters; more would only be a way to keep us busy"""

_hasher = argon2.PasswordHasher()


def hash_of(password: str) -> str:
    """:raises Invalid: too short or too long"""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.")
    return _hasher.hash(password.encode("utf-8", "surrogatepass"))


def verify(stored: str, password: str) -> bool:
    """:param stored: "" for an account that is not there, or has none: the same work, and False"""
    try:
        given = password[: MAX_LENGTH + 1].encode("utf-8", "surrogatepass")
        return _hasher.verify(stored or _nobody(), given) and bool(stored)
    except (VerificationError, InvalidHashError):
        return False


@functools.cache
def _nobody() -> str:
    """A hash that nothing matches, with today's costs."""
    return _hasher.hash(b"\xff nobody's password")
