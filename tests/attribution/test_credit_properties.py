"""What holds of the rule whatever the case, and that a slow model of it agrees in each."""

from collections import Counter
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attribution.cases import read_case
from attribution.credit import Credit, Reason, decide
from attribution.evidence import FLAGS, METHODS
from tests.attribution.drawn_cases import draw_case, draw_touch
from tests.attribution.slow_model import SlowModel

RANDOMS = st.randoms(use_true_random=True)
CASES = RANDOMS.map(draw_case)


def decide_raw(case: dict[str, Any]) -> Credit:
    read = read_case(case)
    return decide(read.sale, read.touches, read.terms, read.affiliates, read.coupons, read.identities, read.credited)


def reasons_of(credit: Credit) -> dict[str, str]:
    return {candidate.touch.click_id: str(candidate.reason) for candidate in credit.candidates}


@settings(max_examples=500, deadline=None)
@given(CASES)
def test_the_rule_and_the_slow_model_agree(case: dict[str, Any]) -> None:
    credit = decide_raw(case)
    assert (credit.affiliate, credit.click_id, credit.method, reasons_of(credit)) == SlowModel(case).decide()


def test_the_drawn_cases_reach_every_reason_and_method() -> None:
    """Else the agreement above would say little."""
    credits = [decide_raw(draw_case(Random(seed))) for seed in range(1500)]
    reached = Counter(reason for credit in credits for reason in reasons_of(credit).values())
    methods = Counter(credit.method for credit in credits)
    assert {reason for reason, times in reached.items() if times >= 5} == set(Reason) - {Reason.FIRST_GOAL}  # stages.py
    assert {method for method, times in methods.items() if times >= 5} == set(METHODS)


@settings(max_examples=150, deadline=None)
@given(CASES, RANDOMS)
def test_the_order_in_which_things_are_told_changes_nothing(case: dict[str, Any], random: Random) -> None:
    shuffled = {
        **case,
        **{key: random.sample(case[key], len(case[key])) for key in ("terms", "touches", "credited")},
    }
    assert decide_raw(shuffled) == decide_raw(case)


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_one_candidate_at_most_has_won_and_it_is_the_credit_s_click(case: dict[str, Any]) -> None:
    credit = decide_raw(case)
    won = [candidate.touch for candidate in credit.candidates if candidate.reason is Reason.WON]
    assert [one.click_id for one in won] == ([] if credit.click_id is None else [credit.click_id])
    assert all(one.affiliate == credit.affiliate for one in won)
    assert (credit.affiliate is None) == (credit.method == "none")


@settings(max_examples=150, deadline=None)
@given(CASES, RANDOMS, st.sampled_from(FLAGS))
def test_a_touch_that_can_t_earn_takes_nothing_from_those_that_can(
    case: dict[str, Any], random: Random, flag: str
) -> None:
    added = draw_touch(random, "added") | {"flags": [flag]}
    more = decide_raw({**case, "touches": [*case["touches"], added]})
    less = decide_raw(case)
    assert (more.affiliate, more.click_id, more.method) == (less.affiliate, less.click_id, less.method)


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_without_its_losers_the_winner_wins_all_the_same(case: dict[str, Any]) -> None:
    """Touches that lost for being beaten have no part in the decision; their visitors stay named.

    But for the late-click guard: there a beaten touch is what makes another's click late.
    """
    credit = decide_raw(case)
    assume(all(candidate.reason not in (Reason.LATE_CLICK, Reason.CONSUMED) for candidate in credit.candidates))
    beaten = {
        candidate.touch.click_id
        for candidate in credit.candidates
        if candidate.reason in (Reason.NOT_LAST, Reason.NOT_FIRST, Reason.OUTRANKED)
    }
    visitors = sorted(SlowModel(case).visitors)
    left = [one for one in case["touches"] if one["click_id"] not in beaten]
    fewer = decide_raw({**case, "touches": left, "sale": {**case["sale"], "visitor": visitors}})
    assert (fewer.affiliate, fewer.method) == (credit.affiliate, credit.method)
