"""What a replay prints: as a table for people, as JSON, CSV or Parquet for what comes next. Called by replay.py.

Rows wait in a file until the sums are known: there may be as many as sales. CSV and Parquet of a what-if are one
table; its column `part` says what a row is: an affiliate, a total, an order that changes hands.
"""

import csv
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import TracebackType
from typing import IO, Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attribution.replay_report import Row, Tally
from console.commands import print_table, printable
from console.spreadsheets import harmless

FORMATS = ("table", "json", "csv", "parquet")
_SHOWN_MAX = 50
_IN_MEMORY_MAX = 16_000_000
_DIFFERENCE = {
    "program": "String", "order_id": "String", "goal": "String", "ts": "DateTime64(3, 'UTC')", "version": "UInt32",
    "decision_seq": "UInt64", "decided_at": "DateTime64(3, 'UTC')", "field": "String", "stored": "String",
    "replayed": "String", "why": "String", "click_id": "String", "click_affiliate": "String",
    "click_ts": "Nullable(DateTime64(3, 'UTC'))", "click_received_at": "Nullable(DateTime64(3, 'UTC'))",
}  # fmt: skip
_WHAT_IF = {
    "part": "String", "affiliate": "String", "currency": "String", "sales_now": "Nullable(UInt64)",
    "value_now": "Nullable(Decimal(38, 4))", "sales_then": "Nullable(UInt64)",
    "value_then": "Nullable(Decimal(38, 4))", "program": "String", "order_id": "String", "goal": "String",
    "ts": "Nullable(DateTime64(3, 'UTC'))", "value": "Nullable(Decimal(38, 4))", "from_affiliate": "String",
    "from_method": "String", "from_click_id": "String", "to_affiliate": "String", "to_method": "String",
    "to_click_id": "String", "why": "String",
}  # fmt: skip


class Rows:
    """Rows on their way out, in memory as long as they are few."""

    def __init__(self) -> None:
        self.count = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_MAX)  # noqa: SIM115 - closed at exit

    def __enter__(self) -> "Rows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        self.count += 1
        self._file.write(_encoded(row) + b"\n")

    def __iter__(self) -> Iterator[Row]:
        self._file.seek(0)
        return map(orjson.loads, self._file)


def write_differences(sales: int, forgotten: int, rows: Rows, form: str, file: IO[bytes]) -> None:
    """The answer of a verification; `forgotten` of the sales could not be judged, as their evidence is gone."""
    if form == "json":
        head = {"verified": rows.count == 0, "sales": sales, "forgotten": forgotten}
        write_json(file, head, "differences", rows)
    elif form == "table":
        _write_lines(file, _difference_lines(sales, forgotten, rows))
    else:
        _WRITERS[form](file, iter(rows), _DIFFERENCE)


def write_what_if(tally: Tally, orders: Rows, changes: Mapping[str, Any], form: str, file: IO[bytes]) -> None:
    """The answer to what if."""
    if form == "json":
        head = {
            "set": changes,
            "sales": tally.sales,
            "changed": tally.changed,
            "affiliates": tally.affiliates(),
            "totals": tally.totals(),
        }
        write_json(file, head, "orders", orders)
    elif form == "table":
        _write_tables(file, tally, orders, changes)
    else:
        _WRITERS[form](file, _parts(tally, orders), _WHAT_IF)


def _parts(tally: Tally, orders: Rows) -> Iterator[Row]:
    for row in tally.affiliates():
        yield {"part": "affiliate", **row}
    for row in tally.totals():
        yield {"part": "total", **row}
    for row in orders:
        yield {"part": "order", **row}


# For people


def _difference_lines(sales: int, forgotten: int, rows: Rows) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number == _SHOWN_MAX:
            yield f"… and {rows.count - _SHOWN_MAX} more; --format json or csv has them all"
            break
        yield (
            f"{row['program']} {row['order_id']} ({row['goal']}), version {row['version']}, "
            f"decided {row['decided_at']} as no. {row['decision_seq']}: {row['field']} is {row['stored'] or 'none'}, "
            f"replayed {row['replayed'] or 'none'}"
        )
        yield f"    {_explained(row)}"
    words = "no differences" if rows.count == 0 else f"{rows.count} with differences"
    yield f"{sales - forgotten} sales decided again: {words}"
    if forgotten:
        yield f"{forgotten} left as they are: what they were decided from has been forgotten"


