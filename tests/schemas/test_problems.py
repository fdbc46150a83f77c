"""Problems of a file, as a person reads them."""

from __future__ import annotations

import pytest

from schemas.problems import FileError, Problem, did_you_mean, listed


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("f.toml", 3, "a.b", "unknown key", "c | d"), "f.toml:3: a.b: unknown key (accepted: c | d)"),
        (Problem("f.toml", None, "", "cannot be read"), "f.toml: cannot be read"),
    ],
)
def test_a_problem_reads_as_place_key_message_and_accepted_values(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_file_error_tells_all_problems_in_the_order_of_their_lines() -> None:
    later, early = Problem("f", 9, "x", "late"), Problem("f", 2, "y", "early")
    error = FileError([later, early])
    assert error.problems == (early, later)
    assert str(error) == "f:2: y: early\nf:9: x: late"


def test_a_hint_names_the_nearest_known_name_or_nothing() -> None:
    assert did_you_mean("lisen", ["listen", "workers"]) == '; did you mean "listen"?'
    assert did_you_mean("qqq", ["listen"]) == ""


def test_names_are_listed_with_bars() -> None:
    assert listed(["a", "b"]) == "a | b"
