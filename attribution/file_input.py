"""The files of `attribute`: which format, which columns, how they tell time, and which rows can't be read.

A format is a query that gives its rows alike (`queries/attribute_rows_*.sql`), a way to tell time is a piece of one
(`attribute_time_*.sql`): loading a file is one of each put together. Left out: what is done with the rows
(`attribution/files.py`).
"""

import csv
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from clickhouse_connect.driver.exceptions import DatabaseError

from attribution.queries import query
from schemas.problems import FileError, Problem, listed

KNOWN = ("visitor", "ts", "affiliate", "order_id", "click_id", "kind", "program")
"""Columns that are read from either file; each uses those of its `Role`."""

COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2", ".lz4")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
ENGINE_FORMATS = {"jsonl": "JSONEachRow", "csv": "CSVWithNames", "parquet": "Parquet"}

UNITS = ("unreadable", "epoch seconds", "epoch milliseconds", "RFC 3339", "timestamps")
"""By the numbers that `attribute_time_*.sql` give."""

TORN, MIXED = 1, 9
PROBLEMS = {
    TORN: ("", "not one JSON object, or more fields than the first line names, or not UTF-8"),
    2: ("visitor", "missing"),
    3: ("affiliate", "missing"),
    4: ("order_id", "missing"),
    5: ("program", "given on some rows but not on others"),
    6: ("kind", "{shown!r} is none of click, soft, view"),
    7: ("ts", "missing"),
    8: ("ts", "{shown!r} is neither epoch milliseconds, epoch seconds nor RFC 3339 with an offset"),
    MIXED: ("ts", "{shown!r} is in another unit than the rows before, {unit}: times in mixed units are refused"),
}
"""By the numbers that `attribute_sales.sql` and `attribute_clicks.sql` give: which column, and what is wrong."""

_ROWS = {"jsonl": "attribute_rows_jsonl", "csv": "attribute_rows_csv", "parquet": "attribute_rows_parquet"}
_TIMES = {"number": "attribute_time_number", "text": "attribute_time_text", "timestamp": "attribute_time_timestamp"}

PROBLEMS_SHOWN_MAX = 20
_JSON_LINES_FOR_KEYS = 1000
_PARSE_ERRORS = {6, 25, 26, 27, 33, 72, 117, 131, 636}
"""The engine's codes for input that it can't take apart."""

_NUMBERS = ("Int", "UInt")
_TEXTS = ("String", "Int", "UInt", "Float", "UUID", "FixedString", "Enum")


class Role(NamedTuple):
    """What a file is of, how it is loaded, which columns it must and may have, and how a whole second is meant."""

    name: str
    load: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    last_ms: int


CLICKS = Role("clicks", "attribute_clicks", ("visitor", "ts", "affiliate"), ("click_id", "kind", "program"), 0)
SALES = Role("sales", "attribute_sales", ("visitor", "ts", "order_id"), ("program",), 999)


@dataclass(frozen=True, slots=True)
class FileInput:
    """One file as the engine reads it. `errors` is where it notes the rows that it skips, if it may skip any."""

    path: Path
    role: Role
    format: str
    link: Path
    structure: str
    time: str
    unknown: tuple[str, ...]
    unit: int = 0
    has_program: bool = False
    errors: Path | None = None

    def sql(self, name: str) -> str:
        """The query of this name, over the rows of this file and with its way to tell time."""
        return Template(query(name)).substitute(rows=query(_ROWS[self.format]), time=query(self.time))

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "path": str(self.link),
            "structure": self.structure,
            "unit": self.unit,
            "last_ms": self.role.last_ms,
            "has_program": self.has_program,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """How the engine reads it: rows that it can't take apart are skipped only where they are noted."""
        if self.errors is None:
            return {}
        return {
            "input_format_allow_errors_num": 2**62,
            "input_format_record_errors_file_path": str(self.errors),
            "input_format_parallel_parsing": 0,
        }


def find_format(path: Path) -> str | None:
    """`jsonl`, `csv` or `parquet` by the extension, behind which one of a compression may stand."""
    plain = Path(path.stem) if path.suffix.lower() in COMPRESSIONS else path
    found = FORMATS.get(plain.suffix.lower())
    return None if found == "parquet" and plain != path else found


def accepted_extensions() -> str:
    return f"{listed(FORMATS)}, and behind those of text one of {listed(COMPRESSIONS)}"


