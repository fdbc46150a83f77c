"""A failpoint kills its process, at the pass that was asked for, and else does nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import failpoints
from schemas.failpoints import failpoint
from tests.system import ROOT

PASSES = "from schemas.failpoints import failpoint\nfor n in range(5): print(n, flush=True); failpoint('here')"


def passes(said: str) -> tuple[int, int]:
    """How many times a process came to the failpoint, and its exit status."""
    environ = {**os.environ, "LASTCOOKIE_FAILPOINT": said}
    done = subprocess.run([sys.executable, "-c", PASSES], env=environ, capture_output=True, cwd=ROOT)
    return len(done.stdout.split()), done.returncode


@pytest.mark.parametrize(
    ("said", "times"), [("here", 1), ("here:3", 3), ("there", 5), ("", 5), ("here:9", 5), ("there,here:2", 2)]
)
def test_the_process_dies_at_the_pass_that_was_asked_for(said: str, times: int) -> None:
    assert passes(said) == (times, 0 if times == 5 else -9)


def test_with_a_file_it_dies_once(tmp_path: Path) -> None:
    """The process that is started in its place lives."""
    said = f"here:2@{tmp_path / 'fired'}"
    assert passes(said) == (2, -9)
    assert passes(said) == (5, 0)


def test_it_is_a_kill_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No clean-up runs; here, where the kill does not kill."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *how: killed.append(how))
    points = {name: failpoints._Point(f"{name}:2@{tmp_path / 'fired'}") for name in ("here", "there")}
    monkeypatch.setattr(failpoints, "_points", points)
    failpoint("elsewhere")
    failpoint("here")
    assert killed == []
    failpoint("here")
    assert killed == [(os.getpid(), 9)]
    failpoint("here")
    failpoint("there")
    failpoint("there")
    assert len(killed) == 1
    monkeypatch.setattr(failpoints, "_points", {"here": failpoints._Point("here")})
    failpoint("here")
    assert len(killed) == 2
