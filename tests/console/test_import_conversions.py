"""The command on a real log server without the rest of a system: order, limits, and what happens when it is cut off."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

import console.import_conversions as command
import console.import_job as job
from console.cli import main
from console.import_rows import Row
from schemas import keys
from tests.log_server import LogServer
from tracker.click_id import load_keys

SHARDS = 4


@pytest.fixture
def bench(valkey: LogServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Bench":
    monkeypatch.setattr(job, "PAUSES_SECONDS", (0.01, 0.01))
    return Bench(valkey, tmp_path)


class Bench:
    """A log server that knows two programs and every claim, a data folder with keys, and a file of sales."""

    def __init__(self, server: LogServer, folder: Path) -> None:
        self.redis = server.redis
        self.folder = folder
        for shard in range(SHARDS):
            self.redis.set(keys.ready(shard), 1)
        terms = [{"from": 0}]
        for id, status in (("shoes", "active"), ("gone", "removed")):
            program = {"id": id, "merchant": "acme", "status": status, "terms": terms}
            self.redis.hset(keys.PROJECTION, f"program:{id}", orjson.dumps(program))
        load_keys(folder / "var" / "click-id.keys", bytes(range(48)))
        self.file = folder / "sales.csv"
        self.config = folder / "config.toml"
        self.config.write_text(f'[data]\ndir = "var"\n[redis]\nurl = "{server.url}"\nshards = {SHARDS}\n')

    def write(self, lines: Iterable[str]) -> None:
        self.file.write_text("order_id,amount\n" + "".join(f"{line}\n" for line in lines))

    def run(self, *options: str, program: str = "shoes") -> Result:
        words = ["import-conversions", str(self.file), "--program", program, "--config", str(self.config), *options]
        return CliRunner().invoke(main, words)

    def counts(self, *options: str) -> dict[str, int]:
        done = self.run("--json", *options)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return {name: count for name, count in json.loads(done.stdout)["counts"].items() if count}

    def recorded(self) -> list[tuple[str, str]]:
        """Order ids and outcomes of the reports in the log."""
        entries = [entry for shard in range(SHARDS) for entry in self.redis.xrange(keys.conversions(shard))]
        reports = [orjson.loads(line) for _, fields in entries for line in fields[b"reports"].split(b"\n")]
        return [(report["order_id"], report["outcome"]) for report in reports]


def test_rows_of_one_order_are_taken_in_the_order_of_the_file(bench: Bench) -> None:
    bench.write([*(f"A,{1 + (number >= 300)}" for number in range(600)), "B,1"])
    assert bench.counts("--dry-run") == {"accepted": 2, "duplicate": 299, "conflict": 300}
    assert bench.recorded() == []
    assert bench.counts() == {"accepted": 2, "duplicate": 299, "conflict": 300}
    assert [outcome for order_id, outcome in bench.recorded() if order_id == "A"] == (
        ["accepted"] + ["duplicate"] * 299 + ["conflict"] * 300
    )


def test_the_goals_of_one_order_are_reported_in_the_order_of_the_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which goal is the first is decided by it."""
    claimed: list[str] = []
    submit = job.Conversions.submit

    async def slow_at_first(self: Any, report: Any, params: Any) -> Any:
        await asyncio.sleep(0.05 if report.goal == "lead" else 0)
        claimed.append(report.goal)
        return await submit(self, report, params)

    monkeypatch.setattr(job.Conversions, "submit", slow_at_first)
    bench.file.write_text("order_id,goal\nA,lead\nA,contract\nA,renewal\n")
    assert bench.counts() == {"accepted": 3}
    assert claimed == ["lead", "contract", "renewal"]


def test_no_more_than_a_few_rows_are_on_their_way_at_once() -> None:
    flying: set[int] = set()
    most = 0

    async def take(row: Row) -> int:
        nonlocal most
        flying.add(row.line)
        most = max(most, len(flying))
        await asyncio.sleep(0.001 * (row.line % 7))
        flying.discard(row.line)
        return row.line

    async def all_of_them() -> list[int]:
        return [line async for line in job._in_order((Row(line, {}) for line in range(1000)), take)]

    assert asyncio.run(all_of_them()) == list(range(1000))
    assert 1 < most <= 64


