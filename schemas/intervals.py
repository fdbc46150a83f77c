"""Half-open intervals of time, as entities keep them: `[[from, to], …]` in ms, disjoint, null an open end.

How a standing (active in a program, owner of a coupon) is remembered, so that a decision can ask for any
moment. History is never rewritten: a change that comes with an earlier time than the last one (a clock set
back) counts from that last one. Pure; called by the entity records and their differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = Sequence[int | None]
Intervals = list[list[int | None]]

ALWAYS: tuple[tuple[None, None], ...] = ((None, None),)


def close(intervals: Sequence[Interval], at: int) -> Intervals:
    """The same, its open interval, if there is one, ended at `at`."""
    past = _as_lists(intervals)
    if not past or past[-1][1] is not None:
        return past
    start, _ = past.pop()
    end = at if start is None else max(at, start)
    return past if end == start else [*past, [start, end]]


def reopen(intervals: Sequence[Interval], at: int) -> Intervals:
    """The same with everything from `at` on; unchanged where it is open already."""
    past = _as_lists(intervals)
    if not past:
        return [[at, None]]
    end = past[-1][1]
    if end is None or at <= end:
        past[-1][1] = None
        return past
    return [*past, [at, None]]


def intersect(left: Sequence[Interval], right: Sequence[Interval]) -> Intervals:
    """The times that are in both."""
    both = []
    for one in left:
        for other in right:
            shared = [max(one[0], other[0], key=_start), min(one[1], other[1], key=_end)]
            if _start(shared[0]) < _end(shared[1]):
                both.append(shared)
    return both


def unite(left: Sequence[Interval], right: Sequence[Interval]) -> Intervals:
    """The times that are in one of them, or in both."""
    return _complement(intersect(_complement(left), _complement(right)))


def subtract(left: Sequence[Interval], right: Sequence[Interval]) -> Intervals:
    """The times of the first that are not in the second."""
    return intersect(left, _complement(right))


def _complement(intervals: Sequence[Interval]) -> Intervals:
    """All other times."""
    rest: Intervals = []
    since: int | None = None
    for start, end in sorted(intervals, key=lambda interval: _start(interval[0])):
        if start is not None:
            rest.append([since, start])
        if end is None:
            return rest
        since = end
    return [*rest, [since, None]]


def overlaps(one: Interval, other: Interval) -> bool:
    """Whether there is a moment in both."""
    return bool(intersect([one], [other]))


def _as_lists(intervals: Sequence[Interval]) -> Intervals:
    return [list(interval) for interval in intervals]


def _start(bound: int | None) -> float:
    return -math.inf if bound is None else bound


def _end(bound: int | None) -> float:
    return math.inf if bound is None else bound
