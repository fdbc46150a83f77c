"""A longer window reaches touches that their state was not kept for: they are in the tables, and are found there."""

import time
from pathlib import Path
from typing import Any

import pytest

from console.entities import CHECKS, publish, read_projection
from schemas import keys
from schemas.entity_diff import diff
from schemas.entity_file import parse_file
from schemas.settings_fields import Settings
from tests.clicks import click_id
from tests.decisions import DAY, NOW, Bench
from tests.log_server import LogServer

SHOES = """
[[merchant]]
id = "m"
[[program]]
id = "p"
merchant = "m"
landing_url = "https://shop.example/"
currency = "EUR"
[program.attribution]
window = "30d"
[[affiliate]]
id = "alice"
"""
MEMBERSHIP = '[[membership]]\nprogram = "p"\naffiliate = "alice"\nwindow = "60d"\n'
TERMS = '[[program]]\nid = "p"\n[program.attribution]\nwindow = "60d"\n'


def apply(bench: Bench, toml: str, at: int) -> None:
    mark, records = read_projection(bench.redis)
    plan = diff(records, parse_file(toml, "f.toml", CHECKS), at, Settings().terms_defaults)
    publish(bench.redis, plan.events, mark)


def expired(bench: Bench, number: int, visitor: str, ago: int) -> None:
    """A click whose touch has left the state, as after its program's greatest window of then."""
    bench.clicks(bench.click(number, visitor, ago=ago, ttl_ms=1))
    deadline = time.monotonic() + 5
    while bench.redis.exists(keys.touches(0, "p", visitor)):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def bench(valkey: LogServer, tables: Any, tmp_path: Path) -> Bench:
    bench = Bench(valkey, tables, tmp_path)
    apply(bench, SHOES, NOW - 100 * DAY)
    bench.redis.hset(keys.positions(keys.conversions(0)), "worker", "0-1")
    return bench


def test_an_affiliates_longer_window_reaches_touches_from_before_it(bench: Bench) -> None:
    expired(bench, 1, "v", 35 * DAY)
    apply(bench, MEMBERSHIP, NOW - DAY)
    bench.sale("o", "v")
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_a_touch_of_a_tracker_that_had_not_heard_of_the_longer_terms_is_found(bench: Bench) -> None:
    """It kept the touch for 30 days, an hour after the terms had come to say 60."""
    apply(bench, TERMS, NOW - 40 * DAY)
    expired(bench, 1, "v", 40 * DAY - 3_600_000)
    bench.sale("o", "v")
    bench.decide()
    assert bench.credits("o") == [(1, 0, "alice", click_id(1), "click")]


def test_once_the_gap_is_over_sales_are_decided_from_the_touches_at_hand_again(bench: Bench) -> None:
    """Then no touch that could win was kept for less: the state, which here lacks one, is believed."""
    expired(bench, 1, "v", 35 * DAY)
    apply(bench, MEMBERSHIP, NOW - 61 * DAY)
    bench.sale("o", "v")
    bench.decide()
    assert bench.credits("o") == [(1, 0, "", "", "none")]
