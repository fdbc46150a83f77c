"""A worker's clock, while the machine's is stepped."""

from hypothesis import given
from hypothesis import strategies as st

from tracker.app import steady_clock


def times(*machine: int, apart: int = 100) -> list[int]:
    """What the worker's clock says as the machine's says these, asked every so many ms."""
    values, ticks = iter(machine), iter(range(0, 10**9, apart))
    passed = 0

    def now() -> int:
        nonlocal passed
        passed = next(ticks)
        return next(values)

    clock = steady_clock(now, lambda: passed)
    return [clock() for _ in machine]


def test_it_is_the_machines_clock() -> None:
    assert times(1000, 1000, 1001, 2000) == [1000, 1000, 1001, 2000]


def test_after_a_step_back_it_goes_on_at_half_speed_until_the_machines_has_come_up() -> None:
    assert times(1000, 800, 900, 1000, 1100, 1200) == [1000, 1001, 1051, 1101, 1151, 1200]


def test_what_comes_first_after_a_step_back_is_later_than_all_before_it() -> None:
    """However long ago that was: of two clicks the second is the last."""
    assert times(1000, 400, apart=20) == [1000, 1001]


def test_further_steps_meanwhile_change_nothing() -> None:
    """Only what takes the machine's clock beyond it is followed."""
    assert times(1000, 400, 100, 900, 950, 5000) == [1000, 1001, 1051, 1101, 1151, 5000]


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_it_never_steps_back_and_is_never_behind(machine: list[int]) -> None:
    told = times(*machine)
    assert told == sorted(told) and all(one >= at for one, at in zip(told, machine, strict=True))
