from collections.abc import Iterator

import pytest

from cotexd.live.ring import Ring


@pytest.fixture
def ring() -> Iterator[Ring]:
    try:
        made = Ring()
    except OSError as error:
        pytest.skip(f"NO IO_URING HERE ({error}): nothing of it is tried.")
    yield made
    made.close()
