"""Who asks: the key of a request, and whether a program is its holder's. Called by the edge's endpoints.

Keys are looked up in the projection, so it takes no store to refuse one. A key opens as long as it is not revoked and
its holder is neither banned nor removed.

Wrong keys are counted by address, and above the limit answered 429. A right key is taken all the same: guessing is
hopeless by its 192 random bits, and no shop's sale shall be refused for what others do behind the same address.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.requests import Request

from schemas import api_keys
from schemas.projection import Projection
from schemas.settings import Settings
from tracker import filters
from tracker.links import Links
from tracker.rates import WRONG_KEYS_SECONDS, WrongKeys
from tracker.report_fields import FieldError

_OUT = ("banned", "removed")


class Sender(NamedTuple):
    """Whose connection a request came by, and X-Forwarded-For."""

    peer: str
    forwarded_for: bytes


class Door:
    """Lets in holders of keys, for one worker; remembers who brings wrong ones. `clock` gives ms."""

    def __init__(self, settings: Settings, links: Links, clock: Callable[[], int], counters: Counter[str]) -> None:
        self._links = links
        self._clock = clock
        self._counters = counters
        self._proxies = filters.TrustedProxies(str(network) for network in settings.server.trusted_proxies)
        self._wrong_keys = WrongKeys(settings.limits.rate_wrong_keys_per_ip)

    def key_record(self, sender: Sender, key: str, *kinds: str) -> Any:
        """The record of a key of one of these kinds. Raises FieldError: 401 for no key of ours, 403 for another kind,
        429 for one wrong key too many."""
        try:
            return key_record(self._links.projection, key, *kinds)
        except FieldError as error:
            if error.status != 401:
                raise
            self._counters["wrong_keys"] += 1
            if not self._wrong_keys.exceeded(self.client_address(sender), self._clock()):
                raise
        message = "too many wrong keys from this address, try again later"
        raise FieldError(429, "too_many_requests", message, retry_after_seconds=WRONG_KEYS_SECONDS)

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
