"""A file that only its passphrase opens, written and read as a stream.

The key is made by Argon2id (RFC 9106, the second recommended option). The content is cut into chunks, each sealed with
ChaCha20-Poly1305 (RFC 8439) under a nonce of its place and of whether it is the last: STREAM, of Hoang, Reyhanitabar,
Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015. So chunks that were
changed, cut off, added or put elsewhere are found.
"""

import os
import struct
from typing import BinaryIO

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from cotexd.errors import Invalid

MAGIC = b"cotexd, sealed 1\n"
CHUNK = 64 * 1024
"""bytes before they are sealed"""
_SALT, _PREFIX, _TAG = 16, 7, 16
_PLACE = struct.Struct(">I?")


class Sealed:
    """Takes what is written, and writes it sealed.

    :param file: where to; it stays open
    """

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        salt, self._prefix = os.urandom(_SALT), os.urandom(_PREFIX)
        self._file = file
        self._cipher = _cipher(passphrase, salt)
        self._waiting = bytearray()
        self._count = 0
        file.write(MAGIC + salt + self._prefix)

    def write(self, data: bytes) -> int:
        self._waiting += data
        # The last one is not known before the end, so one that is full waits for more.
        while len(self._waiting) > CHUNK:
            self._seal(CHUNK, last=False)
        return len(data)

    def flush(self) -> None:
        """What is not a whole chunk waits for `finish`."""

    def finish(self) -> None:
        self._seal(len(self._waiting), last=True)

    def _seal(self, size: int, *, last: bool) -> None:
        nonce = self._prefix + _PLACE.pack(self._count, last)
        self._file.write(self._cipher.encrypt(nonce, bytes(self._waiting[:size]), None))
        del self._waiting[:size]
        self._count += 1


class Opened:
    """Reads what was sealed.

    :raises Invalid: from `read`: the passphrase is another one, or the file was changed or cut
    """

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        file.seek(len(MAGIC))
        salt, self._prefix = file.read(_SALT), file.read(_PREFIX)
        if len(self._prefix) != _PREFIX:
            raise _not_opened()
        self._cipher = _cipher(passphrase, salt)
        self.seek(0)

    def seek(self, where: int) -> int:
        """Begin anew; nothing else can be gone to."""
        assert where == 0
        self._file.seek(len(MAGIC) + _SALT + _PREFIX)
        self._ready = b""
        self._next = self._file.read(CHUNK + _TAG)
        self._count, self._ended = 0, False
        return 0

    def read(self, size: int = -1) -> bytes:
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._ready += self._open()
        if size < 0:
            size = len(self._ready)
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _open(self) -> bytes:
        chunk, self._next = self._next, self._file.read(CHUNK + _TAG)
        self._ended = not self._next
        nonce = self._prefix + _PLACE.pack(self._count, self._ended)
        self._count += 1
        try:
            return self._cipher.decrypt(nonce, chunk, None)
        except InvalidTag:
            raise _not_opened() from None


def is_sealed(file: BinaryIO) -> bool:
    """Whether a file that was just opened is one of these."""
    found = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    return found


def _cipher(passphrase: str, salt: bytes) -> ChaCha20Poly1305:
    key = hash_secret_raw(
        passphrase.encode(),
        salt,
        time_cost=3,
        memory_cost=64 * 1024,
        parallelism=4,
        hash_len=32,
        type=Type.ID,
    )
    return ChaCha20Poly1305(key)


def _not_opened() -> Invalid:
    return Invalid(
        "The passphrase does not open the file, or it was changed or cut short.", hint="Try it again."
    )
