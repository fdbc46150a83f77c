"""What an affiliate sees of a decision: all that became of his own touches, and nothing of anybody else's."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.evidence import KINDS, METHODS, Reason
from console.affiliate_view import seen_by
from console.explain import SENTENCES

HIM = "alice"
RIVALS = ("rival-one", "rival-two", "rival-three")
REASONS = [reason.value for reason in Reason]
LOST = [reason for reason in REASONS if reason != "WON"]


def touch(affiliate: str, number: int, reason: str, kind: str = "click") -> dict[str, Any]:
    return {
        "click_id": f"{affiliate}-click-{number}".ljust(32, "x"),
        "affiliate": affiliate,
        "ts": f"2026-11-22 00:10:30.{number:03}",
        "kind": kind,
        "reason": reason,
    }


def explanation(affiliate: str, method: str, candidates: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What explain.py answers; every text about the buyer and the shop begins with `secret`."""
    won = next((one["click_id"] for one in candidates if one["reason"] == "WON"), "")
    return {
        "program": "shoes",
        "order_id": "o-1",
        "goal": "sale",
        "status": "decided",
        "affiliate": affiliate,
        "method": method,
        "click_id": won,
        "follows": "",
        "candidates": candidates,
        "disputed": False,
        "decided_at": "2026-11-22 00:10:31.000",
        "terms_hash": "secret-terms",
        "versions": [],
        "goals": ["sale", "secret-goal"],
        "reports": [{"source": "secret-source", "click_id": won, "amount": "77.0000"}],
        "sale": {
            "ts": "2026-11-22 00:10:31.000",
            "amount": "77.0000",
            "currency": "XTS",
            "status": "confirmed",
            "customer_id": "secret-customer",
            "visitor": "secret-visitor",
            "visitors": ["secret-visitor"],
            "click_ids": [won],
            "coupon": ["secret-coupon"],
            "channel": "secret-channel",
            "items": "secret-items",
        },
        **more,
    }


@st.composite
def explanations(draw: st.DrawFn) -> dict[str, Any]:
    """Any decision in which anybody may have taken part, with what he was given before."""
    names = st.sampled_from((HIM, *RIVALS))
    losers = draw(st.lists(st.tuples(names, st.sampled_from(LOST), st.sampled_from(KINDS)), max_size=8))
    candidates = [touch(name, n, reason, kind) for n, (name, reason, kind) in enumerate(losers)]
    method = draw(st.sampled_from(METHODS))
    credited = "" if method == "none" else draw(names)
    if method in KINDS or (method == "coupon" and draw(st.booleans())):
        candidates.append(touch(credited, 900, "WON", method if method in KINDS else "click"))
    versions = [
        explanation(name, "click", [touch(name, 950 + n, "WON")], decided_at=f"2026-11-21 00:00:00.{n:03}")
        for n, name in enumerate(draw(st.lists(names, max_size=3)))
    ]
    return explanation(credited, method, candidates, versions=versions, disputed=draw(st.booleans()))


@given(explanations())
def test_nothing_of_anybody_else_is_in_what_he_sees(answer: dict[str, Any]) -> None:
    """Neither ids nor click ids of others, nor the buyer, nor the shop's own matters."""
    text = json.dumps(seen_by(HIM, answer))
    assert "rival" not in text and "secret" not in text
    if answer["affiliate"] != HIM:
        assert "77" not in text and "XTS" not in text and "confirmed" not in text


@given(explanations(), st.permutations(RIVALS), st.data())
def test_he_sees_the_same_whoever_the_others_are_and_however_many(
    answer: dict[str, Any], others: list[str], data: st.DataObject
) -> None:
    """Not even by what is left out can rivals be told apart or counted."""
    text = json.dumps(answer)
    for n, name in enumerate(RIVALS):
        text = text.replace(name, f"name-{n}")
    for n, name in enumerate(others):
        text = text.replace(f"name-{n}", f"{name}-again")
    other = json.loads(text)
    lost = data.draw(st.lists(st.tuples(st.sampled_from(RIVALS), st.sampled_from(LOST)), max_size=4))
    other["candidates"] += [touch(name, 500 + n, reason) for n, (name, reason) in enumerate(lost)]
    other["versions"] += [explanation("rival-one", "coupon", [])]
    assert seen_by(HIM, other) == seen_by(HIM, answer)


@given(explanations())
def test_he_sees_a_sale_only_if_he_has_a_part_in_it(answer: dict[str, Any]) -> None:
    has_part = (
        answer["affiliate"] == HIM
        or any(one["affiliate"] == HIM for one in answer["candidates"])
        or any(one["affiliate"] == HIM for one in answer["versions"])
    )
    assert (seen_by(HIM, answer) is not None) == has_part
    assert seen_by("carol", answer) is None and seen_by("", answer) is None


@given(explanations())
def test_he_sees_every_touch_of_his_with_its_reason_in_words(answer: dict[str, Any]) -> None:
    his = {one["click_id"]: one["reason"] for one in answer["candidates"] if one["affiliate"] == HIM}
    seen = seen_by(HIM, answer)
    shown = seen["touches"] if seen else []
    assert {one["click_id"]: one["reason"] for one in shown} == his
    assert all(one["text"].startswith("Your ") and one["text"].endswith(".") for one in shown)


