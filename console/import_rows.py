"""The rows of a CSV file of sales, one after another: each with its line, and what it says as a report's parameters.

A spreadsheet's habits are borne: a byte order mark, CRLF, quoted line ends, empty rows, spaces round a value. What
cannot be understood is said: of the file by FileError, of one row by the row's own error, so that the others can be
read. A formula is text here as any other. No more than one row is held at a time. Called by import_conversions.py,
once to check the file and once to record it.
"""

import csv
import io
import re
from collections.abc import Generator, Iterator, Sequence
from typing import IO, Any, NamedTuple

from console.import_mapping import ENCODINGS, PARAMETERS, ImportMapping
from console.import_values import check_order_id, read_amount, read_local_time
from schemas.problems import FileError, Problem, did_you_mean, listed
from tracker.report_fields import ALIASES, FieldError

ROW_CHARACTERS_MAX = 1 << 20
_COLUMNS_MAX = 1000
_SHOWN_MAX = 64
_UNDECODED = re.compile("[\udc80-\udcff]")


class Row(NamedTuple):
    """One row: the line on which it begins, its parameters, and what is wrong with it, if anything is."""

    line: int
    params: dict[str, Any]
    error: FieldError | None = None


RowsRead = Generator[Row, None, None]


def read_rows(file: IO[bytes], name: str, mapping: ImportMapping) -> RowsRead:
    """Every row of an open file, from where it stands; `name` is for messages. Raises FileError."""
    text = io.TextIOWrapper(file, ENCODINGS[mapping.encoding], errors="surrogateescape", newline="")
    try:
        records = _records(_Lines(text, name), name, mapping)
        header_line, header, error = next(records, (1, [], None))
        if error:
            raise FileError([Problem(name, header_line, "", error.message)])
        columns = _assign(name, header_line, [cell.strip() for cell in header], mapping)
        for line, cells, error in records:
            yield _read_row(line, cells, error, len(header), columns, mapping)
    except UnicodeError as error:
        raise FileError([Problem(name, None, "", f"not {mapping.encoding}: {error}")]) from error
    finally:
        text.detach()


class _Lines:
    """The lines of a file, counted; a row that does not end is refused before it fills the memory."""

    def __init__(self, text: IO[str], name: str) -> None:
        self._text = text
        self._name = name
        self.count = 0
        self._left = 0

    def begin(self) -> int:
        """A row begins: on which line."""
        self._left = ROW_CHARACTERS_MAX
        return self.count + 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self.count += 1
        self._left -= len(line)
        if self._left < 0:
            message = f"a row of more than {ROW_CHARACTERS_MAX} characters ends here: is a quote before it not closed?"
            raise FileError([Problem(self._name, self.count, "", message)])
        return line


Record = tuple[int, list[str], FieldError | None]
"""The line on which a row begins, its cells, and what is wrong with it as a whole."""


def _records(lines: _Lines, name: str, mapping: ImportMapping) -> Iterator[Record]:
    """The rows that are not empty. Quotes that are not closed swallow what follows them, nobody knows how much: that is
    the file's problem, not the row's."""
    reader = csv.reader(lines, delimiter=mapping.delimiter, skipinitialspace=True, strict=True)
    while True:
        line = lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.count > line:
                message = f"the quotes of the row from here to line {lines.count} do not match ({error})"
                raise FileError([Problem(name, line, "", message)]) from None
            yield line, [], _malformed(str(error))
            continue
        if any(cell.strip() for cell in cells):
            yield line, cells, _unreadable("".join(cells), mapping)


def _unreadable(text: str, mapping: ImportMapping) -> FieldError | None:
    if _UNDECODED.search(text):
        return _malformed(f"not {mapping.encoding}; a mapping can say encoding, one of {listed(ENCODINGS)}")
    return _malformed("a NUL character; is this a text file?") if "\0" in text else None


def _malformed(message: str) -> FieldError:
    return FieldError(400, "row_malformed", message)


# Columns


def _assign(name: str, line: int, header: Sequence[str], mapping: ImportMapping) -> dict[int, str]:
    """Which column is which parameter, by its place. Raises FileError with everything that is unclear."""
    problems: list[Problem] = []
    if len(header) > _COLUMNS_MAX:
        raise FileError([Problem(name, line, "", f"{len(header)} columns", f"up to {_COLUMNS_MAX}")])

    def refuse(message: str, accepted: str = "") -> None:
        problems.append(Problem(name, line, "", message, accepted))

    columns: dict[int, str] = {}
    for place, column in enumerate(header):
        param = mapping.columns.get(column) or _own_param(column)
        if column in mapping.ignore:
            continue
        if header.index(column) < place:
            refuse(f"column {_shown(column)} stands here twice")
        elif param is None:
            hint = did_you_mean(column[:_SHOWN_MAX], (*PARAMETERS, "program"))
            refuse(
                f"unknown column {_shown(column)}{hint}", "a parameter, or what the mapping's columns or ignore name"
            )
        elif param in columns.values():
            refuse(f"column {_shown(column)} is {param}, as is another one")
        elif param in mapping.constants:
            refuse(f"column {_shown(column)} is {param}, which is a constant of the mapping")
        else:
            columns[place] = param
    for column in mapping.columns:
        if column not in header:
            refuse(f"no column {_shown(column)}, which the mapping names", listed(map(_shown, header)))
    if "order_id" not in columns.values():
        refuse(f"no column is order_id{_delimiter_hint(header, mapping)}")
    if problems:
        raise FileError(problems)
    return columns


def _own_param(column: str) -> str | None:
    param = ALIASES.get(column, column)
    return param if param in (*PARAMETERS, "program") else None


def _delimiter_hint(header: Sequence[str], mapping: ImportMapping) -> str:
    if len(header) > 1:
        return ""
    found = [mark for mark in (";", "\t", "|", ",") if mark != mapping.delimiter and header and mark in header[0]]
    shown = "\\t" if found[:1] == ["\t"] else "".join(found[:1])
    return f'; is the delimiter "{shown}"? the mapping can say so' if found else ""


def _shown(column: str) -> str:
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in column[:_SHOWN_MAX])
    return f'"{text}"'


# Rows


def _read_row(
    line: int,
    cells: Sequence[str],
    error: FieldError | None,
    width: int,
    columns: dict[int, str],
    mapping: ImportMapping,
) -> Row:
    if error is None and len(cells) != width:
        error = _malformed(f"{len(cells)} cells, and the header has {width}")
    if error is not None:
        return Row(line, {}, error)
    given = {param: value for place, param in columns.items() if (value := cells[place].strip())}
    try:
        return Row(line, {**mapping.constants, **_converted(given, mapping)})
    except FieldError as refusal:
        return Row(line, given, refusal)


def _converted(given: dict[str, str], mapping: ImportMapping) -> dict[str, Any]:
    params: dict[str, Any] = dict(given)
    if order_id := given.get("order_id"):
        check_order_id(order_id)
    if "amount" in given and (mapping.decimal_separator, mapping.thousands_separator) != (".", ""):
        params["amount"] = read_amount(given["amount"], mapping.decimal_separator, mapping.thousands_separator)
    if "ts" in given and mapping.time is not None:
        params["ts"] = read_local_time(given["ts"], mapping.time)
    if "coupon" in given and mapping.coupon_separator:
        params["coupon"] = [code for part in given["coupon"].split(mapping.coupon_separator) if (code := part.strip())]
    return params
