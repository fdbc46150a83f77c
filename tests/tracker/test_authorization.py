"""Who gets in: holders of keys as long as they are holders; wrong keys are counted, and never in a right one's way."""

from collections import Counter
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from schemas.api_keys import RANDOM_BYTES, make_key, make_signing_key, networks_of, signing_bytes
from schemas.projection import LINES_FIELD, Projection, version_line
from schemas.settings_fields import Limits, Server, Settings
from tracker import authorization
from tracker.authorization import Door, bearer, sender_of
from tracker.links import Links
from tracker.report_fields import FieldError
from tracker.signatures import sign

MERCHANT = make_key("acme", "api", bytes(RANDOM_BYTES), 0)
AFFILIATE = make_key("ann", "affiliate", b"\1" * RANDOM_BYTES, 0)
WRONG = make_key("acme", "api", b"\2" * RANDOM_BYTES, 0)
STRANGER, OTHER = "203.0.113.7", "203.0.113.8"
OLD, NEW = bytes(48), b"\5" * 48
"""Secrets of the installation."""
SIGNING = make_signing_key("acme", OLD, b"\3" * RANDOM_BYTES, 0)
AT_HOME = make_key("acme", "api", b"\4" * RANDOM_BYTES, 0, networks_of([STRANGER, "2001:db8::/48"]))
NOW = 1_767_225_600_000


def door(
    limit: int = 2,
    merchant: str | None = "active",
    affiliate: str | None = "active",
    secrets: tuple[bytes, ...] = (OLD,),
    signing: dict[str, Any] = SIGNING.record,
) -> Door:
    """One that believes the proxy at 192.0.2.1."""
    records: dict[str, Any] = {f"key:{key.id}": key.record for key in (MERCHANT, AFFILIATE, AT_HOME)}
    records[f"key:{SIGNING.id}"] = signing
    holders = {"merchant:acme": merchant, "affiliate:ann": affiliate}
    records |= {key: {"id": key, "status": status} for key, status in holders.items() if status}
    projection = Projection()
    projection.take_all("1 1-0", ((name, orjson.dumps(record)) for name, record in records.items()))
    server = Server(trusted_proxies=(ip_network("192.0.2.1"),))
    settings = Settings(server=server, limits=Limits(rate_wrong_keys_per_ip=limit))
    return Door(settings, Links(projection), lambda: NOW, Counter(), secrets)


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


@pytest.mark.parametrize(
    ("kind", "id", "record"),
    [
        ("key", MERCHANT.id, {**MERCHANT.record, "status": "revoked"}),
        ("merchant", "acme", {"id": "acme", "status": "banned"}),
    ],
)
def test_a_key_that_has_opened_opens_until_something_changes(kind: str, id: str, record: dict[str, Any]) -> None:
    """It is not looked up again before; neither another kind nor an address comes in with it."""
    by = door()
    assert [ask(by, MERCHANT.text) for _ in range(3)] == [(200, "acme")] * 3
    assert ask(by, MERCHANT.text, kind="affiliate") == (403, "key_kind")
    assert ask(by, AT_HOME.text) == (200, "acme") and ask(by, AT_HOME.text, OTHER) == (403, "address_not_allowed")
    line = version_line(2, NOW, kind, id, record)
    by._links.projection.take_entry("2-0", {LINES_FIELD: line})
    assert ask(by, MERCHANT.text) == (401, "key_invalid")
    assert by._counters["wrong_keys"] == 1


def test_a_key_that_has_opened_is_looked_up_in_another_projection_again() -> None:
    """One of a snapshot, say, though it has come as far."""
    by, other = door(), door(merchant="banned")
    assert ask(by, MERCHANT.text) == (200, "acme")
    by._links.projection = other._links.projection
    assert ask(by, MERCHANT.text) == (401, "key_invalid")


def test_of_keys_that_have_opened_no_more_than_some_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "_OPENED_MAX", 1)
    by = door()
    for _ in range(2):
        assert ask(by, MERCHANT.text) == ask(by, AT_HOME.text) == (200, "acme")
    assert len(by._opened) == 1


# Addresses


def test_a_key_with_addresses_opens_from_them_alone() -> None:
    by = door()
    refused = (403, "address_not_allowed")
    assert ask(by, AT_HOME.text, STRANGER) == (200, "acme") and ask(by, AT_HOME.text, OTHER) == refused
    assert ask(by, AT_HOME.text, f"::ffff:{STRANGER}") == (200, "acme")
    assert ask(by, AT_HOME.text, f"::ffff:{OTHER}") == refused
    assert ask(by, AT_HOME.text, "2001:db8::9") == (200, "acme") and ask(by, AT_HOME.text, "2001:db9::9") == refused
    assert ask(by, AT_HOME.text, "") == refused
    assert (by._counters["foreign_addresses"], by._counters["wrong_keys"]) == (4, 0)


