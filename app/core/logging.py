"""Logs: one event a line with fields, JSON for machines and readable for people, the same for our own, uvicorn's and gunicorn's."""

import json
import logging
import sys
from typing import Any

import orjson
import structlog

from app.core.config import Settings
from app.core.redaction import Redaction

_ENRICH: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(settings: Settings) -> None:
    """Set up structlog and bring the standard library's loggers into the same shape. Everything goes to standard output."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stdout.isatty())
    # The renderer's own tracebacks would show local variables: passwords and tokens.
    console = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)
    redaction = Redaction(settings)

    def json_line(_logger: object, _method: str, event: structlog.types.EventDict) -> bytes:
        line = _dumps(event)
        return _dumps(redaction.cleaned(json.loads(line))) if redaction.suspects(line) else line

    def text_line(logger: Any, method: str, event: structlog.types.EventDict) -> str:
        return json_line(logger, method, event).decode() if as_json else redaction.cleaned_text(console(logger, method, event))

    level = logging.getLevelNamesMapping()["DEBUG" if settings.debug else settings.log_level.upper()]
    structlog.configure(
        processors=[*_ENRICH, structlog.processors.format_exc_info, json_line] if as_json else [*_ENRICH, text_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer) if as_json else structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_ENRICH, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                text_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("gunicorn.error", "gunicorn.access", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    # Ours is the access log: it knows the route, the principal and the request id.
    logging.getLogger("uvicorn.access").disabled = True
    for noisy in ("procrastinate", "alembic"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def reason_of(error: BaseException) -> str:
    """Why something failed, in a line: drivers' errors go on with hints and positions."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _dumps(event: structlog.types.EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:
        # It refuses half surrogate pairs and integers past 64 bits, and a line that cannot be written would hide what it tells.
        return json.dumps(event, default=str).encode()
