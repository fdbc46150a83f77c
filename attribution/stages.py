"""The stages of one order: a later goal goes where the order's first goal went (`goals_judged = "first"`).

A lead becomes an application and then a contract, under one order id and three goals. Whoever brought the lead has
brought the contract, whatever was clicked in between: the later goal takes over affiliate, click and method. `follow`
is the rule, pure; docs/analysts.md says it in words ("Several goals of one order"). What is left out: judging a goal by
itself (credit.py), and finding an order's goals (goals.py, replay_history.py). Called by the worker and by replay.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from attribution.evidence import Affiliate, Candidate, Credit, Reason, Sale
from schemas.terms import Terms


class Stage(NamedTuple):
    """A goal of the order that was decided before, with its credit in force.

    `visitors` are those that its reports name; `is_confirmed`: a server has reported it, not browsers alone.
    """

    goal: str
    affiliate: str | None
    click_id: str | None
    method: str
    visitors: frozenset[str] = frozenset()
    is_confirmed: bool = False
    is_disputed: bool = False
    is_reversed: bool = False

    @property
    def is_believed(self) -> bool:
        """Whether more stands behind it than browsers. Anybody may report a goal that he makes up, with his cookie."""
        return self.is_confirmed and not self.is_disputed


class Staged(NamedTuple):
    """The credit of a goal among the others of its order.

    `follows` is the goal whose credit it has taken over, '' where it was judged by itself.
    """

    credit: Credit
    is_disputed: bool
    follows: str = ""


_COULD_EARN = frozenset(
    (Reason.WON, Reason.OUTRANKED, Reason.NOT_LAST, Reason.NOT_FIRST, Reason.CHANNEL, Reason.COUPON)
)


def follow(
    alone: Credit,
    sale: Sale,
    stages: Sequence[Stage],
    terms: Terms,
    affiliates: Mapping[str, Affiliate],
    visitors: Collection[str],
    is_confirmed: bool,
    is_disputed: bool,
) -> Staged:
    """The credit of this sale, given what it is when judged `alone`, and the order's goals decided before it, in order.

    `terms` are those at the sale; `visitors` are all of the sale's (`find_visitors`), of which the sale names some;
    `is_confirmed` and `is_disputed` are the sale's own.
    """
    if terms.goals_judged != "first":
        return Staged(alone, is_disputed)
    has_evidence = is_confirmed and (bool(sale.visitors) or alone.affiliate is not None)
    leading = [stage for stage in stages if _leads(stage, sale, terms, affiliates, visitors, has_evidence)]
    if not leading:
        return Staged(alone, is_disputed)
    first = min(leading, key=_doubts)  # of equals the earliest
    is_sure = first.is_believed or _shares_visitor(first, sale)
    candidates = tuple(one._replace(reason=reason_behind(one, first.click_id)) for one in alone.candidates)
    credit = Credit(first.affiliate, first.click_id, first.method, candidates)
    return Staged(credit, is_disputed or first.is_disputed or not is_sure, first.goal)


def _leads(
    stage: Stage,
    sale: Sale,
    terms: Terms,
    affiliates: Mapping[str, Affiliate],
    visitors: Collection[str],
    has_evidence: bool,
) -> bool:
    """Whether this sale may follow that goal: somebody has it, may have this sale too, and it is to be believed.

    `has_evidence`: a server has said what could credit this sale.
    """
    if stage.affiliate is None or stage.is_reversed:
        return False
    standing = affiliates.get(stage.affiliate, Affiliate())
    if standing.banned is not None and standing.banned <= sale.ts:
        return False
    is_own = sale.customer_id in standing.customers or not standing.visitors.isdisjoint(visitors)
    if is_own and terms.self_referral == "reject":
        return False
    return stage.is_believed or not has_evidence or _shares_visitor(stage, sale)


def _doubts(stage: Stage) -> tuple[bool, bool]:
    """What a server has reported comes before what browsers say, even where it is disputed."""
    return not stage.is_believed, not stage.is_confirmed


def _shares_visitor(stage: Stage, sale: Sale) -> bool:
    return not stage.visitors.isdisjoint(sale.visitors)


def reason_behind(candidate: Candidate, click_id: str | None) -> Reason:
    """What becomes of a candidate where the sale follows a goal that this click has won: the click has won again,
    whatever it would be by now, and what could have earned gives way."""
    if candidate.touch.click_id == click_id:
        return Reason.WON
    return Reason.FIRST_GOAL if candidate.reason in _COULD_EARN else candidate.reason