def _explained(row: Row) -> str:
    click = f"click {row['click_id']} of {row['click_affiliate'] or 'an affiliate'} at {row['click_ts']}"
    return {
        "CLICK_NOT_THERE_THEN": f"{click}, received at {row['click_received_at']}, was not there then",
        "CLICK_GONE": f"{click}, which the decision names, is not among the sale's clicks",
        "REPORT_NOT_THERE_THEN": "a report that was not there then would have changed it",
        "SALE_GONE": "the sale that was decided is in no table",
        "DECIDED_OTHERWISE": "by the same evidence, the rule and the terms of then decide otherwise",
    }[row["why"]]


def _write_tables(file: IO[bytes], tally: Tally, orders: Rows, changes: Mapping[str, Any]) -> None:
    said = Text("What if " + ", ".join(f"{key} = {printable(_said(value))}" for key, value in changes.items()))
    columns = ("currency", "sales now", "sales then", "value now", "value then")
    sums = Table("affiliate", *columns, title=said, title_justify="left")
    for row in tally.affiliates():
        sums.add_row(row["affiliate"] or "(nobody)", *_sums(row))
    sums.add_section()
    for row in tally.totals():
        sums.add_row("(all affiliates)", *_sums(row))
    _print(file, sums)
    if tally.changed:
        moves = Table("program", "order", "goal", "sold", "value", "from", "to", "why")
        for row, _ in zip(orders, range(_SHOWN_MAX), strict=False):
            value = f"{row['value'] or ''} {row['currency']}".strip()
            hands = (row["from_affiliate"] or "(nobody)", row["to_affiliate"] or "(nobody)")
            cells = (row["program"], row["order_id"], row["goal"], row["ts"], value, *hands, row["why"])
            moves.add_row(*(Text(printable(cell)) for cell in cells))
        _print(file, moves)
    rest = (
        f"; the first {_SHOWN_MAX} are shown, --format json or csv has them all" if tally.changed > _SHOWN_MAX else ""
    )
    _write_lines(file, [f"{tally.sales} sales decided again: {tally.changed} change hands{rest}"])


def _sums(row: Row) -> tuple[str, ...]:
    values = [row[name] for name in ("currency", "sales_now", "sales_then", "value_now", "value_then")]
    return tuple(f"{value:f}" if isinstance(value, Decimal) else printable(str(value)) for value in values)


def _said(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _print(file: IO[bytes], table: Table) -> None:
    if getattr(file, "name", "") == "<stdout>":
        print_table(table)
        return
    text = io.StringIO()
    Console(file=text, width=1000).print(table)
    file.write(text.getvalue().encode())


def _write_lines(file: IO[bytes], lines: Any) -> None:
    for line in lines:
        file.write(printable(line).encode() + b"\n")


# For machines


def _encoded(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, default=_text)


def _text(value: Any) -> str:
    """Decimals are texts in JSON: no reader shall make floats of money."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(type(value).__name__)


def write_json(file: IO[bytes], head: Mapping[str, Any], name: str, rows: Rows) -> None:
    """One object; its last member is the list of rows."""
    file.write(_encoded(head)[:-1] + b',"' + name.encode() + b'":[')
    for number, row in enumerate(rows):
        file.write((b"," if number else b"") + _encoded(row))
    file.write(b"]}\n")


def _write_csv(file: IO[bytes], rows: Iterator[Row], columns: Mapping[str, str]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: harmless(value) if columns[name] == "String" else value for name, value in row.items()}
            for row in rows
        )
    finally:
        text.detach()


def _write_parquet(file: IO[bytes], rows: Iterator[Row], columns: Mapping[str, str]) -> None:
    """ClickHouse's engine writes it, in memory: every client of the tables is another process."""
    import clickhouse_connect  # no other command needs it

    with tempfile.NamedTemporaryFile(suffix=".jsonl") as lines:
        for row in rows:
            lines.write(_encoded({name: value for name, value in row.items() if value != ""}) + b"\n")
        lines.flush()
        client = clickhouse_connect.get_client(dsn="chdb://:memory:")
        structure = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        parameters = {"path": lines.name, "structure": structure}
        query = "SELECT * FROM file({path:String}, 'JSONEachRow', {structure:String})"
        file.write(client.raw_query(query, parameters=parameters, fmt="Parquet"))
        client.close()


_WRITERS: Mapping[str, Callable[[IO[bytes], Iterator[Row], Mapping[str, str]], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
}
