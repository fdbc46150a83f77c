"""deploy/ runs: confined as the systemd unit says, and out of an image that holds all there is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.sandbox import allowed_calls, options
from tests.system import ROOT, System

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "lastcookie.service"
EXPOSURE_MAX = 2.0


# systemd


def test_systemd_takes_the_unit_and_finds_little_to_say_against_it(tmp_path: Path) -> None:
    need("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/lastcookie/.venv/bin/lastcookie", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found and float(found[1]) <= EXPOSURE_MAX, said


def test_the_unit_waits_for_the_longest_drain() -> None:
    """What the supervisor gives its processes to stop: see `_stop_all`."""
    source = (ROOT / "console" / "up.py").read_text()
    spans = [int(number) for number in re.findall(r'\(\("\w+",(?: "\w+")?\), (?:drain \+ )?(\d+)\)', source)]
    drain = 10
    assert len(spans) == 3 and int(options(UNIT)["TimeoutStopSec"][0]) > sum(spans) + drain
    assert options(UNIT)["RestartPreventExitStatus"] == ["2"]


def test_the_filter_of_system_calls_is_one() -> None:
    need("systemd-analyze")
    calls = allowed_calls(options(UNIT)["SystemCallFilter"])
    assert {"read", "write", "mmap", "fsync", "execve", "prctl"} <= calls
    assert not {"mount", "ptrace", "reboot", "bpf", "init_module", "setuid", "kexec_load", "delete_module"} & calls


@pytest.fixture(scope="module")
def confined() -> Iterator[System]:
    """A system as an ordinary user on a read-only machine, with the unit's system calls and no others."""
    need("systemd-analyze")
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = Path(tempfile.mkdtemp(prefix="lastcookie-"))
    system = System(folder, {"server": {"workers": 1}})
    system.output = (folder / "output.txt").open("ab")
    up = [sys.executable, "-m", "console.cli", "up", "--config", str(system.config)]
    system.process = subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox", str(UNIT), str(folder), *up],
        cwd=ROOT,
        stdout=system.output,
        stderr=system.output,
    )
    try:
        system.wait_until_ready()
        yield system
    finally:
        status = system.stop()
        shutil.rmtree(folder)
    assert status == 0


def test_everything_works_in_the_sandbox(confined: System) -> None:
    """Clicks, sales, decisions, and a query that ClickHouse compiles when it meets it for the third time."""
    click_id, _ = confined.click("/c/boots")
    sale = {"program": "shoes", "order_id": "c-1", "amount": "10", "currency": "EUR", "click_id": click_id}
    # As a command, by root: what it reads is its own to read.
    key = json.loads(confined.run("key", "acme", "--json").stdout)["key"]
    assert confined.post_json("/v1/conversions", sale, key).status == 202
    assert confined.explain("shoes", "c-1")["affiliate"] == "alice"
    for _ in range(5):
        query = "SELECT sum(length(url) * 3 + length(visitor) % 7 - length(link) * 2) AS n FROM clicks GROUP BY program"
        assert confined.sql(query)[0]["n"] != 0
    assert confined.check() == []
    engine, tracker = (os.getpriority(os.PRIO_PROCESS, confined.pid_of(name)) for name in ("engine", "tracker-0"))
    assert engine > tracker


def test_the_sandbox_is_one(confined: System) -> None:
    """Nobody's processes, without powers, with a filter; and nothing of theirs but in their folder."""
    assert confined.process is not None
    for name in ("valkey", "tracker-0", "engine", "shop"):
        status = Path(f"/proc/{confined.pid_of(name)}/status").read_text()
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert set(found["Uid"].split()) == {"65534"} and int(found["CapEff"], 16) == 0
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        mounts = Path(f"/proc/{confined.pid_of(name)}/mountinfo").read_text().splitlines()
        writable = {line.split()[4] for line in mounts if "rw" in line.split()[5].split(",")}
        assert writable == {"/tmp", str(confined.folder)}
    kept = [path for path in confined.data_dir.rglob("*") if not path.is_symlink()]
    assert len(kept) > 20 and not [path for path in kept if path.stat().st_mode & 0o077]


def test_a_tracker_that_dies_in_the_sandbox_is_started_again(confined: System) -> None:
    before = confined.kill("tracker-0")
    assert confined.get("/c/boots").status == 302
    assert confined.pid_of("tracker-0") != before


# The image: there is no engine to build it with, so what is said in it is held against the code.


def _instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_image_runs_as_nobody_of_note_from_a_plain_base() -> None:
    said = _instructions()
    images = [text.split()[0] for word, text in said if word == "FROM"]
    assert images and not [image for image in images if "/" in image or ":" not in image]
    last = said[max(n for n, (word, _) in enumerate(said) if word == "FROM") :]
    assert ("USER", "10001:10001") in last and ("STOPSIGNAL", "SIGTERM") in last
    assert last.index(("USER", "10001:10001")) < min(n for n, (word, _) in enumerate(last) if word == "ENTRYPOINT")
    for word, text in said:
        if word == "COPY" and not text.startswith("--from"):
            for source in text.split()[:-1]:
                assert (ROOT / source).exists(), source
    assert not [text for word, text in said if word == "ENV" and "LASTCOOKIE" in text]


def test_the_images_health_check_tells_a_running_system_from_none(system: System) -> None:
    [check] = [text for word, text in _instructions() if word == "HEALTHCHECK"]
    program = json.loads(check.partition("CMD ")[2])[2]
    alive = program.replace("8081", str(system.admin_port))
    assert subprocess.run([sys.executable, "-c", alive], capture_output=True).returncode == 0
    dead = program.replace("8081", "9")
    assert subprocess.run([sys.executable, "-c", dead], capture_output=True).returncode != 0


def test_what_is_installed_has_every_file_of_the_packages(tmp_path: Path) -> None:
    """SQL, scripts, the tag: what is missing would be missing in the image alone."""
    packages = ("attribution", "console", "schemas", "tracker")
    for name in packages:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path / "wheel"), str(tmp_path)], check=True, timeout=120)
    [wheel] = (tmp_path / "wheel").iterdir()
    there = {path.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.*")}
    missing = {name for name in there if "__pycache__" not in name} - set(zipfile.ZipFile(wheel).namelist())
    assert not missing
