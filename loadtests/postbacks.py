"""Postbacks beside clicks: how many sales a second are recorded, each of them durable before its answer.

Clicks, postbacks, clicks under the same wrk; the ratio is to the mean of both click runs. Each postback is an order of
its own, credited by the click id of one of fifty clicks; the engine decides and loads them all the while. Afterwards
every order that was answered must be in the tables with one credit.
"""

import time
from collections.abc import Callable
from typing import Any

from loadtests import steady, wrk
from tests.system import System

_CLICKS = 50
_WAIT_SECONDS_MAX = 180


def measure(
    system: System, seconds: int, run_clicks: Callable[[], wrk.Measured], cpu_seconds: Callable[[], dict[str, float]]
) -> dict[str, Any]:
    """Report sales for so long; `run_clicks` measures clicks before and after, `cpu_seconds` is the time that processes
    have used, by what they are. `missing` counts orders that were answered and are not there three minutes later."""
    path = f"/postback?program=shoes&token={system.key('postback')}"
    click_ids = [_click(system) for _ in range(_CLICKS)]
    mark = f"bench{time.time_ns()}-"
    before, used = run_clicks(), cpu_seconds()
    sold = wrk.run(f"http://127.0.0.1:{system.edge_port}/", seconds, wrk.POSTBACKS, [mark, path, *click_ids])
    stopped = time.monotonic()
    orders = _wait(system, mark, sold.requests)
    after_stop = time.monotonic() - stopped
    used_then = cpu_seconds()
    after = run_clicks()
    return {
        **sold.as_json,
        "ratio": round(2 * sold.per_second / (before.per_second + after.per_second), 3),
        "cpu_us_of": {who: round((used_then[who] - used[who]) / sold.requests * 1e6, 1) for who in used},
        "credited_after_s": round(after_stop, 2),
        "missing": max(0, sold.requests - orders),
        "clicks": before.requests + after.requests + _CLICKS,
    }


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
