"""What a replay has found, put together: differences, or per affiliate and currency what he would have. Pure.

Orders that change hands are handed on one by one and kept nowhere: there may be as many as sales. Called by the
command line.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from attribution.replay import Judged
from attribution.replay_evidence import Revision

Row = dict[str, Any]


def difference_row(judged: Judged) -> Row:
    """A difference as a row; times as text, UTC."""
    decision, difference = judged.decision, judged.difference
    assert difference is not None
    click = difference.click
    return {
        "program": decision.program,
        "order_id": decision.order_id,
        "goal": decision.goal,
        "ts": shown_time(decision.ts),
        "version": decision.version,
        "decision_seq": decision.decision_seq,
        "decided_at": shown_time(decision.decided_at),
        "field": difference.field,
        "stored": difference.stored,
        "replayed": difference.replayed,
        "why": difference.why.value,
        "click_id": click.click_id if click else "",
        "click_affiliate": click.affiliate if click else "",
        "click_ts": shown_time(click.ts) if click else "",
        "click_received_at": shown_time(click.received_at) if click and click.received_at else "",
    }


@dataclass
class _Side:
    """Number and value of sales in one currency."""

    sales: int = 0
    value: Decimal = Decimal(0)


@dataclass
class Tally:
    """Sums over sales decided again under other terms, exact to the last digit.

    Sales without an amount count under the currency ''. Nobody is the affiliate ''.
    """

    sales: int = 0
    changed: int = 0
    _now: dict[tuple[str, str], _Side] = field(default_factory=dict)
    _then: dict[tuple[str, str], _Side] = field(default_factory=dict)

    def take(self, judged: Judged) -> Row | None:
        """Count one sale; the order as a row if it changes hands."""
        decision, credit = judged.decision, judged.credit
        self.sales += 1
        report = Revision(*decision.revisions[-1]) if decision.revisions else None
        amount = Decimal(report.amount) if report and report.amount is not None else None
        currency = report.currency if report and amount is not None else ""
        after = decision.affiliate if credit is None else credit.affiliate or ""
        _add(self._now, (decision.affiliate, currency), amount)
        _add(self._then, (after, currency), amount)
        if after == decision.affiliate:
            return None
        self.changed += 1
        return _order_row(judged, amount, currency)

    def affiliates(self) -> list[Row]:
        """Each affiliate's sales and their value by currency, now and then; nobody's last."""
        keys = sorted(self._now.keys() | self._then.keys(), key=lambda key: (key[0] == "", key))
        return [
            {"affiliate": affiliate, "currency": currency, **self._sums([(affiliate, currency)])}
            for affiliate, currency in keys
        ]

    def totals(self) -> list[Row]:
        """What all affiliates together have, by currency: without the sales of nobody."""
        keys = self._now.keys() | self._then.keys()
        return [
            {"currency": currency, **self._sums([key for key in keys if key[0] and key[1] == currency])}
            for currency in sorted({currency for _, currency in keys})
        ]

    def _sums(self, keys: list[tuple[str, str]]) -> Row:
        row: Row = {}
        for name, sides in (("now", self._now), ("then", self._then)):
            found = [sides[key] for key in keys if key in sides]
            row[f"sales_{name}"] = sum(side.sales for side in found)
            row[f"value_{name}"] = sum((side.value for side in found), Decimal(0))
        return row


def _add(sides: dict[tuple[str, str], _Side], key: tuple[str, str], amount: Decimal | None) -> None:
    side = sides.get(key)
    if side is None:
        side = sides[key] = _Side()
    side.sales += 1
    if amount is not None:
        side.value += amount


def _order_row(judged: Judged, amount: Decimal | None, currency: str) -> Row:
    decision, credit = judged.decision, judged.credit
    assert credit is not None
    return {
        "program": decision.program,
        "order_id": decision.order_id,
        "goal": decision.goal,
        "ts": shown_time(decision.ts),
        "value": amount,
        "currency": currency,
        "from_affiliate": decision.affiliate,
        "from_method": decision.method,
        "from_click_id": decision.click_id,
        "to_affiliate": credit.affiliate or "",
        "to_method": credit.method,
        "to_click_id": credit.click_id or "",
        "why": "; ".join(_reasons(judged)),
    }


def _reasons(judged: Judged) -> Iterator[str]:
    """Why an order changes hands: what becomes of the click that has it now, and by what the other gets it."""
    decision, credit = judged.decision, judged.credit
    assert credit is not None
    lost = next((one.reason.value for one in credit.candidates if one.touch.click_id == decision.click_id), None)
    if decision.affiliate:
        how = f"{decision.affiliate}'s {decision.method}"
        yield f"{how} {decision.click_id} loses by {lost}" if lost else f"{how} no longer counts"
    if credit.affiliate:
        yield f"{credit.affiliate} gets it by {credit.method}"
    else:
        yield "by its channel nobody gets it" if _is_channel(credit.candidates) else "nobody else is eligible"


def _is_channel(candidates: Any) -> bool:
    return any(candidate.reason == "CHANNEL" for candidate in candidates)


def shown_time(at: int) -> str:
    """Milliseconds as the tables show them: UTC, to the millisecond."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
