"""What is wrong with a file that a person wrote: where, what, and what would be right.

A reader who mends one mistake must not meet the next one only then, so readers of files gather every problem
before they raise. Used by settings and entity files; says nothing about requests, whose errors have another
shape.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake. `line` counts from 1 and is None where no line is to blame (an environment variable)."""

    file: str
    line: int | None
    key: str
    message: str
    accepted: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        accepted = f" (accepted: {self.accepted})" if self.accepted else ""
        return ": ".join(part for part in (place, self.key, self.message) if part) + accepted


class FileError(Exception):
    """A file that cannot be used, with all its problems in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to hang on "unknown …": the nearest known name, or nothing where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def listed(names: Iterable[str]) -> str:
    """Names as the accepted values of a problem: `a | b | c`."""
    return " | ".join(names)
