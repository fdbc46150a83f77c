"""Touch state is lost between click and sale, under live traffic: `lastcookie rebuild-state` brings it back."""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas import keys
from tests.system import System

SHARDS = 4
BEFORE_MS = 5000
"""What is asked again of the time that touches live: answers and tests take some."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two trackers, four shards; the engine dies once in the midst of a rebuild."""
    folder = tmp_path_factory.mktemp("rebuild")
    failpoint = {"LASTCOOKIE_FAILPOINT": f"rebuild_after_call:3@{folder / 'fired'}"}
    running = System(folder, {"redis": {"shards": SHARDS}, "server": {"workers": 2}}, failpoint).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def key(whole: System) -> str:
    return whole.key()


def flush(system: System) -> None:
    system.redis.flushall()


def kill_and_delete(system: System) -> None:
    """The supervisor sleeps meanwhile, or it would start the server on its old files at once."""
    assert system.process is not None
    redis = system.redis
    epoch = redis.get(keys.ready(0))
    os.kill(system.process.pid, signal.SIGSTOP)
    try:
        system.kill("valkey")
        shutil.rmtree(system.data_dir / "valkey")
        (system.data_dir / "valkey").mkdir()
    finally:
        os.kill(system.process.pid, signal.SIGCONT)
    system.wait_until(lambda: system.redis.get(keys.ready(0)) not in (None, epoch))


@contextmanager
def traffic(system: System, visitors: list[str]) -> Iterator[list[str]]:
    """These visitors and a new one click in turn, all the time; the ids of the clicks that were answered."""
    stop, clicked = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            for visitor in (*visitors, None):
                for path in ("/c/boots", "/c/sneakers"):
                    clicked.append(system.click(path, visitor)[0])
                    time.sleep(0.002)  # touches of one millisecond are in the order of their ids

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield clicked
    finally:
        stop.set()
        thread.join()
        assert clicked


def states(system: System) -> dict[bytes, tuple[bytes, int]]:
    """Every state, and for how many ms it lives."""
    redis = system.redis
    return {key: (redis.get(key), redis.pttl(key)) for key in redis.keys("lc{*}:t:*")}


def read_state(state: bytes) -> tuple[int, list[str]]:
    """How many touches were dropped, and the click ids of the others."""
    lines = state.decode().split("\n")
    dropped = int(lines.pop(0)[1:]) if lines[0].startswith("#") else 0
    return dropped, [line[-32:] for line in lines]


def counted(system: System, outcome: str) -> int:
    body = system.request("GET", "/metrics", port=system.admin_port, host="127.0.0.1").body.decode()
    found = re.search(rf'lastcookie_engine_total{{outcome="{outcome}"}} (\S+)', body)
    return int(float(found[1])) if found else 0


def gaps(system: System) -> list[int]:
    return [shard for shard in range(SHARDS) if system.redis.exists(keys.gap(shard))]


def report(system: System, key: str, order: str, click_id: str) -> None:
    def is_taken() -> bool:
        sale = {"program": "shoes", "order_id": order, "click_id": click_id, "amount": "10.00", "currency": "EUR"}
        answer = system.post_json("/v1/conversions", sale, key)
        assert answer.status in (202, 503), system.logs()
        return answer.status == 202

    system.wait_until(is_taken)


def orders_of_each_shard(name: str) -> list[str]:
    """One order for each shard."""
    found: dict[int, str] = {}
    for order in (f"{name}-{number}" for number in range(1000)):
        found.setdefault(keys.shard_of_order("shoes", order, "sale", SHARDS), order)
    assert len(found) == SHARDS
    return list(found.values())


def rebuild(system: System, tries: int = 40) -> tuple[dict[str, Any], list[int]]:
    """The command, as often as it takes; its answer, and the exit statuses before."""
    statuses = []
    for _ in range(tries):
        done = system.run("rebuild-state", "--json", check=False)
        if done.returncode == 0:
            return json.loads(done.stdout), statuses
        statuses.append(done.returncode)
        time.sleep(0.2)
    raise AssertionError(f"{statuses}\n{done.stdout}{done.stderr}\n{system.logs()}")


def readers(system: System) -> dict[str, str]:
    """Readers who click in every way there is, once and forty times; the last click id of each, by visitor."""
    last = {}
    for paths in (
        ["/c/boots"],
        ["/c/sneakers", "/c/boots"],
        ["/a/alice/shoes", "/a/bob/shoes?sub1=x%20y&ref=%F0%9F%8D%AA"],
        [f"/a/bob/shoes?to=http://shop.localhost:{system.shop_port}/boots%3Fcolour=%C3%A4"],
        ["/c/boots", "/c/boots"],  # the second is a duplicate
        ["/c/boots", "/c/sneakers"] * 20,
    ):
        click_id, visitor = system.click(paths[0])
        for path in paths[1:]:
            time.sleep(0.002)  # touches of one millisecond are in the order of their ids
            click_id, _ = system.click(path, visitor)
        last[visitor] = click_id
    return last


