"""Replay: every decision of a period again, in the order in which they were made, by the one rule.

To verify, a sale is decided from what was known then, and must come out as it is stored; where a click or a report
came later, it is decided again at that moment, as it should have been, and must come out the same unless there is a
newer version. To ask what if, it is decided under other terms, and the sales after it see that credit instead of the
one that was given. A sale whose visitor has been forgotten stays as it is. What it reads is written by
replay_source.py; what comes out is put together by replay_report.py. Called by the command line.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

from attribution.credit import Credit, PastCredit, decide, find_visitors
from attribution.replay_differences import (
    Difference,
    Why,
    dispute_difference,
    find_difference,
    new_click,
    outcome,
    outcome_difference,
    stored_outcome,
)
from attribution.replay_evidence import (
    Decision,
    Evidence,
    arrivals,
    evidence_at,
    evidence_then,
    newest_then,
)
from attribution.replay_history import History, Outcome, PastCredits
from attribution.stages import follow
from schemas.terms import Terms, terms_at
from schemas.version import JUDGED_ALONE

_Order = tuple[str, str]
_AGAIN_AFTER_MS = 1000
"""How long after a late click or report a worker has decided the sale again, and others that the same one concerns."""


class Interrupted(Exception):
    """The lines ended before their end."""


class Judged(NamedTuple):
    """A decision in force, judged: what differs, or what other terms would give (None where that cannot be said)."""

    decision: Decision
    credit: Credit | None
    difference: Difference | None


@dataclass
class Extent:
    """How many decisions the lines announce: versions of sales in the period, in force or not."""

    decisions: int = 0


def replay(lines: Iterable[Any], changes: Mapping[str, Any] | None, extent: Extent | None = None) -> Iterator[Judged]:
    """Judge what the parsed lines of a `Source` hold. `changes` None verifies, else it asks what if.

    One `Judged` for each sale in the period, when nothing more can come of it. Raises Interrupted where the lines are
    not complete.
    """
    history = History(changes)
    with closing(PastCredits()) as past:
        judge = _Verify(history, past) if changes is None else _WhatIf(history, past)
        judge.is_asked_of_goals = "goals_judged" in (changes or {})
        section = ""
        for line in lines:
            if isinstance(line, dict):
                section = line["section"]
                if section == "entities":
                    judge.with_past = frozenset(line["history"])
                    judge.with_stages = frozenset(line["stages"])
                    if extent is not None:
                        extent.decisions = line["decisions"]
            elif section == "entities":
                history.add(line)
            else:
                decision = Decision(*line)
                yield from judge.catch_up(decision.decided_at)
                history.advance(decision.decided_at)
                yield from judge.take(decision)
        if section != "end":
            raise Interrupted("the answer broke off")
        yield from judge.catch_up(None)


@dataclass
class _Open:
    """A sale in force about which something came after it was decided, and when."""

    decision: Decision
    arrivals: list[int]
    merge_within_ms: int
    judged_at: int


class _Judge(ABC):
    """What verifying and asking share: the rule, and that a sale is decided again when something comes late."""

    def __init__(self, history: History, past: PastCredits) -> None:
        self.with_past: frozenset[str] = frozenset()
        self.with_stages: frozenset[str] = frozenset()
        self.is_asked_of_goals = False
        self._history = history
        self._past = past
        self._waiting: list[tuple[int, int, _Open]] = []
        self._unsettled: dict[_Order, dict[str, int]] = {}
        self._parked: dict[_Order, list[_Open]] = {}
        self._count = 0

    @abstractmethod
    def take(self, decision: Decision) -> Iterator[Judged]:
        """The next decision in order."""

    @abstractmethod
    def _again(self, opened: _Open, at: int) -> Iterator[Judged]:
        """Something about a sale has come by `at`."""

    def catch_up(self, until: int | None) -> Iterator[Judged]:
        """Decide again what was waiting for a time before `until`, or at all."""
        while self._waiting and (until is None or self._waiting[0][0] < until):
            at, _, opened = heappop(self._waiting)
            self._history.advance(at)
            yield from self._again(opened, at)
        if until is None and self._parked:  # of what they waited for no more is in the lines
            self._unsettled.clear()
            for opened in [one for parked in self._parked.values() for one in parked]:
                opened.arrivals.append(opened.judged_at)
                self._wait(opened)
            self._parked.clear()
            yield from self.catch_up(None)

    def _open(self, decision: Decision) -> _Open:
        """With what came later; nothing may have."""
        merge_within_ms = terms_at(self._terms(decision), decision.ts).merge_within
        return _Open(decision, arrivals(decision, merge_within_ms), merge_within_ms, decision.decided_at)

    def _is_kept(self, opened: _Open, at: int) -> bool:
        """Judged at `at`, keep a sale in mind if more may come of it: something late, or from the goal it follows."""
        opened.judged_at = at
        order = opened.decision.program, opened.decision.order_id
        if opened.arrivals:
            self._wait(opened)
        elif self._may_follow(opened.decision) and any(
            seq < opened.decision.first_seq for seq in self._unsettled.get(order, {}).values()
        ):
            self._parked.setdefault(order, []).append(opened)
        else:
            return False
        return True

    def _note(self, decision: Decision, outcome: Outcome, is_disputed: bool, at: int, *, is_settled: bool) -> None:
        """A goal of an order is decided now: those that may follow it are to be judged again."""
        if decision.program not in self.with_stages:
            return
        self._past.add_stage(decision, outcome, is_disputed)
        order = decision.program, decision.order_id
        unsettled = self._unsettled.setdefault(order, {})
        unsettled.pop(decision.goal, None)
        if not is_settled:
            unsettled[decision.goal] = decision.first_seq
        elif not unsettled:
            del self._unsettled[order]
        for opened in self._parked.pop(order, []):
            if opened.decision.first_seq > decision.first_seq:
                opened.arrivals.append(at)
                self._wait(opened)
            else:
                self._parked.setdefault(order, []).append(opened)

    def _wait(self, opened: _Open) -> None:
        self._count += 1
        heappush(self._waiting, (opened.arrivals.pop(0) + _AGAIN_AFTER_MS, self._count, opened))

    def _terms(self, decision: Decision) -> tuple[Terms, ...]:
        return self._history.catalog.terms(decision.program)

    def _may_follow(self, decision: Decision) -> bool:
        """Whether another goal of its order may say who gets this sale, by the rule that it was decided by."""
        if decision.program not in self.with_stages:
            return False
        is_known = self.is_asked_of_goals or decision.engine_version not in JUDGED_ALONE
        return is_known and terms_at(self._terms(decision), decision.ts).goals_judged == "first"

    def _decide(self, decision: Decision, evidence: Evidence, at: int) -> tuple[Credit, Evidence]:
        """The credit, and the evidence as it is among the goals of the order: disputed or not."""
        credit = self._decide_alone(decision, evidence, at)
        stages, sale = self._past.of_order(decision, at) if self._may_follow(decision) else [], evidence.sale
        if not stages:
            return credit, evidence
        terms = terms_at(self._terms(decision), sale.ts)
        staged = follow(
            credit,
            sale,
            stages,
            terms,
            self._history.catalog.affiliates(decision.program),
            find_visitors(sale, evidence.touches, terms, evidence.identities),
            evidence.is_confirmed,
            evidence.is_disputed,
        )
        return staged.credit, evidence._replace(is_disputed=staged.is_disputed)

    def _decide_alone(self, decision: Decision, evidence: Evidence, at: int) -> Credit:
        catalog, program = self._history.catalog, decision.program
        return decide(
            evidence.sale,
            evidence.touches,
            catalog.terms(program),
            catalog.affiliates(program),
            catalog.coupons(program),
            evidence.identities,
            self._credited(decision, evidence, at),
        )

    def _credited(self, decision: Decision, evidence: Evidence, at: int) -> list[PastCredit]:
        sale = evidence.sale
        repeat = terms_at(self._terms(decision), sale.ts).repeat
        if repeat == "once":
            return self._past.of_clicks(decision.program, [touch.click_id for touch in evidence.touches], at)
        if repeat == "customer" and sale.customer_id is not None:
            return self._past.of_customer(decision.program, sale.customer_id, at)
        return []


class _Verify(_Judge):
    """Each decision by itself: what was credited before it is taken as it is stored."""

    def take(self, decision: Decision) -> Iterator[Judged]:
        is_settled = bool(decision.is_last)
        if decision.is_judged and decision.is_last:
            is_known = not decision.is_forgotten
            difference = self._verify(decision) if is_known else None
            if is_known and difference is None and self._is_kept(self._open(decision), decision.decided_at):
                is_settled = False
            else:
                yield Judged(decision, None, difference)
        if decision.program in self.with_past:
            self._past.add(decision)
        self._note_stored(decision, decision.decided_at, is_settled=is_settled)

    def _verify(self, decision: Decision) -> Difference | None:
        if not decision.revisions:
            return Difference("order_id", decision.order_id, "", Why.SALE_GONE)
        evidence = evidence_then(decision)
        credit, evidence = self._decide(decision, evidence, decision.decided_at)
        difference = find_difference(decision, evidence, credit, self._terms(decision))
        if difference is not None and outcome(credit) == stored_outcome(decision):
            # A report that came before the decision but changed nothing about it has made no version of its own.
            for back in range(1, newest_then(decision) + 1):
                before = evidence_then(decision, back)
                credit, before = self._decide(decision, before, decision.decided_at)
                if find_difference(decision, before, credit, self._terms(decision)) is None:
                    return None
        return difference

    def _again(self, opened: _Open, at: int) -> Iterator[Judged]:
        """The sale should have been decided again, and was not: it must come out as it stands."""
        decision = opened.decision
        evidence = evidence_at(decision, at, opened.merge_within_ms)
        credit, evidence = self._decide(decision, evidence, at)
        difference = None
        if outcome(credit) != stored_outcome(decision):
            click = new_click(decision, credit)
            why = Why.REPORT_NOT_THERE_THEN if click is None else Why.CLICK_NOT_THERE_THEN
            difference = outcome_difference(decision, credit, why, click)
        difference = difference or dispute_difference(decision, evidence, Why.REPORT_NOT_THERE_THEN)
        is_kept = difference is None and self._is_kept(opened, at)
        if not is_kept:
            yield Judged(decision, None, difference)
        self._note_stored(decision, at, is_settled=not is_kept)

    def _note_stored(self, decision: Decision, at: int, *, is_settled: bool) -> None:
        self._note(decision, stored_outcome(decision), bool(decision.disputed), at, is_settled=is_settled)


class _WhatIf(_Judge):
    """One after the other: a sale sees the credits that were given before it under the other terms.

    Evidence that came later and changed nothing then may change something now: then the sale is decided again, too.
    """

    def take(self, decision: Decision) -> Iterator[Judged]:
        is_decided = decision.is_judged and decision.revisions and not decision.is_forgotten
        if not is_decided:
            if decision.program in self.with_past:
                self._past.add(decision)
            given, at = stored_outcome(decision), decision.decided_at
            self._note(decision, given, bool(decision.disputed), at, is_settled=bool(decision.is_last))
        if is_decided:
            yield from self._judge(self._open(decision), evidence_then(decision), decision.decided_at)
        elif decision.is_judged and decision.is_last:
            yield Judged(decision, None, None)

    def _again(self, opened: _Open, at: int) -> Iterator[Judged]:
        yield from self._judge(opened, evidence_at(opened.decision, at, opened.merge_within_ms), at)

    def _judge(self, opened: _Open, evidence: Evidence, at: int) -> Iterator[Judged]:
        decision = opened.decision
        credit, evidence = self._decide(decision, evidence, at)
        if decision.program in self.with_past:
            self._past.add_instead(decision, credit, evidence.sale.ts, is_again=at > decision.decided_at)
        is_done = decision.is_last and not self._is_kept(opened, at)
        if is_done:
            yield Judged(decision, credit, None)
        self._note(decision, outcome(credit), evidence.is_disputed, at, is_settled=bool(is_done))
