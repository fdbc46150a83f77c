"""The invariants, proved from the tables, the log and the spools: what was served is stored, once; one credit a sale.

Every worker numbers the clicks of each shard without a gap (`sequence`, from 0 in each incarnation), so a lost click
leaves a hole that can be found afterwards; those that a killed worker had not acknowledged were its last. Rows still
in the log or in a spool are counted with those in the tables. Each invariant is a query whose answer is what breaks
it. Called by the private port for `lastcookie check`.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from attribution.case import read_cases
from schemas import keys
from tracker.spool import read_record

_LOOKS_MAX = 3
_LOOK_AGAIN_SECONDS = 1.0
_ENTRIES_AT_ONCE = 200
_SEQUENCES_AT_ONCE = 10_000
_ROWS_AT_ONCE = 10_000_000
"""Rows whose ids are held against each other at once; those of a larger table in parts, as they do not fit memory."""
_CLICK = (
    "if(click_id = 'forgotten', concat(stream, '/', toString(worker), '/', toString(incarnation), '/', "
    "toString(sequence)), click_id)"
)
"""What tells a click from others: its place in the numbering where its visitor was forgotten."""

Numbering = tuple[int, int, str]
"""A tracker worker's number and incarnation, and the stream: there its clicks are numbered without a gap."""


class Finding(NamedTuple):
    """One invariant: what it says, how many things were looked at, and what breaks it."""

    name: str
    counted: int
    broken: list[str]


def check(client: Any, redis: Any, shards: int, spool_folder: Path) -> list[Finding]:
    """Every invariant. What only seems broken because something was on its way is looked at again, a second later."""
    for _ in range(_LOOKS_MAX):
        findings = _look(client, redis, shards, spool_folder)
        if not any(finding.broken for finding in findings):
            break
        time.sleep(_LOOK_AGAIN_SECONDS)
    return findings


def _look(client: Any, redis: Any, shards: int, spool_folder: Path) -> list[Finding]:
    # Events go from the spool to the log to the tables: who looks in that order misses none.
    waiting: dict[Numbering, set[int]] = {}
    for shard, line in itertools.chain(_in_spools(spool_folder), _in_log(redis, shards)):
        click = orjson.loads(line)
        numbering = click["worker"], click["incarnation"], keys.clicks(shard)
        waiting.setdefault(numbering, set()).add(click["sequence"])
    return [
        _served_is_stored(client, waiting),
        _unique(client, "clicks", _CLICK),
        _unique(client, "reports", "report_id"),
        _unique(client, "conversion_versions", "conversion_id, revision"),
        _unique(client, "credit_versions", "program, order_id, goal, version"),
        _unique(client, "entity_versions", "position"),
        _every_sale_credited(client, redis, shards),
        _credit_names_click(client),
        _no_dead_letters(client),
    ]


def _served_is_stored(client: Any, waiting: dict[Numbering, set[int]]) -> Finding:
    """No hole in any numbering: stored + in the log + spooled = served."""
    # One query, so that clicks which come meanwhile leave no hole. Of very many, those that are there twice would fill
    # a hole: the next invariant finds them.
    counting = "uniqExact(sequence)" if _rows(client, "clicks") <= _ROWS_AT_ONCE else "count()"
    query = (
        f"SELECT worker, incarnation, stream, {counting}, max(sequence) FROM clicks "
        "GROUP BY worker, incarnation, stream"
    )
    rows = client.query(query).result_rows
    counts: dict[Numbering, tuple[int, int]] = {row[:3]: row[3:] for row in rows}
    for numbering, sequences in waiting.items():
        unique, highest = counts.get(numbering, (0, -1))
        counts[numbering] = unique + len(sequences) - _stored(client, numbering, sequences), max(highest, *sequences)
    broken = [
        f"worker {worker} started {incarnation}: {highest + 1 - unique} of {highest + 1} clicks missing in {stream}"
        for (worker, incarnation, stream), (unique, highest) in sorted(counts.items())
        if unique != highest + 1
    ]
    return Finding("every click served is stored, in the log or spooled", sum(u for u, _ in counts.values()), broken)


