"""What a report may say: tables of what is read and of what is refused, each by its name."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.report_fields import (
    FieldError,
    canonical,
    check_age,
    read_click_id,
    read_content,
    read_goal,
    read_order_id,
    read_program,
    read_reversal,
    read_time,
    shortened,
)
from tracker.reports import Claim, Report

NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MINUTE, DAY = 60_000, 86_400_000
TEXTS = st.text(max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def content_of(**known: Any) -> dict[str, Any]:
    return read_content(known, NOW, MINUTE)[0]


def refusal_of(**known: Any) -> tuple[int, str, str | None]:
    with pytest.raises(FieldError) as caught:
        read_content(known, NOW, MINUTE)
    return caught.value.status, caught.value.code, caught.value.param


# Names


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("txid", "order_id"),
        ("transaction_id", "order_id"),
        ("cid", "click_id"),
        ("clickid", "click_id"),
        ("event", "goal"),
    ],
)
def test_an_alias_of_other_trackers_is_its_own_name(alias: str, name: str) -> None:
    assert canonical({alias: "x1"}) == ({name: "x1"}, {})


def test_an_alias_may_say_the_same_as_its_own_name() -> None:
    assert canonical({"txid": "1", "order_id": "1"}) == ({"order_id": "1"}, {})


@pytest.mark.parametrize(
    "given_", [{"txid": "", "order_id": "1"}, {"txid": "1", "order_id": ""}, {"txid": None, "order_id": "1"}]
)
def test_an_empty_one_says_nothing(given_: dict[str, Any]) -> None:
    """Templates of other trackers fill in what they have and leave the rest empty."""
    assert canonical(given_) == ({"order_id": "1"}, {})


def test_an_alias_that_says_something_else_is_refused() -> None:
    with pytest.raises(FieldError) as caught:
        canonical({"order_id": "1", "txid": "2"})
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "order_id_ambiguous", "txid")


@pytest.mark.parametrize("value", ["10", None, 3])
def test_a_payout_is_refused_with_a_hint(value: Any) -> None:
    """Some trackers call the commission so: it is not the merchant's server that says it."""
    with pytest.raises(FieldError, match="send amount") as caught:
        canonical({"payout": value})
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "payout_not_accepted", "payout")


def test_unknown_parameters_are_kept_as_short_texts() -> None:
    known, unknown = canonical({"program": "p", "utm": "x" * 300, "n" * 80: 7, "deep": {"a": [1, None]}, "none": None})
    assert known == {"program": "p"}
    assert unknown == {"utm": "x" * 256, "n" * 64: "7", "deep": '{"a":[1,null]}', "none": "null"}


def test_of_very_many_unknown_parameters_fifty_are_kept() -> None:
    assert len(canonical({f"u{n}": "x" for n in range(200)})[1]) == 50


def test_a_secret_is_not_kept() -> None:
    assert shortened({"token": "lcp_secret", "a": "b"}) == {"a": "b"}


def test_deep_json_is_kept_as_a_remark() -> None:
    assert shortened({"deep": orjson.loads(b"[" * 1000 + b"]" * 1000)}) == {"deep": "(too deep to be kept)"}


@given(st.dictionaries(st.text(max_size=10) | st.sampled_from(["txid", "order_id", "goal", "event"]), JSON, max_size=5))
def test_any_json_object_is_sorted_or_refused_by_name(raw: dict[str, Any]) -> None:
    try:
        _, unknown = canonical(raw)
    except FieldError as error:
        assert error.status == 400 and error.param in raw
    else:
        orjson.dumps(unknown)


# Identity


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1001", "1001"),
        (1001, "1001"),
        ("A-1/2 ü", "A-1/2 ü"),
        ("$12", "$12"),
        ("50%", "50%"),
        ("@7", "@7"),
        ("R_1_", "R_1_"),
        ("x" * 128, "x" * 128),
        ("#1001", "#1001"),
        ("0", "0"),
    ],
)
def test_an_order_id_is_printable_text(value: Any, expected: str) -> None:
    assert read_order_id(value) == expected


