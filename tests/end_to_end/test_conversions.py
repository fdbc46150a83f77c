"""Sales reported through every channel: what is recorded, what is answered, and what is refused by name."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.end_to_end.reports import SHOP, conversion, error_of, events, order, pixel, postback, rows, sale
from tests.system import System

# Each channel


def test_a_pixel_is_a_browsers_claim(edge: System) -> None:
    """Pending until a server confirms it."""
    _, visitor = edge.click("/c/plain")
    id = order()
    answer = pixel(edge, visitor, **sale(id, amount="49.90", currency="EUR"))
    assert (answer.status, answer.headers["content-type"], len(answer.body)) == (200, "image/gif", 43)
    assert answer.body.startswith(b"GIF89a") and answer.headers["cache-control"] == "no-store"
    assert edge.explain("plain", id)["affiliate"] == "ann"
    stored = conversion(edge, id)
    assert (stored["source"], stored["status"], stored["visitor"]) == ("pixel", "pending", visitor)
    assert (float(stored["amount"]), stored["currency"], stored["goal"]) == (49.9, "EUR", "sale")


def test_the_tag_reports_with_the_click_id_it_kept(edge: System) -> None:
    click_id, visitor = edge.click("/c/plain")
    id = order()
    answer = events(edge, sale(id, amount="1", click_id=click_id))
    assert (answer.status, answer.body) == (204, b"")
    assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (SHOP, "Origin")
    assert edge.explain("plain", id)["click_id"] == click_id
    assert (conversion(edge, id)["source"], conversion(edge, id)["visitor"]) == ("tag", visitor)


@pytest.mark.parametrize("method", ["query", "form", "json"])
def test_a_postback_speaks_as_trackers_do(edge: System, edge_token: str, method: str) -> None:
    """GET or POST, a form or JSON, in the names of other trackers."""
    click_id, _ = edge.click("/c/plain")
    id = order()
    params = {"program": "plain", "token": edge_token, "txid": id, "cid": click_id, "event": "sale", "amount": "5"}
    if method == "query":
        answer = edge.get("/postback?" + urlencode(params))
    elif method == "form":
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = edge.request("POST", "/postback", urlencode(params), headers)
    else:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer = edge.request("POST", "/postback", json.dumps(params), headers)
    assert answer.status == 200 and answer.json["status"] == "accepted"
    assert edge.explain("plain", id)["click_id"] == click_id
    stored = conversion(edge, id)
    assert (stored["source"], stored["status"]) == ("postback", "confirmed")
    assert answer.json["conversion_id"] == stored["conversion_id"]


def test_a_postback_is_answered_alike_by_query_and_by_body(edge: System, edge_token: str, edge_key: str) -> None:
    """A query goes a short way of its own, past Starlette."""
    known = {**sale(order(), amount="5"), "token": edge_token}
    cases: list[dict[str, str]] = [
        known,
        known,
        {**known, "amount": "6"},
        {**known, "token": ""},
        {**known, "token": edge_token[:-1] + "~"},
        {**known, "token": edge_key},
        {**known, "program": "nobodys"},
        {**known, "program": ""},
        {**known, "order_id": ""},
        {**known, "order_id": "x" * 200},
        {**known, "amount": "5,00"},
        {**known, "currency": "eur"},
        {**known, "payout": "1"},
        {**known, "txid": "another"},
        {**known, "ts": "2020-01-01T00:00:00Z", "order_id": order()},
        {**known, "ts": "2120-01-01T00:00:00Z"},
        {"token": edge_token},
        {},
    ]
    statuses = []
    for params in cases:
        short, long = edge.get("/postback?" + urlencode(params)), edge.request("POST", "/postback", urlencode(params))
        same = ("content-type", "cache-control", "www-authenticate", "retry-after", "content-length")
        told = [(a.status, [a.headers.get(name) for name in same], a.json) for a in (short, long)]
        if short.status == 200:  # but that the second is a duplicate
            assert told[0][2].pop("status") in ("accepted", "duplicate") and told[1][2].pop("status") == "duplicate"
            told = [(status, headers[:4], body) for status, headers, body in told]
        assert told[0] == told[1], params
        statuses.append(short.status)
    assert set(statuses) == {200, 400, 401, 403, 404, 409, 422}


def test_postbacks_on_one_connection_are_answered_in_their_order(edge: System, edge_token: str) -> None:
    """Sent without waiting; the last says that it is the last."""
    ids = [order() for _ in range(5)]
    with socket.create_connection(("127.0.0.1", edge.edge_port), timeout=10) as connection:
        for number, id in enumerate(ids):
            target = "/postback?" + urlencode({**sale(id), "token": edge_token})
            last = "Connection: close\r\n" if number == len(ids) - 1 else ""
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n".encode())
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    bodies = [json.loads(part) for part in re.findall(rb"\r\n\r\n(\{.*?\})", said)]
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 5 and [body["status"] for body in bodies] == ["accepted"] * 5
    assert [body["conversion_id"] for body in bodies] == [conversion(edge, id)["conversion_id"] for id in ids]


def test_a_form_may_hold_many_items(edge: System, edge_token: str) -> None:
    items = [{"sku": f"sku-{n}", "quantity": 1, "price": "1.50"} for n in range(200)]
    body = urlencode({**sale(id := order()), "token": edge_token, "items": json.dumps(items)})
    assert edge.request("POST", "/postback", body).status == 200
    assert len(json.loads(conversion(edge, id)["items"])) == 200


def test_a_server_reports_one_sale_with_its_key(edge: System, edge_key: str) -> None:
    click_id, _ = edge.click("/c/plain")
    content = {
        "amount": "9.99",
        "currency": "EUR",
        "customer_id": "k1",
        "coupon": "ANN10",
        "channel": "mail",
        "goal": "lead",
    }
    answer = edge.post_json("/v1/conversions", sale(id := order(), click_id=click_id, **content, shelf=7), edge_key)
    assert (answer.status, answer.json["status"]) == (202, "accepted")
    stored = conversion(edge, id)
    assert {name: stored[name] for name in ("currency", "customer_id", "channel", "goal", "click_id")} == {
        **{name: content[name] for name in ("currency", "customer_id", "channel", "goal")},
        "click_id": click_id,
    }
    assert stored["coupon"] == ["ANN10"] and stored["status"] == "confirmed"
    (kept,) = rows(edge, "reports", id)
    assert json.loads(kept["params"]) == {"shelf": "7"}


def test_a_batch_is_answered_item_by_item_in_order(edge: System, edge_key: str) -> None:
    batch_ids = [order() for _ in range(30)]
    answer = edge.post_json("/v1/conversions", [sale(id) for id in batch_ids], edge_key)
    results = answer.json["results"]
    assert answer.status == 202 and [result["status"] for result in results] == ["accepted"] * 30
    by_order = {row["order_id"]: row["conversion_id"] for id in batch_ids for row in rows(edge, "conversions", id)}
    assert [result["conversion_id"] for result in results] == [by_order[id] for id in batch_ids]


def test_a_batch_whose_items_differ_is_207(edge: System, edge_key: str) -> None:
    """The same item twice is one sale and its retry, a contradiction a conflict, and the rest is recorded."""
    one, two = order(), order()
    items = [
        sale(one, amount="1"),
        sale(one, amount="1"),
        sale(one, amount="2"),
        sale("null"),
        "nonsense",
        sale(two, amount="x"),
        {"program": "foreign", "order_id": two},
        sale(two),
    ]
    answer = edge.post_json("/v1/conversions", items, edge_key)
    assert answer.status == 207
    results = answer.json["results"]
    told = [(r["status"], r.get("http_status"), r.get("error", {}).get("code")) for r in results]
    assert told == [
        ("accepted", None, None),
        ("duplicate", None, None),
        ("error", 409, "conversion_conflict"),
        ("error", 422, "order_id_invalid"),
        ("error", 400, "json_malformed"),
        ("error", 400, "amount_malformed"),
        ("error", 404, "program_unknown"),
        ("accepted", None, None),
    ]
    assert results[0]["conversion_id"] == results[1]["conversion_id"]
    assert len(rows(edge, "conversions", two)) == 1


def test_a_batch_has_up_to_1000_items(edge: System, edge_key: str) -> None:
    prefix = order()
    items = [sale(f"{prefix}-{n % 990}") for n in range(1000)]
    answer = edge.post_json("/v1/conversions", items, edge_key)
    assert answer.status == 202
    statuses = [result["status"] for result in answer.json["results"]]
    assert statuses == ["accepted"] * 990 + ["duplicate"] * 10
    edge.wait_for_rows(f"SELECT count() FROM conversions WHERE startsWith(order_id, '{prefix}-')", 990)
    edge.wait_for_rows(f"SELECT count() FROM credits WHERE startsWith(order_id, '{prefix}-')", 990)
    assert error_of(edge.post_json("/v1/conversions", [*items, sale("x")], edge_key)) == (413, "batch_too_large", None)
    assert edge.post_json("/v1/conversions", [], edge_key).json == {"results": []}


# Reversals


def test_a_refund_is_recorded_once(edge: System, edge_key: str) -> None:
    """The same id and content again gets the first answer; other content under it is a conflict."""
    id = order()
    sold = edge.post_json("/v1/conversions", sale(id, amount="10"), edge_key).json
    refund = sale(id, reversal_id="r1", amount="4.50", reason="too small")
    for _ in range(2):
        answer = edge.post_json("/v1/reversals", refund, edge_key)
        assert (answer.status, answer.json) == (202, {"status": "accepted", "conversion_id": sold["conversion_id"]})
    again = edge.post_json("/v1/reversals", {**refund, "amount": "4.5"}, edge_key)
    assert again.status == 202
    other = edge.post_json("/v1/reversals", {**refund, "amount": "4.51"}, edge_key)
    assert error_of(other) == (409, "reversal_conflict", "reversal_id")
    assert edge.post_json("/v1/reversals", sale(id, reversal_id="r2"), edge_key).status == 202
    stored = [row for row in rows(edge, "reports", id, 3) if row["kind"] == "reversal"]
    assert {(row["reversal_id"], row["reason"]) for row in stored} == {("r1", "too small"), ("r2", "")}
    assert len(rows(edge, "reports", id)) == 3


def test_refunds_come_in_batches_too(edge: System, edge_key: str) -> None:
    id = order()
    edge.post_json("/v1/conversions", sale(id), edge_key)
    items = [sale(id, reversal_id="r1"), sale(id, reversal_id="r1"), sale(order(), reversal_id="r1"), sale(id)]
    answer = edge.post_json("/v1/reversals", items, edge_key)
    assert answer.status == 207
    codes = [result.get("error", {}).get("code") for result in answer.json["results"]]
    assert codes == [None, None, "conversion_unknown", "reversal_id_missing"]


def test_a_refund_of_what_was_not_sold_or_not_by_you_is_not_found(edge: System, edge_key: str) -> None:
    refund = sale(order(), reversal_id="r1")
    assert error_of(edge.post_json("/v1/reversals", refund, edge_key)) == (404, "conversion_unknown", "order_id")
    foreign = {**refund, "program": "foreign"}
    assert error_of(edge.post_json("/v1/reversals", foreign, edge_key)) == (404, "program_unknown", "program")


def test_an_order_id_cannot_stand_in_the_way_of_a_refund(edge: System, edge_key: str) -> None:
    """Anybody can fire a pixel for an order whose id looks like a key of ours."""
    id = order()
    edge.post_json("/v1/conversions", sale(id), edge_key)
    for trick in (f"{id}:reversal:r1", f"{id}\\nr1", f"{id} r1"):
        pixel(edge, **sale(trick))
    assert edge.post_json("/v1/reversals", sale(id, reversal_id="r1"), edge_key).status == 202


# Who may


def test_without_a_key_nothing_is_taken(edge: System, edge_key: str, edge_token: str) -> None:
    body = sale(id := order())
    for key in (None, "", "nonsense", edge_key[:-1], edge_key + "0", "lca_" + "A" * 40):
        answer = edge.post_json("/v1/conversions", body, key)
        assert error_of(answer) == (401, "key_invalid", None) and answer.headers["www-authenticate"] == "Bearer"
        assert error_of(edge.post_json("/v1/reversals", body, key)) == (401, "key_invalid", None)
    basic = {"Authorization": f"Basic {edge_key}"}
    assert edge.request("POST", "/v1/conversions", json.dumps(body), basic).status == 401
    for token in ("", "nonsense", edge_token[:-1]):
        assert error_of(postback(edge, token, **body)) == (401, "key_invalid", "token")
    assert error_of(edge.get("/postback?" + urlencode(body))) == (401, "key_invalid", "token")
    nothing_is_recorded(edge, id)


def test_a_key_is_for_its_own_purpose(edge: System, edge_key: str, edge_token: str) -> None:
    """A token that stands in URLs and their logs opens no API."""
    body = sale(id := order())
    assert error_of(edge.post_json("/v1/conversions", body, edge_token)) == (403, "key_kind", None)
    assert error_of(postback(edge, edge_key, **body)) == (403, "key_kind", None)
    nothing_is_recorded(edge, id)


def test_a_foreign_merchants_program_is_as_unknown_as_none(edge: System, edge_key: str, edge_token: str) -> None:
    id = order()
    foreign, none = ({"program": program, "order_id": id} for program in ("foreign", "nowhere"))
    for one in (foreign, none):
        assert error_of(edge.post_json("/v1/conversions", one, edge_key)) == (404, "program_unknown", "program")
        assert error_of(postback(edge, edge_token, **one)) == (404, "program_unknown", "program")
    messages = {edge.post_json("/v1/conversions", one, edge_key).body for one in (foreign, none)}
    assert len(messages) == 1
    nothing_is_recorded(edge, id)
    assert edge.post_json("/v1/conversions", foreign, edge.key("api", "other")).status == 202


def test_a_secret_in_a_url_is_not_kept(edge: System, edge_token: str) -> None:
    id = order()
    postback(edge, edge_token, **sale(id), utm="kept")
    pixel(edge, **sale(id), token=edge_token, other="kept")
    pixel(edge, **sale("undefined"), token=edge_token, amount=id)
    rows(edge, "reports", id, 2)
    edge.wait_for_rows(f"SELECT count() FROM reports WHERE position(params, '{id}') > 0", 1)
    assert edge.sql(f"SELECT count() AS n FROM reports WHERE position(params, '{edge_token[4:20]}') > 0") == [{"n": 0}]


# The tag's permission


def test_only_the_shops_pages_report_by_tag(edge: System) -> None:
    id = order()
    for origin in ("https://evil.test", "https://shop.test.evil.test", "https://shop.test:8443", "nonsense"):
        answer = events(edge, sale(id), origin)
        assert error_of(answer) == (403, "origin_not_allowed", "program")
        assert "access-control-allow-origin" not in answer.headers
    nothing_is_recorded(edge, id)
    for origin in ("https://shop.test", "http://shop.test", "https://www.deep.test", None):
        answer = events(edge, sale(order()), origin)
        assert (answer.status, answer.headers.get("access-control-allow-origin")) == (204, origin)


def test_a_shops_page_can_read_what_is_wrong(edge: System) -> None:
    """Whoever builds a page in wants to see it; other sites' pages cannot."""
    wrong: list[tuple[Any, int]] = [
        ({"program": "plain", "order_id": "null"}, 422),
        ({"program": "nobodys", "order_id": order()}, 404),
        (sale(order(), amount="much"), 400),
        ([1], 400),
    ]
    for body, status in wrong:
        answer = events(edge, body, SHOP)
        assert (answer.status, answer.headers.get("access-control-allow-origin")) == (status, SHOP)
        assert answer.headers["access-control-allow-credentials"] == "true"
        for origin in ("https://evil.test", "null", None):
            assert "access-control-allow-origin" not in events(edge, body, origin).headers


