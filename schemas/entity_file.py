"""The file for `lastcookie apply`: tables of merchants, programs, affiliates, …, read and checked one by one.

Says what the file says and nothing about what is there already: that is entity_diff.py. Every mistake is
gathered, each with its line. Pure; called by the command line and by a start with a demo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.entities import EntityKey, coupon_id, membership_id
from schemas.entity_keys import MONEY_KEYS, EntityType, UrlChecks, entity_types
from schemas.problems import FileError, Problem, did_you_mean, listed
from schemas.terms import KEYS as TERMS_KEYS
from schemas.toml_text import TomlText, parse_toml


class EntityError(FileError):
    """A file that cannot be applied; nothing of it was. `problems` holds all that is wrong with it."""


@dataclass(frozen=True)
class Entry:
    """One table of the file: which entity, and the keys that are given, as a record holds them.

    Not a record's are `attribution` (terms as written) and a coupon's affiliate, status, from and to.
    """

    type: str
    id: str
    given: Mapping[str, Any]
    file: str
    line: int | None
    lines: Mapping[str, int | None]
    required: tuple[str, ...]

    @property
    def key(self) -> EntityKey:
        """What the entity is known by."""
        return self.type, self.id

    def problem(self, key: str, message: str, accepted: str = "") -> Problem:
        """A mistake in a key of this table, at its line; at the table's own where the key is missing."""
        return Problem(self.file, self.lines.get(key, self.line), f"{self.type}.{key}", message, accepted)


@dataclass(frozen=True)
class EntityFile:
    """A file without mistakes of its own, its entries ordered so that none refers to a later one."""

    file: str
    entries: tuple[Entry, ...]


def parse_file(text: str, filename: str, checks: UrlChecks) -> EntityFile:
    """Read a file for `apply`; raises `EntityError` with every problem."""
    try:
        toml = parse_toml(text, filename)
    except FileError as error:
        raise EntityError(error.problems) from error
    types = entity_types(checks)
    problems = list(_unknown_tables(toml, types))
    entries: list[Entry] = []
    for name, entity_type in types.items():
        for index, table in enumerate(_tables(toml, name)):
            reading = _Reading(toml, (name, index), entity_type, problems)
            entry = reading.entry(table)
            if entry:
                entries.append(entry)
    problems.extend(_twice(entries))
    if problems:
        raise EntityError(problems)
    return EntityFile(filename, tuple(entries))


@dataclass
class _Reading:
    """One table being read; what is wrong with it goes to `problems`."""

    toml: TomlText
    path: tuple[str, int]
    entity_type: EntityType
    problems: list[Problem]

    def entry(self, table: Mapping[str, object]) -> Entry | None:
        """The entry, or None where its identity cannot be read."""
        name = self.path[0]
        known = [*self.entity_type.keys, *(["attribution"] if name == "program" else [])]
        given: dict[str, Any] = {}
        for key, value in table.items():
            if key not in known:
                self._refuse((key,), f"unknown key{did_you_mean(key, known)}", listed(known))
            elif key == "attribution":
                given[key] = self._attribution(value)
            else:
                self._read(key, value, given)
        missing = [key for key in self.entity_type.identity if key not in table]
        for key in missing:
            self._refuse((key,), "missing", self.entity_type.keys[key].accepted)
        if any(key not in given for key in self.entity_type.identity):
            return None
        lines = {key: self.toml.line((*self.path, key)) for key in table}
        line = self.toml.line(self.path)
        required = self.entity_type.required
        return Entry(name, _identify(name, given), _gather_money(name, given), self.toml.file, line, lines, required)

    def _read(self, key: str, value: object, given: dict[str, Any]) -> None:
        kind = self.entity_type.keys[key]
        try:
            given[key] = kind.read(value)
        except ValueError as error:
            self._refuse((key,), str(error), kind.accepted)

    def _attribution(self, table: object) -> dict[str, object]:
        """The keys of the terms, as written; what `schemas.terms` would refuse is refused here, by line."""
        if not isinstance(table, dict):
            self._refuse(("attribution",), "not a table", "[program.attribution]")
            return {}
        for key, value in table.items():
            if key not in TERMS_KEYS:
                message = f"unknown key{did_you_mean(key, TERMS_KEYS)}"
                self._refuse(("attribution", key), message, listed(TERMS_KEYS))
                continue
            try:
                TERMS_KEYS[key].read(value)
            except ValueError:
                self._refuse(("attribution", key), "not accepted", TERMS_KEYS[key].accepts)
        return table

    def _refuse(self, keys: tuple[str, ...], message: str, accepted: str) -> None:
        line = self.toml.line((*self.path, *keys))
        key = ".".join((self.path[0], *keys))
        self.problems.append(Problem(self.toml.file, line, key, message, accepted))


def _identify(name: str, given: Mapping[str, Any]) -> str:
    if name == "membership":
        return membership_id(given["program"], given["affiliate"])
    if name == "coupon":
        return coupon_id(given["program"], given["code"])
    return str(given["code" if name == "link" else "id"])


def _gather_money(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Money keys stand together in a record, so that who prices finds them in one place."""
    money = {key: given[key] for key in MONEY_KEYS.get(name, ()) if key in given}
    rest = {key: value for key, value in given.items() if key not in money}
    return rest | ({"money": money} if money else {})


def _tables(toml: TomlText, name: str) -> list[dict[str, object]]:
    tables = toml.values.get(name)
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def _unknown_tables(toml: TomlText, types: Mapping[str, EntityType]) -> Iterator[Problem]:
    for name, value in toml.values.items():
        accepted = listed(f"[[{known}]]" for known in types)
        if name not in types:
            message = f"unknown table{did_you_mean(name, types)}"
            yield Problem(toml.file, toml.line((name,)), name, message, accepted)
        elif not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            yield Problem(toml.file, toml.line((name,)), name, "not a list of tables", f"[[{name}]]")


def _twice(entries: list[Entry]) -> Iterator[Problem]:
    first: dict[EntityKey, Entry] = {}
    for entry in entries:
        before = first.setdefault(entry.key, entry)
        if before is not entry:
            message = f'"{entry.id}" stands in this file already, in line {before.line}'
            yield Problem(entry.file, entry.line, entry.type, message)
