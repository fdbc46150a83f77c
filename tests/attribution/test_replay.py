"""Replay on histories built by hand in real tables: what is the same, what differs, and what would have been."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import clickhouse_connect
import orjson
import pytest

from attribution.replay import Extent, Interrupted, Judged, replay
from attribution.replay_differences import Why
from attribution.replay_report import Tally
from attribution.replay_source import UnknownProgram, session
from schemas.terms import TermsError
from schemas.what_if import read_changes
from tests.past import DAY, HOUR, NOW, Past


@pytest.fixture
def past(tables: Any, engine_dsn: str) -> Iterator[Past]:
    reader = clickhouse_connect.get_client(dsn=engine_dsn, database=tables.database, settings=session(10**9, 1))
    built = Past(tables, reader)
    built.program(-100 * DAY, {"from": -100 * DAY})
    for name in ("alice", "bob"):
        built.affiliate(-100 * DAY, name)
    yield built
    reader.close()


def test_a_history_decided_by_the_rule_has_no_difference(past: Past) -> None:
    past.click(0, "a1", "alice")
    past.click(HOUR, "b1", "bob")
    past.report(2 * HOUR, "o1")
    past.decided(
        2 * HOUR + 20, "o1", "bob", "b1", sold=2 * HOUR, candidates=[("a1", 0, "NOT_LAST"), ("b1", HOUR, "WON")]
    )
    past.report(3 * HOUR, "o2", visitors=["w"])
    past.decided(3 * HOUR + 20, "o2", sold=3 * HOUR)
    assert past.verify() == []


def test_each_sale_is_judged_by_the_terms_of_then(past: Past) -> None:
    """The window shrinks from 30 to 7 days between two sales: a click of ten days earns the first, not the second."""
    past.click(0, "a1", "alice")
    past.click(0, "b1", "bob", "w")
    past.report(10 * DAY, "before")
    past.decided(10 * DAY + 20, "before", "alice", "a1", sold=10 * DAY, candidates=[("a1", 0, "WON")])
    past.program(11 * DAY, {"from": -100 * DAY}, {"from": -1 * DAY, "window": "7d"})
    past.report(12 * DAY, "after", visitors=["w"])
    past.decided(12 * DAY + 20, "after", sold=12 * DAY)
    assert past.verify() == []
    assert {order: credit[0] for order, credit in past.what_if("window=30d").items()} == {
        "before": "alice",
        "after": "bob",
    }


def test_pausing_banning_and_unbanning_change_nothing_that_was_decided(past: Past) -> None:
    """Alice is paused, then banned, then unbanned, which leaves no trace in her record: each sale keeps its credit."""
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.affiliate(2 * HOUR, "alice", [(None, 2 * HOUR)])
    past.click(3 * HOUR, "a2", "alice")
    past.report(4 * HOUR, "o2")
    past.decided(
        4 * HOUR + 20, "o2", "alice", "a1", sold=4 * HOUR,
        candidates=[("a1", 0, "WON"), ("a2", 3 * HOUR, "AFFILIATE_INACTIVE")],
    )  # fmt: skip
    past.affiliate(5 * HOUR, "alice", [(None, 2 * HOUR)], banned=5 * HOUR)
    past.report(6 * HOUR, "o3")
    past.decided(6 * HOUR + 20, "o3", sold=6 * HOUR, candidates=[("a1", 0, "AFFILIATE_BANNED")])
    past.affiliate(7 * HOUR, "alice", [(None, 2 * HOUR), (7 * HOUR, None)])
    past.report(8 * HOUR, "o4")
    past.decided(8 * HOUR + 20, "o4", "alice", "a1", sold=8 * HOUR, candidates=[("a1", 0, "WON")])
    assert past.verify() == []


def test_a_click_that_came_late_and_was_never_counted_is_named(past: Past) -> None:
    past.click(0, "a1", "alice")
    past.click(HOUR, "b1", "bob", received=DAY)
    past.report(2 * HOUR, "o1")
    past.decided(2 * HOUR + 20, "o1", "alice", "a1", sold=2 * HOUR, candidates=[("a1", 0, "WON")])
    (row,) = past.verify()
    assert (row["order_id"], row["field"], row["stored"], row["replayed"]) == ("o1", "affiliate", "alice", "bob")
    assert (row["why"], row["click_id"], row["click_affiliate"]) == (Why.CLICK_NOT_THERE_THEN, "b1", "bob")
    assert (row["click_ts"], row["click_received_at"]) == ("2026-01-01 01:00:00.000", "2026-01-02 00:00:00.000")


def test_a_click_that_came_late_and_made_a_new_version_is_no_difference(past: Past) -> None:
    """As of the time between, both are true: the click had come, and the sale had not been decided again."""
    past.click(0, "a1", "alice")
    past.click(HOUR, "b1", "bob", received=DAY)
    past.report(2 * HOUR, "o1")
    past.decided(2 * HOUR + 20, "o1", "alice", "a1", sold=2 * HOUR, candidates=[("a1", 0, "WON")])
    past.decided(DAY + 500, "o1", "bob", "b1", sold=2 * HOUR, candidates=[("a1", 0, "NOT_LAST"), ("b1", HOUR, "WON")])
    assert past.verify() == []
    assert past.verify(as_of=NOW + DAY - 1) == []
    assert [row["click_id"] for row in past.verify(as_of=NOW + DAY)] == ["b1"]


def test_a_late_click_that_would_have_lost_is_no_difference(past: Past) -> None:
    past.click(0, "a1", "alice", received=DAY)
    past.click(HOUR, "b1", "bob")
    past.report(2 * HOUR, "o1")
    past.decided(2 * HOUR + 20, "o1", "bob", "b1", sold=2 * HOUR, candidates=[("b1", HOUR, "WON")])
    assert past.verify() == []


def test_a_click_whose_time_of_receipt_is_that_of_another_clock_was_known_if_the_decision_names_it(past: Past) -> None:
    past.click(0, "a1", "alice", received=300)
    past.report(100, "o1")
    past.decided(120, "o1", "alice", "a1", sold=100, candidates=[("a1", 0, "WON")])
    assert past.verify() == []


def test_a_click_that_the_decision_names_and_no_table_has_is_named(past: Past) -> None:
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "alice", "lost", sold=HOUR, candidates=[("lost", 5, "WON")])
    past.click(0, "a1", "alice", "w")
    past.report(HOUR, "o2", visitors=["w"])
    past.decided(HOUR + 30, "o2", "alice", "a1", sold=HOUR, candidates=[("a0", -9, "NOT_LAST"), ("a1", 0, "WON")])
    rows = {row["order_id"]: row for row in past.verify()}
    assert {order: (row["why"], row["click_id"], row["field"]) for order, row in rows.items()} == {
        "o1": (Why.CLICK_GONE, "lost", "affiliate"),
        "o2": (Why.CLICK_GONE, "a0", "candidates"),
    }


def test_another_credit_than_the_rule_gives_is_named_with_its_column(past: Past) -> None:
    """By the same evidence the wrong affiliate, click, method, time, terms or reason, and a sale that is nowhere."""
    clicks = [("a1", 0, "NOT_LAST"), ("b1", 5, "WON")]
    past.click(0, "a1", "alice")
    past.click(5, "b1", "bob")
    good: dict[str, Any] = {"affiliate": "bob", "click_id": "b1", "candidates": clicks, "sold": HOUR}
    wrong: dict[str, dict[str, Any]] = {
        "affiliate": {"affiliate": "alice"},
        "click_id": {"click_id": "a1"},
        "method": {"method": "soft"},
        "ts": {"sold": HOUR - 1},
        "terms_hash": {"terms_hash": "0"},
        "candidates": {"candidates": [("a1", 0, "BOT"), ("b1", 5, "WON")]},
        "disputed": {"disputed": True},
    }
    for number, (field, values) in enumerate(wrong.items()):
        past.report(HOUR, field)
        past.decided(HOUR + 20 + number, field, **{**good, **values})
    past.report(HOUR, "older", amount="1")
    past.decided(HOUR + 90, "older", **{**good, "terms_hash": "0", "engine_version": "0.0.9"})
    past.decided(HOUR + 99, "nowhere", **good)
    rows = past.verify()
    assert {row["order_id"]: row["field"] for row in rows} == {**{name: name for name in wrong}, "nowhere": "order_id"}
    assert {row["why"] for row in rows} == {Why.DECIDED_OTHERWISE, Why.SALE_GONE}
    assert [(r["stored"], r["replayed"]) for r in rows if r["order_id"] == "candidates"] == [("a1 BOT", "a1 NOT_LAST")]
    assert past.what_if("window=30d").keys() == {*wrong, "older"}, "a sale that is nowhere stays with whom it is"


def test_a_report_merged_later_decides_again_and_each_decision_keeps_its_report(past: Past) -> None:
    """The everyday case: the pixel without a cookie, then the server with the click, 300 ms later."""
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1", visitors=[])
    past.decided(HOUR + 20, "o1", sold=HOUR)
    past.report(HOUR, "o1", received=HOUR + 300, visitors=["v"], click_ids=["a1"])
    assert [row["why"] for row in past.verify(as_of=NOW + HOUR + 300)] == [Why.CLICK_NOT_THERE_THEN]
    past.decided(HOUR + 320, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    assert past.verify() == []
    assert past.verify(as_of=NOW + HOUR + 299) == []


def test_a_report_that_names_no_click_but_a_coupon_is_named_as_a_report(past: Past) -> None:
    past.coupon(-DAY, "SAVE", "bob", -DAY)
    past.report(HOUR, "o1", visitors=[])
    past.decided(HOUR + 20, "o1", sold=HOUR)
    past.report(HOUR, "o1", received=HOUR + 300, coupon=["save"])
    assert [(row["why"], row["replayed"]) for row in past.verify()] == [(Why.REPORT_NOT_THERE_THEN, "bob")]


def test_a_dispute_that_a_later_report_raises_or_settles_must_be_in_the_decision(past: Past) -> None:
    """A second browser claims the order: the same credit, but not payable until the server has its say."""
    past.click(0, "a1", "alice")
    good: dict[str, Any] = {"affiliate": "alice", "click_id": "a1", "sold": HOUR, "candidates": [("a1", 0, "WON")]}
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", **good)
    past.report(HOUR, "o1", received=HOUR + 300, visitors=["v", "w"])
    assert [(row["field"], row["stored"], row["replayed"], row["why"]) for row in past.verify()] == [
        ("disputed", "False", "True", Why.REPORT_NOT_THERE_THEN)
    ]
    past.decided(HOUR + 320, "o1", disputed=True, **good)
    assert past.verify() == []
    claim = orjson.dumps({"evidence": {"server": [[0, "v", None, None]]}}).decode()
    past.report(HOUR, "o1", received=HOUR + 600, claim=claim)
    assert [row["replayed"] for row in past.verify()] == ["False"]
    past.decided(HOUR + 620, "o1", **good)
    assert past.verify() == []


def test_a_report_after_merge_within_changes_nothing(past: Past) -> None:
    past.coupon(-DAY, "SAVE", "bob", -DAY)
    past.report(HOUR, "o1", visitors=[])
    past.decided(HOUR + 20, "o1", sold=HOUR)
    past.report(HOUR, "o1", received=HOUR + DAY, coupon=["save"])
    assert past.verify() == []
    assert past.what_if("coupon=override") == {"o1": ("", "", "none")}


def test_a_report_that_came_before_the_decision_of_the_first_and_changed_nothing_made_no_version(past: Past) -> None:
    """Pixel and server in the same moment: the decision in force was made from the pixel's time of the sale."""
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1")
    past.report(HOUR - 5, "o1", received=HOUR + 10)
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    assert past.verify() == []


