"""Who asks: the key of a request, and whether a program is its holder's. Called by the edge's endpoints.

Keys are looked up in the projection, so it takes no store to refuse one.
"""

from typing import Any

from starlette.requests import Request

from schemas import api_keys
from schemas.projection import Projection
from tracker.links import Links
from tracker.report_fields import FieldError


def bearer(request: Request) -> str:
    """The key in `Authorization: Bearer`, or '' without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def key_record(projection: Projection, key: str, *kinds: str) -> Any:
    """The record of a key of one of these kinds. Raises FieldError: 401 for no key of ours, 403 for another kind."""
    id = api_keys.key_id(key)
    record = projection.get("key", id) if id else None
    if not api_keys.opens(record, key) or record is None:
        is_postback = "postback" in kinds
        where = "the token parameter" if is_postback else "Authorization: Bearer"
        param = "token" if is_postback else None
        raise FieldError(401, "key_invalid", f"a valid key is needed in {where}", param)
    if record["kind"] not in kinds:
        raise FieldError(403, "key_kind", f"this is a key for {record['kind']}, not for {' or '.join(kinds)}")
    return record


def own_program(links: Links, program: str, merchant: str | None) -> None:
    """Another merchant's program is as unknown as one that does not exist. Raises FieldError."""
    owner = links.merchant_of(program)
    if owner is None or (merchant is not None and owner != merchant):
        raise FieldError(404, "program_unknown", "there is no such program of yours", "program")
