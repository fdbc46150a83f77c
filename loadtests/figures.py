"""The arithmetic of the benchmarks: percentiles, ratios within one round, medians over rounds. Pure."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

OTHERS_MAX = 0.15
"""Share of the cores that processes other than server and wrk may have had in a round that counts."""

LATE_MS_MAX = 0.5
"""How late a generator of the open loop may have been, at p99, in a run that counts."""

_WHO = ("nginx_before", "lastcookie", "nginx_after")


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed (nearest rank), to three digits; 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * percent // 100))
    return round(float(ordered[int(rank) - 1]), 3)


def round_ratio(before: float, ours: float, after: float) -> float:
    """Our rate ÷ the mean of nginx's before and after us: on a machine with neighbours only one round compares."""
    return round(ours / ((before + after) / 2), 4)


def noise(pairs: Sequence[tuple[float, float]]) -> float:
    """How far nginx is from itself within one round: the greatest |after ÷ before - 1| over the rounds."""
    return round(max(abs(after / before - 1) for before, after in pairs), 3)


def quiet(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rounds in which other processes left the cores alone; all of them if there is none such."""
    return [r for r in rounds if all(r[who]["others"] <= OTHERS_MAX for who in _WHO)] or list(rounds)


def summarise(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the quiet rounds amount to. Each is {nginx_before, lastcookie, nginx_after} with wrk's numbers, `cpu_us`,
    the processor time a request took in microseconds, and `others`."""
    errors = sum(r[who]["errors"] for r in rounds for who in _WHO)
    rounds = quiet(rounds)
    ratios = [round_ratio(*(r[who]["per_second"] for who in _WHO)) for r in rounds]
    nginx_cpu = [(r["nginx_before"]["cpu_us"] + r["nginx_after"]["cpu_us"]) / 2 for r in rounds]
    cpu_ratios = [r["lastcookie"]["cpu_us"] / cpu for r, cpu in zip(rounds, nginx_cpu, strict=True)]
    return {
        "ratio": round(median(ratios), 4),
        "ratio_of_each_round": ratios,
        "noise": noise([(r["nginx_before"]["per_second"], r["nginx_after"]["per_second"]) for r in rounds]),
        "clicks_per_second": round(median(r["lastcookie"]["per_second"] for r in rounds)),
        "nginx_per_second": round(median(r[w]["per_second"] for r in rounds for w in ("nginx_before", "nginx_after"))),
        "cpu_us_per_click": round(median(r["lastcookie"]["cpu_us"] for r in rounds), 1),
        "cpu_ratio": round(median(cpu_ratios), 2),
        "others": max(r[who]["others"] for r in rounds for who in _WHO),
        "errors": errors,
    }


def median_pair(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of runs of the open loop, each `nginx` and `lastcookie` one after the other, that with the middle p99 of ours (of
    two the worse); of those whose generator was in time where there are such: else the machine was too busy to tell."""
    in_time = [pair for pair in pairs if all(pair[who]["lag_p99_ms"] <= LATE_MS_MAX for who in ("nginx", "lastcookie"))]
    found = sorted(in_time or pairs, key=lambda pair: float(pair["lastcookie"]["p99_ms"]))
    return {**found[len(found) // 2], "in_time": len(in_time)}


def clicks_agree(answered: int, stored: int, in_flight_max: int) -> bool:
    """Whether the table holds every click that was answered, and no more than those under way at each stop."""
    return answered <= stored <= answered + in_flight_max
