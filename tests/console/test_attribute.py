"""`lastcookie attribute` as an analyst runs it: what comes out where, what is left behind, how it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from console.attribute import attribute

NOW = 1_767_225_600_000
COMMAND = [sys.executable, "-c", "from console.attribute import attribute; attribute()"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, and an empty folder for what is temporary."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "clicks.csv").write_text(f"visitor,ts,affiliate,click_id\nv,{NOW - 1},alice,c1\n")
    (tmp_path / "sales.csv").write_text(f"visitor,ts,order_id,amount\nv,{NOW},o1,9.90\n,{NOW},o2,1\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--clicks", "clicks.csv", "--sales", "sales.csv", *arguments]
    done = subprocess.run(command, cwd=folder, env=_environ(folder), capture_output=True, text=True, check=False)
    assert not list((folder / "tmp").iterdir()), "something temporary was left"
    assert not list(folder.glob(".lastcookie-*")), "something temporary was left"
    return done


def _environ(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(Path(__file__).parents[2])}


ANSWER = [
    {"order_id": "o1", "affiliate": "alice", "click_id": "c1", "ts_click": NOW - 1},
    {"order_id": "o2", "affiliate": None, "click_id": None, "ts_click": None},
]


def test_the_answer_is_on_standard_output_and_what_was_recognised_on_standard_error(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == ANSWER
    assert done.stderr.splitlines() == [
        "clicks.csv: ts is epoch milliseconds",
        "sales.csv: ts is epoch milliseconds; not used: amount",
        "1 of 2 sales credited, 1 of no known visitor",
    ]


def test_a_file_is_replaced_as_a_whole_and_readable_as_any_new_file(folder: Path) -> None:
    output = folder / "answer.jsonl"
    output.write_text("what was there")
    mask = os.umask(0)
    os.umask(mask)
    done = run(folder, "-o", "answer.jsonl", "--json", "--window", "1s", "--rule", "first_cookie", "--explain")
    assert done.returncode == 0
    assert [json.loads(line)["candidates"] for line in output.read_text().splitlines()] == [
        [{"click_id": "c1", "affiliate": "alice", "ts": NOW - 1, "kind": "click", "reason": "WON"}],
        [],
    ]
    assert output.stat().st_mode & 0o777 == 0o666 & ~mask
    sums = json.loads(done.stdout)
    assert sums.pop("notes") == [
        "clicks.csv: ts is epoch milliseconds",
        "sales.csv: ts is epoch milliseconds; not used: amount",
    ]
    assert sums == {"sales": 2, "sales_without_visitor": 1, "credited": 1, "skipped": 0}
    assert done.stderr == ""


def test_nothing_is_written_where_a_row_can_t_be_read(folder: Path) -> None:
    output = folder / "answer.csv"
    output.write_text("what was there")
    with (folder / "clicks.csv").open("a") as clicks:
        clicks.write("v,soon,bob,c2\n")
    done = run(folder, "-o", "answer.csv")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "clicks.csv:3: ts: 'soon' is neither epoch milliseconds" in done.stderr
    assert done.stderr.endswith("lastcookie: nothing was written\n")
    assert output.read_text() == "what was there"
    done = run(folder, "-o", "answer.csv", "--skip-bad")
    assert done.returncode == 0
    assert done.stderr.endswith("1 of 2 sales credited, 1 of no known visitor; 1 rows skipped\n")
    assert output.read_text() == f'"order_id","affiliate","click_id","ts_click"\n"o1","alice","c1",{NOW - 1}\n"o2",,,\n'


def test_where_the_answer_can_t_be_written_is_said(folder: Path) -> None:
    done = run(folder, "-o", "no/such/folder/answer.csv")
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_termination_ends_the_work_and_leaves_nothing_behind(folder: Path) -> None:
    """In the middle of some twenty-five million pairs."""
    lines = "".join(f"v,{NOW + number},a{number}\n" for number in range(5000))
    (folder / "clicks.csv").write_text("visitor,ts,affiliate\n" + lines)
    (folder / "sales.csv").write_text("visitor,ts,order_id\n" + lines)
    command = [*COMMAND, "--clicks", "clicks.csv", "--sales", "sales.csv", "--explain", "-o", "answer.jsonl"]
    process = subprocess.Popen(command, cwd=folder, env=_environ(folder), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("sales.csv: "):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    process.stderr.close()
    assert not list((folder / "tmp").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["clicks.csv", "sales.csv", "tmp"]


def test_on_a_terminal_there_is_a_bar(folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "--clicks", "clicks.csv", "--sales", "sales.csv", "-o", "answer.jsonl"]
    with subprocess.Popen(command, cwd=folder, env={**_environ(folder), "TERM": "xterm"}, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other side has closed it
                break
        assert process.wait() == 0
    os.close(ours)
    assert b"looking at the files" in shown or b"reading" in shown
    assert b"1 of 2 sales credited" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--window", "1 month"], "is not a duration: write 30d"),
        (["--max-memory", "lots"], "'lots' is not a size: write 1GB or 800MB"),
        (["--max-memory", "10MB"], "at least 700MB"),
        (["--rule", "linear"], "'linear' is not one of 'last_cookie', 'first_cookie'"),
        (["-o", "answer.txt"], "the extension must be one of .jsonl | .ndjson | .csv | .parquet"),
    ],
)
def test_wrong_usage_names_what_is_accepted(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(attribute, ["--clicks", "c.csv", "--sales", "s.csv", *arguments])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("\u2502", " ").split())


def test_without_files_the_usage_is_shown() -> None:
    done: Any = CliRunner().invoke(attribute, [])
    assert done.exit_code == 2
    assert "--clicks" in done.output
