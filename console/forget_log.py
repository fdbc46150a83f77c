"""A person forgotten in the log server, the spools and the files of logs.

What is in the streams is waited for and trimmed, so that the tables alone have it; touches go, claims stay without who
bought; then the append-only file is written anew. Lines of log files that name him are blotted out in their place, as
other processes append to these files. Called by forgets.py.
"""

import mmap
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError, ResponseError

from console.forget_tables import Sale, customer_texts, forgotten_claim
from console.replays import Refused, stream_ends, wait_for_reader
from schemas import keys
from schemas.log_server import clock_ms, servers
from tracker.loader import streams
from tracker.reports import decode_claim

_REPLACE_CLAIM = (Path(__file__).parent / "replace_claim.lua").read_text()
_LOOK_AGAIN_SECONDS = 0.05
_SPOOL_LOOKS_MAX = 200
_REWRITE_LOOKS_MAX = 12_000
_CLAIM_TRIES_MAX = 100
_KEYS_AT_ONCE = 1000


class Log:
    """The log server of one instance."""

    def __init__(self, redis: Any, shards: int) -> None:
        self._redis = redis
        self._shards = shards
        self._streams = [stream for stream in streams(shards) if stream.name != keys.ENTITIES]
        self._replace = redis.register_script(_REPLACE_CLAIM)

    def now(self) -> int:
        """The log server's time, ms; of several the latest."""
        return max(clock_ms(server) for server in servers(self._redis))

    def forget_touches(self, visitors: Sequence[str], program: str) -> int:
        """Remove the touches of these visitors; how many states there were."""
        programs = [program] if program else self._programs()
        states = [
            keys.touches(keys.shard_of_visitor(visitor, self._shards), one, visitor)
            for visitor in visitors
            for one in programs
        ]
        removed = 0
        for start in range(0, len(states), _KEYS_AT_ONCE):
            pipe = self._redis.pipeline(transaction=False)
            for key in states[start : start + _KEYS_AT_ONCE]:
                pipe.delete(key)
            removed += sum(pipe.execute())
        return removed

    def _programs(self) -> list[str]:
        found = self._redis.hscan_iter(keys.PROJECTION, match="program:*", count=5000)
        return [key.decode().partition(":")[2] for key, _ in found]

    def forget_claims(self, sales: Iterable[Sale]) -> int:
        """Take from the claims of these sales who bought; how many were changed. Raises Refused."""
        changed = 0
        for sale in sales:
            key = keys.claim(keys.shard_of_order(*sale, self._shards), *sale)
            for _ in range(_CLAIM_TRIES_MAX):
                before = self._redis.get(key)
                claim = decode_claim(before or b"")
                if claim is None or claim.is_forgotten:
                    break
                if self._replace(keys=[key], args=[before, forgotten_claim(before)]):
                    changed += 1
                    break
            else:
                raise Refused(503, "sale_busy", f"order {sale[1]} is being reported all the time; try again")
        return changed

    def empty(self) -> None:
        """Until the tables hold what the log holds now and it is decided; then that leaves the streams. Raises
        Refused."""
        worker = stream_ends(self._redis, [keys.conversions(shard) for shard in range(self._shards)])
        wait_for_reader(self._redis, worker, "worker")
        wait_for_reader(self._redis, stream_ends(self._redis, [stream.name for stream in self._streams]), "loader")
        for stream in self._streams:
            read = [self._redis.hget(keys.positions(stream.name), reader) or b"0-0" for reader in stream.readers]
            milliseconds, sequence = min(map(keys.entry_order, read))
            self._redis.xtrim(stream.name, minid=f"{milliseconds}-{sequence + 1}", approximate=False)

    def rewrite(self) -> str:
        """Write the append-only file anew, of a cluster those of all servers; why that could not be done, '' where it
        was.

        As commands: a snapshot would keep, unread, entries that were trimmed beside others.
        """
        problems = [_rewrite_as_commands(server) for server in servers(self._redis, with_replicas=True)]
        return "; ".join(dict.fromkeys(problem for problem in problems if problem))


def _rewrite_as_commands(server: Any) -> str:
    try:
        preamble = server.config_get("aof-use-rdb-preamble").get("aof-use-rdb-preamble", "yes")
        server.config_set("aof-use-rdb-preamble", "no")
    except ResponseError as error:
        return f"the log server does not take CONFIG ({error}): have its append-only file rewritten"
    try:
        return _rewrite(server)
    finally:
        with suppress(RedisError):
            server.config_set("aof-use-rdb-preamble", preamble)


def _rewrite(server: Any) -> str:
    if not server.info("persistence").get("aof_enabled"):
        return ""
    is_ours = False
    for _ in range(_REWRITE_LOOKS_MAX):
        info = server.info("persistence")
        is_busy = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
        if not is_busy and is_ours:
            is_good = info["aof_last_bgrewrite_status"] == "ok"
            return "" if is_good else "the log server could not rewrite its append-only file: see its log"
        if not is_busy:
            server.bgrewriteaof()
            is_ours = True
        time.sleep(_LOOK_AGAIN_SECONDS)
    return "the log server is still rewriting its append-only file"


def needles(visitors: Sequence[str], click_ids: Sequence[str], customer: str) -> list[bytes]:
    """How a person stands in spools and log files."""
    return [*(one.encode() for one in (*visitors, *click_ids)), *customer_texts(customer)]


def wait_for_spools(folder: Path, wanted: Sequence[bytes]) -> None:
    """Until no spool names the person: what is there goes into the log by itself. Raises Refused."""
    for _ in range(_SPOOL_LOOKS_MAX):
        waiting = [path for path in sorted(folder.glob("*/*.spool")) if _names(path, wanted)]
        if not waiting:
            return
        time.sleep(_LOOK_AGAIN_SECONDS)
    raise Refused(503, "spool_waiting", f"{len(waiting)} files of the spool name him and do not drain; try again")


def _names(path: Path, wanted: Sequence[bytes]) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    return any(needle in data for needle in wanted)


def blot_out(paths: Iterable[Path], wanted: Sequence[bytes]) -> int:
    """Write # over every line that names the person, in its place; how many lines there were."""
    count = 0
    for path in paths:
        if not path.is_file() or not path.stat().st_size:
            continue
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as text:
            for needle in wanted:
                at = text.find(needle)
                while at >= 0:
                    start, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
                    end = len(text) if end < 0 else end
                    text[start:end] = b"#" * (end - start)
                    count += 1
                    at = text.find(needle, end)
            text.flush()
    return count
