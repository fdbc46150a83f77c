"""What the edge had at hand: when it is all that can win, and how a decision is written down."""

from typing import Any

import orjson
import pytest

from attribution.case import Case, complete_touches, credit_line, read_cases
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
        {"states": {"w": STATE, "v": STATE[1:].replace(" ", "_", 1)}},
        {"states": {"v": STATE.replace(" c ", " x ")}},
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


VERSION = {
    "conversion_id": "id", "revision": 1, "program": "p", "order_id": "o", "goal": "lead", "ts": str(AT),
    "received_at": str(AT + 1), "visitors": ["v", "w"], "click_ids": ["c"], "customer_id": "", "coupon": ["SAVE"],
    "channel": "", "amount": "1.0000",
}  # fmt: skip
SALE = Sale("o", AT, "p", "lead", ("v", "w"), ("c",), None, ("SAVE",), None)
READ = Case("id", "p", "o", SALE, AT + 1, False, False, False, {"v": STATE, "w": ""})


def read(version: dict[str, Any], said: Any, **fields: bytes) -> Case:
    """The one case of an entry with these fields besides."""
    lines = {b"conversion_versions": orjson.dumps(version), b"decide": orjson.dumps(said)}
    (found,) = read_cases(lines | {name.encode(): value for name, value in fields.items()})
    return found


def test_a_case_is_read_as_the_edge_writes_it() -> None:
    """A sale, and the touches that the log server put beside it or that the edge had from other shards."""
    both = {"visitors": b"p w\np v", "touches": b"\0" + STATE.encode()}
    assert read(VERSION, {}, **both) == READ
    assert read(VERSION, {}, **both, gap=b"1") == READ._replace(has_gap=True)
    assert read(VERSION, {"states": {"v": STATE, "w": ""}}, gap=b"1") == READ, "it is another shard's"
    assert read(VERSION, {"has_gap": True}, **both) == READ._replace(has_gap=True)
    assert read(VERSION, {"disputed": True}, **both) == READ._replace(is_disputed=True)
    assert read(VERSION | {"revision": 2}, {}, **both) == READ._replace(is_again=True)
    assert read(VERSION, {"states": {"v": STATE}}, visitors=b"p w") == READ
    assert read(VERSION, {"states": {"v": STATE, "w": ""}}) == READ
    assert read(VERSION | {"visitors": []}, {}) == READ._replace(sale=SALE._replace(visitors=()), states={})


def test_where_nothing_is_known_of_a_visitor_there_may_be_touches() -> None:
    """Of another program are not his; nobody's are known where the edge did not ask."""
    assert read(VERSION, {}, visitors=b"p v\nq w", touches=STATE.encode() + b"\0").has_gap
    assert read(VERSION, {}, visitors=b"p w\np v", touches=STATE.encode() + b"\0" + STATE.encode() + b"\0").has_gap
    assert read(VERSION, {}).has_gap


def test_a_sale_beside_which_nothing_is_said_is_not_decided() -> None:
    versions = [orjson.dumps(VERSION | {"conversion_id": id}) for id in "abc"]
    entry = {b"conversion_versions": b"\n".join(versions), b"decide": b"{}\n-\n{}"}
    assert [case.conversion_id for case in read_cases(entry)] == ["a", "c"]
    assert [*read_cases({b"reports": b"{}"})] == []


def test_a_case_that_a_release_before_wrote_is_read_too() -> None:
    """It said everything, and stood in no order with the versions."""
    written = {
        "conversion_id": "id", "revision": 1, "program": "p", "order_id": "o", "goal": "lead", "ts": AT,
        "received_at": AT + 1, "visitors": ["v", "w"], "click_ids": ["c"], "customer_id": None, "coupon": ["SAVE"],
        "channel": None, "disputed": True, "has_gap": False, "states": {"v": STATE, "w": ""},
    }  # fmt: skip
    other = orjson.dumps(VERSION | {"conversion_id": "confirmed before it", "revision": 2, "visitors": ["x"]})
    entry = {b"conversion_versions": other + b"\n" + orjson.dumps(VERSION), b"decide": orjson.dumps(written)}
    assert [*read_cases(entry)] == [READ._replace(is_disputed=True)]


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