def _stored(client: Any, numbering: Numbering, sequences: set[int]) -> int:
    """How many of these clicks are in the table by now."""
    worker, incarnation, stream = numbering
    query = (
        "SELECT uniqExact(sequence) FROM clicks WHERE worker = {worker:UInt16} AND incarnation = {incarnation:UInt64} "
        "AND stream = {stream:String} AND sequence IN {sequences:Array(UInt64)}"
    )
    ordered, stored = sorted(sequences), 0
    for start in range(0, len(ordered), _SEQUENCES_AT_ONCE):
        some = ordered[start : start + _SEQUENCES_AT_ONCE]
        parameters = {"worker": worker, "incarnation": incarnation, "stream": stream, "sequences": some}
        stored += client.query(query, parameters=parameters).result_rows[0][0]
    return stored


def _in_log(redis: Any, shards: int) -> Iterator[tuple[int, bytes]]:
    for shard in range(shards):
        for fields in _behind(redis, keys.clicks(shard), "loader"):
            yield from ((shard, line) for line in fields.get(b"clicks", b"").split(b"\n") if line)


def _behind(redis: Any, stream: str, reader: str) -> Iterator[dict[bytes, bytes]]:
    """Entries that a reader of the stream has not finished with."""
    position = (redis.hget(keys.positions(stream), reader) or b"0-0").decode()
    while entries := redis.xrange(stream, f"({position}", count=_ENTRIES_AT_ONCE):
        position = entries[-1][0].decode()
        yield from (fields for _, fields in entries)


def _in_spools(folder: Path) -> Iterator[tuple[int, bytes]]:
    for segment in folder.glob("*/*.spool"):
        try:
            lines = segment.read_bytes().split(b"\n")
        except FileNotFoundError:  # drained meanwhile: it is in the log
            continue
        for line in lines:
            record = read_record(line)
            if record is not None and record[0] == "event" and not record[7]:
                yield record[1], record[2].encode()


def _unique(client: Any, table: str, columns: str) -> Finding:
    counted = _rows(client, table)
    parts = counted // _ROWS_AT_ONCE + 1
    broken: list[str] = []
    for part in range(parts):
        query = (
            f"SELECT {columns}, count() FROM {table} WHERE cityHash64({columns}) % {parts} = {part} "
            f"GROUP BY {columns} HAVING count() > 1 LIMIT 20"
        )
        rows = client.query(query).result_rows
        broken += [f"{'/'.join(map(str, row[:-1]))} is there {row[-1]} times" for row in rows]
    return Finding(f"no row of {table} twice", counted, broken[:20])


def _rows(client: Any, table: str) -> int:
    count: int = client.query(f"SELECT count() FROM {table}").result_rows[0][0]
    return count


def _every_sale_credited(client: Any, redis: Any, shards: int) -> Finding:
    """Every sale has its credit, but for those that the worker has not reached yet."""
    counted = client.query("SELECT uniqExact(conversion_id) FROM conversion_versions").result_rows[0][0]
    suspects = _uncredited(client)
    waiting = set(_undecided(redis, shards)) if suspects else set()
    broken = suspects & _uncredited(client) if suspects else set()  # some have been credited meanwhile
    lines = [f"{program}/{order}/{goal} has no credit" for id, program, order, goal in broken if id not in waiting]
    return Finding("every sale has exactly one credit in force", counted, sorted(lines)[:20])


def _uncredited(client: Any) -> set[tuple[str, ...]]:
    rows = client.query(
        "SELECT DISTINCT conversion_id, program, order_id, goal FROM conversion_versions "
        "WHERE conversion_id NOT IN (SELECT conversion_id FROM credit_versions) ORDER BY conversion_id LIMIT 1000"
    ).result_rows
    return {tuple(row) for row in rows}


def _undecided(redis: Any, shards: int) -> Iterator[str]:
    """Sales that wait for the worker, or whose credit waits for the loader."""
    for shard in range(shards):
        for fields in _behind(redis, keys.conversions(shard), "worker"):
            yield from (case.conversion_id for case in read_cases(fields))
        for fields in _behind(redis, keys.credits(shard), "loader"):
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