def open_file(client: Any, path: Path, role: Role, folder: Path) -> FileInput:
    """What the file is, by its extension, its columns and its first times; FileError if it can't be used."""
    format = find_format(path)
    if format is None:
        raise refusal(path, "the extension says no format that can be read", accepted_extensions())
    if not path.is_file():
        raise refusal(path, "no such file")
    # The engine takes *, ? and {} in a path for a pattern: it gets one without.
    link = folder / f"{role.name}.{format}{path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ''}"
    link.symlink_to(path.absolute())
    try:
        file = _READERS[format](client, path, role, link)
        rows = _first_time(client, file)
    except DatabaseError as error:
        raise unreadable(path, error) from None
    if not rows:
        return file
    unit, names_program = rows[0]
    return replace(file, unit=unit, has_program=bool(names_program) if format == "jsonl" else file.has_program)


def _first_time(client: Any, file: FileInput) -> list[Any]:
    try:
        found = client.query(file.sql("attribute_unit"), parameters=file.parameters, settings=file.settings)
    except DatabaseError as error:
        if not may_skip(file, error):
            raise
        return _first_time(client, tolerating(file))
    rows: list[Any] = found.result_rows
    return rows


def may_skip(file: FileInput, error: DatabaseError) -> bool:
    """Whether the engine could read on behind what it can't take apart: in CSV, rows with quotes out of place."""
    return file.format == "csv" and file.errors is None and is_parse_error(error)


def tolerating(file: FileInput) -> FileInput:
    """The same file, read so that rows which can't be taken apart are noted and skipped."""
    return replace(file, errors=file.link.with_suffix(".errors"))


def refusal(path: Path, message: str, accepted: str = "") -> FileError:
    return FileError([Problem(str(path), None, "", message, accepted)])


def unreadable(path: Path, error: DatabaseError) -> FileError:
    """What the engine says, without its own names for the file and itself."""
    text = str(error).partition("DB::Exception: ")[2] or str(error)
    text = text.partition(" (version ")[0].partition(": (in file")[0].partition("\n")[0].strip(" :")
    return refusal(path, f"can't be read: {text}")


def is_parse_error(error: DatabaseError) -> bool:
    return error.code in _PARSE_ERRORS


# The formats


def _open_jsonl(client: Any, path: Path, role: Role, link: Path) -> FileInput:
    parameters = {"path": str(link), "lines": _JSON_LINES_FOR_KEYS}
    keys = [row[0] for row in client.query(query("attribute_keys"), parameters=parameters).result_rows]
    if keys:
        _require(path, role, keys)
    structure = f"Tuple({', '.join(f'{name} String' for name in KNOWN)})"
    return FileInput(path, role, "jsonl", link, structure, _TIMES["text"], _unknown(role, keys))


def _open_csv(client: Any, path: Path, role: Role, link: Path) -> FileInput:
    names = [name.strip() for name, _ in _describe(client, link, "CSVWithNames")]
    _require(path, role, names)
    fields = [name if name in KNOWN else f"unknown_{place}" for place, name in enumerate(names)]
    fields += ["surplus", *(name for name in KNOWN if name not in names)]
    structure = ", ".join(f"{field} String" for field in fields)
    return FileInput(
        path, role, "csv", link, structure, _TIMES["text"], _unknown(role, names), has_program="program" in names
    )


def _open_parquet(client: Any, path: Path, role: Role, link: Path) -> FileInput:
    types = dict(_describe(client, link, "Parquet"))
    _require(path, role, types)
    used = {name: types[name] for name in (*role.required, *role.optional) if name in types}
    for name, kind in used.items():
        if name != "ts" and not _plain(kind).startswith(_TEXTS):
            raise refusal(path, f"{name}: a column of type {kind} is no text", "texts and numbers")
    time = _find_time(path, used["ts"])
    # Read as if null were empty: faster by a fifth. A `ts` of 0 and a missing one must differ, and so must numbers.
    structure = ", ".join(
        f"`{name}` {'String' if _plain(used.get(name, 'String')) == 'String' and name != 'ts' else used[name]}"
        for name in KNOWN
    )
    return FileInput(path, role, "parquet", link, structure, time, _unknown(role, types), has_program="program" in used)


_READERS: dict[str, Callable[[Any, Path, Role, Path], FileInput]] = {
    "jsonl": _open_jsonl,
    "csv": _open_csv,
    "parquet": _open_parquet,
}