def test_a_decision_that_fits_no_report_of_then_is_a_difference(past: Past) -> None:
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1")
    past.report(HOUR - 5, "o1", received=HOUR + 10)
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR - 1, candidates=[("a1", 0, "WON")])
    assert [row["field"] for row in past.verify()] == ["ts"]


def test_the_last_reports_value_counts(past: Past) -> None:
    past.report(HOUR, "o1", amount="10.00")
    past.decided(HOUR + 20, "o1", sold=HOUR)
    past.report(HOUR, "o1", received=HOUR + 300, amount="12.3456")
    tally = _tally(past, "window=1d")
    assert tally.affiliates() == [
        {
            "affiliate": "",
            "currency": "EUR",
            "sales_now": 1,
            "value_now": Decimal("12.3456"),
            "sales_then": 1,
            "value_then": Decimal("12.3456"),
        }
    ]
    assert tally.totals() == [
        {"currency": "EUR", "sales_now": 0, "value_now": 0, "sales_then": 0, "value_then": 0},
    ]


def _tally(past: Past, *settings: str, **question: Any) -> Tally:
    tally = Tally()
    for one in past.judged(*settings, **question).values():
        tally.take(one)
    return tally


def test_under_once_a_click_earns_one_order_and_the_replay_remembers_which(past: Past) -> None:
    past.program(-DAY, {"from": -100 * DAY, "repeat": "once"})
    past.click(0, "a1", "alice")
    past.click(10, "b1", "bob")
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "bob", "b1", sold=HOUR, candidates=[("a1", 0, "NOT_LAST"), ("b1", 10, "WON")])
    past.report(2 * HOUR, "o2")
    past.decided(2 * HOUR + 20, "o2", sold=2 * HOUR, candidates=[("a1", 0, "CONSUMED"), ("b1", 10, "CONSUMED")])
    assert past.verify() == []
    assert past.verify(slice_rows=1) == []
    assert past.verify(from_ms=NOW + HOUR + 1) == [], "also of credits before the period"
    assert past.what_if("rule=first_cookie") == {"o1": ("alice", "a1", "click"), "o2": ("bob", "b1", "click")}
    assert past.what_if("repeat=window")["o2"] == ("bob", "b1", "click")


