"""Structured logs: one JSON object a line, control characters escaped, secrets kept out by whoever logs.

Called once by each process's entry point.
"""

import sys
from typing import Any, TextIO

import orjson
import structlog


def configure_logs(stream: TextIO = sys.stderr) -> None:
    """Send this process's logs to `stream`."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )


def logger() -> Any:
    """The process's logger."""
    return structlog.get_logger()
