"""A decision as replay reads it: what was decided, and all that is known of the sale, with when it was received. Pure.

One line of replay_decisions.sql is one `Decision`; nothing in it is judged yet. `evidence_then` is what could be
known when it was decided, `evidence_at` what counted some time after. Called by replay.py.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from attribution.credit import Sale, Touch
from schemas.forgotten import FORGOTTEN

_NO_FLAGS: frozenset[str] = frozenset()


class Revision(NamedTuple):
    """What reports of a sale had amounted to by `received_at`."""

    number: int
    received_at: int
    ts: int
    visitors: Sequence[str]
    click_ids: Sequence[str]
    customer_id: str
    coupons: Sequence[str]
    channel: str
    amount: str | None
    currency: str
    is_disputed: int
    is_confirmed: int = 0


class Named(NamedTuple):
    """A candidate as the stored decision names it."""

    click_id: str
    ts: int
    reason: str


class Decision(NamedTuple):
    """A version of a credit, and what is known of its sale.

    `is_judged`: its sale is dated in the period; else it is history for others. `is_last`: it is the one in force.
    `first_seq` is the position of the sale's first version.
    `bindings` are rows of customer, visitor, ts, received_at; `touches` of click_id, ts, affiliate, visitor, kind,
    flags, received_at.
    """

    decision_seq: int
    program: str
    order_id: str
    goal: str
    version: int
    affiliate: str
    click_id: str
    method: str
    ts: int
    decided_at: int
    terms_hash: str
    engine_version: str
    disputed: int
    candidates: Sequence[Sequence[Any]]
    is_judged: int
    is_last: int
    revisions: Sequence[Sequence[Any]]
    first_received_at: int
    reversed_at: int
    bindings: Sequence[Sequence[Any]]
    touches: Sequence[Sequence[Any]]
    first_seq: int = 0

    @property
    def is_forgotten(self) -> bool:
        """Whether a visitor has been forgotten from whose clicks it was made: it can be counted, not judged."""
        return (
            self.click_id == FORGOTTEN
            or any(FORGOTTEN in row[3] for row in self.revisions)
            or any(row[0] == FORGOTTEN for row in self.candidates)
        )


class Evidence(NamedTuple):
    """What `decide` is given of one sale, whether it is disputed, and whether a server has reported it."""

    sale: Sale
    touches: list[Touch]
    identities: Mapping[str, Collection[str]]
    is_disputed: bool
    is_confirmed: bool


def evidence_then(decision: Decision, back: int = 0) -> Evidence:
    """As it was known when the sale was decided, by the newest report then, or by one `back` before it.

    Clicks that the decision names were known, whatever two clocks say.
    """
    return _evidence(decision, newest_then(decision) - back, decision.decided_at)


def evidence_at(decision: Decision, at: int, merge_within_ms: int) -> Evidence:
    """As it was known at a later moment, by the newest report that counted by then."""
    end = min(at + 1, decision.first_received_at + merge_within_ms)
    counting = len([row for row in decision.revisions if row[1] < end]) - 1
    return _evidence(decision, max(counting, newest_then(decision)), at)


def arrivals(decision: Decision, merge_within_ms: int) -> list[int]:
    """When, after the sale was decided, something came that was reason to decide it again: times in order.

    Reports count if they came within `merge_within_ms` after the first.
    """
    at = decision.decided_at
    later = [row[6] for row in decision.touches if row[6] > at]
    if len(decision.revisions) > 1:
        end = decision.first_received_at + merge_within_ms
        later += [row[1] for row in decision.revisions if at < row[1] < end]
    if not later:
        return []
    named = {row[0] for row in decision.candidates}
    known = {row[6] for row in decision.touches if row[0] in named}
    return sorted({one for one in later if one not in known})


def newest_then(decision: Decision) -> int:
    """Which revision was the newest one when the sale was decided."""
    return max(0, len([row for row in decision.revisions if row[1] <= decision.decided_at]) - 1)


def _known(decision: Decision, at: int) -> Sequence[Sequence[Any]]:
    """The touches that had been received by `at`, or that the decision names."""
    known = [row for row in decision.touches if row[6] <= at]
    if len(known) == len(decision.touches):
        return known
    named = {row[0] for row in decision.candidates}
    return [row for row in decision.touches if row[6] <= at or row[0] in named]


def _evidence(decision: Decision, revision: int, at: int) -> Evidence:
    report = Revision(*decision.revisions[revision])
    sale = Sale(
        order_id=decision.order_id,
        ts=report.ts,
        program=decision.program,
        goal=decision.goal,
        visitors=tuple(report.visitors),
        click_ids=tuple(report.click_ids),
        customer_id=report.customer_id or None,
        coupons=tuple(report.coupons),
        channel=report.channel or None,
    )
    bound = {
        visitor
        for customer, visitor, since, received_at in decision.bindings
        if customer == report.customer_id and since <= report.ts and received_at <= at
    }
    program = decision.program
    return Evidence(
        sale,
        [
            Touch(click_id, ts, affiliate, visitor, kind, frozenset(flags) if flags else _NO_FLAGS, program)
            for click_id, ts, affiliate, visitor, kind, flags, _ in _known(decision, at)
        ],
        {report.customer_id: bound} if bound else {},
        bool(report.is_disputed),
        bool(report.is_confirmed),
    )
