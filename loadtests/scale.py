"""`make bench-scale`: how fast it starts and takes clicks with a million links, 10 million live visitors and 100
million clicks stored, beside a system that is empty.

scale_state.py says how the state is made. Then everything is killed and started again: from `lastcookie up` to the
first redirect, to the first sale that is taken, and until spool and log are drained. Then rounds of wrk on the empty
system, the full one, the empty one again; ratios are taken within a round. The full one is loaded twice: on one link,
as the empty one is, and on all its links, on the n-th one 1/n times as often as on the first, after a run that is not
counted. Exits 1 if an answer was wrong or a click is missing; never because of a time. `--save` keeps the result under
results/scale/.
"""

import argparse
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from loadtests import figures, machine, memory, needs, results, scale_state, wrk
from loadtests.scratch import scratch_folder
from tests.system import System, end, running

FOLDER = results.FOLDER / "scale"
KEYS = ("date", "command", "machine", "versions", "settings", "fdatasync_ms", "redis", "start", "rounds", "summary")
_COLUMNS = ("date", "version", "processor", "links", "visitors", "clicks", "÷ empty", "on all links", "noise",
            "first redirect s", "conversions s", "drained s", "B/visitor", "B/link", "tracker MB")  # fmt: skip
_BYTES_A_VISITOR_MAX = 600
"""Memory that the log server may take for each: half of it for touches, and more visitors come."""


