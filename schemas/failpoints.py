"""Failpoints: places where a test may have the process die, by name, through LASTCOOKIE_FAILPOINT.

`LASTCOOKIE_FAILPOINT=loader_before_ack` kills at the first pass, `loader_before_ack:7` at the seventh, and
`loader_before_ack:7@/path/fired` once only: whoever makes that file first. Several stand side by side with a comma
between. Without the variable a failpoint is one comparison. Never put one into the click path.
"""

import os
import signal
from pathlib import Path


class _Point:
    """`passes` until it kills; `fired`, if given, says that it has."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition(":")
        count, _, fired = rest.partition("@")
        self.passes = int(count or 1)
        self.fired = Path(fired) if fired else None

    def is_due(self) -> bool:
        self.passes -= 1
        if self.passes > 0:
            return False
        if self.fired is None:
            return True
        try:
            self.fired.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


_points = {
    point.name: point for point in map(_Point, os.environ.get("LASTCOOKIE_FAILPOINT", "").split(",")) if point.name
}


def failpoint(name: str) -> None:
    """Die here, as by SIGKILL, if a test asked for it."""
    if _points and (point := _points.get(name)) is not None and point.is_due():
        os.kill(os.getpid(), signal.SIGKILL)
