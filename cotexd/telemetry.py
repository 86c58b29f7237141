"""Logs: one line an event, JSON for machines or text for a terminal, on standard error."""

import logging
import sys

import structlog
from structlog.typing import Processor


def set_up(level: str, form: str) -> None:
    """Send our lines and those of libraries through one formatter.

    :param level: debug, info, warning or error
    :param form: json, text, or auto: text where standard error is a terminal
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=least, force=True)
    # Libraries speak up when something is wrong; what they do all day is no news here.
    for name in ("sanic", "sanic.root", "sanic.error", "apscheduler", "websockets", "asyncio"):
        logging.getLogger(name).setLevel(max(least, logging.WARNING))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        cache_logger_on_first_use=True,
    )
