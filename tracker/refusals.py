"""Requests that are too much, or no HTTP: the limits, what is written differently before it is parsed, and what the
others are told.

Pure, but for a log line where the fault is ours. Part of server.py.
"""

import re
from dataclasses import dataclass

import httptools

from schemas.logs import logger
from schemas.settings import Settings
from tracker.pages import PIXEL
from tracker.reader import PLAIN_BYTES_MAX, PLAIN_HEADERS_MAX

_REASONS = {
    400: (b"Bad Request", b"request_malformed"),
    413: (b"Content Too Large", b"body_too_large"),
    414: (b"URI Too Long", b"url_too_long"),
    429: (b"Too Many Requests", b"too_many_requests"),
    431: (b"Request Header Fields Too Large", b"headers_too_large"),
    500: (b"Internal Server Error", b"internal_error"),
}
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\r\n")
_NOT_IN_TARGET = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]")
_BLOTTED = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))


@dataclass(frozen=True)
class HttpLimits:
    """Sizes in bytes, times in seconds."""

    url_bytes: int
    header_bytes: int
    header_count: int
    body_bytes: int
    batch_body_bytes: int
    keep_alive_seconds: float
    header_seconds: float
    body_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> "HttpLimits":
        """By the settings, whose times are in ms."""
        limits, server = settings.limits, settings.server
        return cls(
            url_bytes=limits.url_bytes,
            header_bytes=limits.header_bytes,
            header_count=limits.header_count,
            body_bytes=limits.body_bytes,
            batch_body_bytes=limits.batch_body_bytes,
            keep_alive_seconds=server.keep_alive / 1000,
            header_seconds=server.header_timeout / 1000,
            body_seconds=server.body_timeout / 1000,
        )

    @property
    def head_bytes(self) -> int:
        """Of a request's first line and headers together."""
        return self.url_bytes + self.header_bytes

    @property
    def plain_bytes(self) -> int:
        """Of a request that is read in one piece; none where the parser has to count its headers."""
        if self.header_count < PLAIN_HEADERS_MAX:
            return 0
        return min(PLAIN_BYTES_MAX, self.url_bytes, self.header_bytes)


class Refused(Exception):
    """By one of our limits, with this status."""

    def __init__(self, status: int) -> None:
        self.status = status


def status_of(error: httptools.HttpParserError) -> int:
    """The status of a refusal: ours if a callback of ours refused, 500 if one failed, 400 if the parser did."""
    if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
        cause = error.__context__
        if isinstance(cause, Refused):
            return cause.status
        if not isinstance(cause, httptools.HttpParserError | UnicodeDecodeError):  # Uvicorn's, about the URL
            logger().error("request failed", exc_info=cause)
            return 500
    return 400


def last_words(status: int, url: bytes) -> bytes:
    """The answer to a refused request, behind which its connection ends."""
    reason, code = _REASONS[status]
    body = b'{"error":{"code":"%b","message":"%b","param":null}}' % (code, reason)
    media_type = b"application/json"
    if url.startswith(b"/pixel.gif"):  # its page is a shop's: it gets its image, whatever happens
        status, reason, media_type, body = 200, b"OK", b"image/gif", PIXEL
    retry = b"retry-after: 1\r\n" if status == 429 else b""
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        b"%bconnection: close\r\n\r\n%b" % (status, reason, media_type, len(body), retry, body)
    )


def origin_form(url: bytes) -> bytes:
    """The path and query of a target that a client wrote as for a proxy; others as they are."""
    scheme, _, rest = url.partition(b"://")
    if scheme.lower() not in (b"http", b"https"):
        return url
    path_start = re.search(rb"[/?]", rest)
    return rest[path_start.start() :] if path_start else b"/"


def with_clean_head(data: bytes) -> bytes:
    """Percent-encode in the request line what a browser would have, and blot out control characters in headers: the
    parser refuses both, and no click shall fail for what somebody put into it."""
    if data.isascii() and len(data.translate(None, _CONTROLS)) == len(data):
        return data
    head, end, rest = data.partition(b"\r\n\r\n")
    line, line_end, headers = head.partition(b"\r\n")
    line = _NOT_IN_TARGET.sub(lambda match: b"%%%02X" % match[0][0], line)
    return line + line_end + headers.translate(_BLOTTED) + end + rest
