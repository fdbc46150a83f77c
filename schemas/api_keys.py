"""Keys: merchants report sales and ask about them, affiliates ask about theirs. Made from randomness, shown once,
kept as a hash. Pure.

    lca_ | lcp_ | lcf_   32 characters of base64url (192 bits)   8 hex digits of CRC-32

The prefix says what it is for (API, postback, affiliate), to people and to secret scanners; the checksum refuses typing
errors before any look-up. The first 8 characters are the key's id.

    whsec_   8 characters, the key's id   base64 of 32 bytes

is a signing key, as Standard Webhooks writes it. Who checks a signature needs the secret itself, and it is stored
nowhere: it follows from the installation's secret and the key's id (docs/decisions/0013). Called by the command line
and by the edge.
"""

import hmac
from base64 import b32encode, b64decode, b64encode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple
from zlib import crc32

RANDOM_BYTES = 24
HOLDERS = {"api": "merchant", "postback": "merchant", "affiliate": "affiliate", "signing": "merchant"}
"""Who holds a key of a kind. His id stands in the record under this name and no other, so that a merchant and an
affiliate of the same id are never taken for each other."""

_PREFIXES = {"api": "lca_", "postback": "lcp_", "affiliate": "lcf_"}
_SIGNING_PREFIX = "whsec_"
_ADDRESSES_MAX = 64


class NewKey(NamedTuple):
    """The key itself, for its holder's eyes, and the record that is kept."""

    text: str
    id: str
    record: dict[str, Any]


def make_key(holder: str, kind: str, randomness: bytes, at: int, addresses: Sequence[str] = ()) -> NewKey:
    """A key of `kind` (one of HOLDERS but `signing`) out of 24 random bytes. It opens from `addresses` alone (networks,
    see `networks_of`), or from everywhere where there are none."""
    body = urlsafe_b64encode(randomness).decode()
    return _new_key(f"{_PREFIXES[kind]}{body}{_checksum(body)}", body[:8], holder, kind, at, addresses)


def make_signing_key(
    holder: str, installation: bytes, randomness: bytes, at: int, addresses: Sequence[str] = ()
) -> NewKey:
    """The key of a merchant who signs his reports, by the installation's secret; of 24 random bytes the first 5 are
    used, for its id."""
    id = b32encode(randomness[:5]).decode()
    return _new_key(signing_secret(installation, id), id, holder, "signing", at, addresses)


def signing_secret(installation: bytes, id: str) -> str:
    """The text of the signing key with this id."""
    derived = hmac.digest(installation, b"lastcookie signing key " + id.encode(), "sha256")
    return f"{_SIGNING_PREFIX}{id}{b64encode(derived).decode()}"


def signing_bytes(text: str) -> bytes:
    """What signatures are made with: the 38 bytes that a signing key stands for."""
    return b64decode(text.removeprefix(_SIGNING_PREFIX))


def _new_key(text: str, id: str, holder: str, kind: str, at: int, addresses: Sequence[str]) -> NewKey:
    record = {
        "id": id,
        HOLDERS[kind]: holder,
        "kind": kind,
        "sha256": _digest(text),
        "created_at": at,
        "status": "active",
    }
    return NewKey(text, id, {**record, "addresses": list(addresses)} if addresses else record)


def networks_of(texts: Sequence[str]) -> list[str]:
    """Addresses and networks as a key's record has them: networks, each once, in order; IPv4 written as IPv6 becomes
    IPv4, as senders are judged. Raises ValueError with what is wrong and what is accepted."""
    if len(texts) > _ADDRESSES_MAX:
        raise ValueError(f"{len(texts)} addresses; accepted are up to {_ADDRESSES_MAX}: name their networks")
    found = {_network(text) for text in texts}
    return [str(network) for network in sorted(found, key=lambda network: (network.version, network))]


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        if "%" in text:
            raise ValueError(f"{text!r} names an interface of one machine")
        network = ip_network(text)
    except ValueError as error:
        accepted = "an address such as 203.0.113.7, a network such as 203.0.113.0/24 or 2001:db8::/48"
        raise ValueError(f"{error}; accepted are {accepted}") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and (mapped := network[0].ipv4_mapped):
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


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