def test_an_origin_is_what_a_browser_would_say(edge: System) -> None:
    for origin in (f"{SHOP}/path", f"{SHOP}?a", f"{SHOP}:443", "HTTPS://shop.test", f"{SHOP}/\\", f"{SHOP}, {SHOP}"):
        answer = events(edge, sale(order()), origin)
        assert error_of(answer) == (403, "origin_not_allowed", "program")
        assert "access-control-allow-origin" not in answer.headers


def test_the_landing_pages_own_host_needs_no_list(edge: System) -> None:
    """Deep links need one; a program whose shop is one host has said which."""
    assert events(edge, {"program": "query", "order_id": order()}, SHOP).status == 204


def test_a_preflight_is_answered_for_shops_alone(edge: System) -> None:
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = edge.request("OPTIONS", "/v1/events", headers={**headers, "Origin": SHOP})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "content-type"
    assert answer.headers["access-control-allow-credentials"] == "true"
    for origin in ("https://evil.test", "null", "x\u00ff", "*"):
        answer = edge.request("OPTIONS", "/v1/events", headers={**headers, "Origin": origin})
        assert answer.status == 204 and "access-control-allow-origin" not in answer.headers


# What is refused, and by which name

MALFORMED = [
    ({"order_id": ""}, 422, "order_id_invalid", "order_id"),
    ({"order_id": "null"}, 422, "order_id_invalid", "order_id"),
    ({"order_id": "undefined"}, 422, "order_id_invalid", "order_id"),
    ({"order_id": "{order_id}"}, 422, "order_id_invalid", "order_id"),
    ({"order_id": "ORD-{{order.id}}"}, 422, "order_id_invalid", "order_id"),
    ({"order_id": "x" * 129}, 400, "order_id_malformed", "order_id"),
    ({"order_id": "a\x00b"}, 400, "order_id_malformed", "order_id"),
    ({"txid": "another"}, 400, "order_id_ambiguous", "txid"),
    ({"program": ""}, 400, "program_missing", "program"),
    ({"program": "Not An Id"}, 400, "program_malformed", "program"),
    ({"program": "nowhere"}, 404, "program_unknown", "program"),
    ({"amount": "1,50"}, 400, "amount_malformed", "amount"),
    ({"amount": "-1"}, 400, "amount_malformed", "amount"),
    ({"amount": "1.00001"}, 400, "amount_malformed", "amount"),
    ({"currency": "eur"}, 400, "currency_malformed", "currency"),
    ({"goal": "a b"}, 400, "goal_malformed", "goal"),
    ({"click_id": "a\nb"}, 400, "click_id_malformed", "click_id"),
    ({"customer_id": "x" * 129}, 400, "customer_id_malformed", "customer_id"),
    ({"coupon": "x" * 65}, 400, "coupon_malformed", "coupon"),
    ({"channel": "\t"}, 400, "channel_malformed", "channel"),
    ({"items": "{}"}, 400, "items_malformed", "items"),
    ({"ts": "yesterday"}, 400, "ts_malformed", "ts"),
    ({"ts": "4102444800"}, 422, "ts_in_future", "ts"),
    ({"ts": "1000000000"}, 422, "ts_too_old", "ts"),
    ({"payout": "5"}, 400, "payout_not_accepted", "payout"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "status", "code", "param"), MALFORMED)