def test_the_address_of_a_key_is_the_clients_behind_a_trusted_proxy_and_the_peers_else() -> None:
    by = door()
    assert ask(by, AT_HOME.text, "192.0.2.1", STRANGER) == (200, "acme")
    assert ask(by, AT_HOME.text, "192.0.2.1", f"{STRANGER}, {OTHER}") == (403, "address_not_allowed")
    assert ask(by, AT_HOME.text, OTHER, STRANGER) == (403, "address_not_allowed")
    assert ask(by, AT_HOME.text, "192.0.2.1") == (403, "address_not_allowed")


def test_whose_addresses_are_whose_is_told_to_nobody_without_the_key() -> None:
    wrong = AT_HOME.text[:20] + WRONG.text[20:]
    assert ask(door(), wrong, OTHER) == ask(door(), wrong, STRANGER) == (401, "key_invalid")


# Signatures

BODY = b'{"order_id": "1"}'


def signed(
    by: Door,
    body: bytes = BODY,
    at: int = NOW // 1000,
    key: str = SIGNING.id,
    text: str = SIGNING.text,
    peer: str = STRANGER,
    **headers: str,
) -> tuple[int, str]:
    """As `ask`, for a body that was sent with the signature of BODY."""
    head = f"msg_1.{at}."
    sent = {
        "lastcookie-key": key,
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": sign(signing_bytes(text), head.encode(), BODY).decode(),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    request = Request({"type": "http", "headers": raw, "client": (peer, 1)})
    try:
        return 200, str(by.signer_record(sender_of(request), request.headers, body)["merchant"])
    except FieldError as error:
        return error.status, error.code


INVALID = (401, "signature_invalid")


def test_a_signature_speaks_for_its_keys_merchant() -> None:
    assert signed(door()) == (200, "acme")
    assert signed(door(), body=BODY + b" ") == INVALID
    assert signed(door(), text=make_signing_key("acme", OLD, b"\7" * RANDOM_BYTES, 0).text) == INVALID


@pytest.mark.parametrize("away", [-301, 301])
def test_a_signature_of_another_time_is_told_so_whatever_else_is_wrong(away: int) -> None:
    by, at = door(), NOW // 1000 + away
    assert signed(by, at=at) == (401, "signature_stale")
    assert signed(by, at=at, body=b"") == signed(by, at=at, key="ZZZZZZZZ") == (401, "signature_stale")
    assert signed(by, at=NOW // 1000 + away // 301 * 300) == (200, "acme")
    assert by._counters["wrong_keys"] == 0


def test_no_other_kind_of_key_signs_and_no_signing_key_is_borne() -> None:
    by = door(limit=0)
    for key in (MERCHANT, AFFILIATE, AT_HOME):
        assert signed(by, key=key.id) == INVALID
    named = {**MERCHANT.record, "id": SIGNING.id}
    assert signed(door(signing=named)) == INVALID
    assert ask(by, SIGNING.text) == (401, "key_invalid")


def test_what_nobodys_secret_signs_is_nobodys() -> None:
    """A key that is not there is held against a secret that everybody can read here."""
    text = "whsec_" + "A" * 52  # 39 bytes of zeros; an HMAC key is filled up with them
    assert not any(signing_bytes(text))
    for key in ("ZZZZZZZZ", MERCHANT.id):
        assert signed(door(), key=key, text=text) == INVALID
    assert signed(door(merchant="removed"), text=text) == INVALID
    assert signed(door(signing={**SIGNING.record, "status": "revoked"}), text=text) == INVALID


def test_a_signature_is_as_good_as_its_key_and_its_holder() -> None:
    assert signed(door(signing={**SIGNING.record, "status": "revoked"})) == INVALID
    for status in ("banned", "removed", None):
        assert signed(door(merchant=status)) == INVALID


def test_a_signature_counts_from_its_keys_addresses_alone() -> None:
    record = {**SIGNING.record, "addresses": [f"{STRANGER}/32"]}
    assert signed(door(signing=record)) == (200, "acme")
    assert signed(door(signing=record), peer=OTHER) == (403, "address_not_allowed")
    assert signed(door(signing=record), peer=OTHER, body=b"") == INVALID


def test_wrong_signatures_are_counted_with_wrong_keys_and_right_ones_go_on() -> None:
    by = door()
    assert [signed(by, body=b"")[0] for _ in range(2)] == [401, 401] and ask(by, WRONG.text)[0] == 429
    assert signed(by, webhook_signature="v1,") == (429, "too_many_requests")
    assert signed(by) == (200, "acme") and signed(by, body=b"", peer=OTHER) == INVALID
    assert by._counters["wrong_keys"] == 5


def test_a_signing_key_is_known_by_any_secret_of_the_file_and_without_it_nothing_is_lost() -> None:
    assert signed(door(secrets=(NEW, OLD))) == (200, "acme")
    by = door(secrets=(NEW,))
    assert signed(by) == (503, "not_recorded") and by._counters["signing_secrets_missing"] == 1
    assert signed(by, key="ZZZZZZZZ") == INVALID