def test_a_wholly_reversed_sale_gives_its_click_back_from_then_on(past: Past) -> None:
    past.program(-DAY, {"from": -100 * DAY, "repeat": "once"})
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.report(2 * HOUR, "o2")
    past.decided(2 * HOUR + 20, "o2", sold=2 * HOUR, candidates=[("a1", 0, "CONSUMED")])
    past.reverse(3 * HOUR, "o1")
    past.report(4 * HOUR, "o3")
    past.decided(4 * HOUR + 20, "o3", "alice", "a1", sold=4 * HOUR, candidates=[("a1", 0, "WON")])
    assert past.verify() == []


def test_a_returning_customer_is_his_first_affiliates_as_the_replay_decided_before(past: Past) -> None:
    """Sales without any cookie follow the customer; under other terms they follow what was re-decided before them."""
    past.program(-DAY, {"from": -100 * DAY, "repeat": "customer"})
    past.click(0, "a1", "alice")
    past.click(10, "b1", "bob")
    past.report(HOUR, "o1", customer_id="k")
    past.decided(HOUR + 20, "o1", "bob", "b1", sold=HOUR, candidates=[("a1", 0, "NOT_LAST"), ("b1", 10, "WON")])
    past.report(60 * DAY, "o2", visitors=["w"], customer_id="k")
    past.decided(60 * DAY + 20, "o2", "bob", "", "customer", sold=60 * DAY)
    assert past.verify() == []
    assert past.verify(from_ms=NOW + DAY) == []
    first = past.what_if("rule=first_cookie")
    assert first == {"o1": ("alice", "a1", "click"), "o2": ("alice", "", "customer")}
    assert past.what_if("rule=first_cookie", from_ms=NOW + DAY) == {"o2": ("bob", "", "customer")}
    assert past.what_if("customer_window=30d")["o2"] == ("", "", "none")


