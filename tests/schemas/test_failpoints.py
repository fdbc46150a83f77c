"""A failpoint kills its process, at the pass that was asked for, and else does nothing."""

import os
import subprocess
import sys

import pytest

from schemas import failpoints
from schemas.failpoints import failpoint
from tests.system import ROOT

PASSES = "from schemas.failpoints import failpoint\nfor n in range(5): print(n, flush=True); failpoint('here')"


@pytest.mark.parametrize(("said", "printed"), [("here", 1), ("here:3", 3), ("there", 5), ("", 5), ("here:9", 5)])
def test_the_process_dies_at_the_pass_that_was_asked_for(said: str, printed: int) -> None:
    environ = {**os.environ, "LASTCOOKIE_FAILPOINT": said}
    done = subprocess.run([sys.executable, "-c", PASSES], env=environ, capture_output=True, cwd=ROOT)
    assert len(done.stdout.split()) == printed
    assert done.returncode == (0 if printed == 5 else -9)


def test_it_is_a_kill_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clean-up runs; here, where the kill does not kill."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *how: killed.append(how))
    monkeypatch.setattr(failpoints, "_NAME", "here")
    monkeypatch.setattr(failpoints, "_passes_left", 2)
    failpoint("there")
    failpoint("here")
    assert killed == []
    failpoint("here")
    assert killed == [(os.getpid(), 9)]
