"""What goes into the log of a report, as lines of JSON: rows of tables. Pure.

Called by conversions.py.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from tracker.report_fields import FieldError, shortened
from tracker.reports import Claim, Outcome, Report


def report_line(report_id: str, report: Report, claim: Claim, outcome: Outcome, params: Mapping[str, str]) -> bytes:
    """The report as it came, and what became of it."""
    content = report.content
    return orjson.dumps(
        {
            "report_id": report_id,
            "conversion_id": claim.conversion_id,
            "received_at": str(report.received_at),
            "ts": str(report.sale_ts),
            "program": report.program,
            "order_id": report.order_id,
            "goal": report.goal,
            "kind": "sale",
            "outcome": outcome,
            "problem": "conversion_conflict" if outcome == Outcome.CONFLICT else "",
            "amount": content.get("amount"),
            "currency": content.get("currency", ""),
            "visitor": report.visitor or report.click_visitor or "",
            "click_id": report.click_id or "",
            "customer_id": content.get("customer_id", ""),
            "coupon": content.get("coupon", []),
            "channel": content.get("channel", ""),
            "items": content.get("items", ""),
            "source": report.source,
            "trust": report.trust,
            "params": orjson.dumps(params).decode() if params else "",
        }
    )


def conversion_line(report: Report, claim: Claim, encoded: bytes) -> bytes:
    """The sale as it stands after this report; `encoded` is the claim as it is kept."""
    content = claim.counted_content
    visitors, click_ids = claim.visitors(), claim.click_ids()
    return orjson.dumps(
        {
            "conversion_id": claim.conversion_id,
            "revision": claim.revision,
            "ts": str(claim.ts),
            "received_at": str(report.received_at),
            "first_received_at": str(claim.first_received_at),
            "program": report.program,
            "order_id": report.order_id,
            "goal": report.goal,
            "amount": content.get("amount"),
            "currency": content.get("currency", ""),
            "click_id": click_ids[0] if click_ids else "",
            "visitor": visitors[0] if visitors else "",
            "visitors": visitors,
            "click_ids": click_ids,
            "customer_id": content.get("customer_id", ""),
            "coupon": content.get("coupon", []),
            "channel": content.get("channel", ""),
            "items": content.get("items", ""),
            "source": claim.source,
            "status": "confirmed" if claim.is_confirmed else "pending",
            "claim": encoded.decode(),
        }
    )


def reversal_line(report_id: str, claim: Claim, reversal: Mapping[str, Any], source: str, now: int) -> bytes:
    """A refund as it came."""
    content = reversal["content"]
    return orjson.dumps(
        {
            "report_id": report_id,
            "conversion_id": claim.conversion_id,
            "received_at": str(now),
            "ts": str(now),
            "program": reversal["program"],
            "order_id": reversal["order_id"],
            "goal": reversal["goal"],
            "kind": "reversal",
            "outcome": "accepted",
            "amount": content.get("amount"),
            "items": content.get("items", ""),
            "reversal_id": reversal["reversal_id"],
            "reason": content.get("reason", ""),
            "source": source,
            "trust": "server",
        }
    )


def problem_line(report_id: str, source: str, params: Mapping[str, str], error: FieldError, now: int) -> bytes:
    """A browser's report that could not be taken."""
    return orjson.dumps(
        {
            "report_id": report_id,
            "received_at": str(now),
            "ts": str(now),
            "program": params["program"],
            "order_id": params.get("order_id", "")[:128],
            "kind": "sale",
            "outcome": "refused",
            "problem": error.code,
            "source": source,
            "trust": "browser",
            "params": orjson.dumps(shortened(params)).decode(),
        }
    )
