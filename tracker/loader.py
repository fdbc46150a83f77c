"""The loader: from the log into ClickHouse, every row exactly once, whatever dies when.

One loader at a time (schemas/lease.py) reads each stream from the position it has noted, inserts one batch a table and
month, and notes the new position; entries that every reader has behind it are trimmed. Where more is waiting, the next
batch is read while one is inserted. In the normal path nothing is compared. After anything unusual (a start, a failed
or timed-out insert, a new epoch, a lost position, a replay out of a spool) it is *careful* until it has passed the end
of the stream as it was then: rows whose id is in the table, or twice in the batch, are left out.
A batch that the engine refuses is halved down to its bad rows, which go to `dead_letters` with the reason.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
from clickhouse_connect.driver.exceptions import DatabaseError

from schemas import keys
from schemas.failpoints import failpoint
from schemas.lease import LEASE_MS, RENEW_MS, Lease, LeaseLost
from schemas.log_server import Restarted, known_run
from schemas.logs import logger
from tracker.rows import ID_OF, Splicer, place_of, row_id, stream_of

ROLE = "loader"
_ACK = (Path(__file__).parent / "ack.lua").read_text()
_ENTITIES_KEPT_MS = 3_600_000
_ENTRIES_AT_ONCE = 50
_IDS_AT_ONCE = 10_000
_LAST_LOADS_MAX = 200
_ROWS_A_PATIENCE = 2000
_WAIT_SECONDS_MAX = 1.0
_RETRY_SECONDS = 0.5
_BAD_DATA_CODES = frozenset(
    (6, 25, 26, 27, 32, 33, 38, 41, 53, 62, 69, 70, 72, 117, 130, 131, 190, 321, 344, 349, 407, 467, 691)
)
"""ClickHouse's errors that are about the rows sent, not about the server: all that 20,000 spoilt rows have met."""

_INSERT_SETTINGS = {
    "async_insert": 0,
    "input_format_skip_unknown_fields": 0,
    "input_format_parallel_parsing": 0,
    "input_format_null_as_default": 1,
    "input_format_defaults_for_omitted_fields": 0,  # no column has a DEFAULT; looking for them took 2 µs a row
    "max_insert_block_size": 1_048_576,
    "min_insert_block_size_rows": 1_048_576,
    "max_execution_time": (LEASE_MS - RENEW_MS) // 2000,  # what goes on after the lease's end may double rows
}


class Client(Protocol):
    """What the loader needs of clickhouse-connect."""

    def raw_insert(self, table: str, *, insert_block: bytes, fmt: str, settings: dict[str, Any]) -> Any: ...
    def query(self, query: str, *, parameters: dict[str, Any]) -> Any: ...


class Stream(NamedTuple):
    """A stream and who reads it."""

    name: str
    shard: int
    readers: tuple[str, ...]

    @property
    def place(self) -> keys.Place:
        """Where it is: entities go with the first shard, but have a place of their own."""
        return keys.ENTITY_PLACE if self.name == keys.ENTITIES else self.shard


Group = tuple[str, str]
"""A table and a month of receipt: one insert each, so that each is one block of one partition."""


class Batch(NamedTuple):
    """Entries of one stream: their rows as lines, the ids of the first and the last. `is_cut`: more is waiting."""

    rows: dict[Group, list[bytes]]
    first: str
    last: str
    is_replay: bool
    is_cut: bool


class Ahead(NamedTuple):
    """A batch that is being read while the one before it is inserted, and what it is read for."""

    position: str
    epoch: int
    batch: Future[Batch | None]


def streams(shards: int) -> list[Stream]:
    """Every stream of the log."""
    of_shards = [
        Stream(name(shard), shard, readers)
        for shard in range(shards)
        for name, readers in (
            (keys.conversions, (ROLE, "worker")),
            (keys.credits, (ROLE,)),
            (keys.clicks, (ROLE,)),
        )
    ]
    return [Stream(keys.ENTITIES, 0, (ROLE,)), *of_shards]


