"""A decision as replay reads it: what was decided, and all that is known of the sale, with when it was received. Pure.

One line of replay_decisions.sql is one `Decision`; nothing in it is judged yet. `evidence_then` is what could be
known when it was decided, `evidence_now` what counts by the end. Called by replay.py.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from attribution.credit import Sale, Touch

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


class Named(NamedTuple):
    """A candidate as the stored decision names it."""

    click_id: str
    ts: int
    reason: str


class Decision(NamedTuple):
    """A version of a credit, and what is known of its sale.

    `is_judged`: its sale is dated in the period; else it is history for others. `is_last`: it is the one in force.
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
    candidates: Sequence[Sequence[Any]]
    is_judged: int
    is_last: int
    revisions: Sequence[Sequence[Any]]
    first_received_at: int
    reversed_at: int
    bindings: Sequence[Sequence[Any]]
    touches: Sequence[Sequence[Any]]


class Evidence(NamedTuple):
    """What `decide` is given of one sale; the customer's id stands in the sale."""

    sale: Sale
    touches: list[Touch]
    identities: Mapping[str, Collection[str]]


def evidence_then(decision: Decision, back: int = 0) -> Evidence:
    """As it was known when the sale was decided, by the newest report then, or by one `back` before it.

    Clicks that the decision names were known, whatever two clocks say.
    """
    at = decision.decided_at
    known = [row for row in decision.touches if row[6] <= at]
    if len(known) < len(decision.touches):
        named = {row[0] for row in decision.candidates}
        known = [row for row in decision.touches if row[6] <= at or row[0] in named]
    return _evidence(decision, newest_then(decision) - back, known, at)


def evidence_now(decision: Decision, merge_within_ms: int) -> Evidence:
    """As it is known by the end, by the newest report that counts."""
    newest = newest_counting(decision, merge_within_ms)
    return _evidence(decision, newest, decision.touches, None)


def newest_then(decision: Decision) -> int:
    """Which revision was the newest one when the sale was decided."""
    received = [row[1] for row in decision.revisions]
    return max((number for number, at in enumerate(received) if at <= decision.decided_at), default=0)


def newest_counting(decision: Decision, merge_within_ms: int) -> int:
    """Which revision counts by the end: later than `merge_within_ms` after the first report nothing is decided anew."""
    end = decision.first_received_at + merge_within_ms
    in_time = max((number for number, row in enumerate(decision.revisions) if row[1] < end), default=0)
    return max(in_time, newest_then(decision))


def has_more_now(decision: Decision, merge_within_ms: int) -> bool:
    """Whether more is known by the end than when the sale was decided."""
    if newest_counting(decision, merge_within_ms) > newest_then(decision):
        return True
    at = decision.decided_at
    return any(row[6] > at for row in decision.touches) or any(row[3] > at for row in decision.bindings)


def _evidence(decision: Decision, revision: int, touches: Sequence[Sequence[Any]], at: int | None) -> Evidence:
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
        if customer == report.customer_id and since <= report.ts and (at is None or received_at <= at)
    }
    program = decision.program
    return Evidence(
        sale,
        [
            Touch(click_id, ts, affiliate, visitor, kind, frozenset(flags) if flags else _NO_FLAGS, program)
            for click_id, ts, affiliate, visitor, kind, flags, _ in touches
        ],
        {report.customer_id: bound} if bound else {},
    )