def test_whose_customer_a_sale_was_is_what_was_known_then(past: Past) -> None:
    """A report names o1's customer only after o2 was decided: o2 did not see it, o3 does; o1 keeps its credit."""
    past.program(-DAY, {"from": -100 * DAY, "repeat": "customer"})
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.report(2 * HOUR, "o2", visitors=["w"], customer_id="k")
    past.decided(2 * HOUR + 20, "o2", sold=2 * HOUR)
    past.report(HOUR, "o1", received=3 * HOUR, customer_id="k")
    past.report(4 * HOUR, "o3", visitors=["w"], customer_id="k")
    past.decided(4 * HOUR + 20, "o3", "alice", "", "customer", sold=4 * HOUR)
    assert past.verify() == []


def test_an_earlier_version_of_a_credit_counts_until_the_next_one(past: Past) -> None:
    past.program(-DAY, {"from": -100 * DAY, "repeat": "once"})
    past.click(0, "a1", "alice")
    past.click(10, "b1", "bob", received=3 * HOUR)
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.report(2 * HOUR, "o2")
    past.decided(2 * HOUR + 20, "o2", sold=2 * HOUR, candidates=[("a1", 0, "CONSUMED")])
    past.decided(3 * HOUR + 20, "o1", "bob", "b1", sold=HOUR, candidates=[("a1", 0, "NOT_LAST"), ("b1", 10, "WON")])
    past.decided(3 * HOUR + 20, "o2", tie=1, sold=2 * HOUR, candidates=[("a1", 0, "CONSUMED"), ("b1", 10, "CONSUMED")])
    assert past.verify() == []
    assert past.what_if("repeat=once") == {"o1": ("bob", "b1", "click"), "o2": ("", "", "none")}


