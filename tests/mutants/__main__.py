"""`make mutants`: every mutant of the catalog must be killed by its tests. Exit 1 if one survives or does not apply.

    python -m tests.mutants [--only NAME] [--list]

Works in a scratch copy of the tree. The tests must first pass there unchanged: a test that fails anyhow kills nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.catalog import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
_LEFT_BEHIND = (".git", ".venv", "var", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", "results")
_SECONDS_MAX = 300
_FAILED = 1
"""pytest's exit status where tests have failed; others say that they could not be run."""


class DoesNotApply(Exception):
    """The text that a mutant replaces does not stand exactly once in its file."""


def mutated(mutant: Mutant, text: str) -> str:
    """The file's text with what the mutant takes away gone. Raises DoesNotApply."""
    if text.count(mutant.old) != 1:
        raise DoesNotApply(f"{mutant.name}: its text is {text.count(mutant.old)} times in {mutant.path}")
    return text.replace(mutant.old, mutant.new)


def judge(mutant: Mutant, tree: Path) -> str:
    """`killed`, or what else has become of the mutant in this copy of the tree."""
    path = tree / mutant.path
    text = path.read_text()
    try:
        path.write_text(mutated(mutant, text))
        status = run_tests(tree, mutant.tests)
    except DoesNotApply as error:
        return str(error)
    finally:
        path.write_text(text)
    return {_FAILED: "killed", 0: "SURVIVED"}.get(status, f"its tests could not be run (pytest's status {status})")


def run_tests(tree: Path, tests: tuple[str, ...]) -> int:
    """pytest's exit status for these tests of a tree."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=_SECONDS_MAX)
    return done.returncode


def main() -> None:
    names = [mutant.name for mutant in MUTANTS]
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Take away, and see a test fail.")
    parser.add_argument("--only", action="append", choices=names, help="a mutant; may be given again")
    parser.add_argument("--list", action="store_true", help="what there is, without running anything")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if mutant.name in (options.only or names)]
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.taken_away} ({mutant.path}) | {' '.join(mutant.tests)}")
        return
    sys.exit(0 if _play(chosen) else 1)


def _play(mutants: list[Mutant]) -> bool:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*_LEFT_BEHIND))
        tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        if run_tests(tree, tests):
            print("the tests fail without any mutant: make test says why")
            return False
        print("mutant | taken away | test | outcome", flush=True)
        alive = 0
        for mutant in mutants:
            outcome = judge(mutant, tree)
            alive += outcome != "killed"
            print(f"{mutant.name} | {mutant.taken_away} | {' '.join(mutant.tests)} | {outcome}", flush=True)
    print(f"{len(mutants) - alive} of {len(mutants)} killed")
    return not alive


if __name__ == "__main__":
    main()
