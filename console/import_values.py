"""Values as files write them, turned into what a report of a sale says: amounts, local times, order ids. Pure.

What is wrong with a value is said by FieldError, as the edge says it; everything else about it is checked there
(tracker/report_fields.py). Called for each row by import_rows.py.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from tracker.report_fields import FieldError

_SPACES = str.maketrans(dict.fromkeys("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}", " "))
_CUT_NUMBER = re.compile(r"[0-9][.,][0-9]+[Ee]\+[0-9]+", re.ASCII)
_VALUE_MAX = 64


@dataclass(frozen=True)
class TimeFormat:
    """How a file writes times: a format of `strptime`, the zone it means (None where it has `%z`), and what a time is
    that the clocks show twice: `refuse`, `first` or `second`."""

    format: str
    zone: ZoneInfo | None
    ambiguous: str = "refuse"

    @cached_property
    def rest(self) -> timedelta:
        """From a time as it is written to the last millisecond that it can mean: a sale's time is the end of it."""
        written = self.format.replace("%%", "")
        for directive, span in _SPANS.items():
            if directive in written:
                return span - timedelta(milliseconds=1)
        return timedelta(days=1) - timedelta(milliseconds=1)


_SPANS = {
    "%f": timedelta(milliseconds=1),
    "%S": timedelta(seconds=1),
    "%M": timedelta(minutes=1),
    "%H": timedelta(hours=1),
    "%I": timedelta(hours=1),
}


def read_local_time(text: str, form: TimeFormat) -> str:
    """A time as RFC 3339 in UTC. Raises FieldError, also for a time that the clocks never showed, or showed twice."""
    try:
        if len(text) > _VALUE_MAX or not text.isascii():
            raise ValueError
        given = datetime.strptime(text, form.format)  # noqa: DTZ007 - its zone comes with it, or here below
        given += form.rest
        at = given if given.tzinfo else _in_zone(given, form)
        return at.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        message = f'ts must be a time as "{form.format}" says'
        raise FieldError(400, "ts_malformed", message, "ts") from None


def _in_zone(given: datetime, form: TimeFormat) -> datetime:
    """A local time as a moment; the zone changes its offset twice a year, and what lies there is none or two."""
    first, second = (given.replace(tzinfo=form.zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    if first.astimezone(UTC).astimezone(form.zone).replace(tzinfo=None) != given:
        message = f"ts: in {form.zone} the clocks were set forward then, and never showed this time"
        raise FieldError(400, "ts_nonexistent", message, "ts")
    if form.ambiguous == "refuse":
        message = f"ts: in {form.zone} the clocks were set back then, and showed this time twice; say ambiguous_time"
        raise FieldError(400, "ts_ambiguous", message, "ts")
    return first if form.ambiguous == "first" else second


def read_amount(text: str, decimal: str, thousands: str) -> str:
    """An amount such as `1.234,50` with the point that a report has. Raises FieldError where it is not written so.

    Thousands are parted everywhere or nowhere: `1.50` where a point parts thousands is no amount.
    """
    plain = text.translate(_SPACES) if thousands == " " else text
    groups = rf"[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|" if thousands else ""
    if len(text) > _VALUE_MAX or not re.fullmatch(
        rf"(?:{groups}[0-9]+)(?:{re.escape(decimal)}[0-9]{{1,4}})?", plain, re.ASCII
    ):
        sample = f"1{thousands}234{decimal}50"
        raise FieldError(400, "amount_malformed", f'amount must be written as "{sample}", without a sign', "amount")
    return (plain.replace(thousands, "") if thousands else plain).replace(decimal, ".")


def check_order_id(text: str) -> None:
    """Refuse what a spreadsheet makes of a long number: several orders become one. Raises FieldError."""
    if _CUT_NUMBER.fullmatch(text):
        message = f"a spreadsheet has cut this number ({text[:_VALUE_MAX]}): export the column as text"
        raise FieldError(422, "order_id_cut", message, "order_id")
