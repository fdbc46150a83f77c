"""What the edge had at hand: when it is all that can win, and how a decision is written down."""

from typing import Any

import orjson
import pytest

from attribution.case import Case, complete_touches, credit_line, read_case
from attribution.credit import Candidate, Credit, Reason, Sale, Touch
from attribution.stages import Staged
from schemas.keys import TOUCH_SLACK_MS
from schemas.terms import parse_versions, terms_hash

AT = 1_767_225_600_000
DEFAULTS = parse_versions(None)
CLICK = "c" * 32
SOFT = "s" * 32
STATE = f"alice boots c abcdefgh {AT - 5} {CLICK}\nbob - s abcdefgh {AT - 3} {SOFT}"


def case(**changed: Any) -> Case:
    sale = Sale("o", AT, "p", "sale", ("v",))
    whole = Case("id", "p", "o", sale, AT, False, False, False, {"v": STATE})
    return whole._replace(**changed)


def test_touches_are_read_as_the_script_wrote_them() -> None:
    assert complete_touches(case(), DEFAULTS) == [
        Touch(CLICK, AT - 5, "alice", "v", "click", frozenset(), "p", "boots"),
        Touch(SOFT, AT - 3, "bob", "v", "soft", frozenset(), "p", ""),
    ]


def test_no_touches_are_evidence_too() -> None:
    assert complete_touches(case(states={"v": ""}), DEFAULTS) == []
    assert complete_touches(case(states={}), DEFAULTS) == []


def test_the_touches_of_several_visitors_are_put_together() -> None:
    found = complete_touches(case(states={"v": STATE, "w": STATE}), DEFAULTS)
    assert found is not None and [touch.visitor for touch in found] == ["v", "v", "w", "w"]


@pytest.mark.parametrize(
    "changed",
    [
        {"has_gap": True},
        {"is_again": True},
        {"received_at": AT + TOUCH_SLACK_MS + 1},
        {"states": {"v": f"#1\n{STATE}"}},
        {"states": {"w": STATE, "v": f"#12\n{STATE}"}},
    ],
)
def test_touches_that_may_not_be_all_are_not_taken_for_it(changed: dict[str, Any]) -> None:
    assert complete_touches(case(**changed), DEFAULTS) is None
    assert complete_touches(case(received_at=AT + TOUCH_SLACK_MS), DEFAULTS) is not None


@pytest.mark.parametrize(
    "terms",
    [
        {"rule": "first_cookie"},
        {"repeat": "once"},
        {"repeat": "customer"},
        {"identity": "customer"},
        {"view_window": "1d"},
    ],
)
def test_terms_that_ask_for_more_than_the_last_clicks_need_the_tables(terms: dict[str, Any]) -> None:
    assert complete_touches(case(), parse_versions([{"from": 0, **terms}])) is None
    earlier = [{"from": 0, **terms}, {"from": AT}]
    is_view = "view_window" in terms  # that of the touch counts, the others are those at the sale
    assert (complete_touches(case(), parse_versions(earlier)) is None) == is_view


def test_a_case_is_read_as_the_edge_writes_it() -> None:
    written = {
        "conversion_id": "id", "revision": 1, "program": "p", "order_id": "o", "goal": "lead", "ts": AT,
        "received_at": AT + 1, "visitors": ["v", "w"], "click_ids": ["c"], "customer_id": None, "coupon": ["SAVE"],
        "channel": None, "disputed": True, "has_gap": False, "states": {"v": STATE, "w": ""},
    }  # fmt: skip
    sale = Sale("o", AT, "p", "lead", ("v", "w"), ("c",), None, ("SAVE",), None)
    expected = Case("id", "p", "o", sale, AT + 1, False, True, False, {"v": STATE, "w": ""})
    assert read_case(orjson.dumps(written)) == expected
    assert read_case(orjson.dumps({**written, "revision": 2})).is_again


def test_a_sale_out_of_the_tables_is_decided_again_from_there() -> None:
    row = {"conversion_id": "id", "order_id": "o", "goal": "sale", "ts": AT, "visitors": ["v"], "click_ids": []}
    row |= {"customer_id": "", "coupon": [], "channel": "", "disputed": 1}
    found = Case.of_stored("p", row, AT + 7)
    assert (found.is_again, found.has_gap, found.is_disputed, found.received_at) == (True, True, True, AT + 7)
    assert (found.sale.customer_id, found.sale.channel) == (None, None)
    assert complete_touches(found, DEFAULTS) is None


def test_a_decision_is_a_row_with_all_who_could_have_won() -> None:
    won, lost = (Touch(id, AT - n, "alice", "v", "click") for id, n in ((CLICK, 1), (SOFT, 2)))
    credit = Credit("alice", CLICK, "click", (Candidate(lost, Reason.NOT_LAST), Candidate(won, Reason.WON)))
    row = orjson.loads(credit_line(case(), Staged(credit, True, "lead"), 2, 1, 77, AT + 9, DEFAULTS[0]))
    assert row.items() >= {
        "credit_id": "id/2", "version": 2, "replaces": 1, "decision_seq": 77, "affiliate": "alice", "method": "click",
        "click_id": CLICK, "ts": str(AT), "decided_at": str(AT + 9), "disputed": True, "follows": "lead",
        "terms_hash": terms_hash(DEFAULTS[0]),
    }.items()  # fmt: skip
    assert [(candidate["click_id"], candidate["reason"]) for candidate in row["candidates"]] == [
        (SOFT, "NOT_LAST"),
        (CLICK, "WON"),
    ]


def test_nobody_is_written_as_empty() -> None:
    row = orjson.loads(credit_line(case(), Staged(Credit(None, None, "none", ()), False), 1, 0, 1, AT, DEFAULTS[0]))
    assert (row["affiliate"], row["click_id"], row["method"], row["candidates"]) == ("", "", "none", [])
