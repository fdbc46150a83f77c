"""Replay: every decision of a period again, in the order in which they were made, by the one rule.

To verify, a sale is decided from what was known then, and must come out as it is stored; then from all that is known
now, so that a click which came too late to be counted is found. To ask what if, it is decided under other terms, and
the sales after it see that credit instead of the one that was given. What it reads is written by replay_source.py;
what comes out is put together by replay_report.py. Called by the command line.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from attribution.credit import CHECKS, Candidate, Credit, PastCredit, decide
from attribution.replay_evidence import (
    Decision,
    Evidence,
    Named,
    evidence_now,
    evidence_then,
    has_more_now,
    newest_then,
)
from attribution.replay_history import History, PastCredits
from schemas.terms import Terms, terms_at, terms_hash
from schemas.version import ENGINE_VERSION

_CANNOT_EARN = frozenset(reason for reason, _ in CHECKS)
_NOT_GATHERED = frozenset(("AFTER_SALE", "OUT_OF_WINDOW"))
"""Reasons of candidates that can be no matter what: their touches need not have been read."""


class Interrupted(Exception):
    """The lines ended before their end."""


class Why(StrEnum):
    """How a decision and its replay can come to differ."""

    CLICK_NOT_THERE_THEN = "CLICK_NOT_THERE_THEN"
    REPORT_NOT_THERE_THEN = "REPORT_NOT_THERE_THEN"
    CLICK_GONE = "CLICK_GONE"
    SALE_GONE = "SALE_GONE"
    DECIDED_OTHERWISE = "DECIDED_OTHERWISE"


class Click(NamedTuple):
    """A click that explains a difference; received_at is 0 where it is in no table."""

    click_id: str
    affiliate: str
    ts: int
    received_at: int


@dataclass(frozen=True)
class Difference:
    """Where a decision is not what its replay gives: the first column that differs, both values, and why."""

    field: str
    stored: str
    replayed: str
    why: Why
    click: Click | None = None


class Judged(NamedTuple):
    """A decision in force, decided again. `credit` is None where that could not be done."""

    decision: Decision
    credit: Credit | None
    difference: Difference | None


@dataclass
class Extent:
    """How many decisions the lines announce: versions of sales in the period, in force or not."""

    decisions: int = 0


def replay(lines: Iterable[Any], changes: Mapping[str, Any] | None, extent: Extent | None = None) -> Iterator[Judged]:
    """Judge what the parsed lines of a `Source` hold. `changes` None verifies, else it asks what if.

    One `Judged` for each sale in the period. Raises Interrupted where the lines are not complete.
    """
    history = History(changes)
    with closing(PastCredits()) as past:
        judge = _WhatIf(history, past) if changes is not None else _Verify(history, past)
        section = ""
        with_past: frozenset[str] = frozenset()
        for line in lines:
            if isinstance(line, dict):
                section = line["section"]
                if section == "entities":
                    with_past = frozenset(line["history"])
                    if extent is not None:
                        extent.decisions = line["decisions"]
            elif section == "entities":
                history.add(line)
            else:
                decision = Decision(*line)
                history.advance(decision.decided_at)
                judged = judge.judge(decision, decision.program in with_past)
                if judged is not None:
                    yield judged
        if section != "end":
            raise Interrupted("the answer broke off")


class _Judge:
    """What verifying and asking share."""

    def __init__(self, history: History, past: PastCredits) -> None:
        self._history = history
        self._past = past

    def _terms(self, decision: Decision) -> tuple[Terms, ...]:
        return self._history.catalog.terms(decision.program)

    def _decide(self, decision: Decision, evidence: Evidence) -> Credit:
        catalog, program = self._history.catalog, decision.program
        return decide(
            evidence.sale,
            evidence.touches,
            catalog.terms(program),
            catalog.affiliates(program),
            catalog.coupons(program),
            evidence.identities,
            self._credited(decision, evidence),
        )

    def _credited(self, decision: Decision, evidence: Evidence) -> list[PastCredit]:
        sale, at = evidence.sale, decision.decided_at
        repeat = terms_at(self._terms(decision), sale.ts).repeat
        if repeat == "once":
            return self._past.of_clicks(decision.program, [touch.click_id for touch in evidence.touches], at)
        if repeat == "customer" and sale.customer_id is not None:
            return self._past.of_customer(decision.program, sale.customer_id, at)
        return []


class _Verify(_Judge):
    """Each decision by itself: what was credited before it is taken as it is stored."""

    def judge(self, decision: Decision, is_remembered: bool) -> Judged | None:
        judged = self._verify(decision) if decision.is_judged and decision.is_last else None
        if is_remembered:
            self._past.add(decision)
        return judged

    def _verify(self, decision: Decision) -> Judged:
        if not decision.revisions:
            return Judged(decision, None, Difference("order_id", decision.order_id, "", Why.SALE_GONE))
        evidence = evidence_then(decision)
        credit = self._decide(decision, evidence)
        difference = _difference(decision, evidence, credit, self._terms(decision))
        if difference is not None and _outcome(credit) == _stored_outcome(decision):
            # A report that came before the decision but changed nothing about it has made no version of its own.
            for back in range(1, newest_then(decision) + 1):
                before = evidence_then(decision, back)
                if _difference(decision, before, self._decide(decision, before), self._terms(decision)) is None:
                    difference = None
                    break
        return Judged(decision, credit, difference or self._find_late(decision, evidence))

    def _find_late(self, decision: Decision, then: Evidence) -> Difference | None:
        """Whether something that came after the decision would have changed it, and should have."""
        merge_within_ms = terms_at(self._terms(decision), then.sale.ts).merge_within
        if not has_more_now(decision, merge_within_ms):
            return None
        evidence = evidence_now(decision, merge_within_ms)
        credit = self._decide(decision, evidence)
        if _outcome(credit) == _stored_outcome(decision):
            return None
        click = _new_click(decision, credit)
        why = Why.CLICK_NOT_THERE_THEN if click is not None else Why.REPORT_NOT_THERE_THEN
        return _outcome_difference(decision, credit, why, click)


class _WhatIf(_Judge):
    """One after the other: a sale sees the credits that were given before it under the other terms."""

    def judge(self, decision: Decision, is_remembered: bool) -> Judged | None:
        if not decision.is_judged or not decision.revisions:
            if is_remembered:
                self._past.add(decision)
            return Judged(decision, None, None) if decision.is_judged and decision.is_last else None
        evidence = self._evidence(decision)
        credit = self._decide(decision, evidence)
        if is_remembered:
            self._past.add(decision, credit, evidence.sale.ts)
        return Judged(decision, credit, None) if decision.is_last else None

    def _evidence(self, decision: Decision) -> Evidence:
        """What counts by the end: under other terms, evidence that changed nothing then may change something."""
        if not decision.is_last:
            return evidence_then(decision)
        return evidence_now(decision, terms_at(self._terms(decision), decision.ts).merge_within)


# What differs


def _outcome(credit: Credit) -> tuple[str, str, str]:
    return credit.affiliate or "", credit.click_id or "", credit.method


def _stored_outcome(decision: Decision) -> tuple[str, str, str]:
    return decision.affiliate, decision.click_id, decision.method


def _difference(
    decision: Decision, evidence: Evidence, credit: Credit, versions: tuple[Terms, ...]
) -> Difference | None:
    """The first column in which the stored decision is another than this credit, None where there is none."""
    if _outcome(credit) != _stored_outcome(decision):
        gone = _gone_click(decision, evidence)
        if gone is not None:
            return _outcome_difference(decision, credit, Why.CLICK_GONE, gone)
        click = _new_click(decision, credit)
        why = Why.DECIDED_OTHERWISE if click is None else Why.CLICK_NOT_THERE_THEN
        return _outcome_difference(decision, credit, why, click)
    if evidence.sale.ts != decision.ts:
        return Difference("ts", str(decision.ts), str(evidence.sale.ts), Why.DECIDED_OTHERWISE)
    digest = _terms_hash(terms_at(versions, decision.ts))
    if digest != decision.terms_hash and decision.engine_version == ENGINE_VERSION:
        return Difference("terms_hash", decision.terms_hash, digest, Why.DECIDED_OTHERWISE)
    return _candidate_difference(decision, evidence, credit)


@lru_cache(maxsize=10_000)
def _terms_hash(terms: Terms) -> str:
    return terms_hash(terms)


def _candidate_difference(decision: Decision, evidence: Evidence, credit: Credit) -> Difference | None:
    """A candidate that the decision names with another reason, or that is in no table."""
    if not decision.candidates:
        return None
    reasons = {candidate.touch.click_id: candidate.reason for candidate in credit.candidates}
    for row in decision.candidates:
        named = Named(*row)
        replayed = reasons.get(named.click_id)
        if replayed == named.reason or (replayed is None and named.reason in _NOT_GATHERED):
            continue
        if replayed is None and (gone := _gone_click(decision, evidence)) is not None:
            return Difference("candidates", f"{gone.click_id} {named.reason}", "", Why.CLICK_GONE, gone)
        return Difference(
            "candidates", f"{named.click_id} {named.reason}", f"{named.click_id} {replayed}", Why.DECIDED_OTHERWISE
        )
    return None


def _outcome_difference(decision: Decision, credit: Credit, why: Why, click: Click | None) -> Difference:
    pairs = zip(("affiliate", "click_id", "method"), _stored_outcome(decision), _outcome(credit), strict=True)
    field, stored, replayed = next(pair for pair in pairs if pair[1] != pair[2])
    return Difference(field, stored, replayed, why, click)


def _gone_click(decision: Decision, evidence: Evidence) -> Click | None:
    """A click that the decision names as one that mattered, and that is in no table."""
    there = {touch.click_id for touch in evidence.touches}
    for row in decision.candidates:
        named = Named(*row)
        if named.click_id not in there and named.reason not in _NOT_GATHERED:
            affiliate = decision.affiliate if named.reason == "WON" else ""
            return Click(named.click_id, affiliate, named.ts, 0)
    return None


def _new_click(decision: Decision, credit: Credit) -> Click | None:
    """A click that could earn and that the decision does not name: the winner, or the last of them."""
    named = {row[0] for row in decision.candidates}
    new: list[Candidate] = [
        candidate
        for candidate in credit.candidates
        if candidate.touch.click_id not in named and candidate.reason not in _CANNOT_EARN
    ]
    if not new:
        return None
    touch = next((one for one in new if one.touch.click_id == credit.click_id), new[-1]).touch
    received_at = next(row[6] for row in decision.touches if row[0] == touch.click_id)
    return Click(touch.click_id, touch.affiliate, touch.ts, received_at)
