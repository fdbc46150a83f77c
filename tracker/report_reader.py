"""A report out of its parameters: content, evidence and time, whichever way it came. Pure.

The edge (api.py) and the import of files share it, so that a sale means the same by every way. Who may report which
program is asked before.
"""

from collections.abc import Mapping
from typing import Any

from schemas.settings_fields import Conversions
from tracker.click_id import ClickIds
from tracker.report_fields import read_click_id, read_content, read_goal, read_order_id
from tracker.reports import Report


def read_report(
    known: Mapping[str, Any],
    program: str,
    source: str,
    visitor: str | None,
    now: int,
    settings: Conversions,
    ids: ClickIds,
) -> Report:
    """The report that `known` (parameters under their own names) makes, received at `now` (ms). Raises FieldError."""
    content, sale_ts = read_content(known, now, settings.clock_tolerance)
    click_id = read_click_id(known.get("click_id"))
    click = ids.read(click_id, program) if click_id else None
    return Report(
        program=program,
        order_id=read_order_id(known.get("order_id")),
        goal=read_goal(known.get("goal")),
        source=source,
        received_at=now,
        sale_ts=sale_ts,
        content=content,
        visitor=visitor,
        click_id=click_id if click else None,
        click_visitor=click.visitor if click else None,
        oldest_ts=now - settings.max_late,
    )


def with_what_is_left_out(unknown: dict[str, str], known: Mapping[str, Any], report: Report) -> dict[str, str]:
    """A click id that is none of ours, or a customer that every sale would share, is no evidence; but the merchant who
    sends the wrong thing wants to see it."""
    taken = {"click_id": report.click_id, "customer_id": report.content.get("customer_id")}
    return {**unknown, **{name: str(known[name]) for name in taken if taken[name] is None and known.get(name)}}
