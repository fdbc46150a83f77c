"""The invariants, proved from the tables, the log and the spools: what was served is stored, once; one credit a sale.

Every worker numbers its clicks without a gap (`sequence`, from 0 in each incarnation), so a lost click leaves a hole
that can be found afterwards. Rows still in the log or in a spool are counted with those in the tables. Each invariant
is a query whose answer is what breaks it. Called by the private port for `lastcookie check`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from schemas import keys
from tracker.spool import read_record


class Finding(NamedTuple):
    """One invariant: what it says, how many things were looked at, and what breaks it."""

    name: str
    counted: int
    broken: list[str]


def check(client: Any, redis: Any, shards: int, spool_folder: Path) -> list[Finding]:
    """Every invariant."""
    return [
        _served_is_stored(client, _pending(redis, shards, spool_folder)),
        _unique(client, "clicks", "click_id"),
        _unique(client, "reports", "report_id"),
        _unique(client, "credit_versions", "program, order_id, goal, version"),
        _every_sale_credited(client, redis, shards),
        _credit_names_click(client),
        _no_dead_letters(client),
    ]


def _served_is_stored(client: Any, pending: list[dict[str, Any]]) -> Finding:
    """No hole in any worker's sequence: stored + in the log + spooled = served."""
    rows = client.query(
        "SELECT worker, incarnation, uniqExact(sequence), max(sequence) FROM clicks GROUP BY worker, incarnation"
    ).result_rows
    counts = {(worker, incarnation): [unique, highest] for worker, incarnation, unique, highest in rows}
    waiting: dict[tuple[int, int], set[int]] = {}
    for click in pending:
        waiting.setdefault((click["worker"], click["incarnation"]), set()).add(click["sequence"])
    for worker, sequences in waiting.items():
        stored = _stored_sequences(client, *worker, sequences)
        unique, highest = counts.get(worker, [0, -1])
        counts[worker] = [unique + len(sequences - stored), max(highest, *sequences)]
    broken = [
        f"worker {worker} started {incarnation}: {highest + 1 - unique} of {highest + 1} clicks missing"
        for (worker, incarnation), (unique, highest) in sorted(counts.items())
        if unique != highest + 1
    ]
    return Finding("every click served is stored, in the log or spooled", sum(u for u, _ in counts.values()), broken)


def _stored_sequences(client: Any, worker: int, incarnation: int, sequences: set[int]) -> set[int]:
    rows = client.query(
        "SELECT sequence FROM clicks WHERE worker = {worker:UInt16} AND incarnation = {incarnation:UInt64} "
        "AND sequence IN {sequences:Array(UInt64)}",
        parameters={"worker": worker, "incarnation": incarnation, "sequences": sorted(sequences)},
    ).result_rows
    return {row[0] for row in rows}


def _pending(redis: Any, shards: int, spool_folder: Path) -> list[dict[str, Any]]:
    """Clicks that are durable but not yet in the tables."""
    return [orjson.loads(line) for line in (*_in_log(redis, shards), *_in_spools(spool_folder))]


def _in_log(redis: Any, shards: int) -> Iterator[bytes]:
    for shard in range(shards):
        stream = keys.clicks(shard)
        position = (redis.hget(keys.positions(stream), "loader") or b"0-0").decode()
        while entries := redis.xrange(stream, f"({position}", count=1000):
            position = entries[-1][0].decode()
            for _, fields in entries:
                yield from (line for line in fields.get(b"clicks", b"").split(b"\n") if line)


def _in_spools(folder: Path) -> Iterator[bytes]:
    for segment in folder.glob("*/*.spool"):
        for line in segment.read_bytes().split(b"\n"):
            record = read_record(line)
            if record is not None and record[0] == "event" and not record[7]:
                yield record[2].encode()


def _unique(client: Any, table: str, columns: str) -> Finding:
    counted = client.query(f"SELECT count() FROM {table}").result_rows[0][0]
    rows = client.query(
        f"SELECT {columns}, count() FROM {table} GROUP BY {columns} HAVING count() > 1 LIMIT 20"
    ).result_rows
    broken = [f"{'/'.join(map(str, row[:-1]))} is there {row[-1]} times" for row in rows]
    return Finding(f"no row of {table} twice", counted, broken)


def _every_sale_credited(client: Any, redis: Any, shards: int) -> Finding:
    """Every sale has its credit, but for those that the worker has not reached yet."""
    counted = client.query("SELECT uniqExact(conversion_id) FROM conversion_versions").result_rows[0][0]
    rows = client.query(
        "SELECT DISTINCT program, order_id, goal, conversion_id FROM conversion_versions "
        "WHERE conversion_id NOT IN (SELECT conversion_id FROM credit_versions) LIMIT 1000"
    ).result_rows
    waiting = set(_undecided(redis, shards)) if rows else set()
    broken = [f"{program}/{order}/{goal} has no credit" for program, order, goal, id in rows if id not in waiting]
    return Finding("every sale has exactly one credit in force", counted, broken[:20])


def _undecided(redis: Any, shards: int) -> Iterator[str]:
    for shard in range(shards):
        stream = keys.conversions(shard)
        position = (redis.hget(keys.positions(stream), "worker") or b"0-0").decode()
        for _, fields in redis.xrange(stream, f"({position}"):
            if b"decide" in fields:
                yield orjson.loads(fields[b"decide"])["conversion_id"]
        credits = keys.credits(shard)
        position = (redis.hget(keys.positions(credits), "loader") or b"0-0").decode()
        for _, fields in redis.xrange(credits, f"({position}"):
            for line in fields[b"credit_versions"].split(b"\n"):
                yield orjson.loads(line)["conversion_id"]


def _credit_names_click(client: Any) -> Finding:
    """A credit by touch names a click that is stored, of the affiliate and the program that it credits."""
    counted = client.query("SELECT count() FROM credit_versions WHERE click_id != ''").result_rows[0][0]
    rows = client.query(
        "SELECT program, order_id, click_id FROM credit_versions WHERE click_id != '' "
        "AND (program, affiliate, click_id) NOT IN (SELECT program, affiliate, click_id FROM clicks WHERE click_id IN "
        "(SELECT click_id FROM credit_versions WHERE click_id != '')) LIMIT 20"
    ).result_rows
    broken = [f"{program}/{order} is credited by {click}, which is not stored" for program, order, click in rows]
    return Finding("every credited click is stored", counted, broken)


def _no_dead_letters(client: Any) -> Finding:
    rows = client.query("SELECT table, reason, count() FROM dead_letters GROUP BY table, reason LIMIT 20").result_rows
    return Finding(
        "no row was refused by the tables",
        sum(r[2] for r in rows),
        [f"{t}: {n} times {r[:200]}" for t, r, n in rows],
    )