@pytest.mark.parametrize("value", ["x" * 129, "a\nb", "a\x00", "a\u200b", "\ud800", "a\u2028b", True, 1.5, [], {}])
def test_an_order_id_that_is_not_is_malformed(value: Any) -> None:
    with pytest.raises(FieldError) as caught:
        read_order_id(value)
    assert (caught.value.status, caught.value.code) == (400, "order_id_malformed")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "null",
        "NULL",
        "undefined",
        "None",
        "NaN",
        "(null)",
        "[object Object]",
        "{order_id}",
        "{{ order.number }}",
        "${orderId}",
        "ORD-{order_id}",
        "ORD-{{order_id}}-1",
        "%7Border_id%7D",
        "[ORDER_ID]",
        "<order>",
        "#ORDERID#",
        "%transaction_id%",
        " {order_id} ",
        "%%ORDER_ID%%",
        "%ad_id%",
        "$order_id",
        "$$ORDER$$",
        "@@ORDER@@",
        "__ORDER_ID__",
        "*|ORDER|*",
        "%5BORDER_ID%5D",
        "%24%7Border_id%7D",
        "<?= $order->id ?>",
        "'undefined'",
        '"null"',
        "''",
        "%20",
        "\u00a0",
    ],
)
def test_an_order_id_that_every_sale_would_share_is_impossible(value: str) -> None:
    """All sales under one placeholder would be one sale."""
    with pytest.raises(FieldError) as caught:
        read_order_id(value)
    assert (caught.value.status, caught.value.code, caught.value.param) == (422, "order_id_invalid", "order_id")


def test_an_order_id_is_required() -> None:
    with pytest.raises(FieldError) as caught:
        read_order_id(None)
    assert (caught.value.status, caught.value.code) == (400, "order_id_missing")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "program_missing"),
        ("", "program_missing"),
        ("Shoes", "program_malformed"),
        ("a b", "program_malformed"),
        ("x" * 65, "program_malformed"),
        ("a\n", "program_malformed"),
        (5, "program_malformed"),
    ],
)
def test_a_program_is_an_id(value: Any, code: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_program(value)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, "program")
    assert read_program("shoes_2-x") == "shoes_2-x"


def test_a_goal_is_a_word_and_sale_unless_given() -> None:
    assert [read_goal(value) for value in (None, "", "sale", "Sign-up_1.x")] == ["sale", "sale", "sale", "Sign-up_1.x"]
    for value in ("a b", "x" * 65, "ü", 7, ["sale"]):
        with pytest.raises(FieldError, match="goal must be"):
            read_goal(value)


def test_a_click_id_is_any_text() -> None:
    """One that is not ours is no evidence, but no reason to refuse a sale."""
    assert [read_click_id(value) for value in (None, "", "{click_id}", "x" * 255)] == [
        None,
        None,
        "{click_id}",
        "x" * 255,
    ]
    for value in (7, "x" * 256, "a\nb", []):
        with pytest.raises(FieldError, match="click_id must be"):
            read_click_id(value)


# Content


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("49.90", "49.9000"),
        ("49.9", "49.9000"),
        ("0", "0.0000"),
        ("0.0001", "0.0001"),
        ("00049", "49.0000"),
        (49, "49.0000"),
        ("99999999999999.9999", "99999999999999.9999"),
    ],
)
def test_amounts_are_equal_by_value(value: Any, expected: str) -> None:
    assert content_of(amount=value) == {"amount": expected}


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "+1",
        "1,50",
        "1.",
        ".5",
        "1.00000",
        "1e3",
        "100000000000000",
        " 1",
        "1 ",
        "EUR 1",
        "٣",
        "NaN",
        1.5,
        True,
        -1,
        [1],
    ],
)
def test_an_amount_is_a_decimal_without_sign(value: Any) -> None:
    """A JSON number with a fraction too: a float has lost the cents of a large amount before it comes here."""
    assert refusal_of(amount=value) == (400, "amount_malformed", "amount")


@given(st.decimals(0, Decimal("99999999999999.9999"), places=4))
def test_every_amount_is_exact(amount: Decimal) -> None:
    assert Decimal(content_of(amount=f"{amount:f}")["amount"]) == amount


@pytest.mark.parametrize("value", ["eur", "EURO", "XXQ", "€", 978])
def test_a_currency_is_of_iso_4217(value: Any) -> None:
    assert content_of(currency="EUR") == {"currency": "EUR"}
    assert refusal_of(currency=value) == (400, "currency_malformed", "currency")


def test_coupons_are_one_code_or_a_list() -> None:
    assert content_of(coupon="SAVE10") == content_of(coupon=["SAVE10"]) == {"coupon": ["SAVE10"]}
    for value in (["x"] * 11, [1], [""], "x" * 65, {"code": "x"}, 5):
        assert refusal_of(coupon=value) == (400, "coupon_malformed", "coupon")


