import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotexd.domain.packing import pack, pack_many, unpack

PAYLOADS = [
    json.dumps({"number": number, "text": "again and again " * number}).encode() for number in range(60)
]


@given(st.binary(min_size=1, max_size=2000))
def test_what_is_packed_is_unpacked_byte_for_byte(payload: bytes):
    assert unpack(pack(payload)) == payload


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_many_are_packed_in_their_order_each_for_itself(count: int):
    assert [unpack(each) for each in pack_many(PAYLOADS[:count])] == PAYLOADS[:count]


def test_threads_pack_beside_each_other():
    found: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(pack_many(PAYLOADS))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [[unpack(each) for each in packed] for packed in found] == [PAYLOADS] * 4
