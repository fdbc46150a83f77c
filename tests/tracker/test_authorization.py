"""Who gets in: holders of keys as long as they are holders; wrong keys are counted, and never in a right one's way."""

from collections import Counter
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from schemas.api_keys import RANDOM_BYTES, make_key
from schemas.projection import Projection
from schemas.settings_fields import Limits, Server, Settings
from tracker.authorization import Door, bearer, sender_of
from tracker.links import Links
from tracker.report_fields import FieldError

MERCHANT = make_key("acme", "api", bytes(RANDOM_BYTES), 0)
AFFILIATE = make_key("ann", "affiliate", b"\1" * RANDOM_BYTES, 0)
WRONG = make_key("acme", "api", b"\2" * RANDOM_BYTES, 0)
STRANGER, OTHER = "203.0.113.7", "203.0.113.8"


def door(limit: int = 2, merchant: str | None = "active", affiliate: str | None = "active") -> Door:
    """One that believes the proxy at 192.0.2.1."""
    records: dict[str, Any] = {f"key:{key.id}": key.record for key in (MERCHANT, AFFILIATE)}
    holders = {"merchant:acme": merchant, "affiliate:ann": affiliate}
    records |= {key: {"id": key, "status": status} for key, status in holders.items() if status}
    projection = Projection()
    projection.take_all("1 1-0", ((name, orjson.dumps(record)) for name, record in records.items()))
    server = Server(trusted_proxies=(ip_network("192.0.2.1"),))
    settings = Settings(server=server, limits=Limits(rate_wrong_keys_per_ip=limit))
    return Door(settings, Links(projection), lambda: 0, Counter())


def ask(by: Door, key: str, peer: str = STRANGER, forwarded: str = "", kind: str = "api") -> tuple[int, str]:
    """Status and code of the refusal; 200 and the holder for none."""
    headers = [(b"authorization", b"Bearer " + key.encode())]
    headers += [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    request = Request({"type": "http", "headers": headers, "client": (peer, 1)})
    try:
        record = by.key_record(sender_of(request), bearer(request), kind)
    except FieldError as error:
        return error.status, error.code
    return 200, str(record.get("merchant") or record["affiliate"])


def test_a_right_key_opens_and_a_wrong_one_does_not() -> None:
    by = door()
    assert ask(by, MERCHANT.text) == (200, "acme")
    assert ask(by, AFFILIATE.text, kind="affiliate") == (200, "ann")
    assert ask(by, WRONG.text) == ask(by, "") == (401, "key_invalid")
    assert by._counters["wrong_keys"] == 2


def test_too_many_wrong_keys_from_an_address_are_told_to_wait() -> None:
    by = door()
    assert [ask(by, WRONG.text)[0] for _ in range(4)] == [401, 401, 429, 429]
    assert ask(by, "nonsense") == (429, "too_many_requests")
    assert ask(by, WRONG.text, OTHER)[0] == 401


def test_a_right_key_is_taken_whatever_else_comes_from_its_address() -> None:
    by = door()
    for _ in range(10):
        ask(by, WRONG.text)
    assert ask(by, MERCHANT.text) == (200, "acme")
    assert ask(by, AFFILIATE.text) == (403, "key_kind")


def test_the_client_is_whom_the_trusted_proxy_names_and_nobody_else_names_one() -> None:
    by = door()
    assert [ask(by, WRONG.text, "192.0.2.1", STRANGER)[0] for _ in range(3)] == [401, 401, 429]
    assert ask(by, WRONG.text, "192.0.2.1", OTHER)[0] == 401
    assert [ask(by, WRONG.text, "198.51.100.9", f"10.0.0.{n}")[0] for n in range(3)] == [401, 401, 429]


@pytest.mark.parametrize("status", ["banned", "removed", None])
def test_a_key_is_as_good_as_its_holder(status: str | None) -> None:
    by = door(affiliate=status)
    assert ask(by, AFFILIATE.text, kind="affiliate") == (401, "key_invalid")
    assert ask(by, MERCHANT.text) == (200, "acme")
    assert ask(door(merchant=status), MERCHANT.text) == (401, "key_invalid")


def test_who_is_paused_may_ask_about_what_he_has_earned() -> None:
    assert ask(door(affiliate="paused"), AFFILIATE.text, kind="affiliate") == (200, "ann")
