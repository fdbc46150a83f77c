"""The visitor's cookie at the edge: read from a request, prepared for a response. Pure.

Any cookie header is possible, from anyone: what is not exactly a visitor of ours is no visitor. Called by the click
path and by the pixel.
"""

from tracker.click_id import visitor_bytes

MAX_AGE_SECONDS_MAX = 400 * 86_400  # browsers keep none longer


def read_visitor(header: bytes | None, name: bytes) -> bytes | None:
    """The visitor's 8 bytes in a Cookie header; of several cookies of that name the first well-formed one."""
    if not header or name not in header:
        return None
    for pair in header.split(b";"):
        key, _, value = pair.partition(b"=")
        if key.strip() == name and (visitor := visitor_bytes(value.strip())) is not None:
            return visitor
    return None


def set_cookie_header(name: bytes, max_age_seconds: int) -> tuple[bytes, bytes]:
    """What stands before and after the visitor in a `Set-Cookie` header line.

    `Secure` also on http://localhost (Chromium stores it there), no `Partitioned`: a partitioned cookie of the blog's
    site would never be sent from the shop's.
    """
    max_age = min(max_age_seconds, MAX_AGE_SECONDS_MAX)
    tail = f"; Path=/; HttpOnly; Secure; SameSite=None; Max-Age={max_age}\r\n"
    return b"set-cookie: %b=" % name, tail.encode()
