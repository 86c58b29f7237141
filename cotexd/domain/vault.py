"""Secrets at rest: sealed with AES-256-GCM under one key of the appliance (NIST SP 800-38D).

What a secret belongs to is bound in as associated data, so that a sealed value copied to another row does not open.
"""

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cotexd.errors import Failed

KEY_BYTES = 32
_NONCE_BYTES = 12


def new_key() -> str:
    """A fresh key in the form in which it is kept: 32 random bytes as URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: str) -> None:
        """:raises Failed: the key is not 32 bytes in URL-safe base64"""
        try:
            raw = base64.urlsafe_b64decode(key.strip())
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != KEY_BYTES:
            raise Failed(
                "The key is not 32 bytes in URL-safe base64.",
                hint="Restore the key file from a backup, or set COTEX_KEY to the key that was used before.",
            )
        self._cipher = AESGCM(raw)
        self.fingerprint = hashlib.sha256(b"cotexd key fingerprint\0" + raw).hexdigest()[:32]
        """tells keys apart, and says nothing of the key"""

    def seal(self, secret: bytes, purpose: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """:raises Failed: sealed with another key, for another purpose, or damaged"""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError):
            raise Failed(
                f"The secret of {purpose} does not open: the row is damaged, or was moved.",
                hint="Make a new one: `cotex repo secret REPO --rotate`.",
            ) from None