def test_an_import_that_the_log_stops_says_how_far_it_came_and_can_be_completed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = command.read_rows

    def wiped_half_way(*arguments: Any) -> Any:
        for row in read(*arguments):
            if row.line == 400 and bench.recorded():
                for shard in range(SHARDS):
                    bench.redis.delete(keys.ready(shard))
            yield row

    bench.write(f"A-{number},1" for number in range(600))
    with monkeypatch.context() as patched:
        patched.setattr(command, "read_rows", wiped_half_way)
        done = bench.run("-o", str(bench.folder / "report.json"))
    assert done.exit_code == 2 and "run it again" in done.stderr
    report = json.loads((bench.folder / "report.json").read_text())
    assert report["complete"] is False and 0 < len(report["rows"]) < 600
    recorded = {order_id for order_id, _ in bench.recorded()}
    assert {row["order_id"] for row in report["rows"]} <= recorded
    assert bench.run().exit_code == 2  # claims are still not known
    for shard in range(SHARDS):
        bench.redis.set(keys.ready(shard), 1)
    assert bench.counts() == {"accepted": 600 - len(recorded), "duplicate": len(recorded)}


def test_a_log_server_that_is_away_for_a_moment_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PAUSES_SECONDS", (0.1, 5.0))
    submit = job.Conversions.submit
    failed: list[str] = []

    async def flaky(self: Any, report: Any, params: Any) -> Any:
        if report.order_id == "A-7" and not failed:
            failed.append("A-7")
            raise job.NotRecorded("away")
        return await submit(self, report, params)

    monkeypatch.setattr(job.Conversions, "submit", flaky)
    bench.write(f"A-{number},1" for number in range(20))
    assert bench.counts() == {"accepted": 20} and failed


def test_a_file_that_changes_after_it_was_checked_is_not_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = command.read_rows

    def then_changed(*arguments: Any) -> Any:
        yield from read(*arguments)
        bench.write(["A,1", "B,2", "C,3"])

    bench.write(["A,1", "B,1"])
    monkeypatch.setattr(command, "read_rows", then_changed)
    done = bench.run()
    assert done.exit_code == 2 and "changed while it was read" in done.stderr
    assert bench.recorded() == []


@pytest.mark.parametrize(("later", "recorded"), [(["A,1"], 1), (["A,1", '"B', "C,1"], 1), (["A,1", "B,x"], 1)])
def test_a_file_that_changes_while_it_is_recorded_says_how_far_it_came(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, later: list[str], recorded: int
) -> None:
    """Only what can be noticed: rows that are gone, quotes that do not match, a row that is bad now."""
    read, files = command.read_rows, [["A,1", "B,1"], later]

    def changing(source: Any, *more: Any) -> Any:
        data = "order_id,amount\n" + "".join(f"{line}\n" for line in files.pop(0))
        yield from read(BytesIO(data.encode()), *more)

    bench.write(["A,1"])
    monkeypatch.setattr(command, "read_rows", changing)
    done = bench.run()
    assert done.exit_code == (1 if "B,x" in later else 2), done.stderr
    assert ("the file was changed meanwhile" in done.stderr) == ("B,x" not in later)
    assert len(bench.recorded()) == recorded and f"{recorded} accepted" in done.stdout


def test_an_old_sale_of_which_nothing_can_be_known_stops_the_import(bench: Bench) -> None:
    bench.file.write_text("order_id,ts\nA,2020-01-01T00:00:00Z\n")
    for shard in range(SHARDS):
        bench.redis.rpush(keys.claim(shard, "shoes", "A", "sale"), "no claim")
    done = bench.run()
    assert done.exit_code == 2 and "recorded already" in done.stderr and "Traceback" not in done.stderr
    done = bench.run("--dry-run", "--skip-bad")
    assert done.exit_code == 2 and bench.recorded() == []