def test_a_customer_known_by_several_visitors_has_all_their_clicks(past: Past) -> None:
    past.program(-DAY, {"from": -100 * DAY, "identity": "customer"})
    past.click(0, "a1", "alice", "phone")
    past.report(HOUR, "o1", visitors=["phone"], customer_id="k")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.report(2 * HOUR, "o2", visitors=["laptop"], customer_id="k")
    past.decided(2 * HOUR + 20, "o2", "alice", "a1", sold=2 * HOUR, candidates=[("a1", 0, "WON")])
    assert past.verify() == []
    assert past.what_if("identity=visitor")["o2"] == ("", "", "none")


def test_asked_about_identity_by_customer_the_bindings_are_found(past: Past) -> None:
    past.click(0, "a1", "alice", "phone")
    past.report(HOUR, "o1", visitors=["phone"], customer_id="k")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.report(2 * HOUR, "o2", visitors=["laptop"], customer_id="k")
    past.decided(2 * HOUR + 20, "o2", sold=2 * HOUR)
    assert past.what_if("identity=customer")["o2"] == ("alice", "a1", "click")


def test_an_affiliates_own_window_and_standing_are_those_of_then(past: Past) -> None:
    """Bob's own window of a day counts, also against a what-if of the program's; it was longer before."""
    past.member(-DAY, "bob", window="10d")
    past.click(0, "b1", "bob")
    past.report(2 * DAY, "o1")
    past.decided(2 * DAY + 20, "o1", "bob", "b1", sold=2 * DAY, candidates=[("b1", 0, "WON")])
    past.member(3 * DAY, "bob", window="1d")
    past.report(4 * DAY, "o2")
    past.decided(4 * DAY + 20, "o2", sold=4 * DAY, candidates=[("b1", 0, "OUT_OF_WINDOW")])
    assert past.verify() == []
    assert past.what_if("window=90d")["o2"] == ("", "", "none")


def test_what_if_finds_evidence_that_changed_nothing_under_the_terms_of_then(past: Past) -> None:
    """The server's report named a click that had expired, so there is no second decision; a longer window counts it."""
    past.click(-40 * DAY, "a1", "alice")
    past.report(HOUR, "o1", visitors=[])
    past.decided(HOUR + 20, "o1", sold=HOUR)
    past.report(HOUR, "o1", received=HOUR + 300, visitors=["v"])
    assert past.verify() == []
    assert past.what_if("window=90d") == {"o1": ("alice", "a1", "click")}
    (row,) = (Tally().take(one) for one in past.judged("window=90d").values())
    assert row is not None and row["why"] == "alice gets it by click"


def test_views_that_were_worth_nothing_are_asked_about(past: Past) -> None:
    past.click(0, "a1", "alice", kind="view")
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", sold=HOUR)
    assert past.what_if("view_window=1d") == {"o1": ("alice", "a1", "view")}


def test_orders_that_change_hands_are_told_with_the_reason(past: Past) -> None:
    past.coupon(-DAY, "SAVE", "alice", -DAY)
    past.click(0, "b1", "bob")
    past.report(HOUR, "o1", coupon=["SAVE"], amount="30.5", currency="USD")
    past.decided(HOUR + 20, "o1", "bob", "b1", sold=HOUR, candidates=[("b1", 0, "WON")])
    past.report(2 * HOUR, "o2", visitors=["w"], coupon=["SAVE"], amount=None, currency="")
    past.decided(2 * HOUR + 20, "o2", "alice", "", "coupon", sold=2 * HOUR)
    past.report(3 * HOUR, "o3", channel="email", coupon=[])
    past.decided(3 * HOUR + 20, "o3", "bob", "b1", sold=3 * HOUR, candidates=[("b1", 0, "WON")])

    def moves(*settings: str) -> dict[str, tuple[str, str, str]]:
        tally = Tally()
        rows = [row for one in past.judged(*settings).values() if (row := tally.take(one))]
        assert tally.changed == len(rows) and tally.sales == 3
        return {row["order_id"]: (row["from_affiliate"], row["to_affiliate"], row["why"]) for row in rows}

    assert moves("coupon=override") == {
        "o1": ("bob", "alice", "bob's click b1 loses by COUPON; alice gets it by coupon")
    }
    assert moves("coupon=ignore") == {"o2": ("alice", "", "alice's coupon no longer counts; nobody else is eligible")}
    assert moves("channels=email,cpc") == {
        "o3": ("bob", "", "bob's click b1 loses by CHANNEL; by its channel nobody gets it")
    }
    assert moves("channels=") == {}
    tally = _tally(past, "coupon=override")
    assert [(row["affiliate"], row["currency"], row["sales_now"], row["sales_then"]) for row in tally.affiliates()] == [
        ("alice", "", 1, 1),
        ("alice", "USD", 0, 1),
        ("bob", "EUR", 1, 1),
        ("bob", "USD", 1, 0),
    ]


