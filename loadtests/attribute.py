"""`lastcookie attribute` beside DuckDB's `ASOF JOIN`: the same two Parquet files, each a whole cold process in turn.

10 million clicks and 1 million sales of 3 million visitors in 50 programs over 90 days, always the same; `--scale 10`
is ten times that. Wall time, processor time and peak memory of each process; exits 1 if the two do not credit the same
sales with the same clicks, never because of a time. DuckDB is needed by this file alone.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loadtests import machine

CLICKS, SALES, VISITORS = 10_000_000, 1_000_000, 3_000_000
PROGRAMS, AFFILIATES, DAYS = 50, 500, 90
START_MS, DAY_MS = 1_767_225_600_000, 86_400_000
SEED = 20_260_101
_ROWS = 1_000_000
_ALPHABET = np.frombuffer(b"0123456789abcdefghijklmnopqrstuv", dtype="u1")

DUCKDB = """
import sys, duckdb
clicks, sales, output = sys.argv[1:]
duckdb.sql("SET enable_progress_bar = false")
duckdb.sql(f'''
    COPY (
        SELECT
            s.order_id,
            CASE WHEN s.ts - c.ts < 2592000000 THEN c.affiliate END AS affiliate,
            CASE WHEN s.ts - c.ts < 2592000000 THEN c.click_id END AS click_id,
            CASE WHEN s.ts - c.ts < 2592000000 THEN c.ts END AS ts_click
        FROM '{sales}' s ASOF LEFT JOIN '{clicks}' c
            ON s.visitor = c.visitor AND s.program = c.program AND s.ts >= c.ts
    ) TO '{output}' (FORMAT json)
''')
"""


def generate(folder: Path, scale: float) -> tuple[Path, Path]:
    """The two files. Every row follows from its number, so any scale fits into memory."""
    clicks, sales = folder / "clicks.parquet", folder / "sales.parquet"
    counts = int(CLICKS * scale), int(SALES * scale), int(VISITORS * scale)
    _write(clicks, counts[0], lambda rows: _click_rows(rows, counts))
    _write(sales, counts[1], lambda rows: _sale_rows(rows, counts))
    return clicks, sales


def _write(path: Path, count: int, make: Any) -> None:
    writer = None
    for start in range(0, count, _ROWS):
        table = make(np.arange(start, min(start + _ROWS, count), dtype="u8"))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _click_rows(rows: Any, counts: tuple[int, int, int]) -> Any:
    visitors, programs, times = _clicks(rows, counts)
    return pa.table(
        {
            "click_id": _text(rows, 32, 1),
            "ts": times,
            "program": _name("program", programs),
            "visitor": _text(visitors, 22, 2),
            "affiliate": _name("affiliate", _random(rows, 3) % np.uint64(AFFILIATES)),
        }
    )


def _clicks(rows: Any, counts: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    """Visitor, program and time of these clicks: in order of time, each visitor in three programs."""
    visitors = _random(rows, 4) % np.uint64(counts[2])
    programs = _program(visitors, _random(rows, 5) % np.uint64(3))
    step = DAYS * DAY_MS / counts[0]
    times = START_MS + (rows * step).astype("i8") + (_random(rows, 6) % np.uint64(max(1, int(step)))).astype("i8")
    return visitors, programs, times


def _sale_rows(rows: Any, counts: tuple[int, int, int]) -> Any:
    """Seven of ten follow a click, on average 20 days later; the others are of anybody at any time."""
    follows = _random(rows, 7) % np.uint64(10) < 7
    visitors, programs, times = _clicks(_random(rows, 8) % np.uint64(counts[0]), counts)
    share = (_random(rows, 9) >> np.uint64(11)).astype("f8") / 2**53
    times += (-np.log1p(-share) * 20 * DAY_MS).astype("i8")
    anybody = _random(rows, 10) % np.uint64(counts[2])
    any_time = START_MS + (_random(rows, 11) % np.uint64(DAYS * DAY_MS)).astype("i8")
    visitors = np.where(follows, visitors, anybody)
    programs = np.where(follows, programs, _program(anybody, rows % np.uint64(3)))
    return pa.table(
        {
            "order_id": pa.array([f"order-{row:09}" for row in rows]),
            "ts": np.where(follows, times, any_time),
            "program": _name("program", programs),
            "visitor": _text(visitors, 22, 2),
            "amount": pa.array([f"{row % 20_000 / 100:.2f}" for row in rows]),
        }
    )


def _program(visitors: Any, which: Any) -> Any:
    return _random(visitors * np.uint64(4) + which, 12) % np.uint64(PROGRAMS)


def _random(numbers: Any, salt: int) -> Any:
    """64 bits that follow from each number (the finisher of SplitMix64)."""
    mixed = (numbers + np.uint64(SEED + salt * 1_000_003)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _name(kind: str, numbers: Any) -> Any:
    names = pa.array([f"{kind}-{number:03}" for number in range(max(PROGRAMS, AFFILIATES))])
    return names.take(pa.array(numbers.astype("i8")))


def _text(numbers: Any, length: int, salt: int) -> Any:
    """Ids of so many characters, as incompressible as ids are."""
    letters = np.empty((len(numbers), length), "u1")
    for place in range(length):
        if place % 12 == 0:
            bits = _random(numbers, 100 * salt + place)
        letters[:, place] = _ALPHABET[(bits & np.uint64(31)).astype("i8")]
        bits = bits >> np.uint64(5)
    offsets = np.arange(len(numbers) + 1, dtype="i4") * length
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets.tobytes()), pa.py_buffer(letters.tobytes()))


def measure(command: list[str]) -> dict[str, float]:
    """One process from its start to its end: wall and processor seconds, peak memory in MB."""
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, dict(os.environ))
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command[:4])
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),
    }


def digest(path: Path) -> tuple[int, str]:
    """How many sales are credited, and a sum over all rows that does not depend on their order."""
    total, credited = 0, 0
    with path.open("rb") as lines:
        for line in lines:
            row = json.loads(line)
            credited += row["affiliate"] is not None
            text = f"{row['order_id']} {row['affiliate']} {row['click_id']} {row['ts_click']}"
            total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    return credited, f"{total % 2**64:016x}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.attribute", description="Attribution beside DuckDB.")
    parser.add_argument("--scale", type=float, default=1.0, help="times 10 million clicks and 1 million sales")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-memory", default="1GB", help="of lastcookie; DuckDB takes what it takes")
    parser.add_argument("--alone", action="store_true", help="without DuckDB")
    parser.add_argument("--folder", type=Path, help="where the files are kept for a next time")
    options = parser.parse_args()
    if not options.alone and find_spec("duckdb") is None:
        print("needs duckdb: it is a development dependency (make install)", file=sys.stderr)
        sys.exit(2)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="attribute-"))
    try:
        sys.exit(_compare(folder, options))
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def _compare(folder: Path, options: argparse.Namespace) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    clicks, sales = folder / "clicks.parquet", folder / "sales.parquet"
    if not (clicks.exists() and sales.exists()):
        generate(folder, options.scale)
    print(f"{machine.describe()}\n{clicks.stat().st_size / 1e6:,.0f} MB of clicks", flush=True)
    ours = [sys.executable, "-m", "console.cli", "attribute", "--clicks", str(clicks), "--sales", str(sales)]
    ours += ["--max-memory", options.max_memory, "--json", "-o", str(folder / "lastcookie.jsonl")]
    theirs = [sys.executable, "-c", DUCKDB, str(clicks), str(sales), str(folder / "duckdb.jsonl")]
    commands = {"lastcookie": ours} if options.alone else {"duckdb": theirs, "lastcookie": ours}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for number in range(1, options.rounds + 1):
        for name, command in commands.items():
            found[name].append(measure(command))
            print(f"round {number} {name:10} {found[name][-1]}", flush=True)
    for name, rounds in found.items():
        middle = {key: median(one[key] for one in rounds) for key in rounds[0]}
        print(f"median  {name:10} {middle}")
    digests = {name: digest(folder / f"{name}.jsonl") for name in commands}
    print(f"credited sales, and a sum over all rows: {digests}")
    if len(set(digests.values())) > 1:
        print("WRONG: the two differ")
        return 1
    return 0


if __name__ == "__main__":
    main()
