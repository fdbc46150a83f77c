"""Answers of the click path that are no redirect: status line and headers, and the body."""

_NO_STORE = b"cache-control: no-store\r\n"
_HTML = b"content-type: text/html; charset=utf-8\r\n" + _NO_STORE

NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\n" + _HTML,
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Link not found</title>"
    b"<meta name=viewport content='width=device-width'>"
    b"<h1>This link leads nowhere</h1>"
    b"<p>It is unknown, or it is not active any more. Please go back to the page it was on.</p>",
)
PREFETCH_REFUSED = (b"HTTP/1.1 503 Service Unavailable\r\n" + _NO_STORE, b"")
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""A transparent GIF of one pixel, 43 bytes."""
SEEN = (b"HTTP/1.1 200 OK\r\ncontent-type: image/gif\r\n" + _NO_STORE, PIXEL)

NOT_KNOWN_YET = (b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n" + _NO_STORE, b"")
UNAVAILABLE_METHOD = (b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET, HEAD\r\n" + _NO_STORE, b"")
