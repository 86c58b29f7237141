"""What running servers log at another level than their configuration says, changed while they run."""

from cotexd.errors import Invalid
from cotexd.operations import audit
from cotexd.store import Tx
from cotexd.store.models import LogLevel
from cotexd.telemetry import FIELDS, LEVELS

Levels = dict[tuple[str, str], str]
"""level by (field, value); ("", "") is everything"""

MAX_RULES = 50
MAX_VALUE = 200
"""characters"""


def current(_: Tx) -> Levels:
    return {(row.field, row.value): row.level for row in LogLevel.select()}


def set_level(tx: Tx, level: str, field: str = "", value: str = "") -> Levels:
    """Log lines whose `field` is `value` from `level` on; all lines, where there is no field.

    :raises Invalid: no such level or field, or there are MAX_RULES
    """
    if level not in LEVELS:
        raise Invalid(f"There is no level {level}.", hint=f"There are {', '.join(LEVELS)}.")
    if bool(field) != bool(value) or (field and (field not in FIELDS or len(value) > MAX_VALUE)):
        raise Invalid(f"A level is set by one of {', '.join(FIELDS)}, and its value.")
    LogLevel.delete().where(LogLevel.field == field, LogLevel.value == value).execute()
    if LogLevel.select().count() >= MAX_RULES:
        raise Invalid("There are too many levels set.", hint="Take them back: cotex log reset")
    LogLevel.insert(field=field, value=value, level=level).execute()
    audit.record(tx, "log.level", f"{field}={value}" if field else "all", level=level)
    return current(tx)


def reset(tx: Tx) -> None:
    """Back to what the configuration says."""
    LogLevel.delete().execute()
    audit.record(tx, "log.reset", "all")
