"""Logs: one event a line with fields, JSON for machines and readable for people, the same for our own, uvicorn's and gunicorn's."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog

from app.core.config import Settings
from app.core.redaction import Redaction
from app.core.request_ids import current_ids

_log = structlog.get_logger()
_request_line: Callable[[str, dict[str, Any]], None] | None = None


def _name_request(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {**current_ids.get(), **event}


_ENRICH: list[structlog.types.Processor] = [
    _name_request,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(settings: Settings) -> None:
    """Set up structlog and bring the standard library's loggers into the same shape. Everything goes to standard output."""
    global _request_line  # noqa: PLW0603 - one a process, as structlog's own configuration
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
    _request_line = _by_hand(level) if as_json else None
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


def log_request(level: Literal["info", "warning"], **fields: Any) -> None:
    """The line of a request: by far the most frequent. In JSON it is put together by hand, for a third of what structlog's chain of processors costs."""
    if _request_line is None:
        getattr(_log, level)("request", **fields)
    else:
        _request_line(level, fields)


def reason_of(error: BaseException) -> str:
    """Why something failed, in a line: drivers' errors go on with hints and positions."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _by_hand(least: int) -> Callable[[str, dict[str, Any]], None]:
    write = structlog.BytesLogger(sys.stdout.buffer).msg
    levels = [name for name in ("info", "warning") if logging.getLevelNamesMapping()[name.upper()] >= least]

    def line(level: str, fields: dict[str, Any]) -> None:
        if level in levels:
            # All of it is made here, but for ids and addresses that are looked at when they come: nothing to redact.
            write(_dumps({"event": "request", "level": level, **current_ids.get(), **fields, "timestamp": datetime.now(UTC)}))

    return line


def _dumps(event: structlog.types.EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)
    except TypeError:
        # It refuses half surrogate pairs and integers past 64 bits, and a line that cannot be written would hide what it tells.
        return json.dumps(event, default=str).encode()
