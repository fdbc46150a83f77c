"""Who asks: the key or signature of a request, and whether a program is its holder's. Called by the edge's endpoints.

Keys are looked up in the projection, so it takes no store to refuse one. A key opens as long as it is not revoked and
its holder is neither banned nor removed, and from its own addresses, where it has any.

Wrong keys and signatures are counted by address, and above the limit answered 429. A right one is taken all the same:
guessing is hopeless by its 192 random bits, and no shop's sale shall be refused for what others do behind the same
address.
"""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from weakref import ref

from starlette.datastructures import Headers
from starlette.requests import Request

from schemas import api_keys
from schemas.projection import Projection
from schemas.settings import Settings
from tracker import filters
from tracker.answers import unavailable
from tracker.links import Links
from tracker.rates import WRONG_KEYS_SECONDS, WrongKeys
from tracker.report_fields import FieldError
from tracker.signatures import AGE_SECONDS_MAX, Signature, read_signature

_OUT = ("banned", "removed")
_OPENED_MAX = 1000
_NOBODYS = bytes(38)
"""What a signature is held against where there is no such key; it is refused whatever it is."""


class Sender(NamedTuple):
    """Whose connection a request came by, and X-Forwarded-For."""

    peer: str
    forwarded_for: bytes


class Door:
    """Lets in holders of keys, for one worker; remembers who brings wrong ones. `clock` gives ms; `secrets` are the
    installation's, of which those of signing keys are made."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        clock: Callable[[], int],
        counters: Counter[str],
        secrets: Collection[bytes] = (),
    ) -> None:
        self._links = links
        self._secrets = secrets
        self._clock = clock
        self._counters = counters
        self._proxies = filters.TrustedProxies(str(network) for network in settings.server.trusted_proxies)
        self._wrong_keys = WrongKeys(settings.limits.rate_wrong_keys_per_ip)
        self._opened: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._opened_at: tuple[object, ...] = ()

    def key_record(self, sender: Sender, key: str, *kinds: str) -> Any:
        """The record of a key of one of these kinds. Raises FieldError: 401 for no key of ours, 403 for another kind or
        from another address than its own, 429 for one wrong key too many."""
        record = self._opened_before().get((key, kinds))
        if record is None:
            try:
                record = key_record(self._links.projection, key, *kinds)
            except FieldError as error:
                if error.status != 401:
                    raise
                raise self._refusal(sender, error) from None
            if len(self._opened) < _OPENED_MAX:
                self._opened[key, kinds] = record
        self._check_address(sender, record)
        return record

    def _opened_before(self) -> dict[tuple[str, tuple[str, ...]], Any]:
        """The right keys that came since an entity last changed: what a key opens is decided by nothing else, and
        takes a tenth of a report's time to find out."""
        projection = self._links.projection
        present = ref(projection), projection.position, projection.stream_id
        if present != self._opened_at:
            self._opened.clear()
            self._opened_at = present
        return self._opened

    def signer_record(self, sender: Sender, headers: Headers, body: bytes) -> Any:
        """The record of the key by which this very body is signed. Raises FieldError: 401 where it is not, without a
        word of what was wrong, or not now; 403 and 429 as for keys; 503 where our own secrets are not those that the
        key was made with."""
        signature = read_signature(headers)
        if signature is not None and not signature.is_current(self._clock()):
            message = f"webhook-timestamp is more than {AGE_SECONDS_MAX} s from our time"
            raise FieldError(401, "signature_stale", message)
        record = self._signers(signature, body) if signature is not None else None
        if record is None:
            message = "a valid webhook-signature is needed, by the key in Lastcookie-Key"
            raise self._refusal(sender, FieldError(401, "signature_invalid", message))
        self._check_address(sender, record)
        return record

    def _signers(self, signature: Signature, body: bytes) -> Any:
        """The record of the key that made this signature; None where it is not right, or there is no such key, which
        takes as long. Raises FieldError."""
        projection = self._links.projection
        record = projection.get("key", signature.key_id)
        if record is not None and (record["kind"] != "signing" or not _is_in_good_standing(projection, record)):
            record = None
        secret = None
        for installation in self._secrets:
            text = api_keys.signing_secret(installation, signature.key_id)
            if api_keys.opens(record, text):
                secret = api_keys.signing_bytes(text)
        if record is not None and record["status"] == "active" and secret is None:
            self._counters["signing_secrets_missing"] += 1
            raise unavailable()  # 401 would have the merchant's server give up a sale for a mistake of ours
        is_right = signature.is_right(secret or _NOBODYS, body)
        return record if is_right and secret is not None else None

    def _refusal(self, sender: Sender, error: FieldError) -> FieldError:
        """What a wrong key or signature is told, which is counted: the error, or that there were too many."""
        self._counters["wrong_keys"] += 1
        if not self._wrong_keys.exceeded(self.client_address(sender), self._clock()):
            return error
        message = "too many wrong keys from this address, try again later"
        return FieldError(429, "too_many_requests", message, retry_after_seconds=WRONG_KEYS_SECONDS)

    def _check_address(self, sender: Sender, record: Any) -> None:
        """Asked after the key itself, so that nobody learns whose addresses are whose. Raises FieldError."""
        addresses = record.get("addresses")
        if addresses and not filters.is_within(self.client_address(sender), tuple(addresses)):
            self._counters["foreign_addresses"] += 1
            raise FieldError(403, "address_not_allowed", "this key is not to be used from this address")

    def client_address(self, sender: Sender) -> str:
        """Who sent it: the peer, or the client that a trusted proxy names."""
        return filters.client_ip(*sender, self._proxies)


def sender_of(request: Request) -> Sender:
    forwarded = ", ".join(request.headers.getlist("x-forwarded-for")).encode("latin-1")
    return Sender(request.client.host if request.client else "", forwarded)


def bearer(request: Request) -> str:
    """The key in `Authorization: Bearer`, or '' without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def key_record(projection: Projection, key: str, *kinds: str) -> Any:
    """The record of a key of one of these kinds. Raises FieldError: 401 for no key of ours, 403 for another kind."""
    id = api_keys.key_id(key)
    record = projection.get("key", id) if id else None
    if not api_keys.opens(record, key) or record is None or not _is_in_good_standing(projection, record):
        is_postback = "postback" in kinds
        where = "the token parameter" if is_postback else "Authorization: Bearer"
        param = "token" if is_postback else None
        raise FieldError(401, "key_invalid", f"a valid key is needed in {where}", param)
    if record["kind"] not in kinds:
        raise FieldError(403, "key_kind", f"this is a key for {record['kind']}, not for {' or '.join(kinds)}")
    return record


def _is_in_good_standing(projection: Projection, record: Any) -> bool:
    role = api_keys.HOLDERS[record["kind"]]
    holder = projection.get(role, record[role])
    return holder is not None and holder.get("status") not in _OUT


def own_program(links: Links, program: str, merchant: str | None) -> None:
    """Another merchant's program is as unknown as one that does not exist. Raises FieldError."""
    owner = links.merchant_of(program)
    if owner is None or (merchant is not None and owner != merchant):
        raise FieldError(404, "program_unknown", "there is no such program of yours", "program")
