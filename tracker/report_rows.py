"""What goes into the log of a report, as lines of JSON: rows of tables. Pure.

The content stands in a row as it was given, under the same names. What nothing is said of is left out: the tables take
that for nothing said, and a line takes a third less.

Called by conversions.py.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from tracker.report_fields import FieldError, shortened
from tracker.reports import Claim, Outcome, Report


def report_line(report_id: str, report: Report, claim: Claim, outcome: Outcome, params: Mapping[str, str]) -> bytes:
    """The report as it came, and what became of it."""
    row: dict[str, Any] = {
        **report.content,
        "report_id": report_id,
        "conversion_id": claim.conversion_id,
        "received_at": str(report.received_at),
        "ts": str(report.sale_ts),
        "program": report.program,
        "order_id": report.order_id,
        "goal": report.goal,
        "kind": "sale",
        "outcome": outcome,
        "source": report.source,
        "trust": report.trust,
    }
    if outcome == Outcome.CONFLICT:
        row["problem"] = "conversion_conflict"
    if visitor := report.visitor or report.click_visitor:
        row["visitor"] = visitor
    if report.click_id:
        row["click_id"] = report.click_id
    if params:
        row["params"] = orjson.dumps(params).decode()
    return orjson.dumps(row)


def conversion_line(report: Report, claim: Claim, encoded: bytes) -> bytes:
    """The sale as it stands after this report; `encoded` is the claim as it is kept. The worker reads it as well."""
    visitors, click_ids = claim.visitors(), claim.click_ids()
    row: dict[str, Any] = {
        **claim.counted_content,
        "conversion_id": claim.conversion_id,
        "revision": claim.revision,
        "ts": str(claim.ts),
        "received_at": str(report.received_at),
        "first_received_at": str(claim.first_received_at),
        "program": report.program,
        "order_id": report.order_id,
        "goal": report.goal,
        "visitors": visitors,
        "click_ids": click_ids,
        "source": claim.source,
        "status": "confirmed" if claim.is_confirmed else "pending",
        "claim": encoded.decode(),
    }
    if visitors:
        row["visitor"] = visitors[0]
    if click_ids:
        row["click_id"] = click_ids[0]
    return orjson.dumps(row)


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
