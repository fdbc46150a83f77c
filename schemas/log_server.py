"""Which run of the log server this is, and whether it has been looked at: it may have come back from an older copy.

Such a copy has forgotten orders and positions, and has every mark of a server that is ready. So the engine notes on it
the run that it has looked at (console/bootstrap.py), and whoever must do things once asks here first: the loader and
the worker before each batch, a tracker when it connects to report sales. A cluster has a server for each place (a
shard, or the entities), and another one after a failover or when the place has moved: so each place has its own note.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas import keys

_RUN = (Path(__file__).parent / "run.lua").read_text()


class Restarted(Exception):
    """The log server has started anew, or has not been looked at since: what was read from it may be older."""


def started(redis: Any, place: keys.Place) -> tuple[str, str]:
    """What changes when the server that holds the place is another one, or started anew; and the one that the engine
    has noted there, '' for none."""
    run, noted = redis.eval(_RUN, 1, keys.server(place))
    return run.decode(), (noted or b"").decode()


def known_run(redis: Any, place: keys.Place) -> str:
    """The run of the server of a place, which has been looked at; one without a note is as good. Raises Restarted."""
    run, noted = started(redis, place)
    if noted not in ("", run):
        raise Restarted("the log server has started anew and has not been looked at yet")
    return run


def is_noted(info: bytes, noted: bytes | None) -> bool:
    """The same for one server's reply to INFO and its note."""
    found = re.search(rb"^run_id:(\w+)", info, re.MULTILINE)
    return noted is None or found is None or found[1] == noted


def has_room(memory: Mapping[str, Any], share: float) -> bool:
    """Whether touch state may grow on a server, by its INFO memory: within so much of what it may use."""
    most = memory["maxmemory"] or memory.get("total_system_memory", 0)
    return not most or memory["used_memory"] < most * share


def clock_ms(server: Any) -> int:
    """The time of one server."""
    seconds, microseconds = server.time()
    return int(seconds * 1000 + microseconds // 1000)


def servers(redis: Any, *, with_replicas: bool = False) -> list[Any]:
    """A client for each server of the log: the one, or the masters of a cluster; with replicas, those it has now."""
    if not hasattr(redis, "get_primaries"):
        return [redis]
    if with_replicas:  # of one that is gone the client does not hear by itself
        redis.nodes_manager.initialize()
    nodes = redis.get_nodes() if with_replicas else redis.get_primaries()
    return [redis.get_redis_connection(node) for node in nodes]
