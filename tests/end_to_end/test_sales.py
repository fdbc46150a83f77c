"""What becomes of a sale that was reported: what counts as evidence, what a second report changes, and when it was."""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.end_to_end.reports import conversion, error_of, events, order, pixel, postback, rows, sale
from tests.system import PATIENCE_SECONDS, System

# Evidence


def test_an_invented_click_id_or_one_of_another_program_is_no_evidence_but_a_sale(edge: System, edge_key: str) -> None:
    foreign, _ = edge.click("/c/query")
    good, _ = edge.click("/c/plain")
    changed = ("A" if good[10] != "A" else "B").join((good[:10], good[11:]))
    for click_id in (foreign, changed, "invented", "{click_id}", "A" * 32, "!" * 32, "A" * 31 + "="):
        id = order()
        assert edge.post_json("/v1/conversions", sale(id, click_id=click_id), edge_key).json["status"] == "accepted"
        assert edge.explain("plain", id)["affiliate"] in ("", None)
        assert conversion(edge, id)["click_id"] == ""


def test_the_affiliate_is_never_read_from_the_report(edge: System, edge_key: str) -> None:
    id = order()
    edge.post_json("/v1/conversions", sale(id, affiliate="ben", visitor="AAAAAAAAAAA", method="click"), edge_key)
    assert edge.explain("plain", id)["affiliate"] in ("", None)


def test_clicks_before_a_pause_earn_after_it(edge: System, edge_key: str) -> None:
    edge.apply(
        '[[program]]\nid = "short"\nmerchant = "acme"\ncurrency = "EUR"\nlanding_url = "https://shop.test/"\n\n'
        '[[link]]\ncode = "short"\nprogram = "short"\naffiliate = "ann"\n'
    )
    click_id, _ = edge.click("/c/short")
    edge.apply('[[program]]\nid = "short"\nstatus = "paused"\n')
    assert edge.get("/c/short").status == 404
    id = order()
    answer = edge.post_json("/v1/conversions", {"program": "short", "order_id": id, "click_id": click_id}, edge_key)
    assert answer.status == 202
    assert edge.explain("short", id)["affiliate"] == "ann"


def test_the_everyday_case(edge: System, edge_token: str) -> None:
    """The pixel fires without a cookie, the shop's server reports the same order with its click id 300 ms later."""
    click_id, _ = edge.click("/c/plain")
    id = order()
    pixel(edge, **sale(id, amount="20", currency="EUR"))
    assert edge.explain("plain", id)["affiliate"] in ("", None)
    time.sleep(0.3)
    answer = postback(edge, edge_token, **sale(id, amount="20", currency="EUR", click_id=click_id))
    assert answer.json["status"] == "merged"
    credit = edge.explain("plain", id, version=2)
    assert (credit["affiliate"], credit["click_id"], credit["version"]) == ("ann", click_id, 2)
    stored = conversion(edge, id)
    assert (stored["status"], stored["revision"]) == ("confirmed", 2)
    assert len(rows(edge, "credits", id)) == 1


def test_a_pixel_adds_nothing_to_what_the_server_said(edge: System, edge_key: str) -> None:
    """Neither a coupon, nor an amount, nor a time: anybody can fire it."""
    id = order()
    edge.post_json("/v1/conversions", sale(id, amount="5"), edge_key)
    assert edge.explain("plain", id)["method"] == "none"
    pixel(edge, **sale(id, amount="500", coupon="ANN10", currency="USD"))
    events(edge, sale(id, coupon="ANN10", amount="500", currency="USD"))
    assert [r["outcome"] for r in rows(edge, "reports", id, 3)] == ["accepted", "merged", "duplicate"]
    stored = conversion(edge, id)
    assert (float(stored["amount"]), stored["coupon"], stored["currency"]) == (5.0, [], "")
    assert edge.explain("plain", id)["version"] == 1


