"""Which modules may run compiled, and when they do."""

import ast
import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from schemas import compiled
from schemas.compiled import FOLDER, LIBRARY, MODULES, ROOT, fingerprint, is_current, made_files, sign, sources


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the sources, with a folder that was made of them as far as its note says."""
    for package in ("schemas", "tracker"):
        (tmp_path / package).mkdir()
        for path in (ROOT / package).glob("*.*"):
            (tmp_path / package / path.name).write_bytes(path.read_bytes())
    for path in made_files(tmp_path / FOLDER):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / FOLDER / f"{LIBRARY}.py").touch()
    sign(tmp_path / FOLDER, tmp_path)
    return tmp_path


def where(project: Path, wish: str) -> tuple[list[str], str]:
    """Where the modules of a package are looked for, by a process of its own; and what it said when it failed."""
    environ = {name: text for name, text in os.environ.items() if name != "LASTCOOKIE_COMPILED"}
    code = "import tracker; print(*tracker.__path__, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env=environ | ({"LASTCOOKIE_COMPILED": wish} if wish else {}) | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split(), done.stderr


def test_what_was_made_of_the_present_sources_is_taken_unless_it_shall_not(project: Path) -> None:
    made, source = str(project / FOLDER / "tracker"), str(project / "tracker")
    assert where(project, "")[0] == [made, source]
    assert where(project, "must")[0] == [made, source]
    assert where(project, "no")[0] == [source]


def test_after_a_change_of_a_source_python_runs_the_source(project: Path) -> None:
    source = project / "tracker" / "redirect.py"
    source.write_text(source.read_text() + "\n")
    assert where(project, "")[0] == [str(project / "tracker")]
    found, said = where(project, "must")
    assert not found and "make compile" in said


def is_left_out(project: Path) -> bool:
    return where(project, "")[0] == [str(project / "tracker")] and "make compile" in where(project, "must")[1]


@pytest.mark.parametrize("name", ["sources", f"tracker/resp{EXTENSION_SUFFIXES[0]}", f"{LIBRARY}.py"])
def test_what_is_not_whole_is_left_out(project: Path, name: str) -> None:
    (project / FOLDER / name).unlink()
    assert is_left_out(project)


def test_a_library_that_cannot_be_loaded_stops_nobody(project: Path) -> None:
    """Cut short by a loss of power, or on a file system without execution."""
    (project / FOLDER / f"{LIBRARY}.py").rename(project / FOLDER / f"{LIBRARY}{EXTENSION_SUFFIXES[0]}")
    assert is_left_out(project)


def test_a_note_that_cannot_be_read_stops_nobody(project: Path) -> None:
    note = project / FOLDER / "sources"
    note.unlink()
    note.mkdir()
    assert is_left_out(project)


def test_a_module_that_is_not_compiled_counts_too(project: Path) -> None:
    """Its types and constants are compiled in."""
    source = project / "schemas" / "durations.py"
    source.write_text(source.read_text() + "\n")
    assert is_left_out(project)


def test_every_source_and_the_python_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {fingerprint(project)}
    for path in sources(project):
        path.write_text("# " + path.read_text())
        known.add(fingerprint(project))
    monkeypatch.setattr(sys, "version", "another")
    known.add(fingerprint(project))
    assert len(known) == len(MODULES) + 2
    assert not is_current(project / FOLDER, project)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.stem)
def test_no_module_has_what_runs_otherwise_when_it_is_compiled(path: Path) -> None:
    """Coroutines and generators (docs/decisions/0014-compiled-modules.md)."""
    foreign = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)
    assert [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, foreign)] == []


def test_no_module_decides_who_earns() -> None:
    assert not [name for name in MODULES if name.startswith("attribution.")]


def test_this_very_run_is_of_what_it_was_asked_for() -> None:
    """The suite runs interpreted, and the tests of the edge once more compiled (Makefile)."""
    from tracker import redirect

    assert str(redirect.__file__).startswith(str(ROOT / FOLDER)) == (compiled.compiled() is not None)
