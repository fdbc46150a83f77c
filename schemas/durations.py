"""Durations as people write them, `30d`, and as code counts them, in milliseconds.

A day is 86 400 000 ms: no calendar, no daylight saving (ATTRIBUTION.md, first paragraph). Called by the
readers of terms, settings and cases.
"""

import re

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}

_WRITTEN = re.compile(r"([0-9]+)([dhms])")


def parse_duration(text: str) -> int:
    """Milliseconds in `30d`, `12h`, `45m` or `90s`; ValueError for anything else."""
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ValueError(f"{_shown(text)} is not a duration: write 30d, 12h, 45m or 90s")
    try:
        count = int(written[1])
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise ValueError(f"{_shown(text)} is not a duration: too many digits") from None
    return count * UNITS_MS[written[2]]


def format_duration(duration_ms: int) -> str:
    """The shortest way to write it: the greatest unit that divides it, `0s` for none.

    ValueError for what `parse_duration` could not give back: a negative one, or a fraction of a second.
    """
    if duration_ms < 0 or duration_ms % UNITS_MS["s"]:
        raise ValueError(f"{duration_ms} ms can't be written as a duration: not a whole number of seconds from 0s")
    if duration_ms == 0:
        return "0s"
    letter = next(letter for letter, unit_ms in UNITS_MS.items() if duration_ms % unit_ms == 0)
    return f"{duration_ms // UNITS_MS[letter]}{letter}"


def _shown(text: str) -> str:
    """The text as an error message quotes it, however long it is."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
