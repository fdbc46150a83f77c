"""`python -m loadtests.replay`: how long a replay takes, on tables filled with sales that were decided by last cookie.

Sales of as many visitors spread over 90 days; clicks of these and of twice as many others. The tables are read in a
process of their own, which passes lines on through a pipe as the engine does by its private port; this process
decides. Exits 1 if the replay found a difference or counted wrongly; never because of a time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import orjson

from attribution.read_ahead import lines_ahead
from attribution.replay import replay
from attribution.replay_report import Tally
from attribution.replay_source import SLICE_ROWS, Question, Source, session
from console.migrate import migrate
from schemas.terms import parse_terms, terms_hash
from schemas.version import ENGINE_VERSION

START_MS = 1_767_225_600_000
DAYS = 90
PROGRAMS = 5
AFFILIATES = 200
WINDOW = "30d"
_AS_OF = START_MS + 400 * 86_400_000


def fill(client: Any, sales: int, clicks: int) -> None:
    """Tables as a live system would have left them; nothing in them is random."""
    terms = {"from": 0, "window": WINDOW}
    digest = terms_hash(parse_terms(terms))
    span_ms = DAYS * 86_400_000
    rows = [[START_MS, "program", f"p{n}", json.dumps({"id": f"p{n}", "terms": [terms]})] for n in range(PROGRAMS)] + [
        [START_MS, "affiliate", f"a{n}", json.dumps({"id": f"a{n}", "active": [[None, None]], "banned": None})]
        for n in range(AFFILIATES)
    ]
    client.raw_insert(
        "entity_versions",
        insert_block=b"\n".join(
            orjson.dumps({"received_at": str(at), "at": str(at), "type": kind, "id": id, "data": data, "position": n})
            for n, (at, kind, id, data) in enumerate(rows, 1)
        ),
        fmt="JSONEachRow",
    )
    time_of = "fromUnixTimestamp64Milli(toInt64({}), 'UTC')".format
    click_ts = f"{START_MS} - 20 * 86400000 + sipHash64(number, 'ts') % {span_ms + 20 * 86_400_000}"
    client.command(
        "INSERT INTO clicks (click_id, ts, received_at, visitor, program, affiliate, kind) "
        f"SELECT hex(sipHash128(number)), {time_of(click_ts)} AS ts, ts AS received_at, "
        f"hex(sipHash64(sipHash64(number, 'v') % {3 * sales})) AS visitor, "
        f"concat('p', toString(sipHash64(visitor) % {PROGRAMS})), "
        f"concat('a', toString(sipHash64(number, 'a') % {AFFILIATES})), 'click' FROM numbers({clicks})"
    )
    sale_ts = f"{START_MS} + intDiv(number * {span_ms}, {sales})"
    client.command(
        "INSERT INTO conversion_versions (conversion_id, revision, ts, received_at, first_received_at, program, "
        "order_id, goal, amount, currency, visitor, visitors, customer_id, status) "
        f"SELECT hex(sipHash128(number, 's')), 1, {time_of(sale_ts)} AS ts, ts AS received_at, ts, "
        f"concat('p', toString(sipHash64(visitor) % {PROGRAMS})), concat('order-', toString(number)), 'sale', "
        f"toDecimal64(number % 10000, 4) / 100, 'EUR', hex(sipHash64(sipHash64(number, 'b') % {sales})) AS visitor, "
        f"[visitor], concat('customer-', visitor), 'confirmed' FROM numbers({sales})"
    )
    window_ms = 30 * 86_400_000
    client.command(
        "INSERT INTO credit_versions (credit_id, program, order_id, goal, conversion_id, version, decision_seq, "
        "affiliate, click_id, method, ts, decided_at, terms_hash, engine_version, candidates, received_at) "
        "SELECT concat(s.conversion_id, '/1'), s.program, s.order_id, 'sale', s.conversion_id, 1, "
        "toUnixTimestamp64Milli(s.ts) * 1000 + 20000, found[-1].3, found[-1].2, if(empty(found), 'none', 'click'), "
        f"s.ts, s.ts + toIntervalMillisecond(20), '{digest}', '{ENGINE_VERSION}', "
        "arrayMap((t, n) -> (t.2, t.3, t.1, 'click', if(n = length(found), 'WON', 'NOT_LAST')), found, "
        "arrayEnumerate(found)), s.ts "
        "FROM conversion_versions AS s LEFT JOIN "
        "(SELECT c.order_id AS order_id, arraySort(groupArray((clicks.ts, click_id, affiliate))) AS found "
        "FROM clicks INNER JOIN conversion_versions AS c ON clicks.program = c.program AND clicks.visitor = c.visitor "
        "WHERE clicks.ts <= c.ts AND toUnixTimestamp64Milli(c.ts) - toUnixTimestamp64Milli(clicks.ts) < "
        f"{window_ms} GROUP BY c.order_id) AS t USING (order_id)"
    )


def open_tables(folder: Path, memory: int = 10**9) -> Any:
    """The tables, made if they are not there."""
    dsn = f"chdb://{folder}"
    maker = clickhouse_connect.get_client(dsn=dsn)
    maker.command("CREATE DATABASE IF NOT EXISTS lastcookie")
    client = clickhouse_connect.get_client(dsn=dsn, database="lastcookie", settings=session(memory, 1))
    maker.close()
    migrate(client, "lastcookie")
    return client


def _serve(folder: Path, changes: dict[str, Any] | None, slice_rows: int) -> None:
    """What the engine does: pass lines on."""
    source = Source(open_tables(folder), Question(_AS_OF, changes=changes), slice_rows)
    source.open()
    for text in source.lines():
        sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()
    print(f"peak of the tables: {_peak_mb()} MB", file=sys.stderr)
    os._exit(0)


def _lines(folder: Path, changes: dict[str, Any] | None, slice_rows: int) -> Iterator[Any]:
    command = [sys.executable, "-m", "loadtests.replay", "--serve", str(folder), "--slice-rows", str(slice_rows)]
    command += ["--changes", json.dumps(changes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        pipe = process.stdout
        assert pipe is not None
        yield from map(orjson.loads, lines_ahead(lambda: pipe.read1(1 << 20)))


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(folder: Path, name: str, changes: dict[str, Any] | None, sales: int, slice_rows: int) -> bool:
    """One replay, timed; whether it came out as it must."""
    began, cpu, children = time.perf_counter(), time.process_time(), _children_seconds()
    tally, differences = Tally(), 0
    for judged in replay(_lines(folder, changes, slice_rows), changes):
        if changes is not None:
            tally.take(judged)
        else:
            tally.sales += 1
            differences += judged.difference is not None
            if judged.difference is not None and differences < 4:
                print(judged.difference)
    seconds = time.perf_counter() - began
    print(
        f"{name}: {tally.sales} sales in {seconds:.1f} s, {1e6 * seconds / sales:.1f} µs a sale "
        f"(processor time: {1e6 * (time.process_time() - cpu) / sales:.1f} µs here, "
        f"{1e6 * (_children_seconds() - children) / sales:.1f} µs for the tables), {differences} differences, "
        f"{tally.changed} change hands, peak {_peak_mb()} MB"
    )
    return tally.sales == sales and not differences


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a replay takes.")
    parser.add_argument("--sales", type=int, default=100_000)
    parser.add_argument("--clicks-a-sale", type=int, default=10)
    parser.add_argument("--slice-rows", type=int, default=SLICE_ROWS)
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--changes", type=json.loads)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve, options.changes, options.slice_rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        # A process of its own: only one may have the tables open.
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import os, sys; from pathlib import Path; from loadtests.replay import fill, open_tables; "
                "fill(open_tables(Path(sys.argv[1]), 10**10), int(sys.argv[2]), int(sys.argv[3])); os._exit(0)",
                *(name, str(options.sales), str(options.sales * options.clicks_a_sale)),
            ],
            check=True,
        )
        print(f"filled in {time.perf_counter() - began:.1f} s: {options.sales} sales", flush=True)
        cases: list[tuple[str, dict[str, Any] | None]] = [
            ("verify", None),
            ("window=7d", {"window": "7d"}),
            ("repeat=customer", {"repeat": "customer"}),
            ("repeat=once", {"repeat": "once"}),
        ]
        good = [measure(folder, case, changes, options.sales, options.slice_rows) for case, changes in cases]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