def test_names_are_printable() -> None:
    assert content_of(customer_id="k 1", channel="seo") == {"customer_id": "k 1", "channel": "seo"}
    assert refusal_of(customer_id="x" * 129) == (400, "customer_id_malformed", "customer_id")
    assert refusal_of(customer_id="a\tb") == (400, "customer_id_malformed", "customer_id")
    assert refusal_of(channel="x" * 65) == (400, "channel_malformed", "channel")


@pytest.mark.parametrize("value", ["null", "undefined", "{customer_id}", "%%CUSTOMER%%", "none", " "])
def test_a_customer_that_every_sale_would_share_is_left_out(value: str) -> None:
    """Else all would be one customer, whose first affiliate gets everything."""
    assert content_of(customer_id=value, amount="1") == {"amount": "1.0000"}


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_is_empty_is_left_out(nothing: Any) -> None:
    """So it agrees with anything said before or after."""
    names = ("amount", "currency", "customer_id", "coupon", "channel", "items", "ts")
    assert content_of(**dict.fromkeys(names, nothing)) == {}
    assert content_of(items="[]", coupon=[]) == content_of(items=[]) == {}


@pytest.mark.parametrize("name", ["amount", "currency", "customer_id", "channel", "ts"])
def test_an_empty_list_is_no_value(name: str) -> None:
    assert refusal_of(**{name: []}) == (400, f"{name}_malformed", name)


def test_items_are_equal_by_value() -> None:
    """As JSON text in a query or as JSON, with or without what has a default, whatever the order of the keys."""
    expected = {"items": '[{"price":"9.9000","quantity":1,"sku":"a"}]'}
    assert content_of(items='[{"sku": "a", "price": "9.90"}]') == expected
    assert content_of(items=[{"price": "9.9", "quantity": 1, "sku": "a", "category": None}]) == expected
    assert content_of(items=[{"price": 2, "category": "c"}]) == {
        "items": '[{"category":"c","price":"2.0000","quantity":1}]'
    }


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "{}",
        {"sku": "a"},
        5,
        [5],
        [{"sku": "a"}],
        [{"price": "1", "color": "red"}],
        [{"price": "1", "quantity": 0}],
        [{"price": "1", "quantity": 1.5}],
        [{"price": "1", "quantity": True}],
        [{"price": "1", "quantity": "2"}],
        [{"price": "1", "quantity": 1_000_001}],
        [{"price": "-1"}],
        [{"price": 1.5}],
        [{"price": "1", "sku": ""}],
        [{"price": "1", "sku": "x" * 129}],
        [{"price": "1", "category": 7}],
        [{"price": "1"}] * 501,
    ],
)
def test_items_are_sku_category_quantity_and_price(value: Any) -> None:
    assert refusal_of(items=value) == (400, "items_malformed", "items")


@given(st.sampled_from(["amount", "currency", "customer_id", "coupon", "channel", "items", "ts"]), JSON)
def test_any_value_is_read_or_refused_by_name(name: str, value: Any) -> None:
    try:
        content, _ = read_content({name: value}, NOW, MINUTE)
    except FieldError as error:
        assert error.param == name and error.status in (400, 422)
    else:
        orjson.dumps(content)


# Time


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1767225600000", NOW),
        (1767225600000, NOW),
        ("1767225600", NOW + 999),
        (1767225600, NOW + 999),
        ("2026-01-01T00:00:00Z", NOW + 999),
        ("2026-01-01t00:00:00z", NOW + 999),
        ("2026-01-01 00:00:00Z", NOW + 999),
        ("2026-01-01T00:00:00.5Z", NOW + 500),
        ("2026-01-01T00:00:00.000Z", NOW),
        ("2026-01-01T00:00:00.123999999Z", NOW + 123),
        ("2026-01-01T02:00:00+02:00", NOW + 999),
        ("2025-12-31T19:00:00-05:00", NOW + 999),
        ("2026-01-01T02:00:00 02:00", NOW + 999),
    ],
)
def test_a_time_in_whole_seconds_is_the_last_millisecond_of_its_second(value: Any, expected: int) -> None:
    assert read_time(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:00+99:00",
        "0000-01-01T00:00:00Z",
        "20260101T000000Z",
        "176722560",
        "17672256000000",
        "-1767225600",
        "1767225600.5",
        "1767225600000\n",
        1767225600.5,
        True,
        {},
    ],
)
def test_a_time_that_cannot_be_read_is_malformed(value: Any) -> None:
    assert refusal_of(ts=value) == (400, "ts_malformed", "ts")


