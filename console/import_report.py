"""What an import reports: each row with what became of it, and the sums. As a table for people, as CSV or JSON for what
comes next. Called by import_conversions.py.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from rich.table import Table
from rich.text import Text

from console.commands import print_table, printable
from console.import_rows import Row
from console.replay_output import Rows, write_json
from console.spreadsheets import harmless
from schemas.problems import Problem
from tracker.report_fields import FieldError

COLUMNS = ("line", "order_id", "goal", "outcome", "code", "message", "conversion_id")
OUTCOMES = ("accepted", "merged", "duplicate", "conflict", "refused")
FORMATS = ("csv", "json")
SHOWN_MAX = 50
_VALUE_MAX = 128


@dataclass
class Summary:
    """One import: what was done, and how it ended. `stopped` says why it did not get to the end."""

    file: str
    program: str
    dry_run: bool
    counts: Counter[str] = field(default_factory=Counter)
    is_checked: bool = False
    """Whether the file was found good, or its bad rows were to be skipped: before that nothing is recorded."""
    stopped: str = ""


def row_taken(row: Row, outcome: str, conversion_id: str) -> dict[str, Any]:
    """What became of a row that was reported."""
    problem = ("conversion_conflict", "reported before with other content; both are kept and shown, the first stands")
    code, message = problem if outcome == "conflict" else ("", "")
    return _result(row, outcome, code, message, conversion_id)


def row_refused(row: Row, error: FieldError) -> dict[str, Any]:
    """What became of a row that was not."""
    return _result(row, "refused", error.code, error.message, "")


def _result(row: Row, *rest: str) -> dict[str, Any]:
    """A file may say anything: what is repeated of it is printable and not long."""
    named = row.params.get("order_id", ""), row.params.get("goal", "sale")
    return dict(zip(COLUMNS, (row.line, *(printable(name[:_VALUE_MAX]) for name in named), *rest), strict=True))


def write_report(summary: Summary, rows: Rows, form: str, file: IO[bytes]) -> None:
    """The report in full; as a table in a terminal's measure."""
    if form == "json":
        head = {
            "file": summary.file,
            "program": summary.program,
            "dry_run": summary.dry_run,
            "complete": summary.is_checked and not summary.stopped,
            "counts": {outcome: summary.counts[outcome] for outcome in OUTCOMES},
        }
        write_json(file, head, "rows", rows)
    elif form == "csv":
        _write_csv(file, rows)
    elif summary.is_checked:
        _print(rows)


def problems(summary: Summary, rows: Rows) -> Iterator[Problem]:
    """The first rows that are refused, as commands name what is wrong with a file."""
    refused = (row for row in rows if row["outcome"] == "refused")
    for row, _ in zip(refused, range(SHOWN_MAX), strict=False):
        yield Problem(summary.file, row["line"], row["order_id"], f"{row['message']} ({row['code']})")
    if summary.counts["refused"] > SHOWN_MAX:
        yield Problem(summary.file, None, "", f"and {summary.counts['refused'] - SHOWN_MAX} rows more; -o has them all")


def sums(summary: Summary) -> str:
    """The last line that people see."""
    counted = [f"{summary.counts[name]} {name}" for name in OUTCOMES if summary.counts[name]]
    suffix = " (dry run: nothing was recorded)" if summary.dry_run and summary.is_checked else ""
    return f"{sum(summary.counts.values())} rows: {', '.join(counted) or 'no sales'}{suffix}"


def _print(rows: Rows) -> None:
    """Every row, or of many only those that were not taken."""
    is_long = rows.count > SHOWN_MAX
    shown = (row for row in rows if not is_long or row["outcome"] in ("conflict", "refused"))
    table = Table("line", "order", "goal", "outcome", "what is wrong", "conversion")
    for row, _ in zip(shown, range(SHOWN_MAX), strict=False):
        wrong = f"{row['code']}: {row['message']}" if row["code"] else ""
        cells = (str(row["line"]), row["order_id"], row["goal"], row["outcome"], wrong, row["conversion_id"])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if table.row_count:
        print_table(table)


def _write_csv(file: IO[bytes], rows: Rows) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([harmless(row[name]) for name in COLUMNS])
    finally:
        text.detach()
