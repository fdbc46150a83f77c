"""Structured logs: one JSON object a line, all but printable ASCII escaped, secrets kept out by whoever logs.

What is logged may come from outside: no terminal shall obey it, and no text is such that it cannot be logged.

Called once by each process's entry point.
"""

import json
import reprlib
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog


def configure_logs(stream: TextIO = sys.stderr) -> None:
    """Send this process's logs to `stream`."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_line),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Patient(stream))),
        cache_logger_on_first_use=True,
    )


class _Patient:
    """A stream on a disk that may be full: what cannot be written is dropped, and nobody fails for it. Who logs that
    the disk is full, or answers a reader next, must go on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _line(event: Any, **_: Any) -> str:
    try:
        return json.dumps(event, default=str, skipkeys=True, separators=(",", ":"))
    except (RecursionError, ValueError):  # nested without end
        shown = {name: v if isinstance(v, str) else reprlib.repr(v) for name, v in event.items()}
        return json.dumps(shown, separators=(",", ":"))


def logger() -> Any:
    """The process's logger."""
    return structlog.get_logger()
