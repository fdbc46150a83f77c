"""How a decision differs from its replay, and which click explains it. Pure; called by replay.py."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from attribution.credit import CHECKS, Candidate, Credit
from attribution.replay_evidence import Decision, Evidence, Named
from schemas.terms import Terms, terms_at, terms_hash
from schemas.version import ENGINE_VERSION

_CANNOT_EARN = frozenset(reason for reason, _ in CHECKS)
_NOT_GATHERED = frozenset(("AFTER_SALE", "OUT_OF_WINDOW"))
"""Reasons of candidates that can be no matter what: their touches need not have been read."""


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


def outcome(credit: Credit) -> tuple[str, str, str]:
    return credit.affiliate or "", credit.click_id or "", credit.method


def stored_outcome(decision: Decision) -> tuple[str, str, str]:
    return decision.affiliate, decision.click_id, decision.method


def find_difference(
    decision: Decision, evidence: Evidence, credit: Credit, versions: tuple[Terms, ...]
) -> Difference | None:
    """The first column in which the stored decision is another than this credit, None where there is none."""
    if outcome(credit) != stored_outcome(decision):
        gone = _gone_click(decision, evidence)
        if gone is not None:
            return outcome_difference(decision, credit, Why.CLICK_GONE, gone)
        click = new_click(decision, credit)
        why = Why.DECIDED_OTHERWISE if click is None else Why.CLICK_NOT_THERE_THEN
        return outcome_difference(decision, credit, why, click)
    if evidence.sale.ts != decision.ts:
        return Difference("ts", str(decision.ts), str(evidence.sale.ts), Why.DECIDED_OTHERWISE)
    digest = _terms_hash(terms_at(versions, decision.ts))
    if digest != decision.terms_hash and decision.engine_version == ENGINE_VERSION:
        return Difference("terms_hash", decision.terms_hash, digest, Why.DECIDED_OTHERWISE)
    return dispute_difference(decision, evidence, Why.DECIDED_OTHERWISE) or _candidate_difference(
        decision, evidence, credit
    )


def dispute_difference(decision: Decision, evidence: Evidence, why: Why) -> Difference | None:
    if evidence.is_disputed == bool(decision.disputed):
        return None
    return Difference("disputed", str(bool(decision.disputed)), str(evidence.is_disputed), why)


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
        if replayed is None and named.click_id == credit.click_id:  # of the goal that the sale follows, maybe long ago
            continue
        if replayed is None and (gone := _gone_click(decision, evidence)) is not None:
            return Difference("candidates", f"{gone.click_id} {named.reason}", "", Why.CLICK_GONE, gone)
        return Difference(
            "candidates", f"{named.click_id} {named.reason}", f"{named.click_id} {replayed}", Why.DECIDED_OTHERWISE
        )
    return None


def outcome_difference(decision: Decision, credit: Credit, why: Why, click: Click | None) -> Difference:
    pairs = zip(("affiliate", "click_id", "method"), stored_outcome(decision), outcome(credit), strict=True)
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


def new_click(decision: Decision, credit: Credit) -> Click | None:
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
