"""The measurement of a large state runs, on a small one. No figure is asserted."""

import subprocess
import sys

from loadtests import scale
from tests.system import ROOT


def measured(per_second: float, cpu_us: float) -> dict[str, float]:
    return {"per_second": per_second, "cpu_us": cpu_us}


def one_round(before: float, full: float, after: float) -> dict[str, dict[str, float]]:
    return {
        "empty_before": measured(before, 50),
        "full": measured(full, 60),
        "all_links": measured(full / 2, 120),
        "empty_after": measured(after, 70),
    }


def test_a_ratio_is_taken_within_a_round_and_then_the_median() -> None:
    found = scale.summarise([one_round(100, 90, 100), one_round(50, 40, 50), one_round(100, 110, 120)])
    assert found["ratio_of_each_round"] == [0.9, 0.8, 1.0]
    assert (found["ratio"], found["cpu_ratio"], found["noise"]) == (0.9, 1.0, 0.2)
    assert (found["all_links_ratio"], found["all_links_cpu_ratio"]) == (0.45, 2.0)


def test_a_small_state_is_made_started_again_and_loaded() -> None:
    """Every click that was answered is in the tables, also those around the kill: else it exits 1."""
    command = [sys.executable, "-m", "loadtests.scale", "--links", "300", "--visitors", "2000", "--clicks", "5000"]
    command += ["--rounds", "1", "--seconds", "1", "--warm-up", "1", "--patience", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "clicks/s ÷ empty system",
        "first redirect",
        "conversions taken",
        "log drained",
        "bytes a live visitor",
    ):
        assert sum(line.startswith(name) for line in done.stdout.splitlines()) == 1, done.stdout
