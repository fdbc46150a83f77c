"""Metrics in Prometheus's format: the trackers' counters out of their heartbeats, the engine's own, and the stores'.

Trackers count in plain dictionaries and leave them in `run/tracker-*.json` four times a second: no lock and no metric
object in the click path. Called by the private port.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from schemas import keys
from schemas.log_server import servers
from tracker.loader import streams

_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
"""Of the buckets of latencies, in seconds; behind them +Inf."""


class _Latencies:
    """How many took how long. The library's own histogram takes 4 µs a value, a tenth of what a decision does."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self.sum = 0.0

    def note(self, seconds: float) -> None:
        self._counts[bisect_left(_BOUNDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds, and how many took no longer."""
        return list(zip([*map(str, _BOUNDS), "+Inf"], accumulate(self._counts), strict=True))


class Metrics:
    """What /metrics shows."""

    def __init__(self, redis: Any, shards: int, data_dir: Path, counters: Counter[str]) -> None:
        self._redis = redis
        self._shards = shards
        self._data_dir = data_dir
        self._counters = counters
        self._registry = CollectorRegistry()
        self._latencies: dict[str, _Latencies] = {}
        self._registry.register(self)

    def decided(self, method: str, seconds: float) -> None:
        """Note a decision."""
        latencies = self._latencies.get(method)
        if latencies is None:
            latencies = self._latencies[method] = _Latencies()
        latencies.note(max(0.0, seconds))

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus-client for every scrape."""
        found = beats(self._data_dir)
        yield from _of_trackers(found)
        outcomes = CounterMetricFamily("lastcookie_engine", "Outcomes in the engine", labels=["outcome"])
        for name, count in sorted(self._counters.items()):
            outcomes.add_metric([name], count)
        yield outcomes
        yield self._of_decisions()
        yield from self._of_log()

    def describe(self) -> Iterable[Metric]:
        return []

    def _of_decisions(self) -> Metric:
        histogram = HistogramMetricFamily(
            "lastcookie_credit_seconds", "From the receipt of a sale to its decision", labels=["method"]
        )
        for method, latencies in sorted(self._latencies.items()):
            histogram.add_metric([method], latencies.buckets(), latencies.sum)
        return histogram

    def _of_log(self) -> Iterator[Metric]:
        entries = GaugeMetricFamily("lastcookie_log_entries", "Entries kept in a stream", labels=["stream"])
        lag = GaugeMetricFamily(
            "lastcookie_loader_lag_seconds", "Age of the oldest entry not loaded", labels=["stream"]
        )
        memory = GaugeMetricFamily("lastcookie_log_server_bytes", "Memory used by the log server")
        gaps = GaugeMetricFamily("lastcookie_state_gap", "1 while touch state may lack something", labels=["shard"])
        redis = self._redis
        try:
            for stream in streams(self._shards):
                entries.add_metric([stream.name], redis.xlen(stream.name))
                position = (redis.hget(keys.positions(stream.name), "loader") or b"0-0").decode()
                waiting = redis.xrange(stream.name, f"({position}", count=1)
                since = int(waiting[0][0].partition(b"-")[0]) / 1000 if waiting else time.time()
                lag.add_metric([stream.name], max(0.0, time.time() - since))
            for shard in range(self._shards):
                gaps.add_metric([str(shard)], redis.exists(keys.gap(shard)))
            memory.add_metric([], sum(server.info("memory")["used_memory"] for server in servers(redis)))
        except Exception:
            return
        yield from (entries, lag, gaps, memory)


def beats(data_dir: Path) -> list[dict[str, Any]]:
    """The trackers' last heartbeats."""
    return [orjson.loads(path.read_bytes()) for path in sorted((data_dir / "run").glob("tracker-*.json"))]


def _of_trackers(found: list[dict[str, Any]]) -> Iterator[Metric]:
    outcomes = CounterMetricFamily("lastcookie_edge", "Outcomes at the edge", labels=["worker", "outcome", "reason"])
    gauges = {
        "spool_bytes": "Bytes waiting in the spool",
        "spool_damaged": "Damaged records set aside",
        "log_up": "1 while the log takes clicks",
        "may_grow": "1 while touch state is within its budget",
        "position": "Position in the stream of entities that is served",
    }
    for name, text in gauges.items():
        gauge = GaugeMetricFamily(f"lastcookie_edge_{name}", text, labels=["worker"])
        for beat in found:
            gauge.add_metric([str(beat["number"])], float(beat[name]))
        yield gauge
    for beat in found:
        for key, count in sorted(beat["counters"].items()):
            outcome, _, reason = key.partition(":")
            outcomes.add_metric([str(beat["number"]), outcome, reason], count)
    yield outcomes