def test_what_is_malformed_has_a_name_and_records_nothing(
    edge: System, edge_key: str, edge_token: str, wrong: dict[str, str], status: int, code: str, param: str
) -> None:
    body = {**sale(order()), "customer_id": (trace := order()), **wrong}
    assert error_of(edge.post_json("/v1/conversions", body, edge_key)) == (status, code, param)
    assert error_of(postback(edge, edge_token, **body)) == (status, code, param)
    assert error_of(events(edge, body)) == (status, code, param)
    nothing_is_recorded(edge, body["order_id"])
    assert edge.sql(f"SELECT count() AS n FROM conversions WHERE customer_id = '{trace}'") == [{"n": 0}]


def nothing_is_recorded(system: System, order_id: str) -> None:
    """What comes through the log afterwards is there, and this is not."""
    probe = order()
    pixel(system, **sale(probe))
    conversion(system, probe)
    where = f"order_id = {json.dumps(order_id)[1:-1]!r}" if order_id.isprintable() else "order_id LIKE 'a%b'"
    assert system.sql(f"SELECT count() AS n FROM conversions WHERE {where}") == [{"n": 0}]


def test_what_is_wrong_with_a_pixel_is_shown_to_the_merchant(edge: System) -> None:
    before = edge.sql("SELECT count() AS n FROM reports WHERE outcome = 'refused'")[0]["n"]
    answer = pixel(edge, **sale("o-wrong", amount="1,50", note="n" * 300))
    assert (answer.status, len(answer.body)) == (200, 43)
    edge.wait_for_rows("SELECT count() FROM reports WHERE outcome = 'refused'", before + 1)
    (kept,) = edge.sql("SELECT * FROM reports WHERE order_id = 'o-wrong'")
    assert (kept["program"], kept["source"], kept["problem"]) == ("plain", "pixel", "amount_malformed")
    assert json.loads(kept["params"]) == {**sale("o-wrong"), "amount": "1,50", "note": "n" * 256}
    assert edge.sql("SELECT count() AS n FROM conversions WHERE order_id = 'o-wrong'") == [{"n": 0}]


