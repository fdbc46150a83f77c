"""Keys at the edge: wrong ones are told to wait, right ones go on, and a ban closes a holder's at once. Some open from
their own addresses alone, and some are not shown but signed with."""

import json
import time
from contextlib import suppress
from urllib.parse import urlencode

import pytest

from tests.system import System


def test_wrong_keys_are_told_to_wait_and_right_ones_go_on(edge: System, edge_key: str) -> None:
    """Two trackers count apart: of 60 wrong keys at least 20 are told."""
    proxied = {"X-Forwarded-For": "203.0.113.77"}
    body = json.dumps({"program": "plain", "order_id": "keys-1"})

    def report(key: str) -> int:
        return edge.request("POST", "/v1/conversions", body, {**proxied, "Authorization": f"Bearer {key}"}).status

    wrong = edge_key[:-8] + "00000000"
    statuses = [report(wrong) for _ in range(60)]
    assert set(statuses) == {401, 429} and statuses.count(429) >= 20
    told = next(
        answer
        for answer in (edge.request("GET", "/postback?token=x", headers=proxied) for _ in range(60))
        if answer.status == 429
    )
    assert told.json["error"]["code"] == "too_many_requests" and told.headers["retry-after"] == "60"
    assert [report(edge_key) for _ in range(10)] == [202] * 10
    other = edge.request("GET", "/postback?token=x", headers={"X-Forwarded-For": "203.0.113.78"})
    assert other.status == 401


def test_a_ban_closes_the_keys_of_an_affiliate_and_its_end_opens_them(edge: System, edge_key: str) -> None:
    edge.apply('[[affiliate]]\nid = "cheat"\n')
    key = json.loads(edge.run("key", "cheat", "--kind", "affiliate", "--json").stdout)["key"]

    def ask() -> int:
        path = "/v1/conversions/plain/never/explain"
        return edge.request("GET", path, headers={"Authorization": f"Bearer {key}"}).status

    assert ask() == 404
    for status, answered in (("banned", 401), ("active", 404), ("removed", 401)):
        edge.apply(f'[[affiliate]]\nid = "cheat"\nstatus = "{status}"\n')
        assert ask() == answered, status


HOME, ABROAD = "203.0.113.7", "203.0.113.8"


