"""Every mutant can be played: `make mutants` does."""

import re
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, DoesNotApply, judge, mutated
from tests.mutants.catalog import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_takes_away_what_stands_once_and_names_tests_that_are_there(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    after = mutated(mutant, text)
    assert after != text
    if mutant.path.endswith(".py"):
        compile(after, mutant.path, "exec")
    for test in mutant.tests:
        file, _, function = test.partition("::")
        assert re.search(rf"def {function or 'test_'}", (ROOT / file).read_text()), test


def test_a_text_that_is_not_there_or_there_twice_is_no_mutant() -> None:
    mutant = Mutant("", "", "", "a", "b", ())
    for text in ("", "aa"):
        with pytest.raises(DoesNotApply):
            mutated(mutant, text)


def test_a_mutant_is_killed_only_by_a_test_that_fails(tmp_path: Path) -> None:
    """Not by one that passes, and not by one that is not there; the file is afterwards as it was."""
    (tmp_path / "code.py").write_text("def two():\n    return 2\n")
    (tmp_path / "test_code.py").write_text(
        "import code_ as code\n\ndef test_two():\n    assert code.two() == 2\n\ndef test_is():\n    assert code.two\n"
    )
    (tmp_path / "code.py").rename(tmp_path / "code_.py")
    outcomes = []
    for test in ("test_code.py::test_two", "test_code.py::test_is", "test_code.py::test_gone"):
        outcomes.append(judge(Mutant("three", "", "code_.py", "return 2", "return 3", (test,)), tmp_path))
    assert outcomes[:2] == ["killed", "SURVIVED"] and "could not be run" in outcomes[2]
    assert (tmp_path / "code_.py").read_text() == "def two():\n    return 2\n"
