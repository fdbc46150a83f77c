"""`python -m loadtests.loader_rate`: how fast the loader is, beside the tables alone.

A real Valkey is filled with clicks as trackers append them, 17 an entry; the real loader brings them into real tables.
Then the very rows that it sent are inserted once more from a file, in inserts of the same size, by the same client:
what is left is what reading the log, completing the rows and acknowledging cost. Exits 1 if a row is missing or twice.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.embedded import binary
from loadtests import machine
from loadtests.credit_rate import open_tables
from schemas import keys
from schemas.lease import Lease
from schemas.settings import Settings
from tests.clicks import click
from tests.log_server import LogServer
from tracker.loader import _INSERT_SETTINGS, Loader
from tracker.rows import Splicer

CLICKS_AN_ENTRY = 17
"""What a tracker's batches hold at 64 connections."""

_BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
)
_VISITORS = 1 << 20


class Recorder:
    """The tables, and what was inserted into `clicks`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.blocks: list[bytes] = []

    def query(self, query: str, *, parameters: dict[str, Any]) -> Any:
        return self.client.query(query, parameters=parameters)

    def raw_insert(self, table: str, *, insert_block: bytes, fmt: str, settings: dict[str, Any]) -> Any:
        if table == "clicks":
            self.blocks.append(insert_block)
        return self.client.raw_insert(table, insert_block=insert_block, fmt=fmt, settings=settings)


def fill(redis: Any, first: int, count: int) -> None:
    """Entries of clicks, each of another visitor, numbered from `first`."""
    with redis.pipeline(transaction=False) as pipe:
        for start in range(first, first + count, CLICKS_AN_ENTRY):
            numbers = range(start, min(start + CLICKS_AN_ENTRY, first + count))
            lines = [_line(number) for number in numbers]
            pipe.xadd(keys.clicks(0), {"clicks": b"\n".join(lines)})
            if start % (CLICKS_AN_ENTRY * 200) == 0:
                pipe.execute()
        pipe.execute()


def _line(number: int) -> bytes:
    return click(
        number,
        f"visit{number % _VISITORS:06d}",
        user_agent=_BROWSER.format(120 + number % 37),
        ip=f"203.0.{number % 113}.0",
        referrer=f"https://blog-{number % 83}.example/2026/the-ten-best-boots",
    ).line


def measure(folder: Path, rounds: int, count: int) -> list[dict[str, Any]]:
    """Each round `count` clicks: rows a second and processor µs a row, of the loader and of the inserts alone."""
    settings = Settings()
    log = folder / "log"
    log.mkdir()
    server = LogServer(str(binary()), log).start()
    client = open_tables(folder / "tables")
    try:
        client.command("CREATE TABLE again AS clicks")
        recorder = Recorder(client)
        server.redis.set(keys.ready(0), 1)
        lease = Lease(server.redis, "loader", "one", 1, time.monotonic)
        splicer = Splicer(lambda _: "", lambda _: ("desktop", "Windows", "Chrome"), True)
        loader = Loader(
            server.redis,
            recorder,
            splicer,
            lease,
            1,
            settings.clickhouse.insert_rows_max,
            settings.clickhouse.insert_bytes_max,
            Counter(),
        )
        assert loader.start()
        fill(server.redis, 0, 1000)
        _load(loader)
        found = []
        for number in range(rounds):
            fill(server.redis, 1000 + number * count, count)
            if not lease.acquire():  # filling may take longer than it lasts
                raise SystemExit("somebody else holds the loader's role")
            found.append(_round(loader, recorder, folder, count))
            print(f"round {number + 1}: {show(found[-1])}", flush=True)
        stored = client.query("SELECT count(), uniqExact(click_id) FROM clicks").result_rows[0]
        if tuple(stored) != (1000 + rounds * count,) * 2:
            raise SystemExit(
                f"{1000 + rounds * count} clicks were appended, {stored[0]} are stored, {stored[1]} differ"
            )
        return found
    finally:
        client.close()
        server.stop()


def _round(loader: Loader, recorder: Recorder, folder: Path, count: int) -> dict[str, Any]:
    recorder.blocks.clear()
    loaded = _timed(lambda: _load(loader))
    files = [folder / f"{number}.jsonl" for number in range(len(recorder.blocks))]
    for file, block in zip(files, recorder.blocks, strict=True):
        file.write_bytes(block)
    recorder.blocks.clear()
    inserted = _timed(lambda: _insert(recorder.client, files))
    return {
        "rows": count,
        "inserts": len(files),
        "loader_rows_per_second": round(count / loaded[0]),
        "loader_cpu_us": round(loaded[1] / count * 1e6, 1),
        "insert_rows_per_second": round(count / inserted[0]),
        "insert_cpu_us": round(inserted[1] / count * 1e6, 1),
        "ratio": round(inserted[0] / loaded[0], 3),
    }


def _insert(client: Any, files: list[Path]) -> None:
    for file in files:
        client.raw_insert("again", insert_block=file.read_bytes(), fmt="JSONEachRow", settings=_INSERT_SETTINGS)


def _load(loader: Loader) -> None:
    while loader.load_once() or loader.is_behind:
        pass


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that passed, and that this process's threads computed."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def show(found: dict[str, Any]) -> str:
    return (
        f"loader {found['loader_rows_per_second']:>9,} rows/s, {found['loader_cpu_us']} µs cpu a row;"
        f" inserts alone {found['insert_rows_per_second']:>9,} rows/s, {found['insert_cpu_us']} µs;"
        f" ratio {found['ratio']} (goal 0.6; {found['inserts']} inserts)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The loader beside the tables alone.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clicks", type=int, default=300_000, help="of each round")
    parser.add_argument("--json", type=Path, help="write the rounds there, too")
    options = parser.parse_args()
    print(f"{machine.describe()['cpu']}, {machine.cores()} cores, {options.clicks:,} clicks a round", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rounds, options.clicks)
    if options.json:
        options.json.write_text(json.dumps(found))


def run(folder: Path, rounds: int, clicks: int) -> list[dict[str, Any]]:
    """The same in a process of its own, as only one may open the tables; its rounds."""
    path = folder / "loader_rate.json"
    command = [sys.executable, "-m", "loadtests.loader_rate", "--json", str(path)]
    subprocess.run([*command, "--rounds", str(rounds), "--clicks", str(clicks)], check=True)
    rounds: list[dict[str, Any]] = json.loads(path.read_text())
    return rounds


if __name__ == "__main__":
    main()
