"""Touch state rebuilt: the touches that clicks in the tables have left are merged into those in the log server.

Needed where the log server was emptied, came back older, or refused state for want of memory: the gap marker then says
that evidence from touch state is incomplete, and sales wait for the tables. A rebuild
1. puts a mark of its own in the place of each shard's gap marker: whoever finds a gap from here on replaces it;
2. waits until the tables hold every click that the log had then: all later ones find their touch written by the edge,
   or mark a gap;
3. reads the clicks within each program's greatest window, by visitor, a slice at a time, and merges them
   (merge_touches.lua), some visitors a call and with a rest between the calls, so that clicks flow;
4. removes the markers that are still its own. A server that was started anew, or a window that was made longer
   meanwhile, leaves them: run it again.
It may be interrupted anywhere and run again, and a touch that is there is never doubled. Called by rebuilds.py.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from redis.exceptions import OutOfMemoryError

from attribution.queries import query
from console.bootstrap import is_ready
from console.replays import Refused, stream_ends, wait_for_reader
from schemas import keys
from schemas.failpoints import failpoint
from schemas.log_server import has_room, servers, started
from schemas.projection import Projection
from tracker.links import Route, duplicate_key, greatest_windows

SLICE_ROWS = 20_000
_VISITORS_A_CALL = 100
_TOUCHES_A_CALL = 500
_DAY_MS = 86_400_000
_MERGE = (Path(__file__).parent / "merge_touches.lua").read_text()
_REMOVE_GAP = (Path(__file__).parent / "remove_gap.lua").read_text()

NO_MEMORY = "touch state has used its share of the log server's memory (redis.state_budget_percent of redis.maxmemory)"
STARTED_ANEW = "the log server was started anew meanwhile: run it again"
LONGER_WINDOW = "a program's greatest window has become longer meanwhile: run it again"
NEW_GAP = "touches were lost or refused meanwhile: run it again"


@dataclass
class Tally:
    """What a rebuild has done so far: clicks read of how many there are, visitors met, states changed; at the end
    the shards that had a gap, those whose marker was removed, and why others stay."""

    clicks: int = 0
    of: int = 0
    visitors: int = 0
    changed: int = 0
    gaps: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    problem: str = ""


@dataclass
class _Call:
    """Visitors of one shard that go to the script together."""

    keys: list[str] = field(default_factory=list)
    arguments: list[str | int] = field(default_factory=list)
    touches: int = 0


class Rebuild:
    """One rebuild. `client` reads the tables, `mark` is like no other, `may_grow` says whether touch state may take
    more memory, `clock` gives ms, `rest` lets others have the log server for a moment."""

    def __init__(
        self,
        redis: Any,
        client: Any,
        shards: int,
        touches_max: int,
        mark: str,
        may_grow: Callable[[], bool],
        clock: Callable[[], int],
        rest: Callable[[], None],
        slice_rows: int = SLICE_ROWS,
    ) -> None:
        self._redis = redis
        self._client = client
        self._shards = shards
        self._touches_max = touches_max
        self._mark = mark
        self._may_grow = may_grow
        self._clock = clock
        self._rest = rest
        self._slice_rows = slice_rows
        self._merge = redis.register_script(_MERGE)
        self._remove_gap = redis.register_script(_REMOVE_GAP)
        self._windows: dict[str, int] = {}
        self._runs: list[str] = []
        self.tally = Tally()

    def begin(self) -> None:
        """Steps 1 and 2. Raises Refused, and what the stores raise."""
        if not is_ready(self._redis, self._shards):
            raise Refused(503, "log_server_not_ready", "the log server does not know its claims yet; try again")
        self._runs = self._started()
        self._windows = _windows(self._redis)
        for shard in range(self._shards):
            if self._redis.set(keys.gap(shard), self._mark, xx=True, keepttl=True):
                self.tally.gaps.append(shard)
        clicks = [keys.clicks(shard) for shard in range(self._shards)]
        wait_for_reader(self._redis, stream_ends(self._redis, clicks), "loader")

    def _started(self) -> list[str]:
        return [started(self._redis, shard)[0] for shard in range(self._shards)]

    def steps(self) -> Iterator[Tally]:
        """Steps 3 and 4: how far it is after each slice, and last how it ended. Raises what the stores raise."""
        programs = self._extent()
        yield self.tally
        for program in programs:
            for _ in self._rebuild(program):
                yield self.tally
                if self.tally.problem:
                    return
        self._close()
        yield self.tally

    def _extent(self) -> list[str]:
        """The programs that have clicks; notes how many there are to read, or more where windows differ."""
        since = min((self._reach(program)["received_since"] for program in self._windows), default=0)
        rows = self._client.query(query("touch_extent"), parameters={"received_since": since}).result_rows
        known = [(program, clicks) for program, clicks in rows if program in self._windows]
        self.tally.of = sum(clicks for _, clicks in known)
        return [program for program, _ in known]

    def _reach(self, program: str) -> dict[str, Any]:
        since = self._clock() - self._kept_ms(program)
        return {"program": program, "since": max(0, since), "received_since": max(0, since - _DAY_MS)}

    def _kept_ms(self, program: str) -> int:
        return self._windows[program] + keys.TOUCH_SLACK_MS

    def _rebuild(self, program: str) -> Iterator[None]:
        """Merge the touches of one program; stops after each slice."""
        calls = [_Call() for _ in range(self._shards)]
        visitor, newest, older = "", deque[Sequence[Any]](maxlen=self._touches_max), 0
        for rows in self._slices(program):
            for row in rows:
                if newest and row[:3] == newest[-1][:3]:
                    continue  # a row that is in the table twice is one touch
                if row[0] != visitor:
                    self._take(calls, program, visitor, newest, older)
                    visitor, older = row[0], 0
                    newest.clear()
                older += len(newest) == self._touches_max
                newest.append(row)
            self.tally.clicks += len(rows)
            yield
        self._take(calls, program, visitor, newest, older)
        for call in calls:
            self._send(call)
        yield

    def _slices(self, program: str) -> Iterator[Sequence[Sequence[Any]]]:
        visitor, ts, click_id, reach = "", 0, "", self._reach(program)
        while True:
            place = {"visitor": visitor, "ts": ts, "click_id": click_id, "rows": self._slice_rows}
            rows: Sequence[Sequence[Any]]
            rows = self._client.query(query("touch_slice"), parameters={**reach, **place}).result_rows
            if rows:
                yield rows
                visitor, ts, click_id = rows[-1][:3]
            if len(rows) < self._slice_rows:
                return

    def _take(self, calls: list[_Call], program: str, visitor: str, newest: "deque[Sequence[Any]]", older: int) -> None:
        """Put a visitor into the next call of his shard, and make the call when it is full."""
        if not newest or self.tally.problem:
            return
        kept_ms = self._kept_ms(program)
        left_ms = min(kept_ms, newest[-1][1] + kept_ms - self._clock())
        if left_ms <= 0:
            return
        shard = keys.shard_of_visitor(visitor, self._shards)
        call = calls[shard]
        call.keys.append(keys.touches(shard, program, visitor))
        call.arguments += [left_ms, older, "\n".join(touch_line(*row[1:]) for row in newest)]
        call.touches += len(newest)
        self.tally.visitors += 1
        if len(call.keys) >= _VISITORS_A_CALL or call.touches >= _TOUCHES_A_CALL:
            self._send(call)
            calls[shard] = _Call()

    def _send(self, call: _Call) -> None:
        if not call.keys or self.tally.problem:
            return
        grow = "1" if self._may_grow() else "0"
        try:
            changed, refused = self._merge(keys=call.keys, args=[grow, self._touches_max, *call.arguments])
        except OutOfMemoryError:
            changed, refused = 0, len(call.keys)
        self.tally.changed += changed
        if refused:
            self.tally.problem = NO_MEMORY
        failpoint("rebuild_after_call")
        self._rest()

    def _close(self) -> None:
        """Remove the markers that are still ours, if nothing happened that no marker tells of."""
        tally = self.tally
        tally.of = tally.clicks
        if tally.problem:
            return
        if self._started() != self._runs:
            tally.problem = STARTED_ANEW
            return
        known = self._windows
        if any(window > known.get(program, window) for program, window in _windows(self._redis).items()):
            tally.problem = LONGER_WINDOW
            return
        tally.closed = [s for s in tally.gaps if self._remove_gap(keys=[keys.gap(s)], args=[self._mark])]
        if any(self._redis.exists(keys.gap(shard)) for shard in range(self._shards)):
            tally.problem = NEW_GAP


def touch_line(ts: int, click_id: str, affiliate: str, link: str, kind: str, url: str) -> str:
    """The touch that a click has left, as redirect.py writes it; `url` is the destination without the click id."""
    return f"{affiliate} {link or '-'} {kind[0]} {_duplicate_key(affiliate, link, url)} {ts} {click_id}"


@lru_cache(maxsize=8192)
def _duplicate_key(affiliate: str, link: str, url: str) -> str:
    return duplicate_key(Route("ok", affiliate=affiliate, link=link), url).decode()


def _windows(redis: Any) -> dict[str, int]:
    """By program the greatest window in ms, as the edge has it."""
    projection = Projection()
    records = [
        (key.decode(), data)
        for kind in ("program", "membership")
        for key, data in redis.hscan_iter(keys.PROJECTION, match=f"{kind}:*", count=5000)
    ]
    projection.take_all("", records)
    return greatest_windows(projection)


def may_grow(redis: Any, share: float) -> bool:
    """Whether touch state is within its share of the log server's memory, which is what the edge goes by too."""
    return all(has_room(server.info("memory"), share) for server in servers(redis))