def test_two_browsers_that_claim_one_order_make_it_disputed(edge: System, edge_key: str) -> None:
    """Until a server names somebody."""
    _, ann = edge.click("/c/plain")
    click_id, ben = edge.click("/c/ben")
    id = order()
    pixel(edge, ann, **sale(id))
    pixel(edge, ben, **sale(id))
    edge.explain("plain", id, version=2)
    assert rows(edge, "credits", id)[0]["disputed"]
    edge.post_json("/v1/conversions", sale(id, click_id=click_id), edge_key)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (credit := rows(edge, "credits", id)[0])["disputed"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not credit["disputed"] and credit["affiliate"] == "ben"


def test_a_conflict_is_kept_and_shown_and_changes_nothing(edge: System, edge_key: str, edge_token: str) -> None:
    """A browser gets its usual answer."""
    id = order()
    edge.post_json("/v1/conversions", sale(id, amount="5"), edge_key)
    for _ in range(2):
        answer = postback(edge, edge_token, **sale(id, amount="6"))
        assert error_of(answer) == (409, "conversion_conflict", "order_id")
    assert events(edge, sale(id, amount="7")).status == 204
    assert events(edge, sale(id, amount="8")).status == 204
    assert pixel(edge, **sale(id, amount="9")).status == 200
    outcomes = [row["outcome"] for row in rows(edge, "reports", id, 6)]
    assert outcomes == ["accepted", "conflict", "conflict", "merged", "conflict", "conflict"]
    assert float(conversion(edge, id)["amount"]) == 5.0


def test_a_goal_is_a_sale_of_its_own(edge: System, edge_key: str) -> None:
    id = order()
    first, second = (edge.post_json("/v1/conversions", sale(id, goal=goal), edge_key).json for goal in ("lead", "sale"))
    assert first["status"] == second["status"] == "accepted"
    assert first["conversion_id"] != second["conversion_id"]


def test_a_hundred_reports_of_one_order_at_once_are_one_sale(edge: System, edge_key: str, edge_token: str) -> None:
    """Over all channels and both workers."""
    click_id, visitor = edge.click("/c/plain")
    body = sale(id := order(), amount="30", currency="EUR", click_id=click_id)

    def report(n: int) -> str:
        if n % 4 == 0:
            return str(edge.post_json("/v1/conversions", body, edge_key).json["status"])
        if n % 4 == 1:
            return str(postback(edge, edge_token, **body).json["status"])
        status = pixel(edge, visitor, **body).status if n % 4 == 2 else events(edge, body, visitor=visitor).status
        assert status in (200, 204)
        return "browser"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(report, range(100)))
    assert {answer for answer in answers if answer != "browser"} <= {"accepted", "merged", "duplicate"}
    outcomes = [row["outcome"] for row in rows(edge, "reports", id, 100)]
    assert outcomes.count("accepted") == 1 and outcomes.count("merged") == 1 and outcomes.count("duplicate") == 98
    assert edge.explain("plain", id)["affiliate"] == "ann"
    assert len(rows(edge, "credits", id)) == 1
    assert (conversion(edge, id)["status"], conversion(edge, id)["click_id"]) == ("confirmed", click_id)


# The sale's time


def test_a_time_near_the_receipt_becomes_the_receipts(edge: System, edge_key: str) -> None:
    click_id, _ = edge.click("/c/plain")
    now = time.time_ns() // 1_000_000
    id = order()
    edge.post_json("/v1/conversions", sale(id, click_id=click_id, ts=now - 30_000), edge_key)
    assert edge.explain("plain", id)["affiliate"] == "ann"
    (stored,) = edge.sql(f"SELECT toUnixTimestamp64Milli(ts) AS at FROM conversions WHERE order_id = '{id}'")
    assert abs(stored["at"] - now) < 10_000


def test_a_time_of_its_own_is_the_sales_and_later_clicks_earn_nothing(edge: System, edge_key: str) -> None:
    click_id, _ = edge.click("/c/plain")
    an_hour_ago = time.time_ns() // 1_000_000_000 - 3600
    id = order()
    edge.post_json("/v1/conversions", sale(id, click_id=click_id, ts=an_hour_ago), edge_key)
    explained = edge.explain("plain", id)
    assert [candidate["reason"] for candidate in explained["candidates"]] == ["AFTER_SALE"]
    conversion(edge, id)
    (stored,) = edge.sql(f"SELECT toUnixTimestamp64Milli(ts) AS at FROM conversions WHERE order_id = '{id}'")
    assert stored["at"] == an_hour_ago * 1000 + 999


def test_a_time_is_at_most_5_minutes_ahead_and_max_late_behind(edge: System, edge_key: str) -> None:
    now = time.time_ns() // 1_000_000
    for ts, status in [
        (now + 4 * 60_000, 202),
        (now + 6 * 60_000, 422),
        (now - 89 * 86_400_000, 202),
        (now - 91 * 86_400_000, 422),
    ]:
        assert edge.post_json("/v1/conversions", sale(order(), ts=ts), edge_key).status == status
