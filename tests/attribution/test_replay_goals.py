"""Replay of several goals of one order, on histories built by hand in real tables."""

from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pytest

from attribution.replay import Judged, replay
from attribution.replay_source import session
from schemas.what_if import read_changes
from tests.past import DAY, HOUR, NOW, Past

Given = tuple[str, str, str]


@pytest.fixture
def past(tables: Any, engine_dsn: str) -> Iterator[Past]:
    """Alice brings the visitor, a lead is reported on the first day, then bob's click, and a contract on the tenth."""
    reader = clickhouse_connect.get_client(dsn=engine_dsn, database=tables.database, settings=session(10**9, 1))
    built = Past(tables, reader)
    built.program(-100 * DAY, {"from": -100 * DAY})
    for name in ("alice", "bob"):
        built.affiliate(-100 * DAY, name)
    built.click(0, "a1", "alice")
    built.click(2 * DAY, "b1", "bob")
    built.report(DAY, "o", goal="lead", status="confirmed")
    built.report(10 * DAY, "o", goal="sale", status="confirmed")
    yield built
    reader.close()


def judged(past: Past, *settings: str, **question: Any) -> dict[str, Judged]:
    """By goal."""
    changes = read_changes(settings) if settings else None
    return {one.decision.goal: one for one in replay(past.lines(changes=changes, **question), changes)}


def given(past: Past, *settings: str, **question: Any) -> dict[str, Given]:
    credits = {goal: one.credit for goal, one in judged(past, *settings, **question).items()}
    return {goal: (c.affiliate or "", c.click_id or "", c.method) for goal, c in credits.items() if c}


def decide_lead(past: Past, **more: Any) -> None:
    past.decided(DAY + 20, "o", "alice", "a1", goal="lead", sold=DAY, candidates=[("a1", 0, "WON")], **more)


def decide_sale(past: Past, affiliate: str, click_id: str, **more: Any) -> None:
    reasons = {"alice": ("WON", "FIRST_GOAL"), "bob": ("NOT_LAST", "WON")}[affiliate]
    named = [("a1", 0, reasons[0]), ("b1", 2 * DAY, reasons[1])]
    past.decided(10 * DAY + 20, "o", affiliate, click_id, goal="sale", sold=10 * DAY, candidates=named, **more)


ALICE, BOB = ("alice", "a1", "click"), ("bob", "b1", "click")


def test_a_goal_that_followed_the_first_has_no_difference_and_alone_it_would_change_hands(past: Past) -> None:
    decide_lead(past)
    decide_sale(past, "alice", "a1", follows="lead")
    assert past.verify() == []
    assert given(past, "goals_judged=alone") == {"lead": ALICE, "sale": BOB}
    assert given(past, "window=30d") == {"lead": ALICE, "sale": ALICE}
    assert given(past, "window=12h") == {"lead": ("", "", "none"), "sale": ("", "", "none")}


def test_a_goal_that_should_have_followed_is_a_difference(past: Past) -> None:
    decide_lead(past)
    decide_sale(past, "bob", "b1")
    (row,) = past.verify()
    assert (row["goal"], row["field"], row["stored"], row["replayed"]) == ("sale", "affiliate", "bob", "alice")


def test_what_an_engine_decided_that_judged_alone_stands(past: Past) -> None:
    """Its terms lack the key, and their hash is what it was; asked of other keys it is judged as then."""
    decide_lead(past, engine_version="0.1.0")
    decide_sale(past, "bob", "b1", engine_version="0.1.0")
    assert past.verify() == []
    assert given(past, "window=30d") == {"lead": ALICE, "sale": BOB}
    assert given(past, "goals_judged=first") == {"lead": ALICE, "sale": ALICE}


def test_a_later_engine_follows_what_the_older_one_decided(past: Past) -> None:
    decide_lead(past, engine_version="0.1.0")
    decide_sale(past, "alice", "a1", follows="lead")
    assert past.verify() == []


def test_the_first_goal_may_lie_before_the_period_that_is_asked_about(past: Past) -> None:
    """And the click that it won before all that could have earned in the period."""
    decide_lead(past)
    decide_sale(past, "alice", "a1", follows="lead")
    past.report(90 * DAY, "o", goal="renewal", status="confirmed")
    past.decided(
        90 * DAY + 20, "o", "alice", "a1", goal="renewal", sold=90 * DAY, follows="lead", candidates=[("a1", 0, "WON")]
    )
    assert past.verify() == []
    assert past.verify(from_ms=NOW + 80 * DAY) == []
    assert given(past, "repeat=window", from_ms=NOW + 80 * DAY) == {"renewal": ALICE}
    assert judged(past, from_ms=NOW + 80 * DAY).keys() == {"renewal"}


