"""Signatures of reports by Standard Webhooks (standardwebhooks.com): what a request says of its own, and whether it is
true. Pure.

    Lastcookie-Key: GEZDGNBV                          which key; the one header that is ours
    webhook-id: msg_2KWPBgLlAfxdpx2AI54pPJ85f4W       of the sender's choice
    webhook-timestamp: 1767225600                     seconds
    webhook-signature: v1,base64 v1,base64            HMAC-SHA256 of id.timestamp.body; one that is right will do

The key is named in a header and not found by the body, so that nothing is parsed that is not known to be the
merchant's. Called by authorization.py.
"""

import hmac
import re
from base64 import b64encode
from hmac import compare_digest
from typing import NamedTuple

from starlette.datastructures import Headers

AGE_SECONDS_MAX = 300
"""How far the time of a signature may be from ours, either way."""

_HEADERS = ("lastcookie-key", "webhook-id", "webhook-timestamp", "webhook-signature")
_KEY_ID = re.compile(r"[A-Z2-7]{8}")
_ID = re.compile(r"[!-\-/-~]{1,256}")
"""Printable, and no point: `a.1` and `2.{}` would sign the same bytes as `a` and `1.2.{}`."""
_SECONDS = re.compile(r"[0-9]{1,12}")


class Signature(NamedTuple):
    """What a request says: by which key, when (s), what is signed before the body, and the signatures."""

    key_id: str
    timestamp: int
    head: bytes
    signatures: tuple[bytes, ...]

    def is_current(self, now: int) -> bool:
        """Whether it was made about `now` (ms)."""
        return abs(now - self.timestamp * 1000) <= AGE_SECONDS_MAX * 1000

    def is_right(self, secret: bytes, body: bytes) -> bool:
        """Whether one of the signatures is that of the body; takes as long whichever it is."""
        expected = sign(secret, self.head, body)
        return any([compare_digest(expected, signature) for signature in self.signatures])


def is_signed(headers: Headers) -> bool:
    """Whether the request is to be known by its signature."""
    return "webhook-signature" in headers


def read_signature(headers: Headers) -> Signature | None:
    """None where a header is missing, stands there twice, or is malformed."""
    found = [headers.getlist(name) for name in _HEADERS]
    if any(len(values) != 1 for values in found):
        return None
    key_id, id, timestamp, signatures = (values[0] for values in found)
    if not (_KEY_ID.fullmatch(key_id) and _ID.fullmatch(id) and _SECONDS.fullmatch(timestamp)):
        return None
    head = f"{id}.{timestamp}.".encode()
    return Signature(key_id, int(timestamp), head, tuple(signatures.encode("latin-1").split(b" ")))


def sign(secret: bytes, head: bytes, body: bytes) -> bytes:
    """The signature of a body, as it stands in the header."""
    made = hmac.new(secret, head, "sha256")
    made.update(body)
    return b"v1," + b64encode(made.digest())
