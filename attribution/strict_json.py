"""One line of JSON, read strictly: exactly the fields a table names, of exactly the kinds it names.

A bool is no integer, nor is 1.0; an object with a key twice, `NaN`, and a text with half of a surrogate pair
are refused; a null is a missing field. What is left out: what the fields mean. Called by the readers of test
cases.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from schemas.durations import parse_duration

Item = TypeVar("Item")
Reader = Callable[[Any, str], Item]
"""Takes a value that is not null and where it stands, for the error."""


class CaseError(ValueError):
    """A malformed case; the message says where and why."""


class Field(NamedTuple):
    """How a field is read, and what it is where it is left out or null."""

    read: Reader[Any]
    default: object = None
    required: bool = False


def load(line: bytes) -> object:
    """The JSON document on this line; CaseError where it is none, RecursionError where it is nested too deep.

    Its texts may still hold halves of surrogate pairs: see `is_unicode`.
    """
    try:
        document: object = _DECODER.decode(line.decode())
    except json.JSONDecodeError as error:
        raise CaseError(f"not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise CaseError(f"not JSON: not UTF-8: {error.reason} at byte {error.start}") from None
    return document


def is_unicode(document: object) -> bool:
    """Whether every text in the document can be written as UTF-8."""
    try:
        dump(document).encode()
    except UnicodeEncodeError:
        return False
    return True


def dump(value: object) -> str:
    """The value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read_fields(value: object, fields: Mapping[str, Field], where: str) -> dict[str, Any]:
    """The object's value of every field, defaults filled in; CaseError for a key that is no field."""
    table = read_table(value, where)
    if not table.keys() <= fields.keys():
        unknown = next(key for key in table if key not in fields)
        raise CaseError(f"{_under(where, unknown)}: unknown key; accepted: {', '.join(fields)}")
    return {name: _read_field(table.get(name), field, _under(where, name)) for name, field in fields.items()}


def read_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise CaseError(f"{where}: {shown(value)} is not a text")
    return value


def read_integer(value: object, where: str) -> int:
    if type(value) is not int:  # a bool is an int to isinstance
        raise CaseError(f"{where}: {shown(value)} is not an integer")
    return value


def read_duration(value: object, where: str) -> int:
    text = read_text(value, where)
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CaseError(f"{where}: {error}") from None


def read_list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise CaseError(f"{where}: {shown(value)} is not a list")
    return value


def read_table(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise CaseError(f"{where or 'the case'}: {shown(value)} is not an object")
    return value


def one_of(*words: str) -> Reader[str]:
    """The reader of a text that must be one of these."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise CaseError(f"{where}: {shown(value)} is none of {', '.join(words)}")
        return value

    return read


def list_of(read_item: Reader[Item]) -> Reader[tuple[Item, ...]]:
    """The reader of a list whose items this one reads; a null in it is not skipped."""

    def read(value: object, where: str) -> tuple[Item, ...]:
        items = enumerate(read_list(value, where))
        return tuple(read_item(item, f"{where}[{place}]") for place, item in items)

    return read


def set_of(read_item: Reader[Item]) -> Reader[frozenset[Item]]:
    """The reader of a list whose order and repetitions mean nothing."""
    read_items = list_of(read_item)
    return lambda value, where: frozenset(read_items(value, where))


def table_of(read_item: Reader[Item]) -> Reader[dict[str, Item]]:
    """The reader of an object with keys of the writer's own; a null value is a key left out."""

    def read(value: object, where: str) -> dict[str, Item]:
        items = read_table(value, where).items()
        return {key: read_item(item, _under(where, key)) for key, item in items if item is not None}

    return read


def shown(value: object) -> str:
    """The value as an error message quotes it: short, and of lists and objects only the kind."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return _shortened(json.dumps(value, ensure_ascii=False))


def _read_field(value: object, field: Field, where: str) -> object:
    if value is not None:
        return field.read(value, where)
    if field.required:
        raise CaseError(f"{where}: missing")
    return field.default


def _under(where: str, name: str) -> str:
    return f"{where}.{_shortened(name)}" if where else _shortened(name)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise CaseError("an object has one key twice")
    return table


def _refuse_constant(text: str) -> object:
    raise CaseError(f"not JSON: {text}")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
