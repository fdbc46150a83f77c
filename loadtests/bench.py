"""`make bench`: clicks recorded beside nginx's bare 302, in one run on the same cores, and what a click costs.

Several rounds of nginx, lastcookie, nginx under the same wrk; ratios are taken within a round. Then latency at a
constant rate, and how long a sale waits for its credit. lastcookie runs as `lastcookie up` starts it: embedded Valkey
with `appendfsync always`, engine loading and deciding meanwhile. Exits 1 if an answer was wrong or a click is missing;
never because of a time. `--save` keeps the result under results/.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from console import embedded
from loadtests import (
    figures,
    loader_rate,
    machine,
    memory,
    needs,
    one_core,
    open_loop,
    postbacks,
    results,
    sales,
    steady,
    wrk,
)
from loadtests.nginx import Nginx
from loadtests.scratch import scratch_folder
from schemas.settings import load
from tests.system import System

LINKS = 20_000
_SETTLING_SECONDS = 3
"""After a start: what is given back meanwhile, 2.6 MB once, makes links seem to take nothing."""


@dataclass
class Counts:
    """Clicks that were answered with their 302, and how many more may have been under way when a run was cut off."""

    answered: int = 0
    in_flight_max: int = 0


@dataclass
class Bench:
    """One run: both servers, and what was found so far."""

    system: System
    nginx: Nginx
    redis: Any
    options: argparse.Namespace
    counts: Counts = field(default_factory=Counts)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.system.edge_port}/c/boots"

    def run(self) -> dict[str, Any]:
        """Everything, in order."""
        result: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "command": "python -m loadtests.bench " + " ".join(sys.argv[1:]),
            "machine": machine.describe(),
            "versions": machine.versions(),
            "settings": self._settings(),
            "fdatasync_ms": machine.fdatasync_ms(self.system.folder),
        }
        _say(f"fdatasync of 4 KiB here: p50 {result['fdatasync_ms']['p50']} ms, p99 {result['fdatasync_ms']['p99']} ms")
        result["redis"] = self._measure_links()
        visitors, used = self.redis.dbsize(), memory.used_bytes(self.redis)
        result["rounds"] = [self._round(number) for number in range(1, self.options.rounds + 1)]
        visitors, used = self.redis.dbsize() - visitors, memory.used_bytes(self.redis) - used
        result["redis"] |= {"bytes_per_visitor": round(used / visitors, 1), "visitors": visitors}
        result["summary"] = figures.summarise(result["rounds"])
        result["steady"] = [self._measure_steady(rate) for rate in self.options.rates]
        result["sales"] = sales.measure(self.system, self.url, self.options.steady_seconds)
        self.counts.answered += result["sales"]["clicks"]
        result["postbacks"] = postbacks.measure(self.system, self.options.seconds, self.options.rounds)
        self.counts.answered += result["postbacks"]["clicks"]
        self.counts.in_flight_max += (self.options.rounds + 1) * wrk.CONNECTIONS
        result["clicks"] = self._count()
        return result

    def _settings(self) -> dict[str, Any]:
        return {
            "load": wrk.SETTINGS,
            "seconds": self.options.seconds,
            "rounds": self.options.rounds,
            "nginx": f"{machine.cores()} workers, access log on",
            "log": "embedded valkey, appendfsync " + self.redis.config_get("appendfsync")["appendfsync"],
            "trackers": machine.cores(),
            "visitors": "every click is a new visitor's",
        }

    def _measure_links(self) -> dict[str, Any]:
        time.sleep(_SETTLING_SECONDS)
        used, stream = memory.used_bytes(self.redis), memory.stream_bytes(self.redis)
        self.system.apply(memory.links_toml(LINKS))
        used, stream = memory.used_bytes(self.redis) - used, memory.stream_bytes(self.redis) - stream
        found = {"bytes_per_link": round(used / LINKS, 1), "links": LINKS, "stream_per_link": round(stream / LINKS, 1)}
        _say(f"redis: {found['bytes_per_link']} bytes a link, and {found['stream_per_link']} in the stream for an hour")
        return found

    def _round(self, number: int) -> dict[str, Any]:
        if not machine.wait_until_quiet(figures.OTHERS_MAX, self.options.patience):
            _say(f"round {number}: other processes keep the cores busy; going on all the same")
        self._probe()
        found = {
            "nginx_before": self._measure_nginx(),
            "lastcookie": self._measure_clicks(),
            "nginx_after": self._measure_nginx(),
        }
        self._probe()
        rates = [found[who]["per_second"] for who in found]
        for who, measured in found.items():
            _say(
                f"round {number} {who.replace('_', ' '):13} {measured['per_second']:>9,.0f}/s"
                f"  p50 {measured['p50_ms']:7.2f} ms  p99 {measured['p99_ms']:7.2f} ms"
                f"  cpu {measured['cpu_us']:6.1f} µs a request  wrong {measured['errors']}"
                f"  other processes had {measured['others']:.0%} of the cores"
            )
        ours = found["lastcookie"]
        parts = ", ".join(f"{who} {used}" for who, used in ours["cpu_us_of"].items())
        _say(
            f"round {number} ratio {figures.round_ratio(*rates)}; cpu µs a click: {parts}; {ours['spooled']} clicks"
            f" went to the spool, all were in the tables {ours['loaded_after_s']} s after the last"
        )
        return found

    def _probe(self) -> None:
        """Both answer as they should: wrk counts a 200 as well as a 302."""
        for port in (self.nginx.port, self.system.edge_port):
            answer = self.system.request("GET", "/c/boots", headers=steady.BROWSER, port=port)
            if answer.status != 302 or "set-cookie" not in answer.headers:
                raise RuntimeError(f"not a redirect with a cookie: {answer}")
        self.counts.answered += 1

    def _measure_nginx(self) -> dict[str, Any]:
        busy, used = machine.all_cpu_seconds(), machine.cpu_seconds(self.nginx.process.pid)
        measured = wrk.run(self.nginx.url, self.options.seconds)
        used = machine.cpu_seconds(self.nginx.process.pid) - used
        self.nginx.forget_log()
        return self._with_cpu(measured, used, used, machine.all_cpu_seconds() - busy)

    def _measure_clicks(self) -> dict[str, Any]:
        assert self.system.process is not None
        pid = self.system.process.pid
        spooled = self._spooled()
        busy, before = machine.all_cpu_seconds(), machine.cpu_seconds_by_program(pid)
        measured = wrk.run(self.url, self.options.seconds)
        busy, used = machine.all_cpu_seconds() - busy, machine.cpu_seconds(pid) - sum(before.values())
        loaded_after = memory.wait_until_loaded(self.redis)
        after = machine.cpu_seconds_by_program(pid)
        self.counts.answered += measured.requests
        self.counts.in_flight_max += wrk.CONNECTIONS
        return {
            **self._with_cpu(measured, used, sum(after.values()) - sum(before.values()), busy),
            "cpu_us_of": {who: round((after[who] - before[who]) / measured.requests * 1e6, 1) for who in after},
            "loaded_after_s": round(loaded_after, 2),
            "spooled": self._spooled() - spooled,
        }

    def _with_cpu(self, measured: wrk.Measured, during: float, in_all: float, busy: float) -> dict[str, Any]:
        """`others`: share of the cores that went to neither the server nor wrk."""
        others = max(0.0, busy - during - measured.client_cpu_s) / (machine.cores() * self.options.seconds)
        cpu_us = round(in_all / measured.requests * 1e6, 2)
        return {**measured.as_json, "cpu_us": cpu_us, "others": round(others, 3)}

    def _spooled(self) -> int:
        beats = (self.system.data_dir / "run").glob("tracker-*.json")
        return sum(json.loads(beat.read_bytes())["counters"].get("spooled", 0) for beat in beats)

    def _measure_steady(self, rate: int) -> dict[str, Any]:
        options = self.options
        found = open_loop.measure(self.nginx.url, self.url, rate, options.rounds, options.steady_seconds, options.rest)
        self.counts.answered += sum(pair["lastcookie"]["requests"] for pair in found["rounds"])
        return found

    def _count(self) -> dict[str, Any]:
        memory.wait_until_loaded(self.redis)
        stored = self.system.sql("SELECT count() AS n FROM clicks")[0]["n"]
        distinct = self.system.sql("SELECT uniqExact(click_id) AS n FROM clicks")[0]["n"]
        broken = [finding["name"] for finding in self.system.check()]
        counts = self.counts
        return {
            "answered": counts.answered,
            "stored": stored,
            "twice": stored - distinct,
            "in_flight_max": counts.in_flight_max,
            "agree": figures.clicks_agree(counts.answered, stored, counts.in_flight_max),
            "check_broken": broken,
        }


def show(result: dict[str, Any]) -> list[str]:
    """Print what counts, beside its goal; what was wrong."""
    summary, redis, clicks, sold = result["summary"], result["redis"], result["clicks"], result["sales"]
    _say("")
    counted = f"{len(summary['ratio_of_each_round'])} of {len(result['rounds'])} rounds"
    _say(f"clicks/s ÷ nginx        {summary['ratio']}  (goal 0.25)")
    _say(
        f"                        from {counted}; other processes had up to {summary['others']:.0%} of the cores,"
        f" and nginx differed from itself by {summary['noise']:.0%}"
    )
    _say(f"cpu a click ÷ nginx     {summary['cpu_ratio']}  (goal 5; {summary['cpu_us_per_click']} µs, all processes)")
    _say(f"bytes a live visitor    {redis['bytes_per_visitor']}  (goal 200; over {redis['visitors']:,} visitors)")
    _say(f"bytes a link            {redis['bytes_per_link']}  (goal 200; over {redis['links']:,} links)")
    for steadily in result["steady"]:
        _say(open_loop.line(steadily))
    reported = result["postbacks"]
    _say(f"postbacks/s ÷ clicks/s  {reported['ratio']}  (goal 0.5; the middle one of {len(reported['rounds'])} rounds)")
    loader = [found["ratio"] for found in result["loader"]]
    slowest = min(found["loader_rows_per_second"] for found in result["loader"])
    _say(
        f"loader ÷ inserts alone  {median(loader)}  (goal 0.6; of {len(loader)} rounds; the slowest {slowest:,} rows/s"
        f" are {slowest / summary['clicks_per_second']:.1f} times the clicks/s)"
    )
    if result["one_core"]:
        one = result["one_core"]
        without_wrk = f"; without wrk's share of the two {one['scaling_without_wrk']}"
        _say(
            f"two cores ÷ twice one   {one['scaling']}  (goal 0.7; {one['one_core_per_second']:,.0f} and"
            f" {one['two_cores_per_second']:,.0f} clicks/s, medians of {len(one['pairs'])} pairs"
            f"{'' if one['wrk_has_cores_of_its_own'] else without_wrk})"
        )
    _say(
        f"a sale is credited      p50 {sold['decided_p50_s']} s, p99 {sold['decided_p99_s']} s after its receipt;"
        f" readable p99 {sold['credit_visible_p99_s']:.2f} s"
        f" (goal 2 s; {sold['sales']} sales at {sold['clicks_per_second']:.0f} clicks/s)"
    )
    readable = (sold["click_visible_p50_s"], sold["click_visible_p99_s"])
    _say("a click is readable     p50 {:.2f} s, p99 {:.2f} s after its 302".format(*readable))
    _say(
        f"clicks in ClickHouse    {clicks['stored']:,} of {clicks['answered']:,} answered"
        f" (and up to {clicks['in_flight_max']} under way when wrk stopped), {clicks['twice']} twice"
    )
    wrong = list(clicks["check_broken"])
    wrong += [] if clicks["agree"] and not clicks["twice"] else ["the tables do not hold what was answered"]
    wrong += [f"{summary['errors']} wrong answers under wrk"] if summary["errors"] else []
    slow = sum(open_loop.wrong(found) for found in result["steady"]) + sold["errors"]
    wrong += [f"{slow} wrong answers at a constant rate"] if slow else []
    wrong += [f"{sold['unseen']} clicks or credits never seen"] if sold["unseen"] else []
    reported = result["postbacks"]
    wrong += [f"{reported['errors']} postbacks answered wrongly"] if reported["errors"] else []
    wrong += [f"{reported['missing']} postbacks without a credit"] if reported["missing"] else []
    wrong += ["wrong answers on one core or on two"] if result["one_core"] and result["one_core"]["errors"] else []
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description="Clicks recorded, beside nginx.")
    parser.add_argument("--quick", action="store_true", help="some 20 s of load: to see that it works, not to compare")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each run of wrk")
    parser.add_argument("--rates", type=int, nargs="+", default=[1000, 2000], help="clicks/s of the open loop")
    parser.add_argument("--steady-seconds", type=int, default=15, help="of each run of the open loop")
    parser.add_argument("--patience", type=int, default=60, help="seconds to wait for quiet cores before a round")
    parser.add_argument(
        "--rest", type=int, default=0, help="seconds before each of these; some hosts slow down who was busy for long"
    )
    parser.add_argument("--save", action="store_true", help="keep the result under loadtests/results/")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.rates, options.steady_seconds = 1, 3, [1000], 3
        options.patience = 0
    needs.require()
    with scratch_folder("bench") as folder:
        wrong = _bench(folder, options)
    for line in wrong:
        _say(f"WRONG: {line}")
    sys.exit(1 if wrong else 0)


def _bench(folder: Path, options: argparse.Namespace) -> list[str]:
    with open_loop.side_by_side(folder) as (nginx, system):
        url = embedded.url(load(system.config, None, os.environ))
        result = Bench(system, nginx, Redis.from_url(url), options).run()
    result["one_core"] = one_core.measure(folder / "cores", options.seconds)
    result["loader"] = loader_rate.run(folder, options.rounds, 30_000 if options.quick else 300_000)
    wrong = show(result)
    before = results.previous()
    for line in results.compare(result, before) if before else ():
        _say(f"against {before['date'][:10] if before else ''}: {line}")
    if options.save:
        _say(f"saved as {results.save(result).name}")
    return wrong


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
