"""Processes are killed under load: what was acknowledged is stored, once, and the system goes on by itself."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from schemas import keys
from tests.system import PERSON, System

pytestmark = pytest.mark.crash
Start = Callable[..., System]
UNLIMITED = {"rate_clicks_per_ip": 0, "rate_clicks_per_visitor": 0}


class Readers:
    """Threads that click without pause and write down every click id that they were given."""

    def __init__(self, system: System, threads: int = 6) -> None:
        self.system = system
        self.acknowledged: list[str] = []
        self.other_answers: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(number,)) for number in range(threads)]

    @contextmanager
    def reading(self) -> Iterator["Readers"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _read(self, number: int) -> None:
        connection = self._connect()
        headers = {"Host": f"track.localhost:{self.system.edge_port}", "User-Agent": PERSON}
        paths = ("/c/boots", "/c/sneakers", "/a/alice/shoes", "/c/unknown")
        for count in range(10**9):
            if self._stop.is_set():
                break
            try:
                connection.request("GET", paths[(count + number) % 4], headers=headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                # Killed before it answered: nothing was acknowledged.
                self.errors[type(error).__name__] += 1
                connection.close()
                connection = self._connect()
                continue
            if response.status == 302:
                query = urlsplit(response.headers["location"]).query
                self.acknowledged.append(query.partition("click_id=")[2][:32])
            else:
                self.other_answers[response.status] += 1
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.system.edge_port, timeout=10)


def wait_until_all_is_loaded(system: System, seconds: float = 40) -> None:
    """Spools drained, streams empty."""
    deadline = time.monotonic() + seconds
    while True:
        spooled = sum(path.stat().st_size for path in system.data_dir.glob("spool/*/*.spool"))
        try:
            waiting = sum(system.redis.xlen(keys.clicks(n)) for n in range(shards_of(system)))
            ready = system.request("GET", "/readyz", port=system.admin_port, host="127.0.0.1").status == 200
        except Exception:
            waiting, ready = 1, False
        if ready and not spooled and not waiting:
            return
        assert time.monotonic() < deadline, (spooled, waiting, system.logs())
        time.sleep(0.1)


def shards_of(system: System) -> int:
    return int(system.settings.get("redis", {}).get("shards", 1))


def prove(system: System, readers: Readers, order: str) -> None:
    """Every click that was acknowledged is stored exactly once, nothing is broken, and a fresh click earns."""
    wait_until_all_is_loaded(system)
    stored = Counter(row["click_id"] for row in system.sql("SELECT click_id FROM clicks"))
    assert len(set(readers.acknowledged)) == len(readers.acknowledged) > 200
    lost = set(readers.acknowledged) - stored.keys()
    assert not lost, f"{len(lost)} of {len(readers.acknowledged)} lost"
    assert [click for click, times in stored.items() if times > 1] == []
    assert system.sql("SELECT count() AS n, uniqExact(refusal_id) AS ids FROM refusals")[0]["n"] > 50
    assert system.sql("SELECT count() - uniqExact(refusal_id) AS doubled FROM refusals") == [{"doubled": 0}]
    assert system.check() == []
    assert set(readers.other_answers) <= {404, 503}
    click_id, visitor = system.click("/c/sneakers")
    pixel = f"/pixel.gif?program=shoes&order_id={order}&amount=1&currency=EUR"
    assert system.get(pixel, Cookie=f"lc={visitor}").status == 200
    assert system.explain("shoes", order)["click_id"] == click_id


def wait_for_another(system: System, name: str, than: int, seconds: float = 20) -> None:
    """Until the supervisor has started a successor."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if system.pid_of(name) != than:
                return
        except (AssertionError, OSError):
            pass
        assert time.monotonic() < deadline, system.logs()
        time.sleep(0.02)


@pytest.mark.parametrize("shards", [1, 4])
def test_killing_everything_in_turn_loses_nothing(start_system: Start, shards: int) -> None:
    """Each of tracker, engine and log server is killed several times while readers click."""
    system = start_system(server={"workers": 2}, redis={"shards": shards}, limits=UNLIMITED)
    with Readers(system).reading() as readers:
        time.sleep(0.5)
        for turn in range(3):
            for name in (f"tracker-{turn % 2}", "valkey", "engine"):
                killed = system.kill(name)
                time.sleep(0.3)
                wait_for_another(system, name, killed)
                time.sleep(0.3)
        time.sleep(0.5)
    assert readers.errors, "no tracker died in the middle of a request"
    prove(system, readers, f"after-{shards}")


def test_the_engine_dying_at_its_worst_moments_doubles_and_loses_nothing(start_system: Start, tmp_path: Path) -> None:
    """Between two inserts of one batch, after the inserts and before their acknowledgement, and with sales decided
    but not recorded; once each."""
    points = {"loader_between_tables": 9, "loader_before_ack": 4, "worker_before_record": 1}
    fired = {name: tmp_path / name for name in points}
    asked = ",".join(f"{name}:{passes}@{fired[name]}" for name, passes in points.items())
    system = start_system({"LASTCOOKIE_FAILPOINT": asked}, server={"workers": 1}, limits=UNLIMITED)
    with Readers(system, threads=3).reading() as readers:
        click_id, visitor = system.click("/c/boots")
        pixel = "/pixel.gif?program=shoes&order_id=crash&amount=1&currency=EUR"
        assert system.get(pixel, Cookie=f"lc={visitor}").status == 200
        deadline = time.monotonic() + 40
        while not all(path.exists() for path in fired.values()):
            assert time.monotonic() < deadline, (list(tmp_path.iterdir()), system.logs())
            time.sleep(0.05)
        time.sleep(1)
    prove(system, readers, "after")
    credit: dict[str, Any] = system.explain("shoes", "crash")
    assert (credit["click_id"], credit["version"]) == (click_id, 1)
