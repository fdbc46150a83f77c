"""A worker's clock, while the machine's is stepped."""

from hypothesis import given
from hypothesis import strategies as st

from tracker.app import steady_clock


def times(*machine: int) -> list[int]:
    """What the worker's clock says as the machine's says these."""
    values = iter(machine)
    clock = steady_clock(lambda: next(values))
    return [clock() for _ in machine]


def test_it_is_the_machines_clock() -> None:
    assert times(1000, 1000, 1001, 2000) == [1000, 1000, 1001, 2000]


def test_after_a_step_back_it_goes_on_at_half_speed_until_the_machines_has_come_up() -> None:
    assert times(1000, 400, 402, 500, 1300, 1600, 1601) == [1000, 1000, 1001, 1050, 1300, 1600, 1601]


def test_a_second_step_back_begins_where_the_first_has_come_to() -> None:
    assert times(1000, 400, 600, 200, 400) == [1000, 1000, 1100, 1100, 1200]


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_it_never_steps_back_and_is_never_behind(machine: list[int]) -> None:
    told = times(*machine)
    assert told == sorted(told) and all(one >= at for one, at in zip(told, machine, strict=True))
