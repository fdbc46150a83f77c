"""Failpoints: places where a test may have the process die, by name, through LASTCOOKIE_FAILPOINT.

`LASTCOOKIE_FAILPOINT=loader_before_ack` kills at the first pass, `loader_before_ack:7` at the seventh. Without the
variable a failpoint is one comparison. Never put one into the click path.
"""

import os
import signal

_NAME, _, _COUNT = os.environ.get("LASTCOOKIE_FAILPOINT", "").partition(":")
_passes_left = int(_COUNT or 1)


def failpoint(name: str) -> None:
    """Die here, as by SIGKILL, if a test asked for it."""
    global _passes_left
    if name != _NAME:
        return
    _passes_left -= 1
    if _passes_left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
