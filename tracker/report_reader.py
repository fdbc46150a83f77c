"""A report out of its parameters: content, evidence and time, whichever way it came. Pure.

The edge and the import of files share it, so that a sale means the same by every way.
"""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.settings_fields import Conversions
from tracker.authorization import own_program
from tracker.click_id import ClickIds
from tracker.links import Links
from tracker.report_fields import read_click_id, read_content, read_goal, read_order_id, read_program
from tracker.reports import Report


class ReportReader:
    """Reads what comes to one worker now; `clock` gives ms."""

    def __init__(self, links: Links, settings: Conversions, ids: ClickIds, clock: Callable[[], int]) -> None:
        self._links = links
        self._settings = settings
        self._ids = ids
        self._clock = clock

    def read(self, known: Mapping[str, Any], source: str, visitor: str | None, merchant: str | None = None) -> Report:
        """The report that these parameters make, of a program of that merchant, or of anybody's. Raises FieldError."""
        program = read_program(known.get("program"))
        own_program(self._links, program, merchant)
        return read_report(known, program, source, visitor, self._clock(), self._settings, self._ids)


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
    clicked = ids.visitor_of(click_id, program) if click_id else None
    return Report(
        program=program,
        order_id=read_order_id(known.get("order_id")),
        goal=read_goal(known.get("goal")),
        source=source,
        received_at=now,
        sale_ts=sale_ts,
        content=content,
        visitor=visitor,
        click_id=click_id if clicked else None,
        click_visitor=clicked,
        oldest_ts=now - settings.max_late,
    )


def with_what_is_left_out(unknown: dict[str, str], known: Mapping[str, Any], report: Report) -> dict[str, str]:
    """A click id that is none of ours, or a customer that every sale would share, is no evidence; but the merchant who
    sends the wrong thing wants to see it."""
    taken = {"click_id": report.click_id, "customer_id": report.content.get("customer_id")}
    return {**unknown, **{name: str(known[name]) for name in taken if taken[name] is None and known.get(name)}}
