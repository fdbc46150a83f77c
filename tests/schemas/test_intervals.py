"""Intervals of time, and that history is never rewritten."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.intervals import ALWAYS, Intervals, close, intersect, overlaps, reopen, subtract, unite

changes = st.lists(st.tuples(st.booleans(), st.integers(-50, 50)), max_size=12)
starts = st.sampled_from([[], [[None, None]]])


@pytest.mark.parametrize(
    ("intervals", "at", "closed"),
    [
        ([], 5, []),
        ([[None, None]], 5, [[None, 5]]),
        ([[0, None]], 5, [[0, 5]]),
        ([[0, 3]], 5, [[0, 3]]),
        ([[0, 3], [5, None]], 5, [[0, 3]]),
        ([[0, 3], [9, None]], 5, [[0, 3]]),
    ],
)
def test_closing_ends_the_open_interval(intervals: Intervals, at: int, closed: Intervals) -> None:
    assert close(intervals, at) == closed


@pytest.mark.parametrize(
    ("intervals", "at", "reopened"),
    [
        ([], 5, [[5, None]]),
        ([[0, 3]], 5, [[0, 3], [5, None]]),
        ([[0, 5]], 5, [[0, None]]),
        ([[0, 9]], 5, [[0, None]]),
        ([[None, None]], 5, [[None, None]]),
    ],
)
def test_reopening_begins_a_new_interval_or_goes_on_with_the_last(
    intervals: Intervals, at: int, reopened: Intervals
) -> None:
    assert reopen(intervals, at) == reopened


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (ALWAYS, [[0, 5]], [[0, 5]]),
        (ALWAYS, ALWAYS, [[None, None]]),
        ([[0, 5]], [[5, 9]], []),
        ([[None, 5], [8, None]], [[3, 10]], [[3, 5], [8, 10]]),
        ([[0, 5]], [], []),
    ],
)
def test_the_intersection_is_what_both_hold(
    left: Sequence[Sequence[int | None]], right: Sequence[Sequence[int | None]], both: Intervals
) -> None:
    assert intersect(left, right) == both
    assert intersect(right, left) == both


changed = st.builds(
    lambda start, steps: _changed(start, steps),
    starts,
    st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=6),
)


def _changed(intervals: Intervals, steps: list[tuple[bool, int]]) -> Intervals:
    for opens, at in sorted(steps, key=lambda step: step[1]):
        intervals = reopen(intervals, at) if opens else close(intervals, at)
    return intervals


@given(changed, changed, st.integers(-1, 13))
def test_union_and_difference_hold_each_moment_that_they_should(left: Intervals, right: Intervals, at: int) -> None:
    in_left, in_right = overlaps_any(left, at), overlaps_any(right, at)
    assert overlaps_any(unite(left, right), at) == (in_left or in_right)
    assert overlaps_any(subtract(left, right), at) == (in_left and not in_right)


def test_neighbours_become_one() -> None:
    assert unite([[0, 5]], [[5, None]]) == [[0, None]]


def test_neighbours_do_not_overlap() -> None:
    assert overlaps((0, 5), (4, None))
    assert not overlaps((0, 5), (5, None))


@given(starts, changes)
def test_any_sequence_of_changes_leaves_disjoint_sorted_intervals(
    intervals: Intervals, sequence: list[tuple[bool, int]]
) -> None:
    for opens, at in sequence:
        before = [list(interval) for interval in intervals]
        changed = reopen(intervals, at) if opens else close(intervals, at)
        assert intervals == before, "what is passed in is not changed"
        assert (reopen(changed, at) if opens else close(changed, at)) == changed, "twice is once"
        intervals = changed
    bounds = [bound for interval in intervals for bound in interval]
    numbers = [-math.inf if bound is None else bound for bound in bounds[:-1]]
    numbers += [math.inf if bound is None else bound for bound in bounds[-1:]]
    assert numbers == sorted(set(numbers))
    assert all(bound is not None for bound in bounds[1:-1])


@given(starts, st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=12), st.integers(0, 60))
def test_with_a_clock_that_only_goes_on_every_moment_remembers_its_last_change(
    intervals: Intervals, sequence: list[tuple[bool, int]], moment: int
) -> None:
    active = bool(intervals)
    for opens, at in sorted(sequence, key=lambda change: change[1]):
        intervals = reopen(intervals, at) if opens else close(intervals, at)
        active = opens if at <= moment else active
    assert overlaps_any(intervals, moment) == active


def overlaps_any(intervals: Intervals, moment: int) -> bool:
    return any(overlaps(interval, (moment, moment + 1)) for interval in intervals)