def _find_time(path: Path, kind: str) -> str:
    plain = _plain(kind)
    if plain.startswith(_NUMBERS):
        return _TIMES["number"]
    if plain.startswith("DateTime64"):
        return _TIMES["timestamp"]
    if plain.startswith(("String", "Float")):
        return _TIMES["text"]
    raise refusal(path, f"ts: a column of type {kind} holds no times", "integers | texts | timestamps")


def _plain(kind: str) -> str:
    for wrapper in ("LowCardinality(", "Nullable("):
        kind = kind.removeprefix(wrapper)
    return kind.rstrip(")") if "(" not in kind else kind


def _describe(client: Any, link: Path, format: str) -> list[tuple[str, str]]:
    parameters = {"path": str(link), "format": format}
    rows = client.query(query("attribute_columns"), parameters=parameters).result_rows
    return [(row[0], row[1]) for row in rows]


def _require(path: Path, role: Role, names: Iterable[str]) -> None:
    found = list(names)
    missing = [name for name in role.required if name not in found]
    if missing:
        wanted = f"{', '.join(role.required)}; optional {', '.join(role.optional)}"
        message = f"{role.name} without {', '.join(missing)}; found: {', '.join(map(_shown, found)) or 'nothing'}"
        raise refusal(path, message, wanted)


def _unknown(role: Role, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_shown(name) for name in names if name not in (*role.required, *role.optional))


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) <= 64 else repr(name[:64])


# Rows that can't be read, and where they stand


def skipped_rows(file: FileInput) -> list[int]:
    """The records of a CSV file that the engine could not take apart and has skipped, counted from 1."""
    if file.errors is None or not file.errors.exists():
        return []
    csv.field_size_limit(2**31)
    with file.errors.open(encoding="utf-8", errors="replace", newline="") as lines:
        return sorted({int(record[3]) for record in csv.reader(lines)})


def place_problems(
    client: Any, file: FileInput, rows: Sequence[tuple[int, int, str]], skipped: Sequence[int]
) -> list[Problem]:
    """What is wrong with rows, and where in the file they stand: each a row (from 0), the number of its problem and
    what stood there; and records of a CSV file that the engine has skipped."""
    place, place_skipped = _PLACES[file.format](client, file, skipped)
    problems = [_problem(file, place(row), number, shown) for row, number, shown in rows]
    return problems + [_problem(file, place_skipped(record), TORN, "") for record in skipped]


def _problem(file: FileInput, place: "Place", number: int, shown: str) -> Problem:
    key, message = PROBLEMS[number]
    where = ": ".join(part for part in (place.words, key) if part)
    return Problem(str(file.path), place.line, where, message.format(shown=shown[:64], unit=UNITS[file.unit]))


class Place(NamedTuple):
    """A line of a text file, counted from 1, or in words the row of a Parquet file."""

    line: int | None
    words: str = ""


Places = tuple[Callable[[int], Place], Callable[[int], Place]]
"""Where a row stands, and where a record stands that was skipped."""


def _place_lines(client: Any, file: FileInput, skipped: Sequence[int]) -> Places:
    return lambda row: Place(row + 1), Place


def _place_records(client: Any, file: FileInput, skipped: Sequence[int]) -> Places:
    """Records that were skipped are no rows, and a record may run over several lines."""
    parameters = {"path": str(file.link), "structure": file.structure}
    breaks = client.query(query("attribute_line_breaks"), parameters=parameters, settings=file.settings).result_rows

    def place(record: int, rows_before: int) -> Place:
        return Place(record + sum(count for row, count in breaks if row < rows_before))

    def place_row(row: int) -> Place:
        record = row + 1
        for one in skipped:
            record += one <= record
        return place(record, row)

    return place_row, lambda record: place(record, record - 1 - bisect_left(skipped, record))


def _place_in_groups(client: Any, file: FileInput, skipped: Sequence[int]) -> Places:
    [(counts,)] = client.query(query("attribute_row_groups"), parameters={"path": str(file.link)}).result_rows
    ends = list(accumulate(counts))
    words = "row {} (row group {} of {})"
    return lambda row: Place(None, words.format(row + 1, bisect_right(ends, row) + 1, len(ends))), Place


_PLACES: dict[str, Callable[[Any, FileInput, Sequence[int]], Places]] = {
    "jsonl": _place_lines,
    "csv": _place_records,
    "parquet": _place_in_groups,
}