def test_a_flood_of_wrong_pixels_is_not_kept(edge: System) -> None:
    """Nor what is wrong in a program that nobody has."""
    mine = order()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: pixel(edge, **sale("null", customer_id=mine)).status, range(300)))
        list(pool.map(lambda n: pixel(edge, program=f"nowhere-{n}", order_id=mine), range(10)))
    assert answers == [200] * 300
    time.sleep(0.5)
    assert edge.sql("SELECT count() AS n FROM reports WHERE startsWith(program, 'nowhere')") == [{"n": 0}]
    kept = edge.sql(f"SELECT count() AS n FROM reports WHERE position(params, '{mine}') > 0")[0]["n"]
    assert 1 <= kept <= 200


def test_one_address_cannot_report_without_end(edge: System) -> None:
    """The pixel shows its image all the same; a server with its key is not held up."""
    proxied = {"X-Forwarded-For": "203.0.113.50", "Origin": SHOP}
    answers = [edge.request("POST", "/v1/events", json.dumps(sale(order())), proxied) for _ in range(40)]
    refused = [answer for answer in answers if answer.status != 204]
    assert refused and error_of(refused[0]) == (429, "too_many_requests", None)
    assert refused[0].headers["retry-after"].isdigit()
    assert {edge.request("GET", "/pixel.gif", headers=proxied).status for _ in range(30)} == {200}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nonsense",
        "\xff",
        "5",
        '"text"',
        "null",
        "true",
        "[" * 2000,
        '{"a":' * 2000,
        '{"order_id": "\\ud800"}',
        "{'a': 1}",
    ],
)
def test_what_is_no_report_is_refused(edge: System, edge_key: str, edge_token: str, body: str) -> None:
    data = body.encode("latin-1")
    headers = {"Authorization": f"Bearer {edge_key}", "Content-Type": "application/json"}
    for path in ("/v1/conversions", "/v1/reversals", "/v1/events", f"/postback?token={edge_token}"):
        answer = edge.request("POST", path, data, headers)
        assert error_of(answer)[:2] == (400, "json_malformed"), (path, answer)


