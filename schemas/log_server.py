"""Which run of the log server this is, and whether it has been looked at: it may have come back from an older copy.

Such a copy has forgotten orders and positions, and has every mark of a server that is ready. So the engine notes on it
the run that it has looked at (console/bootstrap.py), and whoever must do things once asks here first: the loader and
the worker before each batch, a tracker when it connects to report sales.
"""

import re
from typing import Any

from schemas import keys


class Restarted(Exception):
    """The log server has started anew, or has not been looked at since: what was read from it may be older."""


def started(redis: Any) -> str:
    """What changes when a server, or one of a cluster, is started anew."""
    info = redis.info("server")
    return str(info["run_id"] if "run_id" in info else sorted(one["run_id"] for one in info.values()))


def known_run(redis: Any) -> str:
    """The run of the server, which has been looked at; one without a note is as good. Raises Restarted."""
    run, noted = started(redis), redis.get(keys.server(0))
    if noted not in (None, run.encode()):
        raise Restarted("the log server has started anew and has not been looked at yet")
    return run


def is_noted(info: bytes, noted: bytes | None) -> bool:
    """The same for one server's reply to INFO and its note."""
    found = re.search(rb"^run_id:(\w+)", info, re.MULTILINE)
    return noted is None or found is None or found[1] in noted
