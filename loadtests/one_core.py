"""One core against two: what the second core adds, with the same load from the same wrk.

A system of its own is pinned to one core with one tracker, wrk to another; then the same on two cores, which wrk has to
share where there are no more. `scaling` is the rate on two ÷ twice the rate on one; `scaling_without_wrk` leaves out of
the two cores what wrk took of them, as if it were elsewhere. Several pairs in turn: medians.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import wrk
from tests.system import System

_PAIRS = 3


def measure(folder: Path, seconds: int) -> dict[str, Any]:
    """Rates on one core and on two; nothing where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return {}
    pairs = [_pair(folder / str(number), cores, seconds) for number in range(_PAIRS)]
    names = ("one_core_per_second", "two_cores_per_second", "scaling", "scaling_without_wrk")
    return {
        **{name: median(pair[name] for pair in pairs) for name in names},
        "wrk_has_cores_of_its_own": len(cores) > 2,
        "errors": sum(pair["errors"] for pair in pairs),
        "pairs": pairs,
    }


def _pair(folder: Path, cores: list[int], seconds: int) -> dict[str, Any]:
    one, two = (_rate(folder / str(count), cores, count, seconds) for count in (1, 2))
    wrks_share = two.client_cpu_s / seconds if len(cores) == 2 else 0
    return {
        "one_core_per_second": one.per_second,
        "two_cores_per_second": two.per_second,
        "wrks_share_of_a_core": round(wrks_share, 2),
        "scaling": round(two.per_second / (2 * one.per_second), 3),
        "scaling_without_wrk": round(two.per_second / ((2 - wrks_share) * one.per_second), 3),
        "errors": one.errors + two.errors,
    }


def _rate(folder: Path, cores: list[int], count: int, seconds: int) -> wrk.Measured:
    folder.mkdir(parents=True)
    with _pinned(cores[:count]):
        system = System(folder, {"server": {"workers": count}}).start()
    try:
        with _pinned(cores[count:] or cores):
            url = f"http://127.0.0.1:{system.edge_port}/c/boots"
            wrk.run(url, 1)
            return wrk.run(url, seconds)
    finally:
        system.stop()


@contextmanager
def _pinned(cores: list[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
