"""Reports of sales: parameters are read, or refused by a code that the document has; read again they are the same."""

from typing import Any
from urllib.parse import urlencode

import orjson
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from tests.fuzz.budget import examples
from tests.fuzz.hostile import json_values, texts
from tracker.click_id import ClickIds
from tracker.openapi import document
from tracker.parameters import parse_query
from tracker.report_fields import ALIASES, KNOWN, FieldError, canonical, read_content, read_program, read_reversal
from tracker.report_reader import read_report, with_what_is_left_out
from tracker.reports import Report, decode_claim, encode_claim, merge

NOW = 1_767_225_600_000
IDS = ClickIds({1: bytes(48)})
SETTINGS = Settings().conversions
PATHS = document(Settings())["paths"]

plain = texts.map(lambda text: text.encode("utf-8", "replace").decode())
likely: dict[str, st.SearchStrategy[Any]] = {
    "program": st.just("shoes"),
    "order_id": st.from_regex("[A-Z]{1,3}-[0-9]{1,6}", fullmatch=True) | st.integers(0, 10**9),
    "amount": st.decimals(0, 10**9, places=2).map(str) | st.integers(0, 10**6),
    "currency": st.sampled_from(["EUR", "USD"]),
    "click_id": st.just(IDS.mint(NOW - 1000, 1, 1, b"visitor!", b"shoes").decode()),
    "coupon": st.lists(st.sampled_from(["A", "B"]), max_size=3),
    "ts": st.integers(NOW - 10**9, NOW) | st.sampled_from(["2025-12-31T23:59:59Z", "1767225599"]),
    "items": st.lists(st.fixed_dictionaries({"price": st.just("1.50")}, optional={"quantity": st.integers(1, 5)})),
}
names = st.sampled_from([*KNOWN, *ALIASES, "payout", "token", "utm"]) | plain
sales = st.builds(
    lambda good, odd: {**good, **odd},
    st.fixed_dictionaries(
        {name: likely.pop(name) for name in ("program", "order_id")},
        optional=likely,
    ),
    st.dictionaries(names, json_values | plain, max_size=3),
)


def codes(path: str) -> set[tuple[int, str]]:
    answers = PATHS[path]["post"]["responses"].items()
    known = {
        (int(status), code)
        for status, answer in answers
        for schema in [answer.get("content", {}).get("application/json", {}).get("schema", {})]
        for code in (
            schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"] if "allOf" in schema else []
        )
    }
    assert len(known) > 10
    return known


OF_A_SALE, OF_A_REVERSAL = codes("/v1/conversions"), codes("/v1/reversals")


def read(params: dict[str, Any]) -> tuple[Report, dict[str, str]]:
    known, unknown = canonical(params)
    report = read_report(known, read_program(known.get("program")), "api", None, NOW, SETTINGS, IDS)
    return report, with_what_is_left_out(unknown, known, report)


@examples(400)
@given(sales)
def test_a_report_is_read_or_refused_by_name(params: dict[str, Any]) -> None:
    try:
        report, unknown = read(params)
    except FieldError as error:
        assert (error.status, error.code) in OF_A_SALE and error.message
        return
    orjson.dumps([report.content, unknown])
    assert report.order_id.isprintable() and "token" not in unknown
    assert read_content(report.content, NOW, SETTINGS.clock_tolerance) == (report.content, report.sale_ts)
    claim, _ = merge(None, report, 0)
    assert decode_claim(encode_claim(claim)) == claim


@examples(200)
@given(st.dictionaries(st.sampled_from(KNOWN), plain, max_size=6))
def test_text_means_the_same_by_query_and_by_json(params: dict[str, str]) -> None:
    def outcome(given: dict[str, Any]) -> Any:
        try:
            return read(given)
        except FieldError as error:
            return error.status, error.code, error.param

    params = {"program": "shoes", "order_id": "1", **params}
    assert outcome(parse_query(urlencode(params).encode())) == outcome(orjson.loads(orjson.dumps(params)))


@examples(300)
@given(
    st.builds(
        lambda good, odd: {**good, **odd},
        st.just({"program": "shoes", "order_id": "A-1", "reversal_id": "r1"}),
        st.dictionaries(
            st.sampled_from(["program", "order_id", "goal", "reversal_id", "amount", "items", "reason"]),
            json_values | plain | st.just([{"sku": "a", "quantity": 2}]),
            max_size=3,
        ),
    )
)
def test_a_reversal_is_read_or_refused_by_name(params: dict[str, Any]) -> None:
    try:
        orjson.dumps(read_reversal(params))
    except FieldError as error:
        assert (error.status, error.code) in OF_A_REVERSAL and error.message
