import io
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cotexd.errors import Invalid
from cotexd.store import sealing
from cotexd.store.sealing import CHUNK, MAGIC, Opened, Sealed, is_sealed

HEAD = len(MAGIC) + 16 + 7
CHUNKS = 3


def sealed(*parts: bytes) -> io.BytesIO:
    file = io.BytesIO()
    out = Sealed(file, "correct horse")
    for part in parts:
        out.write(part)
    out.finish()
    file.seek(0)
    return file


@pytest.fixture(autouse=True)
def one_key(monkeypatch: pytest.MonkeyPatch):
    """Made once for each passphrase and salt: it is meant to take long."""
    made: dict[Any, Any] = {}
    make = sealing.hash_secret_raw

    def once(secret: bytes, salt: bytes, **how: Any) -> bytes:
        how["memory_cost"] = 8 * how["parallelism"]
        if (secret, salt) not in made:
            made[secret, salt] = make(secret, salt, **how)
        return made[secret, salt]

    monkeypatch.setattr(sealing, "hash_secret_raw", once)


SIZES = st.integers(0, CHUNKS * CHUNK)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(SIZES, max_size=4), reads=st.integers(1, 2 * CHUNK))
@example(sizes=[], reads=1)
@example(sizes=[CHUNK], reads=CHUNK)
@example(sizes=[CHUNK, CHUNK], reads=10 * CHUNK)
def test_what_was_written_is_what_is_read_however_it_is_cut(sizes: list[int], reads: int):
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    opened = Opened(sealed(*parts), "correct horse")
    for _ in range(2):
        got = b""
        while part := opened.read(reads):
            got += part
        assert got == b"".join(parts)
        opened.seek(0)
    assert opened.read() == b"".join(parts)


def test_nothing_of_the_content_or_the_passphrase_is_in_it():
    file = sealed(b"ghp_s3cret" * 100).getvalue()
    assert file.startswith(MAGIC)
    assert b"s3cret" not in file
    assert b"horse" not in file


def test_another_passphrase_opens_nothing():
    with pytest.raises(Invalid, match="does not open"):
        Opened(sealed(b"content"), "correct house").read()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, CHUNKS * CHUNK), cut=st.booleans())
@example(at=CHUNK + 16, cut=True)
def test_a_file_that_was_changed_or_cut_anywhere_is_found_out(at: int, cut: bool):
    whole = sealed(b"x" * CHUNKS * CHUNK).getvalue()
    at += len(MAGIC)
    changed = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    with pytest.raises(Invalid):
        Opened(io.BytesIO(changed), "correct horse").read()


def test_chunks_that_change_places_are_found_out():
    whole = sealed(b"a" * CHUNK, b"b" * CHUNK, b"c").getvalue()
    size = CHUNK + 16
    first, second = whole[HEAD : HEAD + size], whole[HEAD + size : HEAD + 2 * size]
    with pytest.raises(Invalid):
        Opened(io.BytesIO(whole[:HEAD] + second + first + whole[HEAD + 2 * size :]), "correct horse").read()


def test_it_is_known_by_its_beginning():
    assert is_sealed(sealed(b""))
    other = io.BytesIO(b"\x28\xb5\x2f\xfd")
    assert not is_sealed(other)
    assert other.read() == b"\x28\xb5\x2f\xfd"
