"""A log server that knows less than the tables is told what it must know before it takes conversions.

A fresh or wiped server has no `ready` marker, and without it no script claims an order (claim.lua). One that came back
from an older copy of its data has the marker, but its streams end before what the tables have of this epoch: then the
marker is taken away. Entities come first, then the claims of all orders, then the markers, in a new epoch; touches are
not brought back: the gap marker says that evidence from touch state is incomplete, and sales are decided from the
tables meanwhile. Clicks flow all the time. Called by the engine, about once a second.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from redis.exceptions import ResponseError

from schemas import keys
from schemas.log_server import servers, started
from schemas.projection import MARK
from schemas.reversals import reversal_content

_CHUNK = 2000
_CLAIMS_AT_ONCE = 200_000
_TABLES = ("clicks", "reports", "credit_versions")
_RECEIVED_LATER = "received_at > fromUnixTimestamp64Milli({last:Int64})"
_LATER = (
    (keys.clicks, "clicks", _RECEIVED_LATER),
    (keys.clicks, "refusals", _RECEIVED_LATER),
    (keys.credits, "credit_versions", _RECEIVED_LATER),
    (keys.conversions, "reports", "toUInt64(splitByChar('-', stream_id)[1]) > {last:Int64}"),
)
"""By stream, a table and what is so of its rows that come from entries after a time (ms). Receipts are in the order of
parts: of 100 million clicks only the newest are read."""


REFUSED = 78
"""Exit status of a process that refuses what it was set up with: to start it again would not help (EX_CONFIG)."""


class UnsafeLogServer(Exception):
    """The log server may lose acknowledged events as it is configured, or is too old."""


class Keeper:
    """Keeps the log server knowing what it must know; `client` reads the tables."""

    def __init__(self, redis: Any, client: Any, shards: int, accept_loss: bool) -> None:
        self._redis = redis
        self._client = client
        self._shards = shards
        self._accept_loss = accept_loss
        self._is_checked = False

    def keep(self) -> bool:
        """Look at the log server; True when it had to be told something. Raises UnsafeLogServer, and what the stores
        raise: then it is not ready, and this is to be called again."""
        found = {place: started(self._redis, place) for place in keys.places(self._shards)}
        new = {place: run for place, (run, noted) in found.items() if run != noted}
        if new or not self._is_checked:
            check_version(self._redis)
            check_durability(self._redis, self._accept_loss)
            self._is_checked = True
        for run in set(new.values()):  # a server that is new here, or has started anew: it is older as a whole
            shards = [place for place in new if new[place] == run and isinstance(place, int)]
            if has_gone_back(self._redis, self._client, shards):
                for shard in shards:
                    self._redis.delete(keys.ready(shard))
        if keys.ENTITY_PLACE in new:
            _restore_entities(self._redis, self._client)
        is_told = not is_ready(self._redis, self._shards)
        if is_told:
            bootstrap(self._redis, self._client, self._shards)
        for place, run in new.items():
            self._redis.set(keys.server(place), run)
        return is_told


def check_version(redis: Any) -> None:
    """Refuse a server that lacks what our scripts and streams need. Raises UnsafeLogServer with what is needed."""
    for server in servers(redis, with_replicas=True):
        info = server.info("server")
        name, least = ("valkey", (7, 2)) if "valkey_version" in info else ("redis", (6, 2))
        found = str(info.get(f"{name}_version", "of no known version"))
        numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
        if numbers < least:
            wanted = "Redis 6.2 or later, or Valkey 7.2 or later"
            raise UnsafeLogServer(f"the log server is {name} {found}; {wanted} is needed: upgrade it")


def check_durability(redis: Any, accept_loss: bool) -> None:
    """Refuse a server that can lose what it acknowledged; of a cluster every one, as replicas may take over. Raises
    UnsafeLogServer with what to change."""
    if accept_loss:
        return
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    for server in servers(redis, with_replicas=True):
        try:
            found = {name: server.config_get(name).get(name) for name in wanted}
        except ResponseError as error:
            raise UnsafeLogServer(f"the log server does not show its configuration ({error}); {_how()}") from error
        wrong = [f"{name} is {found[name]}, must be {value}" for name, value in wanted.items() if found[name] != value]
        if wrong:
            raise UnsafeLogServer(f"{_name(server)} can lose acknowledged events: {'; '.join(wrong)}; {_how()}")


def _name(server: Any) -> str:
    """Which one of a cluster; without its password."""
    where = server.get_connection_kwargs()
    return f"the log server {where['host']}:{where['port']}" if "port" in where else "the log server"


def _how() -> str:
    return "change it there, or accept the loss with redis.accept_loss = true"


def is_ready(redis: Any, shards: int) -> bool:
    """Whether the log server knows the epoch and all claims."""
    return all(redis.exists(keys.ready(shard)) for shard in range(shards))


def has_gone_back(redis: Any, client: Any, shards: Iterable[int]) -> bool:
    """Whether the tables have entries of this epoch that the log server never gave to one of these shards, which are
    all on it: its data are an older copy."""
    for shard in shards:
        epoch = int(redis.get(keys.ready(shard)) or 0)
        for stream_of, table, is_later in _LATER:
            stream = stream_of(shard)
            parameters = {"stream": stream, "epoch": epoch, "last": _last_entry(redis, stream)}
            query = f"SELECT count() > 0 FROM {table} WHERE {is_later}"
            query += " AND stream = {stream:String} AND epoch = {epoch:UInt32}"
            if client.query(query, parameters=parameters).result_rows[0][0]:
                return True
    return False


def _last_entry(redis: Any, stream: str) -> int:
    """The time in ms of the last entry that the stream has ever had."""
    try:
        last: bytes = redis.xinfo_stream(stream)["last-generated-id"]
    except ResponseError as error:
        if "no such key" not in str(error):  # of a cluster that is down, nothing is known
            raise
        return 0
    return int(last.partition(b"-")[0])


def bootstrap(redis: Any, client: Any, shards: int) -> None:
    """Tell a log server that is not ready entities and claims, then mark it ready in a new epoch. Of a cluster this is
    about the shards that are not ready. Safe to repeat."""
    wanting = [shard for shard in range(shards) if not redis.exists(keys.ready(shard))]
    _restore_entities(redis, client)
    _restore_claims(redis, client, shards, wanting)
    had_clicks = client.query("SELECT count() > 0 FROM clicks").result_rows[0][0]
    epoch = max(client.query(f"SELECT max(epoch) FROM {table}").result_rows[0][0] for table in _TABLES)
    for shard in wanting:
        if had_clicks:
            redis.set(keys.gap(shard), "the log server had lost its state", px=keys.GAP_TTL_MS)
        last = redis.xrevrange(keys.conversions(shard), count=1)
        if last:  # an older copy forgets which of its sales have been decided
            redis.hset(keys.positions(keys.conversions(shard)), keys.UNSURE, last[0][0])
        redis.set(keys.ready(shard), epoch + 1, nx=True)


def _restore_entities(redis: Any, client: Any) -> None:
    position = client.query("SELECT max(position) FROM entity_versions").result_rows[0][0]
    mark = (redis.hget(keys.PROJECTION, MARK) or b"0 0-0").decode()
    if position <= int(mark.partition(" ")[0]):
        return
    rows = client.query("SELECT type, id, data FROM entities").result_rows
    for start in range(0, len(rows), _CHUNK):
        mapping = {f"{kind}:{id}": data for kind, id, data in rows[start : start + _CHUNK]}
        redis.hset(keys.PROJECTION, mapping=mapping)
    redis.hset(keys.PROJECTION, MARK, f"{position} {mark.partition(' ')[2]}")


def _restore_claims(redis: Any, client: Any, shards: int, wanting: Sequence[int]) -> None:
    """While a shard's marker is not there nobody else writes its claims: what is read may be written."""
    for claims in _in_parts(client, "SELECT program, order_id, goal, argMax(claim, revision) FROM conversion_versions"):
        stored = {
            keys.claim(shard, program, order, goal): claim
            for program, order, goal, claim in claims
            if (shard := keys.shard_of_order(program, order, goal, shards)) in wanting
        }
        known = _each(redis, "get", [(key,) for key in stored])
        lacking = [
            (key, claim) for (key, claim), old in zip(stored.items(), known, strict=True) if _is_older(old, claim)
        ]
        _each(redis, "set", lacking)
    reversals = (
        "SELECT program, order_id, goal, reversal_id, any(amount), any(items), any(reason) FROM reports "
        "WHERE kind = 'reversal' AND outcome = 'accepted'"
    )
    for rows in _in_parts(client, reversals, "reversal_id"):
        sets = []
        for program, order, goal, id, amount, items, reason in rows:
            shard = keys.shard_of_order(program, order, goal, shards)
            content = reversal_content(None if amount is None else f"{amount:.4f}", items, reason)
            if shard in wanting:
                sets.append((keys.reversal(shard, program, order, goal, id), content))
        _each(redis, "set", sets)


def _is_older(known: bytes | None, claim: str) -> bool:
    return known is None or orjson.loads(known)["revision"] < orjson.loads(claim)["revision"]


def _in_parts(client: Any, select: str, *also_by: str) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a query by order, in parts that fit memory."""
    orders = client.query("SELECT count() FROM conversion_versions").result_rows[0][0]
    parts = orders // _CLAIMS_AT_ONCE + 1
    where = "AND" if "WHERE" in select else "WHERE"
    group = ", ".join(("program", "order_id", "goal", *also_by))
    for part in range(parts):
        query = f"{select} {where} cityHash64(program, order_id, goal) % {parts} = {part} GROUP BY {group}"
        for start in range(0, len(rows := client.query(query).result_rows), _CHUNK):
            yield rows[start : start + _CHUNK]


def _each(redis: Any, command: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    """One command for each of the arguments, in one round trip."""
    pipe = redis.pipeline(transaction=False)
    for one in arguments:
        getattr(pipe, command)(*one)
    answers: list[Any] = pipe.execute()
    return answers
