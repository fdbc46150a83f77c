"""What chaos has left behind: the driver's notes held against the tables, when the system has come to rest.

missing    acknowledged and not in the tables
spurious   in the tables and never asked for
changed    in the tables with other content than was acknowledged
doubled    in the tables more than once; a sale with more than one credit in force
"""

import time
from collections import Counter
from typing import Any, NamedTuple

from schemas import keys
from tests.chaos.driver import AFFILIATE_OF, Driver, Journal, Line
from tests.system import System
from tracker.loader import streams


class Left(NamedTuple):
    """Ids by what is wrong with them; `broken` is what `check` found, or what the fresh click and sale met."""

    missing: list[str]
    spurious: list[str]
    changed: list[str]
    doubled: list[str]
    broken: list[str]

    @property
    def is_clean(self) -> bool:
        return not any(self)

    def __str__(self) -> str:
        counts = " ".join(f"{name} {len(found)}" for name, found in zip(self._fields, self, strict=True))
        first = next(((name, found[:3]) for name, found in zip(self._fields, self, strict=True) if found), None)
        return counts if first is None else f"{counts}; first {first[0]}: {', '.join(map(str, first[1]))[:300]}"


def prove(system: System, redis: Any, driver: Driver, quiet_seconds: float, seconds_max: float = 60) -> Left:
    """Wait until all is loaded and decided, and for a quiet while; then compare, check, and try a fresh click and
    sale. Raises TimeoutError where the system does not come to rest."""
    driver.report_the_rest()
    wait_until_at_rest(system, redis, seconds_max)
    time.sleep(quiet_seconds)
    fresh = _fresh(system, driver)
    wait_until_at_rest(system, redis, seconds_max)
    broken = [f"check: {finding['name']}: {finding['broken'][:2]}" for finding in system.check()]
    return compare(driver.run, driver.journal, system)._replace(broken=broken + fresh)


def wait_until_at_rest(system: System, redis: Any, seconds_max: float) -> float:
    """Until spools are drained, streams read to their ends, and everybody well; the seconds it took."""
    begin = time.monotonic()
    shards = int(system.settings.get("redis", {}).get("shards", 1))
    state: Any = None
    while time.monotonic() - begin < seconds_max:
        try:
            spooled = spooled_bytes(system)
            waiting = [
                stream.name for stream in streams(shards) for role in stream.readers if _lags(redis, stream.name, role)
            ]
            ready = system.request("GET", "/readyz", port=system.admin_port, host="127.0.0.1")
            state = spooled, waiting, ready.body
            if not spooled and not waiting and ready.status == 200:
                return time.monotonic() - begin
        except Exception as error:  # a store is still on its way
            state = error
        time.sleep(0.05)
    raise TimeoutError(f"not at rest after {seconds_max} s: {state}\n{system.logs()}")


def _lags(redis: Any, stream: str, reader: str) -> bool:
    position = (redis.hget(keys.positions(stream), reader) or b"0-0").decode()
    return bool(redis.xrange(stream, f"({position}", count=1))


def spooled_bytes(system: System) -> int:
    """Bytes in the files of all spools."""
    total = 0
    for path in system.data_dir.glob("spool/*/*.spool"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # drained or taken over meanwhile
            total += 1
    return total


def compare(run: str, journal: Journal, system: System) -> Left:
    """The notes of a run against the tables, without `broken`."""
    clicks = system.sql(f"SELECT sub1, link, click_id, visitor FROM clicks WHERE startsWith(sub1, '{run}-')")
    stored = {row["sub1"]: (row["link"], row["click_id"], row["visitor"]) for row in clicks}
    credits = system.sql(f"SELECT order_id, affiliate, click_id FROM credits WHERE startsWith(order_id, '{run}-')")
    credited = {row["order_id"]: (row["affiliate"], row["click_id"]) for row in credits}
    counts = Counter(row["sub1"] for row in clicks) + Counter(row["order_id"] for row in credits)
    ids = Counter(row["click_id"] for row in clicks)
    refusals = system.sql("SELECT refusal_id FROM refusals GROUP BY refusal_id HAVING count() > 1")
    sold = {row["order_id"] for row in system.sql(_SOLD.format(run=run))}
    return Left(
        missing=sorted((journal.clicks.keys() - stored) | (journal.orders.keys() - credited)),
        spurious=sorted((stored.keys() - journal.asked_clicks) | ((credited.keys() | sold) - journal.asked_orders)),
        changed=sorted(_differing(journal.clicks, stored) + _differing(journal.orders, credited)),
        doubled=sorted(id for id, times in (counts + ids).items() if times > 1)
        + [row["refusal_id"] for row in refusals],
        broken=[],
    )


_SOLD = "SELECT DISTINCT order_id FROM conversions WHERE startsWith(order_id, '{run}-')"


def _differing(noted: dict[str, Any], stored: dict[str, Any]) -> list[str]:
    return [f"{id}: {stored[id]}, not {what}" for id, what in noted.items() if id in stored and stored[id] != what]


def _fresh(system: System, driver: Driver) -> list[str]:
    """A click and a sale after all that: what went wrong with them."""
    line = Line(system)
    clicked = driver.click(line, "sneakers")
    line.close()
    if clicked is None:
        return ["a fresh click is not redirected"]
    order_id = f"{driver.run}-fresh"
    driver.journal.asked_orders.add(order_id)
    pixel = f"/pixel.gif?program=shoes&order_id={order_id}&amount=1&currency=EUR"
    system.get(pixel, Cookie=f"lc={clicked[1]}")
    driver.journal.orders[order_id] = (AFFILIATE_OF["sneakers"], clicked[0])
    try:
        credit = system.explain("shoes", order_id, seconds=30)
    except AssertionError as error:
        return [str(error)[:300]]
    return [] if credit["click_id"] == clicked[0] else [f"a fresh sale goes to {credit['click_id']}"]