class Loader:
    """Loads every stream while it holds the lease."""

    def __init__(
        self,
        redis: Any,
        client: Client,
        splicer: Splicer,
        lease: Lease,
        shards: int,
        rows_max: int,
        bytes_max: int,
        counters: Counter[str],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`settle` is called when rows are in the tables and the log still has them; what they lack to survive a power
        loss it does. It may raise: they are compared at the next try."""
        self._redis = redis
        self._client = client
        self._settle = settle
        self._splicer = splicer
        self._lease = lease
        self._streams = streams(shards)
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._ack = redis.register_script(_ACK)
        self._careful_until: dict[str, str] = {}
        self._epochs: dict[int, int] = {}
        self._runs: dict[keys.Place, str] = {}
        self._reader = ThreadPoolExecutor(1, "loader_reader")
        self._ahead: dict[str, Ahead] = {}
        self.is_behind = False
        self.counters = counters

    def start(self) -> bool:
        """Take the role; True when held. Then everything up to the present ends of the streams is compared."""
        self._runs = {place: known_run(self._redis, place) for place in {stream.place for stream in self._streams}}
        if not self._lease.acquire():
            return False
        self._ahead.clear()
        self.be_careful()
        return True

    def be_careful(self) -> None:
        """Compare everything up to the present ends of the streams with what is in the tables."""
        for stream in self._streams:
            last = self._redis.xrevrange(stream.name, count=1)
            self._careful_until[stream.name] = last[0][0].decode() if last else "0-0"

    def load_once(self) -> int:
        """Load what is there, at most one batch a stream; the number of rows. Raises LeaseLost and what the stores
        raise; the caller then calls `start` when they are back. `is_behind` says whether more was waiting."""
        self._lease.renew()
        for shard in {stream.shard for stream in self._streams}:
            epoch = int(self._redis.get(keys.ready(shard)) or 0)
            if self._epochs.setdefault(shard, epoch) != epoch:
                self._epochs[shard] = epoch
                self.be_careful()
        self.is_behind = False
        return sum(self._load_stream(stream) for stream in self._streams)

    def _load_stream(self, stream: Stream) -> int:
        position = self._redis.hget(keys.positions(stream.name), ROLE)
        batch = self._next_batch(stream, "0-0" if position is None else position.decode())
        if batch is None:
            return 0
        if self._runs[stream.place] != known_run(self._redis, stream.place):  # the client has connected anew, unsaid
            raise Restarted("the log server has started anew")
        if batch.is_cut:
            reading = self._reader.submit(self._read_batch, stream, batch.last)
            self._ahead[stream.name] = Ahead(batch.last, self._epochs[stream.shard], reading)
        careful_until = self._careful_until.get(stream.name)
        is_watched = careful_until is not None and keys.entry_order(batch.first) <= keys.entry_order(careful_until)
        rows = batch.rows
        if batch.is_replay or is_watched or position is None:
            rows = self._unknown(rows)
        for (table, _month), lines in rows.items():
            self._insert(table, lines)
            failpoint("loader_between_tables")
        self._settle()
        failpoint("loader_before_ack")
        self._acknowledge(stream, batch.last)
        if careful_until is not None and keys.entry_order(batch.last) >= keys.entry_order(careful_until):
            del self._careful_until[stream.name]
        self.is_behind = self.is_behind or batch.is_cut
        loaded = sum(map(len, rows.values()))
        self.counters["rows_loaded"] += loaded
        return loaded

    def finish(self) -> None:
        """Load what is left, within reason where others still append, and give the role back."""
        for _ in range(_LAST_LOADS_MAX):
            if not self.load_once() and not self.is_behind:
                break
        self._lease.release()

    def _next_batch(self, stream: Stream, position: str) -> Batch | None:
        """What is behind the position; it may have been read ahead."""
        ahead = self._ahead.pop(stream.name, None)
        if ahead is not None and (ahead.position, ahead.epoch) == (position, self._epochs[stream.shard]):
            return ahead.batch.result()
        return self._read_batch(stream, position)

    def _read_batch(self, stream: Stream, position: str) -> Batch | None:
        """The entries behind the position, as many as fit a batch."""
        rows: dict[Group, list[bytes]] = {}
        first, last, size, count, is_replay = "", position, 0, 0, False
        while True:
            entries = self._redis.xrange(stream.name, f"({last}", count=_ENTRIES_AT_ONCE)
            for stream_id, fields in entries:
                size += sum(map(len, fields.values()))
                if first and (count >= self._rows_max or size > self._bytes_max):
                    return Batch(rows, first, last, is_replay, True)
                last = stream_id.decode()
                first = first or last
                is_replay = is_replay or b"replay" in fields
                month = _month(int(last.partition("-")[0]) // 86_400_000)
                for table, lines in self._splicer.lines(stream.name, self._epochs[stream.shard], last, fields):
                    rows.setdefault((table, month), []).extend(lines)
                    count += len(lines)
            if len(entries) < _ENTRIES_AT_ONCE:
                return Batch(rows, first, last, is_replay, False) if first else None

    def _unknown(self, rows: dict[Group, list[bytes]]) -> dict[Group, list[bytes]]:
        """The rows whose id is neither in their table nor in an earlier row."""
        unknown: dict[Group, list[bytes]] = {}
        seen: dict[str, set[str]] = {}
        for (table, month), lines in rows.items():
            ids = [row_id(table, line) for line in lines]
            known = seen.setdefault(table, set())
            if table in ID_OF:
                known |= self._stored(table, lines, ids)
            for id, line in zip(ids, lines, strict=True):
                if id not in known:
                    known.add(id)
                    unknown.setdefault((table, month), []).append(line)
                else:
                    self.counters["rows_known_already"] += 1
        return unknown

    def _stored(self, table: str, lines: Sequence[bytes], ids: list[str]) -> set[str]:
        since = min(map(_row_time, lines)) - 3_600_000
        query = (
            f"SELECT {ID_OF[table]} FROM {table} WHERE {ID_OF[table]} IN {{ids:Array(String)}} "
            "AND received_at >= fromUnixTimestamp64Milli({since:Int64})"
        )
        stored: set[str] = set()
        for start in range(0, len(ids), _IDS_AT_ONCE):
            parameters = {"ids": ids[start : start + _IDS_AT_ONCE], "since": since}
            stored.update(row[0] for row in self._client.query(query, parameters=parameters).result_rows)
            self._lease.renew()
        return stored

    def _insert(self, table: str, lines: Sequence[bytes]) -> None:
        try:
            if table not in ID_OF:
                raise DatabaseError(f"there is no table {table}", code=60)
            self._lease.renew()
            self._client.raw_insert(table, insert_block=b"\n".join(lines), fmt="JSONEachRow", settings=_INSERT_SETTINGS)
        except DatabaseError as error:
            if table in ID_OF and not _is_about_rows(error, lines):
                raise
            if len(lines) == 1:
                self._bury(table, lines[0], str(error))
                return
            half = len(lines) // 2
            self._insert(table, lines[:half])
            self._insert(table, lines[half:])

    def _bury(self, table: str, line: bytes, reason: str) -> None:
        self.counters["dead_letters"] += 1
        stream, stream_id = stream_of(line), place_of(line)
        letter = {
            "letter_id": f"{stream}/{stream_id}",
            "received_at": stream_id.partition("-")[0],
            "table": table,
            "reason": reason[:1000],
            "row": line.decode("utf-8", "replace"),
            "stream": stream,
            "stream_id": stream_id,
        }
        known = self._client.query(
            "SELECT count() FROM dead_letters WHERE letter_id = {id:String}",
            parameters={"id": letter["letter_id"]},
        )
        if not known.result_rows[0][0]:
            block = orjson.dumps(letter)
            self._client.raw_insert("dead_letters", insert_block=block, fmt="JSONEachRow", settings=_INSERT_SETTINGS)

    def _acknowledge(self, stream: Stream, stream_id: str) -> None:
        newest = stream_id
        if stream.name == keys.ENTITIES:
            newest = f"{int(stream_id.partition('-')[0]) - _ENTITIES_KEPT_MS}-0"
        # The entities' keys have a slot of their own: their fence is read beforehand.
        is_shared = stream.name == keys.ENTITIES
        fence = keys.fence(stream.shard, ROLE)
        if is_shared:
            if int(self._redis.get(fence) or 0) != self._lease.number:
                raise LeaseLost(ROLE)
            self._redis.hset(keys.positions(stream.name), ROLE, stream_id)
            self._redis.xtrim(stream.name, minid=newest)
            return
        done = self._ack(
            keys=[fence, keys.positions(stream.name), stream.name],
            args=[self._lease.number, ROLE, stream_id, newest, *stream.readers],
        )
        if not done:
            raise LeaseLost(ROLE)


def run(loader: Loader, flush_after_seconds: float, should_stop: Callable[[], bool]) -> None:
    """Load until told to stop, then once more what is there. Survives the loss of either store and of the lease."""
    held = False
    while not should_stop():
        started = time.monotonic()
        try:
            held = held or loader.start()
            loaded = loader.load_once() if held else 0
            is_behind = held and loader.is_behind
        except LeaseLost:
            held, is_behind, loaded = False, False, 0
        except Exception as error:
            logger().error("loading failed, will try again", error=str(error)[:500], kind=type(error).__name__)
            loader.counters["loads_failed"] += 1
            held, is_behind, loaded = False, False, 0
            time.sleep(_RETRY_SECONDS)
        if not is_behind:
            # Under load fewer and larger inserts: 10,000 rows at once cost the engine half of what 3,000 do, a row.
            patience = flush_after_seconds * (1 + loaded / _ROWS_A_PATIENCE)
            patience = max(flush_after_seconds, min(_WAIT_SECONDS_MAX, patience))
            time.sleep(max(0.0, patience - (time.monotonic() - started)))
    if held:
        try:
            loader.finish()
        except Exception as error:
            logger().error("not all is loaded; the rest will be at the next start", error=str(error)[:500])


def _is_about_rows(error: DatabaseError, lines: Sequence[bytes]) -> bool:
    """An error about a row that is no UTF-8 quotes it, cannot be read for that, and so has no code."""
    return error.code in _BAD_DATA_CODES or (error.code is None and not all(map(_is_utf8, lines)))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=64)
def _month(day: int) -> str:
    return time.strftime("%Y%m", time.gmtime(day * 86_400))


def _row_time(line: bytes) -> int:
    """The earliest time in ms that the row can have been received at: its own, or that of its entry."""
    try:
        values = orjson.loads(line)
        return min(int(values.get("received_at", 0)), int(values.get("ts", values.get("at", 0))))
    except (orjson.JSONDecodeError, ValueError):
        return 0
