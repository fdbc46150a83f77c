"""Other terms than those that were in force: some keys replaced in every version. Pure.

Called by who asks what would have been: the command line, which reads `key=value`, and replay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from schemas.terms import KEYS, Terms, TermsError, parse_terms

ON_ARRIVAL = ("duplicate_within", "merge_within")
"""Keys that work when clicks and reports arrive: what they did is in the tables, and no other value undoes it."""


def read_changes(settings: Sequence[str]) -> dict[str, Any]:
    """Values of the terms by key, out of texts `key=value`. Raises TermsError, which names what is accepted."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise TermsError(f"{setting!r} is no key=value; keys are: {', '.join(KEYS)}")
        if key in changes:
            raise TermsError(f"{key} is set twice")
        changes[key] = value.split(",") * bool(value) if isinstance(_default(key), list) else value
    return changed_keys(changes)


def changed_keys(changes: Any) -> dict[str, Any]:
    """The same, if it is a table of keys of the terms with values they accept. Raises TermsError."""
    if isinstance(changes, Mapping):
        for key in changes:
            _default(key)
    parse_terms(changes)
    return dict(changes)


def _default(key: str) -> object:
    if key not in KEYS:
        raise TermsError(f"unknown key {key!r}; accepted: {', '.join(KEYS)}")
    return KEYS[key].default


def changed(terms: Terms, changes: Mapping[str, Any]) -> Terms:
    """This version with some keys replaced, but for those of `ON_ARRIVAL`. Raises TermsError."""
    parsed = parse_terms(changes)
    return replace(terms, **{key: getattr(parsed, key) for key in changes if key not in ON_ARRIVAL})
