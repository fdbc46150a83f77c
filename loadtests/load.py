"""`make load`: people and robots for a minute, then every click and every sale held against the tables.

Starts a system of its own, or takes a running one (`--url` and `--config`; it must have the demo's entities). Locust
plays the stories of locustfile.py and writes down what was acknowledged; this then reads the tables and compares.
Exits 1 on any difference, and where sales waited for their credit longer than 2 s (p99). Loopback addresses only.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from console.client import AdminClient
from loadtests.compare import Row, Tables, compare
from loadtests.journal import Journal, read
from loadtests.scratch import scratch_folder
from loadtests.watch import Watch
from schemas.settings import load
from tests.system import System, running

FOLDER = Path(__file__).parent
CLICKS_PER_STORY = 1.9
"""On average, by the weights and lengths of the stories in locustfile.py."""

_STORY_SECONDS = 1.0
_PAGE_ROWS = 50_000
_SEEN_SECONDS_MAX = 30


@dataclass
class Target:
    """The system under load: its edge, and its private port by its configuration. `is_alone`: nobody else uses it."""

    url: str
    config: Path
    is_alone: bool

    def __post_init__(self) -> None:
        self.settings = load(self.config, None, os.environ)
        self._admin = AdminClient(self.settings)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query."""
        rows: list[dict[str, Any]] = self._admin.sql(query)["rows"]
        return rows

    def pages(self, query: str) -> Iterator[dict[str, Any]]:
        """Rows of a query that has an order, however many: one answer holds no more than limits.sql_rows."""
        size = min(_PAGE_ROWS, self.settings.limits.sql_rows)
        for page in range(sys.maxsize):
            rows = self.sql(f"{query} LIMIT {size} OFFSET {page * size}")
            yield from rows
            if len(rows) < size:
                return

    def broken(self) -> list[str]:
        """What `lastcookie check` finds broken."""
        return [f"{f['name']}: {', '.join(f['broken'])}" for f in self._admin.check() if f["broken"]]

    def key(self, kind: str) -> str:
        """A new key of the demo's merchant."""
        command = [sys.executable, "-m", "console.cli", "key", "--config", str(self.config), "acme", "--kind", kind]
        done = subprocess.run([*command, "--json"], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["key"])

    def shop(self) -> str:
        """The origin of the demo's shop, from which the tag may report."""
        entities = self.settings.demo.entities
        if entities is None:
            raise SystemExit("the running system needs the demo's entities: [demo] entities in its configuration")
        address = urlsplit(tomllib.loads(entities.read_text())["program"][0]["landing_url"])
        return f"{address.scheme}://{address.netloc}"


def play(target: Target, folder: Path, seconds: int, clicks_per_second: float, run: str) -> tuple[Journal, Watch]:
    """Let Locust play for so long; what it did, and when each credit was first seen."""
    journal = folder / "journal.jsonl"
    journal.touch()
    setup = {"shop": target.shop(), "edge": urlsplit(target.url).netloc, "run": run}
    setup |= {"key": target.key("api"), "token": target.key("postback"), "story_seconds": str(_STORY_SECONDS)}
    users = max(1, round(clicks_per_second / CLICKS_PER_STORY * _STORY_SECONDS))
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(FOLDER / "locustfile.py"),
        "--headless",
        "--only-summary",
        "-L",
        "ERROR",
    ]
    command += ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s", "--stop-timeout", "20"]
    environ = {**os.environ, "LOAD_JOURNAL": str(journal), "LOAD_SETUP": json.dumps(setup)}
    with Watch(target.sql, "credits", "order_id") as credits, (folder / "locust.txt").open("wb") as output:
        locust = subprocess.Popen(
            [*command, "--host", target.url], cwd=FOLDER.parent, env=environ, stdout=output, stderr=output
        )
        try:
            _follow(journal, locust, credits, seconds + 60)
        finally:
            locust.kill()
            locust.wait()
        credits.wait(_SEEN_SECONDS_MAX)
    if locust.returncode not in (0, 1) and not journal.stat().st_size:
        raise RuntimeError((folder / "locust.txt").read_text())
    print((folder / "locust.txt").read_text().strip(), "\n", flush=True)
    with journal.open() as lines:
        return read(lines), credits