@given(st.integers(0, 2**43), st.integers(-23 * 60, 23 * 60))
def test_a_moment_is_the_same_in_every_zone(at: int, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    there = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
    assert read_time(there.astimezone(zone).isoformat(timespec="milliseconds")) == at


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (NOW, NOW),
        (NOW - MINUTE, NOW),
        (NOW + MINUTE, NOW),
        (NOW - MINUTE - 1, NOW - MINUTE - 1),
        (NOW + MINUTE + 1, NOW + MINUTE + 1),
        (NOW + 5 * MINUTE, NOW + 5 * MINUTE),
        (NOW - 90 * DAY, NOW - 90 * DAY),
    ],
)
def test_a_time_near_the_receipt_is_the_receipts(given_: int, expected: int) -> None:
    """Merchants' clocks are not ours. What was given stays the content, so that a retry agrees."""
    content, sale_ts = read_content({"ts": str(given_)}, NOW, MINUTE)
    assert (content, sale_ts) == ({"ts": given_}, expected)


def test_without_a_time_it_is_the_receipts() -> None:
    assert read_content({}, NOW, MINUTE) == ({}, NOW)


def test_a_time_too_far_ahead_is_impossible() -> None:
    assert refusal_of(ts=NOW + 5 * MINUTE + 1) == (422, "ts_in_future", "ts")


def test_a_time_too_far_back_is_impossible_unless_the_sale_is_known_by_it() -> None:
    def check(ts: int | None, known: dict[str, Any] | None) -> None:
        report = Report("p", "o", "sale", "api", NOW + MINUTE, NOW, {} if ts is None else {"ts": ts}, oldest_ts=NOW)
        check_age(report, None if known is None else Claim("id", NOW, "api", NOW, 1, known, {}))

    there: list[dict[str, Any]] = [{}, {"server": {}}, {"server": {"ts": NOW - 1}}]
    for ts, known in ((None, None), (NOW, None), *((NOW, one) for one in there), (NOW - 1, there[-1])):
        check(ts, known)
    for known in (None, *there[:2], {"server": {"ts": NOW - 2}}, {"server": {"ts": NOW}}, {"browser": {"ts": NOW - 1}}):
        with pytest.raises(FieldError) as caught:
            check(NOW - 1, known)
        assert (caught.value.status, caught.value.code, caught.value.param) == (422, "ts_too_old", "ts")


# Reversals


def reversal(**more: Any) -> dict[str, Any]:
    return read_reversal({"program": "shoes", "order_id": "1", "reversal_id": "r1", **more})


def test_a_reversal_is_by_amount_by_items_or_whole() -> None:
    base = {"program": "shoes", "order_id": "1", "goal": "sale", "reversal_id": "r1"}
    assert reversal() == {**base, "content": {}}
    assert reversal(amount="5", reason="broken") == {**base, "content": {"amount": "5.0000", "reason": "broken"}}
    assert reversal(items=[{"sku": "a"}])["content"] == {"items": '[{"quantity":1,"sku":"a"}]'}
    assert reversal(reversal_id=7, amount=None, goal="lead", reason="") == {
        **base,
        "goal": "lead",
        "reversal_id": "7",
        "content": {},
    }


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"reversal_id": None}, "reversal_id_missing", "reversal_id"),
        ({"reversal_id": ""}, "reversal_id_malformed", "reversal_id"),
        ({"reversal_id": "a\nb"}, "reversal_id_malformed", "reversal_id"),
        ({"amount": "1", "items": [{"sku": "a"}]}, "reversal_ambiguous", "items"),
        ({"amount": "-1"}, "amount_malformed", "amount"),
        ({"items": []}, "items_malformed", "items"),
        ({"items": "[]"}, "items_malformed", "items"),
        ({"items": [{"quantity": 1}]}, "items_malformed", "items"),
        ({"items": [{"sku": "a", "price": "1"}]}, "items_malformed", "items"),
        ({"items": [7]}, "items_malformed", "items"),
        ({"items": [{"sku": "a", "quantity": 0}]}, "items_malformed", "items"),
        ({"reason": "x" * 501}, "reason_malformed", "reason"),
        ({"order_id": None}, "order_id_missing", "order_id"),
        ({"program": None}, "program_missing", "program"),
        ({"goal": "a b"}, "goal_malformed", "goal"),
    ],
)
def test_a_reversal_that_cannot_be_taken_is_refused_by_name(more: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(FieldError) as caught:
        reversal(**more)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
