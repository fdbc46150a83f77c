"""`python -m loadtests.sizing`: what clicks take: in the log's file, in the log server's memory, in the tables.

Clicks as trackers append them, with ids that do not compress, each of a new visitor and with the touch it leaves;
loaded by the real loader into real tables, then merged as the engine does in time. Sizes do not depend on the machine.
"""

import argparse
import json
import os
import tempfile
import time
from base64 import urlsafe_b64encode
from collections import Counter
from pathlib import Path
from typing import Any

from console.embedded import binary
from loadtests.credit_rate import open_tables
from loadtests.loader_rate import CLICKS_AN_ENTRY, _load
from loadtests.memory import used_bytes
from schemas import keys
from schemas.lease import Lease
from schemas.settings import Settings
from tests.clicks import AT, click
from tests.log_server import LogServer
from tracker.loader import Loader
from tracker.rows import Splicer

_BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
)
_TOUCH_MS = 30 * 86_400_000


def fill(redis: Any, count: int) -> None:
    """Clicks with the touch that each leaves, as many in an entry as a busy tracker's batches hold."""
    pipe = redis.pipeline(transaction=False)
    for start in range(0, count, CLICKS_AN_ENTRY):
        events = [_click(number) for number in range(start, min(start + CLICKS_AN_ENTRY, count))]
        for event in events:
            pipe.set(event.touch_key, event.touch, px=_TOUCH_MS)
        pipe.xadd(keys.clicks(0), {"clicks": b"\n".join(event.line for event in events)})
        if start % (CLICKS_AN_ENTRY * 100) == 0:
            pipe.execute()
    pipe.execute()


def _click(number: int) -> Any:
    click_id, visitor = _text(24), _text(8)[:11]
    return click(
        number,
        visitor,
        ts=AT + number * 400,
        click_id=click_id,
        user_agent=_BROWSER.format(120 + number % 37),
        ip=f"203.0.{number % 113}.0",
        referrer=f"https://blog-{number % 83}.example/2026/the-ten-best-boots",
        sub1=f"campaign-{number % 400}",
    )


def _text(size: int) -> str:
    return urlsafe_b64encode(os.urandom(size)).decode().rstrip("=")


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Bytes a click, by where they are; while they wait for the loader and after."""
    settings = Settings()
    (folder / "log").mkdir()
    server = LogServer(str(binary()), folder / "log").start(auto_aof_rewrite_percentage="0")  # its file at the peak
    client = open_tables(folder / "tables")
    try:
        before = used_bytes(server.redis)
        server.redis.set(keys.ready(0), 1)
        fill(server.redis, count)
        log_bytes = _bytes(folder / "log" / "appendonlydir")
        splicer = Splicer(lambda _: "DE", lambda _: ("desktop", "Windows", "Chrome"), True)
        limits = settings.clickhouse
        lease = Lease(server.redis, "loader", "one", 1, time.monotonic)
        loader = Loader(
            server.redis, client, splicer, lease, 1, limits.insert_rows_max, limits.insert_bytes_max, Counter()
        )
        assert loader.start()
        _load(loader)
        touches = used_bytes(server.redis) - before
        client.command("OPTIMIZE TABLE clicks FINAL")
        stored, on_disk = client.query(
            "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'clicks'"
        ).result_rows[0]
        if stored != count:
            raise SystemExit(f"{count} clicks were appended, {stored} are stored")
        return {
            "clicks": count,
            "log_bytes_a_click": round(log_bytes / count),
            "table_bytes_a_click": round(on_disk / count),
            "memory_bytes_a_visitor": round(touches / count),
        }
    finally:
        client.close()
        server.stop()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description="What clicks take, in bytes.")
    parser.add_argument("--clicks", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.clicks)))


if __name__ == "__main__":
    main()