@pytest.mark.parametrize("lose", [flush, kill_and_delete])
def test_state_lost_under_live_traffic_is_what_the_edge_had_written(
    whole: System, key: str, lose: Callable[[System], None]
) -> None:
    """Touch by touch and to the letter; clicks meanwhile are beside them; the sale after is decided without tables.
    The first rebuild is cut off by the engine's death, and run again."""
    last = readers(whole)
    latest, steady = whole.click("/c/boots")
    ids = ", ".join(f"'{click_id}'" for click_id in (*last.values(), latest))
    whole.wait_for_rows(f"SELECT countIf(click_id IN ({ids})) AS n FROM clicks", len(last) + 1)
    before = states(whole)
    assert len(before) >= len(last) + 1
    assert any(state.startswith(b"#8\n") for state, _ in before.values())
    with traffic(whole, [steady]):
        lost_at = time.monotonic()
        lose(whole)
        whole.wait_until(lambda: len(gaps(whole)) == SHARDS)
        reader, *others = last.values()
        early = orders_of_each_shard(f"{lose.__name__}-early")
        for order in early:  # the first sales of a stream without a position are compared with the tables anyway
            report(whole, key, order, reader)
        answer, statuses = rebuild(whole)
        assert answer["complete"] and answer["problem"] == "" and gaps(whole) == []
    assert (lose is not flush) or (2 in statuses and (whole.folder / "fired").exists())
    after, took_ms = states(whole), (time.monotonic() - lost_at) * 1000
    for visitor in last:
        state_key = keys.touches(keys.shard_of_visitor(visitor, SHARDS), "shoes", visitor).encode()
        (was, lived), (found, lives) = before[state_key], after[state_key]
        assert found == was
        assert lived - took_ms - BEFORE_MS < lives <= lived
    steady_key = keys.touches(keys.shard_of_visitor(steady, SHARDS), "shoes", steady).encode()
    dropped, newest = read_state(after[steady_key][0])
    whole.wait_for_rows(f"SELECT countIf(click_id = '{newest[-1]}') AS n FROM clicks", 1)
    rows = f"SELECT click_id FROM clicks WHERE visitor = '{steady}' AND empty(flags) ORDER BY ts, click_id"
    expected = [row["click_id"] for row in whole.sql(rows)]
    assert len(expected) > 50 and newest == expected[-32:]
    assert 0 < dropped <= len(expected) - 32  # of many clicks within a moment some may not be counted
    rebuild(whole)
    assert read_state(whole.redis.get(steady_key)) == (len(expected) - 32, newest)

    assert {whole.explain("shoes", order)["affiliate"] for order in early} == {"alice"}
    orders = orders_of_each_shard(lose.__name__)
    at_hand, by_tables = counted(whole, "sales_by_evidence_at_hand"), counted(whole, "sales_by_tables")
    for order in orders:
        report(whole, key, order, others[0])
    for order in orders:
        credit = whole.explain("shoes", order)
        assert (credit["affiliate"], credit["click_id"]) == ("alice", others[0])
    assert counted(whole, "sales_by_evidence_at_hand") == at_hand + SHARDS
    assert counted(whole, "sales_by_tables") == by_tables


def test_it_says_what_it_did_and_does_nothing_twice(whole: System) -> None:
    answer, _ = rebuild(whole)
    assert (answer["changed"], answer["gaps"], answer["clicks"]) == (0, [], answer["of"])
    said = whole.run("rebuild-state").stdout
    assert "0 changed" in said and "evidence is complete, as it was before" in said


def test_touch_state_beyond_its_budget_leaves_the_gap_and_says_why(whole: System, key: str) -> None:
    """A click whose touch was refused is put into its place once there is room."""
    redis = whole.redis
    most = redis.config_get("maxmemory")["maxmemory"]
    _, visitor = whole.click("/c/boots")
    state_key = keys.touches(keys.shard_of_visitor(visitor, SHARDS), "shoes", visitor)
    written = redis.get(state_key)
    stored = f"SELECT count() AS n FROM clicks WHERE visitor = '{visitor}'"
    whole.wait_for_rows(stored, 1)
    redis.delete(state_key)
    redis.set(keys.gap(keys.shard_of_visitor(visitor, SHARDS)), "state refused")
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] * 1.5))
    try:
        done = whole.run("rebuild-state", check=False)
        assert done.returncode == 1 and "redis.state_budget_percent" in done.stdout
        assert len(gaps(whole)) == 1 and not redis.exists(state_key)
    finally:
        redis.config_set("maxmemory", most)
    assert rebuild(whole)[0]["changed"] == 1
    assert redis.get(state_key) == written and gaps(whole) == []


def test_it_needs_the_token_and_a_system(whole: System, tmp_path: Path) -> None:
    answer = whole.request("POST", "/rebuild-state", port=whole.admin_port, host="127.0.0.1")
    assert (answer.status, answer.json["error"]["code"]) == (401, "token_invalid")
    stopped = System(tmp_path).run("rebuild-state", check=False)
    assert stopped.returncode == 2 and "nothing answers on" in stopped.stderr