def test_a_key_with_addresses_opens_from_them_alone_by_every_way(edge: System) -> None:
    """By query and by body, by the short way and the long one, and for questions; what is refused is not recorded."""
    made = {
        kind: json.loads(edge.run("key", "acme", "--kind", kind, "--json", *_addresses(HOME, "2001:db8::/48")).stdout)
        for kind in ("postback", "api")
    }
    token, bearer = made["postback"]["key"], {"Authorization": f"Bearer {made['api']['key']}"}
    assert made["postback"]["addresses"] == [f"{HOME}/32", "2001:db8::/48"]
    sale = {"program": "plain", "order_id": "addressed"}
    refund = {**sale, "reversal_id": "addressed"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    json_head = {"Content-Type": "application/json"}
    query = urlencode({**sale, "token": token})
    ways = [
        ("GET", f"/postback?{query}", None, {}),
        ("POST", f"/postback?{query}", "", {}),
        ("POST", "/postback", query, form),
        ("POST", "/postback", json.dumps({**sale, "token": token}), json_head),
        ("POST", "/v1/conversions", json.dumps(sale), bearer),
        ("POST", "/v1/reversals", json.dumps(refund), bearer),
        ("GET", "/v1/conversions/plain/addressed/explain", None, bearer),
    ]

    def ask(sender: str) -> list[tuple[int, str]]:
        answers = [
            edge.request(method, path, body, {**headers, "X-Forwarded-For": sender})
            for method, path, body, headers in ways
        ]
        return [(answer.status, answer.json.get("error", {}).get("code", "")) for answer in answers]

    for sender in (ABROAD, f"::ffff:{ABROAD}", "2001:db9::1", f"{HOME}, {ABROAD}"):
        assert ask(sender) == [(403, "address_not_allowed")] * len(ways), sender
    unknown = edge.request("GET", ways[-1][1], None, {**bearer, "X-Forwarded-For": HOME})
    assert unknown.json["error"]["code"] == "conversion_unknown"
    for sender in (HOME, f"::ffff:{HOME}", "2001:db8:0:1::1"):
        assert [status for status, _ in ask(sender)] == [200] * 4 + [202, 202, 200], sender


def _addresses(*networks: str) -> list[str]:
    return [word for network in networks for word in ("--address", network)]


def test_the_command_says_what_is_no_address_and_shows_what_a_key_has(edge: System) -> None:
    for wrong in ("203.0.113.7/24", "shop.example", ""):
        done = edge.run("key", "acme", "--address", wrong, check=False)
        assert done.returncode == 2 and "--address" in done.stderr and "203.0.113.0/24" in done.stderr, wrong
    both = edge.run("key", "acme", "--address", HOME, "--revoke", "AAAAAAAA", check=False)
    assert both.returncode == 2 and "--list" in both.stderr
    made = json.loads(edge.run("key", "other", "--json", *_addresses(f"::ffff:{HOME}")).stdout)
    edge.run("key", "other", "--revoke", made["id"])
    listed = json.loads(edge.run("key", "other", "--list", "--json").stdout)
    (shown,) = (key for key in listed if key["id"] == made["id"])
    assert (shown["status"], shown["addresses"]) == ("revoked", [f"{HOME}/32"])
    assert "sha256" not in shown and made["key"] not in json.dumps(shown)
    assert f"{HOME}/32" in edge.run("key", "other", "--list").stdout
    unknown = edge.run("key", "nobody", "--list", check=False)
    assert unknown.returncode == 2 and "unknown merchant" in unknown.stderr


@pytest.fixture(scope="module")
def secret(edge: System) -> str:
    """A signing key of the merchant acme."""
    return edge.key("signing")


def test_a_signed_report_is_taken_and_the_same_again_changes_nothing(edge: System, secret: str) -> None:
    sale = '{"program": "plain",  "order_id": "signed-1", "amount": "10", "note": "é"}'
    at = time.time()
    first = edge.post_signed("/v1/conversions", sale, secret, at=at)
    assert (first.status, first.json["status"]) == (202, "accepted")
    again = edge.post_signed("/v1/conversions", sale, secret, at=at)
    assert (again.status, again.json["status"]) == (202, "duplicate")
    assert again.json["conversion_id"] == first.json["conversion_id"]
    many = edge.post_signed("/v1/conversions", f'[{sale}, {{"program": "foreign", "order_id": "x"}}]', secret)
    assert many.status == 207
    refund = json.dumps({"program": "plain", "order_id": "signed-1", "reversal_id": "r", "amount": "1"})
    assert edge.post_signed("/v1/reversals", refund, secret).status == 202
    moved = edge.post_signed("/v1/conversions", refund, secret)
    assert (moved.status, moved.json["error"]["code"]) == (400, "reversal_id_not_accepted")
    assert edge.explain("plain", "signed-1")["sale"]["status"] == "confirmed"
    by_key = edge.post_json("/v1/conversions", {**json.loads(refund), "amount": "10"}, edge.key("api"))
    assert (by_key.status, by_key.json["status"]) == (202, "duplicate"), "who has the key may say what he likes"


def test_a_signed_report_of_another_merchants_program_is_of_none(edge: System, secret: str) -> None:
    """Whichever key is named: whose secret it is, is whose programs are his."""
    theirs = edge.key("signing", "other")
    sale = json.dumps({"program": "foreign", "order_id": "signed-2"})
    assert edge.post_signed("/v1/conversions", sale, secret).json["error"]["code"] == "program_unknown"
    assert edge.post_signed("/v1/reversals", sale[:-1] + ', "reversal_id": "r"}', secret).status == 404
    named = edge.post_signed("/v1/conversions", sale, secret, Lastcookie_Key=theirs[6:14])
    assert (named.status, named.json["error"]["code"]) == (401, "signature_invalid")
    assert edge.post_signed("/v1/conversions", sale, theirs).json["status"] == "accepted"


def test_a_wrong_signature_is_refused_whatever_key_is_shown_with_it(edge: System, edge_key: str, secret: str) -> None:
    sale = json.dumps({"program": "plain", "order_id": "signed-3"})
    bearer = {"Authorization": f"Bearer {edge_key}"}
    stale = edge.post_signed("/v1/conversions", sale, secret, at=time.time() - 400, **bearer)
    assert (stale.status, stale.json["error"]["code"]) == (401, "signature_stale")
    for changed in ({"webhook_id": "msg_2"}, {"webhook_signature": "v1,"}, {"Lastcookie_Key": "ZZZZZZZZ"}):
        answer = edge.post_signed("/v1/conversions", sale, secret, **changed, **bearer)
        assert (answer.status, answer.json["error"]["code"]) == (401, "signature_invalid"), changed
    shown = edge.request("POST", "/v1/conversions", sale, {"Authorization": f"Bearer {secret}"})
    assert (shown.status, shown.json["error"]["code"]) == (401, "key_invalid")
    probe = {"program": "plain", "order_id": "signed-4"}
    assert edge.post_json("/v1/conversions", probe, edge_key).status == 202
    edge.explain("plain", "signed-4")
    assert edge.sql("SELECT count() AS n FROM conversions WHERE order_id = 'signed-3'") == [{"n": 0}]


def test_a_signing_key_is_changed_without_a_gap_and_kept_nowhere(edge: System, secret: str) -> None:
    """Old and new work together until the old one is revoked; not even the key files have a secret in them."""
    made = json.loads(edge.run("key", "acme", "--kind", "signing", "--json").stdout)
    assert made["key"][6:14] == made["id"]
    sale = json.dumps({"program": "plain", "order_id": "signed-5"})
    assert {edge.post_signed("/v1/conversions", sale, key).status for key in (secret, made["key"])} == {202}
    edge.run("key", "acme", "--revoke", made["id"])
    refused = edge.post_signed("/v1/conversions", sale, made["key"])
    assert (refused.status, refused.json["error"]["code"]) == (401, "signature_invalid")
    assert edge.post_signed("/v1/conversions", sale, secret).status == 202
    kept = [path for path in edge.data_dir.rglob("*") if path.is_file() and path.stat().st_size < 10**7]
    for path in kept:
        with suppress(FileNotFoundError):  # what the engine had only for a moment
            assert secret[14:].encode() not in path.read_bytes(), path
