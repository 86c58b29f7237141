from datetime import timedelta

import pytest

from cotexd.domain import duration
from cotexd.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("24h", timedelta(hours=24)),
        ("14d", timedelta(days=14)),
        ("2w", timedelta(weeks=2)),
        (" 5 m ", timedelta(minutes=5)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_read(text: str, expected: timedelta):
    assert duration.parse(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5.5h", "5 years", "999999999w", "\u0665s"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(Invalid):
        duration.parse(text)


@pytest.mark.parametrize("text", ["0s", "90s", "10m", "36h", "14d"])
def test_a_duration_is_shown_in_its_shortest_exact_form(text: str):
    assert duration.show(duration.parse(text)) == text
