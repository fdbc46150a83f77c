"""The load test's own judgement: it sees a lost click, a doubled one, and a sale that went to the wrong affiliate."""

import json
from dataclasses import replace
from typing import Any

import pytest

from loadtests.compare import Tables, compare
from loadtests.journal import Journal, read

DONE = [
    {"kind": "click", "click_id": "c1", "reader": "r1", "affiliate": "alice", "flagged": False, "at": 10},
    {"kind": "click", "click_id": "c2", "reader": "r1", "affiliate": "bob", "flagged": False, "at": 20},
    {"kind": "click", "click_id": "c3", "reader": "r1", "affiliate": "alice", "flagged": True, "at": 30},
    {"kind": "click", "click_id": "c4", "reader": "r2", "affiliate": "alice", "flagged": False, "at": 30},
    {"kind": "nameless"},
    {"kind": "order", "order_id": "o1", "reader": "r1", "source": "pixel", "at": 40},
    {"kind": "order", "order_id": "o2", "reader": "r1", "source": "api", "at": 15},
    {"kind": "order", "order_id": "o3", "reader": None, "source": "pixel", "at": 40},
]
TABLES = Tables(
    clicks=[
        ("c1", "alice", False),
        ("c2", "bob", False),
        ("c3", "alice", True),
        ("c4", "alice", False),
        ("c5", "bob", True),
    ],
    credits=[("o1", "bob"), ("o2", "alice"), ("o3", "")],
    decided_seconds=[0.1, 0.2],
    visible_seconds={"o1": 0.3},
    broken=[],
)


def journal(*more: dict[str, Any]) -> Journal:
    return read(json.dumps(entry) for entry in (*DONE, *more))


def wrong(found: Journal, tables: Tables, is_alone: bool = True) -> list[str]:
    """The names of the comparisons that differ."""
    return [row.name for row in compare(found, tables, is_alone) if row.wrong]


def test_the_last_click_before_the_sale_that_may_earn_is_expected_to_win() -> None:
    assert journal().expected() == {"o1": "bob", "o2": "alice", "o3": ""}


def test_a_sale_reported_twice_is_one_sale() -> None:
    again = {"kind": "order", "order_id": "o1", "reader": "r1", "source": "api", "at": 50}
    assert journal(again).orders == journal().orders


def test_tables_that_hold_what_was_done_differ_in_nothing() -> None:
    assert wrong(journal(), TABLES) == []


@pytest.mark.parametrize(
    ("tables", "name"),
    [
        (replace(TABLES, clicks=[*TABLES.clicks, TABLES.clicks[0]]), "clicks acknowledged, stored once"),
        (replace(TABLES, clicks=TABLES.clicks[1:]), "clicks acknowledged, stored once"),
        (replace(TABLES, clicks=[("c1", "bob", False), *TABLES.clicks[1:]]), "clicks with their affiliate and flags"),
        (replace(TABLES, clicks=[("c1", "alice", True), *TABLES.clicks[1:]]), "clicks with their affiliate and flags"),
        (replace(TABLES, clicks=TABLES.clicks[:4]), "clicks in all, prefetches and those without consent too"),
        (replace(TABLES, credits=TABLES.credits[:2]), "sales acknowledged, credited once"),
        (replace(TABLES, credits=[*TABLES.credits, ("o1", "bob")]), "sales acknowledged, credited once"),
        (replace(TABLES, credits=[*TABLES.credits, ("o9", "bob")]), "sales acknowledged, credited once"),
        (replace(TABLES, credits=[("o1", "alice"), *TABLES.credits[1:]]), "sales credited to the last cookie"),
        (replace(TABLES, credits=[*TABLES.credits[:2], ("o3", "bob")]), "sales credited to the last cookie"),
        (replace(TABLES, decided_seconds=[0.1, 2.1]), "sales decided within 2 s of their receipt (p99)"),
        (replace(TABLES, visible_seconds={"o1": 2.1}), "credits readable within 2 s (p99)"),
        (replace(TABLES, broken=["a hole"]), "invariants of `lastcookie check`"),
    ],
)
def test_every_difference_is_seen(tables: Tables, name: str) -> None:
    assert name in wrong(journal(), tables)


def test_a_request_answered_otherwise_than_expected_is_a_difference() -> None:
    assert wrong(journal({"kind": "failure", "what": "GET /c/boots: 500"}), TABLES) == ["requests answered as expected"]


def test_beside_others_only_what_was_done_here_is_compared() -> None:
    """On a system that others use too, the tables may hold more clicks."""
    theirs = replace(TABLES, clicks=[*TABLES.clicks, ("c9", "bob", False)])
    assert wrong(journal(), theirs, is_alone=False) == []


def test_of_many_differences_some_are_named_and_the_others_counted() -> None:
    rows = compare(journal(*({"kind": "failure", "what": str(n)} for n in range(1200))), TABLES, True)
    assert rows[0].wrong == ["0", "1", "2", "3", "4", "and 1,195 more"]
