"""Keys: merchants report sales and ask about them, affiliates ask about theirs. Made from randomness, shown once,
kept as a hash. Pure.

    lca_ | lcp_ | lcf_   32 characters of base64url (192 bits)   8 hex digits of CRC-32

The prefix says what it is for (API, postback, affiliate), to people and to secret scanners; the checksum refuses typing
errors before any look-up. The first 8 characters are the key's id. Called by the command line and by the edge.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest
from typing import Any, NamedTuple
from zlib import crc32

RANDOM_BYTES = 24
HOLDERS = {"api": "merchant", "postback": "merchant", "affiliate": "affiliate"}
"""Who holds a key of a kind. His id stands in the record under this name and no other, so that a merchant and an
affiliate of the same id are never taken for each other."""

_PREFIXES = {"api": "lca_", "postback": "lcp_", "affiliate": "lcf_"}


class NewKey(NamedTuple):
    """The key itself, for its holder's eyes, and the record that is kept."""

    text: str
    id: str
    record: dict[str, Any]


def make_key(holder: str, kind: str, randomness: bytes, at: int) -> NewKey:
    """A key of `kind` (one of HOLDERS) out of 24 random bytes."""
    body = urlsafe_b64encode(randomness).decode()
    text = f"{_PREFIXES[kind]}{body}{_checksum(body)}"
    record = {
        "id": body[:8],
        HOLDERS[kind]: holder,
        "kind": kind,
        "sha256": _digest(text),
        "created_at": at,
        "status": "active",
    }
    return NewKey(text, body[:8], record)


def key_id(text: str) -> str | None:
    """The id in a key, or None where the text is no key."""
    prefix, body, checksum = text[:4], text[4:36], text[36:]
    if prefix not in _PREFIXES.values() or not text.isascii() or checksum != _checksum(body):
        return None
    return body[:8]


def opens(record: dict[str, Any] | None, text: str) -> bool:
    """Whether the text is the key of this record."""
    digest = _digest(text)
    known = record["sha256"] if record and record["status"] == "active" else "0" * len(digest)
    return compare_digest(digest, known)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"