def test_an_old_sale_is_refused_unless_it_is_known(bench: Bench) -> None:
    """A file may be imported again after years."""
    bench.file.write_text(f"order_id,ts\nA,{(datetime.now(UTC) - timedelta(days=100)).isoformat()}\n")
    done = bench.run()
    assert done.exit_code == 2 and "sales.csv:2: A" in done.stderr and "ts_too_old" in done.stderr
    settings = bench.config.read_text()
    bench.config.write_text(settings + '[conversions]\nmax_late = "400d"\n')
    assert bench.counts() == {"accepted": 1}
    bench.config.write_text(settings)
    assert bench.counts("--dry-run") == bench.counts() == {"duplicate": 1}


def test_rows_of_another_program_are_refused(bench: Bench) -> None:
    bench.file.write_text("order_id,program\nA,shoes\nB,\nC,hats\n")
    assert bench.counts("--skip-bad") == {"accepted": 2, "refused": 1}
    assert [order_id for order_id, _ in sorted(bench.recorded())] == ["A", "B"]


@pytest.mark.parametrize("program", ["gone", "hats", "sho"])
def test_a_program_that_is_not_there_is_named_with_those_that_are(bench: Bench, program: str) -> None:
    bench.write(["A,1"])
    done = bench.run(program=program)
    assert done.exit_code == 2 and f"unknown program '{program}'; known are: shoes\n" in done.stderr
    assert bench.recorded() == []


def test_nothing_can_be_foretold_while_claims_are_being_rebuilt(bench: Bench) -> None:
    bench.write(["A,1"])
    bench.redis.delete(keys.ready(SHARDS - 1))
    done = bench.run("--dry-run")
    assert done.exit_code == 2 and "rebuilt" in done.stderr


def test_a_log_server_that_is_not_there_is_named(bench: Bench) -> None:
    bench.write(["A,1"])
    bench.config.write_text('[redis]\nurl = "redis://127.0.0.1:1"\n')
    done = bench.run()
    assert done.exit_code == 2 and "cannot be reached" in done.stderr


def test_people_see_a_table_and_of_many_rows_those_that_were_not_taken(bench: Bench) -> None:
    bench.write(["\x1b[31mA,1", "[bold]B,1"])
    done = bench.run("--skip-bad")
    assert done.exit_code == 1 and "\x1b" not in done.stdout and "[bold]B" in done.stdout
    assert "order_id_malformed" in done.stdout and "2 rows: 1 accepted, 1 refused\n" in done.stdout
    bench.write([*(f"C-{number},1" for number in range(60)), "[bold]B,2"])
    done = bench.run()
    assert done.exit_code == 1 and "C-1" not in done.stdout
    assert "conversion_conflict" in done.stdout and "61 rows: 60 accepted, 1 conflict\n" in done.stdout


def test_of_many_bad_rows_the_first_are_named_and_the_report_has_all(bench: Bench) -> None:
    bench.write(f"A-{number},x" for number in range(70))
    done = bench.run("-o", str(bench.folder / "report.csv"))
    assert done.exit_code == 2 and done.stderr.count("amount_malformed") == 50 and "20 rows more" in done.stderr
    assert len((bench.folder / "report.csv").read_text().splitlines()) == 71
    assert bench.recorded() == []


def test_a_header_alone_is_a_file_without_sales(bench: Bench) -> None:
    bench.write([])
    done = bench.run()
    assert (done.exit_code, done.stdout) == (0, "0 rows: no sales\n")


def test_a_bar_shows_how_far_it_is_on_a_terminal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int]] = []
    progress = command.Progress

    class Watched(progress):  # type: ignore[misc, valid-type]
        def update(self, task: Any, **values: Any) -> None:
            shown.append((self.tasks[task].description, values["completed"]))
            super().update(task, **values)

    monkeypatch.setattr(command, "Progress", Watched)
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    bench.write(f"A-{number},1" for number in range(2500))
    assert bench.run().exit_code == 0
    size = bench.file.stat().st_size
    for name in ("checking", "recording"):
        steps = [completed for what_for, completed in shown if what_for == name]
        assert len(steps) == 4 and steps == sorted(steps) and steps[-1] == size and 0 < steps[0] < size
