"""`python -m loadtests.postbacks`: how many sales a second are recorded, each of them durable before its answer.

In each round clicks, postbacks and clicks again under the same wrk; the ratio is to the mean of both click runs. Each
postback is an order of its own, credited by the click id of one of fifty clicks; the engine decides and loads them all
the while. Afterwards every order that was answered must be in the tables with one credit: else it exits 1.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from loadtests import machine, needs, steady, wrk
from loadtests.scratch import scratch_folder
from tests.system import System, running

_CLICKS = 50
_WAIT_SECONDS_MAX = 180


def measure(system: System, seconds: int, rounds: int) -> dict[str, Any]:
    """Report sales for so long, in so many rounds: the one with the middle ratio, and all `rounds`. `missing` counts
    orders that were answered and are not there three minutes later, `clicks` those that were answered."""
    url = f"http://127.0.0.1:{system.edge_port}"
    path = f"/postback?program=shoes&token={system.key('postback')}"
    click_ids = [_click(system) for _ in range(_CLICKS)]
    clicks = [wrk.run(f"{url}/c/boots", seconds)]
    found = []
    for _ in range(rounds):
        mark = f"bench{time.time_ns()}-"
        used = _cpu_seconds(system)
        sold = wrk.run(f"{url}/", seconds, wrk.POSTBACKS, [mark, path, *click_ids])
        stopped = time.monotonic()
        orders = _wait(system, mark, sold.requests)
        after_stop = time.monotonic() - stopped
        used_then = _cpu_seconds(system)
        clicks.append(wrk.run(f"{url}/c/boots", seconds))
        found.append(
            {
                **sold.as_json,
                "ratio": round(2 * sold.per_second / sum(run.per_second for run in clicks[-2:]), 3),
                "cpu_us_of": {who: round((used_then[who] - used[who]) / sold.requests * 1e6, 1) for who in used},
                "credited_after_s": round(after_stop, 2),
                "missing": max(0, sold.requests - orders),
            }
        )
        print(line(found[-1]), flush=True)
    return {
        **sorted(found, key=lambda one: float(one["ratio"]))[len(found) // 2],
        "errors": sum(one["errors"] for one in found),
        "missing": sum(one["missing"] for one in found),
        "clicks": sum(run.requests for run in clicks) + _CLICKS,
        "rounds": found,
    }


def line(found: dict[str, Any]) -> str:
    """A round in one line."""
    parts = ", ".join(f"{who} {used}" for who, used in found["cpu_us_of"].items())
    return (
        f"postbacks {found['per_second']:>9,.0f}/s  p50 {found['p50_ms']:.2f} ms  p99 {found['p99_ms']:.2f} ms"
        f"  ÷ clicks {found['ratio']}  wrong {found['errors']}; cpu µs: {parts}; all had their credit"
        f" {found['credited_after_s']} s after"
    )


def _cpu_seconds(system: System) -> dict[str, float]:
    assert system.process is not None
    return machine.cpu_seconds_by_program(system.process.pid)


def _click(system: System) -> str:
    answer = system.request("GET", "/c/boots", headers=steady.BROWSER)
    return answer.headers["location"].rpartition("click_id=")[2]


def _wait(system: System, mark: str, answered: int) -> int:
    """The orders with a credit, once there are as many as were answered, or nothing more may be hoped for."""
    deadline = time.monotonic() + _WAIT_SECONDS_MAX
    while True:
        rows = system.sql(f"SELECT uniqExact(order_id) AS n FROM credits WHERE order_id LIKE '{mark}%'")
        found = int(rows[0]["n"])
        if found >= answered or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.postbacks", description="Sales recorded, beside clicks.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each run")
    options = parser.parse_args()
    needs.require()
    with scratch_folder("postbacks") as folder, running(System(Path(folder))) as system:
        found = measure(system, options.seconds, options.rounds)
        broken = [finding["name"] for finding in system.check()]
    print(f"postbacks/s ÷ clicks/s  {found['ratio']}  (goal 0.5; the middle one of {options.rounds} rounds)")
    if found["errors"] or found["missing"] or broken:
        sys.exit(f"{found['errors']} wrong answers, {found['missing']} orders without a credit, check: {broken}")


if __name__ == "__main__":
    main()
