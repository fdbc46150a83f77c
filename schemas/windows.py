"""How long touches can earn, by program: what their state is kept for, and when that was not long enough.

Touches are kept for the greatest window of their program as it was when they were made. An affiliate's own window
reaches back, to touches made before he had it, and a tracker may learn of new terms late: when the greatest window
grows, sales may ask for touches that are gone from the state though not from the tables. Until the last such sale the
program has a gap (`gap_until`), and its sales are decided from the tables. Pure; called by the tracker's links, by
entity_diff.py and by whoever decides.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.durations import parse_duration
from schemas.terms import parse_versions

TOLD_WITHIN_MS = 86_400_000
"""By then every tracker knows of a change, also one that was cut off from the log."""


def greatest_windows(programs: Iterable[Mapping[str, Any]], memberships: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The greatest window in ms that any touch of a program can have, in any version of its terms."""
    greatest: dict[str, int] = {}
    for program in programs:
        versions = parse_versions(program["terms"])
        greatest[program["id"]] = max(max(terms.window, terms.view_window) for terms in versions)
    for standing in memberships:
        if standing["window"] and standing["program"] in greatest:
            window_ms = parse_duration(standing["window"])
            greatest[standing["program"]] = max(greatest[standing["program"]], window_ms)
    return greatest


def gap_until(program: Mapping[str, Any], was_ms: int, greatest_ms: int, at: int) -> int | None:
    """The program's gap after its greatest window has become another at `at` (ms); None where it has none."""
    before: int | None = program.get("gap_until")
    if greatest_ms <= was_ms:
        return before
    return max(before or 0, at + TOLD_WITHIN_MS + greatest_ms)