def tables(target: Target, run: str, since_ms: int, credits: Watch) -> Tables:
    """What the tables hold of this run, once they hold all that was acknowledged."""
    clicks = target.pages(
        "SELECT click_id, affiliate, length(flags) > 0 AS flagged FROM clicks "
        f"WHERE received_at >= fromUnixTimestamp64Milli({since_ms}) ORDER BY click_id, stream_id"
    )
    decided = target.pages(
        "SELECT credits.order_id AS order_id, credits.affiliate AS affiliate, "
        "toUnixTimestamp64Milli(first.decided_at) - toUnixTimestamp64Milli(conversions.received_at) AS waited_ms "
        "FROM credits INNER JOIN conversions ON credits.conversion_id = conversions.conversion_id "
        "INNER JOIN (SELECT conversion_id, decided_at FROM credit_versions WHERE version = 1) AS first "
        "ON credits.conversion_id = first.conversion_id "
        f"WHERE credits.order_id LIKE '{run}-%' ORDER BY credits.order_id"
    )
    rows = list(decided)
    return Tables(
        clicks=[(row["click_id"], row["affiliate"], bool(row["flagged"])) for row in clicks],
        credits=[(row["order_id"], row["affiliate"]) for row in rows],
        decided_seconds=[int(row["waited_ms"]) / 1000 for row in rows],
        visible_seconds=credits.seconds,
        broken=target.broken(),
    )


def show(rows: list[Row]) -> None:
    """The table, with what is wrong below each line."""
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'done':>10}  {'in the tables':>22}")
    for row in rows:
        print(f"{row.name:{width}}  {row.done:>10}  {row.found:>22}  {'DIFFERS' if row.wrong else 'ok'}")
        for wrong in row.wrong:
            print(f"    {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description="Play, then compare with the tables.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=float, default=200, help="clicks a second, about")
    parser.add_argument("--url", help="of a running system's edge, on a loopback address; else one is started")
    parser.add_argument("--config", type=Path, help="its config.toml")
    options = parser.parse_args()
    if bool(options.url) != bool(options.config):
        parser.error("--url and --config belong together")
    if options.url and urlsplit(options.url).hostname != "127.0.0.1":
        parser.error("--url: only a system on 127.0.0.1 is put under load")
    with scratch_folder("load") as folder:
        rows = _load(folder, options)
    show(rows)
    sys.exit(1 if any(row.wrong for row in rows) else 0)


def _load(folder: Path, options: argparse.Namespace) -> list[Row]:
    if options.url:
        return _play_and_compare(Target(options.url, options.config.absolute(), False), folder, options)
    (folder / "system").mkdir()
    with running(System(folder / "system")) as system:
        target = Target(f"http://127.0.0.1:{system.edge_port}", system.config, True)
        return _play_and_compare(target, folder, options)


def _play_and_compare(target: Target, folder: Path, options: argparse.Namespace) -> list[Row]:
    run, since_ms = f"load-{secrets.token_hex(4)}", time.time_ns() // 1_000_000
    journal, credits = play(target, folder, options.seconds, options.rate, run)
    if credits.failure is not None:
        raise credits.failure
    _wait_for_clicks(target, since_ms, len(journal.clicks))
    return compare(journal, tables(target, run, since_ms, credits), target.is_alone)


def _wait_for_clicks(target: Target, since_ms: int, count: int) -> None:
    """Until the tables hold as many clicks, at most a while: what is still missing then is a difference."""
    deadline = time.monotonic() + _SEEN_SECONDS_MAX
    query = f"SELECT count() AS n FROM clicks WHERE received_at >= fromUnixTimestamp64Milli({since_ms})"
    while target.sql(query)[0]["n"] < count and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)  # and what was recorded without an id


def _follow(journal: Path, locust: "subprocess.Popen[bytes]", credits: Watch, seconds: float) -> None:
    """Read the journal as it grows, and await the credit of every sale in it. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    with journal.open() as lines:
        while True:
            is_over = locust.poll() is not None
            for line in _whole_lines(lines):
                entry = json.loads(line)
                if entry["kind"] == "order":
                    credits.await_key(entry["order_id"], max(0.0, time.time() - entry["at"] / 1000))
            if is_over:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("locust does not end")
            time.sleep(0.02)


def _whole_lines(file: Any) -> Iterator[str]:
    while True:
        position = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(position)
            return
        yield line


if __name__ == "__main__":
    main()
