"""Logs: one line an event, JSON for machines or text for a terminal, on standard error.

Every line carries what is bound to the request (its id, the user, the repository, the delivery), goes through the
redaction, and may be wanted at a finer level than the rest: `cotex log level debug --user ada`.
"""

import logging
import re
import sys
from collections.abc import Mapping

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from cotexd.redaction import HIDDEN, is_secret, redact

LEVELS = ("debug", "info", "warning", "error")
FIELDS = ("user", "repo", "request_id", "delivery", "logger")
"""by which a level may be set"""

_RANK = {name: rank for rank, name in enumerate(LEVELS)} | {"critical": len(LEVELS)}
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_KEPT = frozenset({"event", "level", "logger", "timestamp"})


class Levels:
    """The least severe line that is wanted, in all, and of lines whose field has a value."""

    def __init__(self) -> None:
        self._base = "info"
        self._named: dict[tuple[str, str], str] = {}
        self.finest = _RANK["info"]
        """below this rank nothing is wanted of anybody: no line need be made"""

    def configure(self, base: str) -> None:
        self._base = base
        self._settle()

    def override(self, named: Mapping[tuple[str, str], str]) -> None:
        """:param named: level by (field, value); ("", "") is everything"""
        self._named = dict(named)
        self._settle()

    def wants(self, level: str, line: Mapping[str, object]) -> bool:
        rank = _RANK.get(level, 0)
        least = _RANK[self._named.get(("", ""), self._base)]
        if rank >= least and not self._named:
            return True
        for (field, value), wanted in self._named.items():
            if field and str(line.get(field, "")) == value:
                least = _RANK[wanted]
        return rank >= least

    def _settle(self) -> None:
        self.finest = min([_RANK[self._base], *(_RANK[each] for each in self._named.values())])


levels = Levels()


def wants_debug() -> bool:
    """Whether a debug line of anybody would be kept: ask before making one on a hot path."""
    return levels.finest == 0


def set_up(level: str, form: str) -> None:
    """Send our lines and those of libraries through one formatter.

    :param level: debug, info, warning or error
    :param form: json, text, or auto: text where standard error is a terminal
    """
    levels.configure(level)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _drop_unwanted,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if text
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[each for each in shared if each is not _drop_unwanted],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.DEBUG, force=True)
    # Libraries speak up when something is wrong; what they do all day is no news here.
    logging.getLogger().setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.WARNING))
    logging.getLogger("cotexd").setLevel(logging.DEBUG)
    structlog.configure(
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        cache_logger_on_first_use=True,
    )


def trace_of(traceparent: str) -> str:
    """The trace id of a traceparent header (W3C Trace Context), "" if it is none."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[1] if match and match[1] != "0" * 32 and match[2] != "0" * 16 else ""


def _drop_unwanted(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if not levels.wants(str(line["level"]), line):
        raise structlog.DropEvent
    return line


def _redact(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    for name, value in line.items():
        if name not in _KEPT:
            line[name] = HIDDEN if is_secret(name) else redact(value)
    line["event"] = redact(line.get("event", ""))
    return line
