from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from cotexd.store.models import TimeField


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # bounds
def test_a_time_is_kept_to_the_microsecond(moment: datetime):
    field = TimeField()
    assert field.python_value(field.db_value(moment)) == moment


def test_a_time_of_another_zone_is_the_same_moment():
    field = TimeField()
    moment = datetime(2026, 11, 24, 13, tzinfo=timezone(timedelta(hours=1)))
    assert field.python_value(field.db_value(moment)) == datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_no_time_stays_none():
    assert TimeField().db_value(None) is TimeField().python_value(None) is None