class Scale:
    """One run: the two systems, and what was found so far."""

    def __init__(self, empty: System, full: System, options: argparse.Namespace) -> None:
        self.empty = empty
        self.full = full
        self.options = options
        self.answered = {id(empty): 0, id(full): 0}
        self.in_flight_max = {id(empty): 0, id(full): 0}
        self.errors = 0

    def prepare(self) -> dict[str, Any]:
        """Make the state; what it takes in Redis."""
        options, system = self.options, self.full
        took: dict[str, Any] = {}
        with running(system):
            system.key("api")
            redis = system.redis
            used = memory.used_bytes(redis)
            _timed("links", took, lambda: scale_state.add_links(system, options.links))
            found = {"links": options.links, "bytes_per_link": _share(memory.used_bytes(redis) - used, options.links)}
        _timed("visitors", took, lambda: found.update(scale_state.add_touches(system, options.visitors)))
        _timed("clicks", took, lambda: scale_state.add_clicks(system, options.clicks, options.links))
        log = sum(path.stat().st_size for path in (system.data_dir / "valkey").rglob("*") if path.is_file())
        tables = sum(path.stat().st_size for path in (system.data_dir / "clickhouse").rglob("*") if path.is_file())
        return {**found, "log_mb": log // 10**6, "tables_mb": tables // 10**6, "prepared_s": took}

    def measure_start(self) -> dict[str, Any]:
        """Kill everything under load, start it again, and time what works when."""
        system = self.full
        system.start()
        key = system.key("api")
        self.load(system, 2, is_spread=True)
        memory.wait_until_loaded(system.redis)
        _kill(system)
        started = time.monotonic()
        system.start(wait=False)
        seconds: dict[str, float] = {}
        found = {"click_id": ""}

        def redirected() -> bool:
            answer = system.get(f"/c/bench-{self.options.links - 1}")
            found["click_id"] = answer.headers.get("location", "").rpartition("click_id=")[2]
            return answer.status == 302

        seconds["first_redirect"] = _until(started, redirected)
        assert system.process is not None
        seconds["cpu_to_first_redirect"] = round(machine.cpu_seconds(system.process.pid), 2)
        self.answered[id(system)] += 1
        stopping, clicked = threading.Event(), [0]
        clicker = threading.Thread(target=_click, args=(system, stopping, clicked))
        clicker.start()
        try:
            sale = {"program": "shoes", "order_id": "scale-1", "amount": "1.00", "currency": "EUR", **found}
            taken = _until(started, lambda: system.post_json("/v1/conversions", sale, key).status == 202)
            seconds["conversions_taken"] = taken
            system.wait_until_ready(600)
            seconds["ready"] = round(time.monotonic() - started, 2)
        finally:
            stopping.set()
            clicker.join()
        seconds["spool_drained"] = _until(started, lambda: _is_drained(system))
        memory.wait_until_loaded(system.redis, 600)
        seconds["log_drained"] = round(time.monotonic() - started, 2)
        system.explain("shoes", "scale-1", 600)
        seconds["credited"] = round(time.monotonic() - started, 2)
        self.answered[id(system)] += clicked[0]
        spooled = sum(beat["counters"].get("spooled", 0) for beat in _beats(system))
        return {**seconds, "clicks_meanwhile": clicked[0] + 1, "clicks_spooled": spooled}

    def round(self, number: int) -> dict[str, Any]:
        """The empty system, the full one on one link and on all, the empty one again."""
        machine.wait_until_quiet(figures.OTHERS_MAX, self.options.patience)
        seconds = self.options.seconds
        found = {
            "empty_before": self.load(self.empty, seconds),
            "full": self.load(self.full, seconds),
            "all_links": self.load(self.full, seconds, is_spread=True),
            "empty_after": self.load(self.empty, seconds),
        }
        for who, measured in found.items():
            print(
                f"round {number} {who.replace('_', ' '):13} {measured['per_second']:>9,.0f}/s"
                f"  p50 {measured['p50_ms']:7.2f} ms  p99 {measured['p99_ms']:7.2f} ms"
                f"  wrong {measured['errors']}  cpu {measured['cpu_us']:6.1f} µs a click: "
                + ", ".join(f"{name} {used}" for name, used in measured["cpu_us_of"].items()),
                flush=True,
            )
        return found

    def load(self, system: System, seconds: int, is_spread: bool = False) -> dict[str, Any]:
        """Clicks for so long, and until they are in the tables."""
        assert system.process is not None
        spread = [str(self.options.links)] if is_spread else []
        before = machine.cpu_seconds_by_program(system.process.pid)
        measured = wrk.run(f"http://127.0.0.1:{system.edge_port}/c/boots", seconds, wrk.READERS, spread)
        loaded_after = memory.wait_until_loaded(system.redis, 600)
        after = machine.cpu_seconds_by_program(system.process.pid)
        used = {who: round((after[who] - before[who]) / measured.requests * 1e6, 1) for who in after}
        self.answered[id(system)] += measured.requests
        self.in_flight_max[id(system)] += wrk.CONNECTIONS
        self.errors += measured.errors
        return {
            **measured.as_json,
            "cpu_us": round(sum(used.values()), 1),
            "cpu_us_of": used,
            "loaded_after_s": round(loaded_after, 2),
        }

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        found = [f"{self.errors} wrong answers"] if self.errors else []
        for name, system in (("empty", self.empty), ("full", self.full)):
            query = f"SELECT count() AS n FROM clicks WHERE worker != {scale_state.WORKER}"
            stored, answered = system.sql(query)[0]["n"], self.answered[id(system)]
            print(f"{name}: {stored:,} clicks stored of {answered:,} answered", flush=True)
            if not figures.clicks_agree(answered, stored, self.in_flight_max[id(system)]):
                found.append(f"{name}: {answered} clicks answered, {stored} stored")
        return found


def summarise(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The full system's rate ÷ the empty one's, within each round and then the median: on one link as there, and on all
    its links; the same of processor time."""

    def ratios(which: str, of: str) -> list[float]:
        return [
            figures.round_ratio(*(found[who][of] for who in ("empty_before", which, "empty_after"))) for found in rounds
        ]

    pairs = [(found["empty_before"]["per_second"], found["empty_after"]["per_second"]) for found in rounds]
    return {
        "ratio": round(median(ratios("full", "per_second")), 4),
        "ratio_of_each_round": ratios("full", "per_second"),
        "cpu_ratio": round(median(ratios("full", "cpu_us")), 3),
        "all_links_ratio": round(median(ratios("all_links", "per_second")), 4),
        "all_links_cpu_ratio": round(median(ratios("all_links", "cpu_us")), 3),
        "noise": figures.noise(pairs),
    }


def table_line(result: Any) -> str:
    """One line of results/scale/table.md."""
    on, state, start, summary = result["machine"], result["redis"], result["start"], result["summary"]
    cells = (
        result["date"][:10], result["versions"]["lastcookie"], f"{on['cores']} × {on['cpu']}", state["links"],
        state["visitors"], result["settings"]["clicks"], summary["ratio"],
        summary["all_links_ratio"], f"{summary['noise']:.0%}",
        start["first_redirect"], start["conversions_taken"], start["log_drained"], state["bytes_per_visitor"],
        state["bytes_per_link"], result["tracker_mb"],
    )  # fmt: skip
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def show(result: dict[str, Any]) -> None:
    """What was found, beside its goal."""
    start, summary, state = result["start"], result["summary"], result["redis"]
    for name, found, goal in (
        ("clicks/s ÷ empty system", summary["ratio"], f"0.9 or more; each round {summary['ratio_of_each_round']}"),
        ("  on all its links", summary["all_links_ratio"], f"none; the empty system differs by {summary['noise']:.0%}"),
        ("cpu a click ÷ empty", summary["cpu_ratio"], f"none; on all its links {summary['all_links_cpu_ratio']}"),
        ("first redirect", f"{start['first_redirect']} s", "3 s or less after `lastcookie up`"),
        ("conversions taken", f"{start['conversions_taken']} s", "30 s or less"),
        ("log drained", f"{start['log_drained']} s", f"30 s or less; {start['clicks_spooled']} clicks were spooled"),
        ("bytes a live visitor", state["bytes_per_visitor"], "200 or less"),
        ("bytes a link", state["bytes_per_link"], "200 or less"),
        ("memory of a tracker", f"{result['tracker_mb']} MB", "none; without what trackers share"),
    ):
        print(f"{name:24} {found!s:>9}  (goal {goal})", flush=True)


def _share(amount: int, count: int) -> float:
    return round(amount / max(1, count), 1)


def _timed(name: str, took: dict[str, Any], do: Callable[[], object]) -> None:
    started = time.monotonic()
    do()
    took[name] = round(time.monotonic() - started, 1)
    print(f"{name} made in {took[name]} s", flush=True)


def _until(started: float, is_so: Callable[[], bool], seconds: float = 600) -> float:
    """Seconds since `started` until it is so; asked every 20 ms. Raises TimeoutError."""
    while True:
        try:
            if is_so():
                return round(time.monotonic() - started, 2)
        except OSError:  # not listening yet
            pass
        if time.monotonic() > started + seconds:
            raise TimeoutError(f"not so after {seconds} s")
        time.sleep(0.02)


def _click(system: System, stopping: threading.Event, clicked: list[int]) -> None:
    """Some 50 clicks a second, until told to stop."""
    while not stopping.wait(0.02):
        answer = system.get("/c/bench-0")
        if answer.status != 302:
            raise RuntimeError(f"no redirect: {answer}")
        clicked[0] += 1


def _beats(system: System) -> list[dict[str, Any]]:
    return [orjson.loads(path.read_bytes()) for path in (system.data_dir / "run").glob("tracker-*.json")]


def _is_drained(system: System) -> bool:
    beats = _beats(system)
    return bool(beats) and all(beat["log_up"] and not beat["spool_bytes"] for beat in beats)


def _kill(system: System) -> None:
    """The supervisor and all its children at once, as when the power goes."""
    assert system.process is not None
    pid = system.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for number in (pid, *map(int, children)):
        os.kill(number, signal.SIGKILL)
    system.process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.02)
    system.output.close()
    (system.folder / "output.txt").unlink()


def _private_mb(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))
    return kilobytes // 1000


def run(options: argparse.Namespace, folder: Path) -> list[str]:
    """Everything, in order; what was wrong."""
    settings = {"redis": {"maxmemory": f"{2**30 + options.visitors * _BYTES_A_VISITOR_MAX}b"}}
    for name in ("empty", "full"):
        (folder / name).mkdir()
    scale = Scale(System(folder / "empty", settings), System(folder / "full", settings), options)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": re.sub(r"(--folder[= ])\S+", r"\1FOLDER", " ".join(["python -m loadtests.scale", *sys.argv[1:]])),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "settings": {"load": wrk.SETTINGS, "seconds": options.seconds, "clicks": options.clicks, **settings},
        "fdatasync_ms": machine.fdatasync_ms(folder),
        "redis": scale.prepare(),
    }
    with ExitStack() as stack:
        stack.callback(end, scale.full)
        result["start"] = scale.measure_start()
        print(f"start: {result['start']}", flush=True)
        stack.enter_context(running(scale.empty))
        scale.load(scale.empty, options.warm_up)
        scale.load(scale.full, options.warm_up, is_spread=True)
        result["rounds"] = [scale.round(number) for number in range(1, options.rounds + 1)]
        result["tracker_mb"] = _private_mb(scale.full.pid_of("tracker-0"))
        result["summary"] = summarise(result["rounds"])
        wrong = scale.wrong()
    show(result)
    if options.save:
        print(f"saved as {results.write(result, FOLDER, KEYS, _COLUMNS, table_line).name}", flush=True)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.scale", description="A large state beside none.")
    parser.add_argument("--links", type=int, default=1_000_000)
    parser.add_argument("--visitors", type=int, default=10_000_000)
    parser.add_argument("--clicks", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each run of wrk")
    parser.add_argument("--warm-up", type=int, default=10, help="seconds of load before the first round")
    parser.add_argument("--patience", type=int, default=60, help="seconds to wait for quiet cores before a round")
    parser.add_argument("--folder", type=Path, help="where to make the state (25 GB, deleted afterwards)")
    parser.add_argument("--save", action="store_true", help="keep the result under loadtests/results/scale/")
    options = parser.parse_args()
    needs.require()
    with scratch_folder("scale", options.folder) as folder:
        wrong = run(options, folder)
    for line in wrong:
        print(f"WRONG: {line}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
