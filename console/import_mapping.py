"""How a CSV file of sales is to be read: which column is which parameter, what is the same for all rows, and how the
file writes numbers and times. A person writes it in TOML; without one the columns have the parameters' names.

Every mistake is gathered with its line. Pure; called by import_conversions.py. What a row then says is read by
import_rows.py and import_values.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from console.import_values import TimeFormat
from schemas.kinds import Kind, choice
from schemas.problems import FileError, Problem, did_you_mean, listed
from schemas.toml_text import TomlText, parse_toml
from tracker.report_fields import KNOWN, FieldError, read_content, read_goal

ENCODINGS = {
    "utf-8": "utf-8-sig",  # with or without a byte order mark
    "utf-16": "utf-16",
    "iso-8859-1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "windows-1252",
}
"""What a mapping may say, and Python's name for it."""

PARAMETERS = tuple(name for name in KNOWN if name != "program")
CONSTANTS = ("amount", "currency", "goal", "coupon", "channel")
"""What may be alike for all sales of a file."""

_DIRECTIVES = "aAbBdfHIjmMpSyYz%"
_TABLES = ("columns", "constants")


@dataclass(frozen=True)
class ImportMapping:
    """The mapping of one kind of file; as it is made here, that of a file whose columns have the parameters' names."""

    delimiter: str = ","
    encoding: str = "utf-8"
    decimal_separator: str = "."
    thousands_separator: str = ""
    coupon_separator: str = ""
    time: TimeFormat | None = None
    ignore: frozenset[str] = frozenset()
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


def read_mapping(text: str, filename: str) -> ImportMapping:
    """Read a mapping. Raises FileError with every problem."""
    reading = _Reading(parse_toml(text, filename))
    given = reading.keys()
    columns = reading.table("columns", _read_parameter)
    constants = reading.table("constants", None)
    time = reading.time_format(given)
    if given.get("thousands_separator") == given.get("decimal_separator", "."):
        reading.refuse(("thousands_separator",), "the same as decimal_separator")
    if reading.problems:
        raise FileError(reading.problems)
    words = {name: given[name] for name in _WORDS if name in given}
    return ImportMapping(
        **words, time=time, ignore=given.get("ignore", frozenset()), columns=columns, constants=constants
    )


def _names(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("not a list of names")
    return frozenset(name.strip() for name in value)


def _read_format(value: object) -> str:
    """A format that names a whole date, and whose times are read back as they are written."""
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise ValueError("not a format")
    named = [after[:1] for after in value.replace("%%", "").split("%")[1:]]
    letters = set(named)
    if len(letters) < len(named):
        raise ValueError("names something twice")
    if unknown := letters - set(_DIRECTIVES):
        raise ValueError(f"unknown directive %{min(unknown)}")
    if ("j" not in letters and not (letters & set("mbB") and "d" in letters)) or not letters & set("yY"):
        raise ValueError("names no whole date")
    if ("I" in letters) != ("p" in letters):
        raise ValueError("%I and %p only go together")
    sample = datetime(2026, 11, 25, 21, 42, 37, 123_000, UTC)
    try:
        datetime.strptime(sample.strftime(value), value)  # noqa: DTZ007 - only whether it can be read
    except ValueError:
        raise ValueError("what it writes it cannot read") from None
    return value


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def _read_zone(value: object) -> ZoneInfo:
    if not isinstance(value, str) or value not in _zone_names():
        raise ValueError(f"unknown time zone{did_you_mean(value, _zone_names()) if isinstance(value, str) else ''}")
    return ZoneInfo(value)


def _read_parameter(value: object) -> str:
    if not isinstance(value, str) or value not in PARAMETERS:
        raise ValueError(f"unknown parameter{did_you_mean(value, PARAMETERS) if isinstance(value, str) else ''}")
    return value


_FORMAT = Kind('such as "%d.%m.%Y %H:%M", of %Y %y %m %b %B %d %j %H %I %p %M %S %f %z %a %A', _read_format)
_ZONE = Kind('a name of the IANA time zone database, such as "Europe/Berlin"', _read_zone)
_WORDS = {
    "delimiter": choice(",", ";", "\t", "|"),
    "encoding": choice(*ENCODINGS),
    "decimal_separator": choice(".", ","),
    "thousands_separator": choice("", ".", ",", "'", "’", " "),
    "coupon_separator": choice("", ",", ";", "|", "/", " "),
}
KEYS: Mapping[str, Kind] = {
    **_WORDS,
    "time_format": _FORMAT,
    "time_zone": _ZONE,
    "ambiguous_time": choice("refuse", "first", "second"),
    "ignore": Kind('a list of columns, such as ["till", "cashier"]', _names),
}


class _Reading:
    """A mapping being read; what is wrong with it goes to `problems`."""

    def __init__(self, toml: TomlText) -> None:
        self._toml = toml
        self.problems: list[Problem] = []

    def keys(self) -> dict[str, Any]:
        """The keys that stand in no table."""
        given: dict[str, Any] = {}
        known = (*KEYS, *_TABLES)
        for key, value in self._toml.values.items():
            if key in KEYS:
                try:
                    given[key] = KEYS[key].read(value)
                except ValueError as error:
                    self.refuse((key,), str(error), KEYS[key].accepted)
            elif key not in _TABLES:
                self.refuse((key,), f"unknown key{did_you_mean(key, known)}", listed(known))
        return given

    def table(self, name: str, read: Callable[[object], str] | None) -> dict[str, str]:
        """A table of names and texts: `[columns]`, or `[constants]`, whose values are a sale's."""
        table = self._toml.values.get(name, {})
        if not isinstance(table, dict):
            self.refuse((name,), "not a table", f"[{name}]")
            return {}
        found: dict[str, str] = {}
        for key, value in table.items():
            try:
                found[key.strip()] = read(value) if read else _read_constant(key, value)
            except ValueError as error:
                accepted = listed(PARAMETERS) if read else listed(CONSTANTS) if key not in CONSTANTS else ""
                self.refuse((name, key), str(error), accepted)
        return found

    def time_format(self, given: Mapping[str, Any]) -> TimeFormat | None:
        """The keys about times, which belong together."""
        form, zone = given.get("time_format"), given.get("time_zone")
        values = self._toml.values
        for key in ("time_zone", "ambiguous_time"):
            if key in values and "time_format" not in values:
                self.refuse((key,), "needs time_format: without one, times are epoch or RFC 3339, with an offset")
        if form is None:
            return None
        has_offset = "%z" in form
        if has_offset and "time_zone" in values:
            self.refuse(("time_zone",), "the format has an offset (%z), which is one time zone too many")
        elif not has_offset and "time_zone" not in values:
            self.refuse(("time_format",), "needs time_zone, or an offset (%z)", _ZONE.accepted)
        return TimeFormat(form, zone, given.get("ambiguous_time", "refuse"))

    def refuse(self, path: tuple[str, ...], message: str, accepted: str = "") -> None:
        self.problems.append(Problem(self._toml.file, self._toml.line(path), ".".join(path), message, accepted))


def _read_constant(name: str, value: object) -> str:
    """A constant as a sale would say it; better refused here once than in every row."""
    if name not in CONSTANTS:
        raise ValueError("can be no constant")
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    try:
        if name == "goal":
            return read_goal(value)
        read_content({name: value}, 0, 0)
    except FieldError as error:
        raise ValueError(error.message) from None
    return value
