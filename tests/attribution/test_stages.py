"""Several goals of one order (docs/analysts.md), by cases of our own and by properties.

cases/orders.json is a list of orders. A case has `terms`, `affiliates`, `coupons`, `credited` and `touches` as a case
of `lastcookie decide` has, and `goals`: the order's sales in the order in which they are decided, each as `sale` there
(program and order id left out) with `by` (who reported it: `server`, the default, or `browser`), `disputed`, and
`reversed` (wholly, after it was decided). A goal that stands twice is decided again, by what it says then. `expect` has
for each what `decide` prints, with `follows` and `disputed` where these are not '' and false.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.cases import read_case
from attribution.credit import decide, find_visitors
from attribution.evidence import Reason
from attribution.stages import Stage, Staged, follow
from schemas.terms import terms_at

CASES = json.loads((Path(__file__).parent / "cases" / "orders.json").read_text())
NOBODY = {"affiliate": None, "click_id": None, "method": "none", "losers": {}}


def judge(order: dict[str, Any]) -> list[Staged]:
    """The order's goals one after the other."""
    stages: dict[str, Stage] = {}
    answers = []
    common = {key: value for key, value in order.items() if key not in ("name", "goals", "expect")}
    for goal in order["goals"]:
        said = dict(goal)
        is_confirmed, is_disputed = said.pop("by", "server") == "server", said.pop("disputed", False)
        is_reversed = said.pop("reversed", False)
        case = read_case({**common, "sale": {"order_id": "o", **said}})
        sale, terms = case.sale, terms_at(case.terms, case.sale.ts)
        alone = decide(
            sale, case.touches, case.terms, case.affiliates, case.coupons, case.identities, case.credited
        )  # fmt: skip
        names = list(stages)
        before = names[: names.index(sale.goal)] if sale.goal in names else names
        staged = follow(
            alone,
            sale,
            [stages[name] for name in before],
            terms,
            case.affiliates,
            find_visitors(sale, case.touches, terms, case.identities),
            is_confirmed,
            is_disputed,
        )
        credit = staged.credit
        stages[sale.goal] = Stage(
            sale.goal, credit.affiliate, credit.click_id, credit.method, frozenset(sale.visitors), is_confirmed,
            staged.is_disputed, is_reversed,
        )  # fmt: skip
        answers.append(staged)
    return answers


def shown(staged: Staged) -> dict[str, Any]:
    credit = staged.credit
    losers = {c.touch.click_id: c.reason.value for c in credit.candidates if c.reason != Reason.WON}
    answer = {
        "affiliate": credit.affiliate, "click_id": credit.click_id, "method": credit.method, "losers": losers,
    }  # fmt: skip
    if staged.follows:
        answer["follows"] = staged.follows
    if staged.is_disputed:
        answer["disputed"] = True
    return answer


@pytest.mark.parametrize("order", CASES, ids=[order["name"] for order in CASES])
def test_every_order_is_decided_as_expected(order: dict[str, Any]) -> None:
    assert [shown(staged) for staged in judge(order)] == order["expect"]


# Properties


