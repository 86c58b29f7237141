"""Billing periods: counted from an anchor, so that a month that is too short doesn't shorten those after it."""

import calendar
from datetime import UTC, datetime, timedelta

DAY = 86_400


def after(start: int, interval: str, count: int) -> int:
    """`count` intervals after the anchor `start`."""
    if interval in {"day", "week"}:
        return start + count * DAY * (7 if interval == "week" else 1)
    anchor = datetime.fromtimestamp(start, UTC)
    months = anchor.month - 1 + count * (12 if interval == "year" else 1)
    year, month = anchor.year + months // 12, months % 12 + 1
    day = min(anchor.day, calendar.monthrange(year, month)[1])
    return int(anchor.replace(year=year, month=month, day=day).timestamp())


def end_of(anchor: int, interval: str, count: int, moment: int) -> int:
    """The end of the period in which `moment` lies."""
    number = 1
    while (end := after(anchor, interval, number * count)) <= moment:
        number += 1
    return end


def seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
