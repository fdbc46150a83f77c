"""TOML with line numbers: what `tomllib` reads, and where each key of it stands in the text.

`tomllib` keeps no positions, so a second, lenient pass walks the text that `tomllib` has already accepted.
Keys inside inline tables and arrays are not listed: they are found at the line of the key that holds them.
Called by the readers of settings and entity files; raises nothing but `FileError`, and only on malformed
TOML.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.problems import FileError, Problem

Path = tuple[str | int, ...]

_STRING = r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
_COMMENT = r"\#[^\n]*"
_BLANK = re.compile(rf"(?:[ \t\r\n]|{_COMMENT})*")
_KEY = re.compile(r'[ \t]*("(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)[ \t]*(\.?)')
_VALUE_PART = re.compile(rf"{_STRING}|{_COMMENT}|[\[{{]|[\]}}]|\n|[^\"'\#\[\]{{}}\n]+", re.DOTALL)
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class TomlText:
    """A parsed file: its values, and the line of each key by its path, array tables by their index."""

    file: str
    values: Mapping[str, object]
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int | None:
        """Where the key stands, else the nearest that holds it; None for a file without a line of it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def parse_toml(text: str, file: str) -> TomlText:
    """Read TOML; malformed text raises `FileError` with the line that `tomllib` names."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        last = text.count("\n") + 1
        line = int(place[1]) if place and place[1] else last
        raise FileError([Problem(file, line, "", f"not TOML: {_PLACE.sub('', message)}")]) from error
    except RecursionError as error:
        raise FileError([Problem(file, None, "", "lists or tables within one another, too deep to be read")]) from error
    except ValueError as error:  # Python's own limit
        raise FileError([Problem(file, None, "", "a number of thousands of digits")]) from error
    return TomlText(file, values, _find_lines(text.replace("\r\n", "\n")))


def _find_lines(text: str) -> dict[Path, int]:
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    line, counted, position = 1, 0, _skip_blank(text, 0)
    while position < len(text):
        line += text.count("\n", counted, position)
        counted = position
        if text[position] == "[":
            is_array = text.startswith("[[", position)
            names, position = _read_key(text, position + 1 + is_array)
            table = _enter(names, counts, is_array)
            position = text.index("]", position) + 1 + is_array
            key = table
        else:
            names, position = _read_key(text, position)
            position = _skip_value(text, position)
            key = table + names
        for depth in range(1, len(key) + 1):
            lines.setdefault(key[:depth], line)
        position = _skip_blank(text, position)
    return lines


def _enter(names: tuple[str, ...], counts: dict[Path, int], is_array: bool) -> Path:
    """The path of a table header: after the name of each array table comes the index of its latest table."""
    path: Path = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    path = (*path, names[-1])
    if is_array:
        counts[path] = counts.get(path, -1) + 1
        path = (*path, counts[path])
    return path


def _skip_blank(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    assert blank is not None
    return blank.end()


def _read_key(text: str, position: int) -> tuple[tuple[str, ...], int]:
    names: list[str] = []
    more = True
    while more:
        part = _KEY.match(text, position)
        assert part is not None
        names.append(_unquote(part[1]))
        position = part.end()
        more = part[2] == "."
    return tuple(names), position


def _unquote(key: str) -> str:
    """A bare key as it stands; a quoted one as TOML itself reads it."""
    if key[0] not in "\"'":
        return key
    return str(tomllib.loads(f"key = {key}")["key"])


def _skip_value(text: str, position: int) -> int:
    """To the end of the statement: the first newline outside strings and brackets."""
    depth = 0
    while position < len(text):
        part = _VALUE_PART.match(text, position)
        assert part is not None
        position = part.end()
        if part[0] in ("[", "{"):
            depth += 1
        elif part[0] in ("]", "}"):
            depth -= 1
        elif part[0] == "\n" and depth == 0:
            break
    return position