NAMES = ("alice", "bob", "carol")
VISITORS = ("v1", "v2")
AT = st.integers(0, 20)
TOUCHES = st.lists(
    st.fixed_dictionaries(
        {"ts": AT, "affiliate": st.sampled_from(NAMES), "visitor": st.sampled_from(VISITORS)},
        optional={"kind": st.sampled_from(("click", "soft")), "flags": st.just(["bot"])},
    ),
    max_size=6,
).map(lambda touches: [{**touch, "click_id": f"c{number}"} for number, touch in enumerate(touches)])
GOALS = st.lists(
    st.fixed_dictionaries(
        {"ts": AT, "goal": st.sampled_from(("lead", "application", "sale"))},
        optional={
            "visitor": st.sampled_from(VISITORS),
            "coupon": st.just("SAVE"),
            "by": st.sampled_from(("browser", "server")),
            "disputed": st.booleans(),
            "reversed": st.booleans(),
        },
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda goal: goal["goal"],
)
ORDERS = st.fixed_dictionaries(
    {"touches": TOUCHES, "goals": GOALS},
    optional={
        "terms": st.fixed_dictionaries(
            {}, optional={"coupon": st.sampled_from(("fallback", "override")), "rule": st.just("first_cookie")}
        ),
        "coupons": st.just({"SAVE": "carol"}),
        "affiliates": st.dictionaries(st.sampled_from(NAMES), st.fixed_dictionaries({"banned": AT}), max_size=2),
    },
)


def alone(order: dict[str, Any]) -> list[Staged]:
    return judge({**order, "terms": {**order.get("terms", {}), "goals_judged": "alone"}})


@given(ORDERS)
def test_goals_that_follow_have_the_very_credit_that_they_follow(order: dict[str, Any]) -> None:
    answers = judge(order)
    by_goal = {goal["goal"]: staged for goal, staged in zip(order["goals"], answers, strict=True)}
    for place, staged in enumerate(answers):
        if staged.follows:
            assert staged.follows in [goal["goal"] for goal in order["goals"][:place]]
            first = by_goal[staged.follows].credit
            credit = staged.credit
            assert credit.affiliate is not None
            assert (credit.affiliate, credit.click_id, credit.method) == (first.affiliate, first.click_id, first.method)


@given(ORDERS)
def test_what_follows_nothing_is_judged_as_if_alone(order: dict[str, Any]) -> None:
    """And the candidates are the same ones, in the same order, with the same reasons if they could not earn."""
    lost = {Reason.BOT, Reason.AFTER_SALE, Reason.OUT_OF_WINDOW, Reason.AFFILIATE_BANNED}
    for staged, by_itself in zip(judge(order), alone(order), strict=True):
        if not staged.follows:
            assert staged == by_itself
        pairs = list(zip(staged.credit.candidates, by_itself.credit.candidates, strict=True))
        assert all(one.touch == other.touch for one, other in pairs)
        click = staged.credit.click_id
        assert all(
            one.reason == other.reason for one, other in pairs if other.reason in lost and one.touch.click_id != click
        )
        assert sum(one.reason == Reason.WON for one, _ in pairs) <= 1


@given(ORDERS)
def test_the_first_goal_is_never_touched_by_later_ones(order: dict[str, Any]) -> None:
    assert judge(order)[0] == alone(order)[0]
    assert judge({**order, "goals": order["goals"][:1]})[0] == judge(order)[0]


@given(ORDERS)
def test_reported_by_servers_and_by_nobody_banned_an_order_stays_in_one_hand(order: dict[str, Any]) -> None:
    """From the first goal that somebody has."""
    goals = [{k: v for k, v in goal.items() if k not in ("by", "reversed", "disputed")} for goal in order["goals"]]
    answers = judge({**order, "goals": goals, "affiliates": {}})
    hands = [staged.credit.affiliate for staged in answers]
    credited = [hand for hand in hands if hand is not None]
    assert hands[len(hands) - len(credited) :] == credited and len(set(credited)) <= 1


@given(ORDERS)
def test_what_browsers_say_takes_no_sale_that_a_server_reports_for_another_visitor(order: dict[str, Any]) -> None:
    """Whoever can fire the pixel can make up goals: he gets nothing payable, and nothing payable of anybody else."""
    stranger = {"goal": "made up", "ts": 20, "visitor": "x", "by": "browser"}
    touches = [*order["touches"], {"click_id": "x", "ts": 0, "affiliate": "mallory", "visitor": "x"}]
    goals = [{**goal, "by": "server"} for goal in order["goals"]]
    answers = judge({**order, "touches": touches, "goals": [stranger, *goals]})[1:]
    honest = judge({**order, "touches": touches, "goals": goals})
    for staged, otherwise in zip(answers, honest, strict=True):
        if staged.credit.affiliate == "mallory":
            assert staged.is_disputed and (otherwise.credit.affiliate is None or otherwise.is_disputed)
        else:
            assert staged == otherwise