def test_deep_json_in_an_unknown_parameter_harms_nothing(edge: System, edge_key: str) -> None:
    deep = "[" * 900 + "]" * 900
    body = f'{{"program": "plain", "order_id": "{(id := order())}", "note": {deep}}}'
    headers = {"Authorization": f"Bearer {edge_key}"}
    assert edge.request("POST", "/v1/conversions", body, headers).status == 202
    assert events(edge, f'{{"program": "plain", "order_id": "{id}", "note": {deep}}}').status == 204
    assert len(rows(edge, "reports", id, 2)) == 2


def test_numbers_in_json_are_exact_or_refused(edge: System, edge_key: str) -> None:
    assert edge.post_json("/v1/conversions", sale(order(), amount=49), edge_key).status == 202
    for amount in (49.9, 1e3, -1, 10**30, True):
        answer = edge.post_json("/v1/conversions", sale(order(), amount=amount), edge_key)
        assert error_of(answer) == (400, "amount_malformed", "amount")


def test_odd_but_good_orders_are_taken(edge: System, edge_token: str) -> None:
    """Any printable text; of a parameter given twice the first counts, and a plus is a space."""
    for id in ("Größe 7", "#1001", "a'b\"c\\d`", "{", "%41", "日本", "0", "A+B", "x" * 128):
        answer = edge.get(f"/postback?program=plain&token={edge_token}&order_id={quote(id)}&order_id=second")
        assert answer.status == 200, (id, answer)
    assert edge.get(f"/postback?program=plain&token={edge_token}&order_id=twice+over").status == 200
    edge.wait_for_rows("SELECT count() FROM conversions WHERE order_id IN ('Größe 7', '日本', 'A+B', 'twice over')", 4)


def test_a_head_reports_nothing(edge: System, edge_token: str) -> None:
    """Who asks what a GET would answer, a link checker or a monitor, has not sold anything."""
    id = order()
    params = urlencode(sale(id))
    assert edge.request("HEAD", f"/pixel.gif?{params}").status == 200
    assert edge.request("HEAD", f"/postback?{params}&token={edge_token}").status == 405
    nothing_is_recorded(edge, id)