def test_when_the_first_is_decided_again_those_after_it_must_have_been(past: Past) -> None:
    """A late click takes the lead for bob, and the upsell, which another visitor made, was left with alice."""
    past.click(DAY - HOUR, "b0", "bob", received=11 * DAY)
    decide_lead(past)
    past.report(9 * DAY, "o", goal="upsell", visitors=["w"], status="confirmed")
    past.decided(9 * DAY + 20, "o", "alice", "a1", goal="upsell", sold=9 * DAY, follows="lead", candidates=[])
    past.decided(11 * DAY + 50, "o", "bob", "b0", goal="lead", sold=DAY)
    (row,) = past.verify()
    assert (row["goal"], row["stored"], row["replayed"]) == ("upsell", "alice", "bob")
    past.decided(11 * DAY + 50, "o", "bob", "b0", goal="upsell", sold=9 * DAY, follows="lead", tie=1, candidates=[])
    assert past.verify() == []
    assert past.verify(as_of=NOW + 11 * DAY - 1) == []


def test_what_if_the_first_changes_by_a_late_click_those_after_it_change_with_it(past: Past) -> None:
    """With the first cookie the late click lost; with the last it wins, and the upsell of another visitor follows."""
    past.program(-50 * DAY, {"from": -100 * DAY, "rule": "first_cookie"})
    past.click(DAY - HOUR, "b0", "bob", received=11 * DAY)
    decide_lead(past)
    past.report(9 * DAY, "o", goal="upsell", visitors=["w"], status="confirmed")
    past.decided(9 * DAY + 20, "o", "alice", "a1", goal="upsell", sold=9 * DAY, follows="lead", candidates=[])
    assert past.verify() == []
    took = ("bob", "b0", "click")
    assert given(past, "rule=last_cookie") == {"lead": took, "upsell": took}


def test_a_goal_that_is_judged_alone_is_not_judged_again_with_the_first(past: Past) -> None:
    """Its click has earned another order since, which is dated back: judged again, it would have nobody."""
    past.program(-50 * DAY, {"from": -100 * DAY, "goals_judged": "alone", "repeat": "once"}, {"from": 50 * DAY})
    past.click(DAY - HOUR, "b0", "bob", received=11 * DAY)
    decide_lead(past)
    decide_sale(past, "bob", "b1")
    past.report(9 * DAY, "o2", received=10 * DAY + HOUR)
    past.decided(10 * DAY + HOUR + 20, "o2", "bob", "b1", sold=9 * DAY, candidates=[("b1", 2 * DAY, "WON")])
    past.click(5 * DAY, "c1", "carol", "w")
    past.report(8 * DAY, "o", goal="upsell", visitors=["w"], status="confirmed")
    past.decided(10 * DAY + HOUR + 30, "o", "carol", "c1", goal="upsell", sold=8 * DAY)
    past.report(7 * DAY, "o3", received=10 * DAY + 2 * HOUR, goal="upsell", visitors=["w"])
    past.decided(10 * DAY + 2 * HOUR + 20, "o3", "carol", "c1", goal="upsell", sold=7 * DAY)
    past.decided(11 * DAY + 50, "o", "bob", "b0", goal="lead", sold=DAY)
    assert [row for row in past.verify() if row["goal"] == "upsell"] == []


def test_a_reversed_goal_and_a_strangers_lead_nobody(past: Past) -> None:
    decide_lead(past)
    past.reverse(5 * DAY, "o", "lead")
    past.click(0, "x1", "carol", "x")
    past.report(6 * DAY, "o", goal="made-up", visitors=["x"])
    past.decided(6 * DAY + 20, "o", "carol", "x1", goal="made-up", sold=6 * DAY)
    decide_sale(past, "bob", "b1")
    assert past.verify() == []
    assert given(past, "window=30d")["sale"] == BOB


def test_who_was_banned_in_between_does_not_lead(past: Past) -> None:
    decide_lead(past)
    past.affiliate(5 * DAY, "alice", banned=5 * DAY)
    past.decided(
        10 * DAY + 20, "o", "bob", "b1", goal="sale", sold=10 * DAY,
        candidates=[("a1", 0, "AFFILIATE_BANNED"), ("b1", 2 * DAY, "WON")],
    )  # fmt: skip
    assert past.verify() == []