@given(explanations())
def test_looking_changes_nothing(answer: dict[str, Any]) -> None:
    before = deepcopy(answer)
    seen_by(HIM, answer)
    assert answer == before


def test_whom_it_was_credited_to_sees_what_his_commission_depends_on() -> None:
    answer = explanation(HIM, "click", [touch("bob", 1, "NOT_LAST"), touch(HIM, 2, "WON")])
    assert seen_by(HIM, answer) == {
        "program": "shoes",
        "order_id": "o-1",
        "goal": "sale",
        "status": "decided",
        "affiliate": HIM,
        "credited": True,
        "method": "click",
        "click_id": "alice-click-2".ljust(32, "x"),
        "follows": None,
        "text": "Credited to you, by your click.",
        "sale": {
            "ts": "2026-11-22 00:10:31.000",
            "amount": "77.0000",
            "currency": "XTS",
            "status": "confirmed",
            "disputed": False,
        },
        "touches": [
            {
                "click_id": "alice-click-2".ljust(32, "x"),
                "ts": "2026-11-22 00:10:30.002",
                "kind": "click",
                "reason": "WON",
                "text": "Your click won the sale.",
            }
        ],
        "decided_at": "2026-11-22 00:10:31.000",
        "earlier_credits": [],
    }


def test_whom_it_was_not_credited_to_sees_when_it_was_and_why_not() -> None:
    answer = explanation("bob", "click", [touch(HIM, 1, "NOT_LAST"), touch("bob", 2, "WON")])
    seen = seen_by(HIM, answer)
    assert seen is not None
    assert (seen["credited"], seen["method"], seen["click_id"]) == (False, None, None)
    assert (seen["text"], seen["sale"]) == ("Not credited to you.", {"ts": "2026-11-22 00:10:31.000"})
    assert seen["touches"][0]["text"] == ("Your click was followed by a later one of another affiliate, which won.")


@pytest.mark.parametrize(
    ("credited", "method", "winner", "reason", "words"),
    [
        (HIM, "click", HIM, "NOT_LAST", "was followed by a later one of yours, which won"),
        ("bob", "click", "bob", "NOT_FIRST", "was preceded by an earlier one of another affiliate"),
        (HIM, "click", HIM, "OUTRANKED", "gave way to one of a stronger kind, also yours"),
        ("bob", "coupon", None, "COUPON", "gave way to another affiliate's coupon"),
        ("bob", "coupon", "bob", "COUPON", "gave way to another affiliate's coupon"),
        (HIM, "coupon", None, "COUPON", "gave way to the coupon on the order, which is yours"),
        (
            "bob",
            "click",
            None,
            "FIRST_GOAL",
            "gave way to another affiliate, who was credited with the order's first goal",
        ),
        (HIM, "coupon", None, "FIRST_GOAL", "also yours"),
        ("", "none", None, "CHANNEL", "gave way to a channel of the merchant's own"),
        ("bob", "customer", None, "NOT_LAST", "was followed by a later one."),
        ("bob", "customer", None, "OUT_OF_WINDOW", "had expired"),
    ],
)
def test_the_words_say_whether_he_lost_to_himself(
    credited: str, method: str, winner: str | None, reason: str, words: str
) -> None:
    candidates = [touch(HIM, 1, reason)] + ([touch(winner, 2, "WON")] if winner else [])
    seen = seen_by(HIM, explanation(credited, method, candidates))
    assert seen is not None and words in seen["touches"][0]["text"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reason", REASONS)
def test_there_are_words_for_every_reason_and_kind(reason: str, kind: str) -> None:
    assert reason in SENTENCES
    assert seen_by(HIM, explanation("bob", "coupon", [touch(HIM, 1, reason, kind)]))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])
def test_there_are_words_for_every_method(method: str) -> None:
    seen = seen_by(HIM, explanation(HIM, method, []))
    assert seen is not None and seen["text"].startswith("Credited to you, ") and seen["touches"] == []


def test_a_credit_that_was_taken_from_him_is_still_told() -> None:
    """As when his coupon took the sale before a late click of somebody else's came in."""
    earlier = explanation(HIM, "coupon", [], decided_at="2026-11-21 00:00:00.000")
    answer = explanation("bob", "click", [touch("bob", 2, "WON")], versions=[earlier])
    seen = seen_by(HIM, answer)
    assert seen is not None and (seen["credited"], seen["touches"]) == (False, [])
    assert seen["earlier_credits"] == [{"decided_at": "2026-11-21 00:00:00.000", "method": "coupon"}]


def test_he_sees_which_goal_of_his_a_later_one_follows_and_of_nobody_elses() -> None:
    his = seen_by(HIM, explanation(HIM, "click", [touch(HIM, 1, "OUT_OF_WINDOW")], follows="lead"))
    assert his is not None and his["follows"] == "lead"
    others = seen_by(HIM, explanation("bob", "click", [touch(HIM, 1, "FIRST_GOAL")], follows="lead"))
    assert others is not None and others["follows"] is None and "lead" not in json.dumps(others)


def test_before_it_is_decided_nobody_sees_it() -> None:
    answer = {"program": "shoes", "order_id": "o-1", "goal": "sale", "status": "pending", "versions": [], "sale": {}}
    assert seen_by(HIM, answer) is None