def test_a_period_is_of_the_sales_own_time_and_half_open(past: Past) -> None:
    for hour in (1, 2, 3):
        past.report(hour * HOUR, f"o{hour}")
        past.decided(DAY + hour, f"o{hour}", sold=hour * HOUR)
    assert past.judged(from_ms=NOW + 2 * HOUR, to_ms=NOW + 3 * HOUR).keys() == {"o2"}
    assert past.judged(from_ms=NOW + 2 * HOUR).keys() == {"o2", "o3"}
    assert past.judged(to_ms=NOW).keys() == set()
    assert past.judged(as_of=NOW + DAY + 1).keys() == {"o1"}


def test_programs_are_apart_and_one_can_be_chosen(past: Past) -> None:
    """Two programs decide at the same position, and know the same visitor and order."""
    past.program(-DAY, {"from": -100 * DAY}, id="q")
    past.click(0, "a1", "alice")
    past.click(0, "q1", "bob", program="q")
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", "alice", "a1", sold=HOUR, candidates=[("a1", 0, "WON")])
    past.report(HOUR, "o2", program="q")
    past.decided(HOUR + 20, "o2", "bob", "q1", program="q", sold=HOUR, candidates=[("q1", 0, "WON")])
    assert past.verify() == []
    assert past.judged(program="q").keys() == {"o2"}
    assert past.judged(slice_rows=1).keys() == {"o1", "o2"}
    with pytest.raises(UnknownProgram, match="unknown program 'r'; known are: p, q"):
        past.judged(program="r")


def test_a_slice_changes_nothing(past: Past) -> None:
    """However few decisions are gathered at once, the same comes out in the same order."""
    for number in range(25):
        past.click(number * HOUR, f"c{number:02}", ("alice", "bob")[number % 2], f"v{number % 3}")
        past.report(number * HOUR + 5, f"o{number:02}", visitors=[f"v{number % 3}"], customer_id=f"k{number % 2}")
        past.decided(number * HOUR + 25, f"o{number:02}", sold=number * HOUR + 5)
    changes = {"repeat": "once"}
    extent = Extent()
    whole = list(replay(past.lines(changes=changes), changes, extent))
    assert len(whole) == extent.decisions == 25

    def outcome(judged: list[Judged]) -> list[Any]:
        return [(one.decision.order_id, one.credit) for one in judged]

    assert outcome(list(replay(past.lines(4, changes=changes), changes))) == outcome(whole)


def test_an_answer_that_breaks_off_is_no_answer(past: Past) -> None:
    past.report(HOUR, "o1")
    past.decided(HOUR + 20, "o1", sold=HOUR)
    lines = list(past.lines())
    with pytest.raises(Interrupted):
        list(replay(lines[:-1], None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["windw=7d"], "unknown key 'windw'; accepted: rule, window,"),
        (["from=0"], "unknown key 'from'"),
        (["window=7"], "window: '7' is not accepted; accepted: a duration"),
        (["coupon=always"], "accepted: fallback | override | if_involved | ignore"),
        (["late_click_guard=11m"], "up to 10m"),
        (["window"], "'window' is no key=value; keys are: rule, window,"),
        (["window=1d", "window=2d"], "window is set twice"),
    ],
)
def test_an_unknown_key_or_value_names_the_accepted_ones(settings: list[str], message: str) -> None:
    with pytest.raises(TermsError) as refused:
        read_changes(settings)
    assert message in str(refused.value)


def test_keys_that_work_on_arrival_change_nothing_afterwards(past: Past) -> None:
    past.click(0, "a1", "alice")
    past.report(HOUR, "o1", visitors=[])
    past.decided(HOUR + 20, "o1", sold=HOUR)
    past.report(HOUR, "o1", received=HOUR + 300, visitors=["v"])
    assert past.what_if("merge_within=0s", "duplicate_within=0s") == {"o1": ("alice", "a1", "click")}
