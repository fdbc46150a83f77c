"""What `lastcookie replay` shows of differences and of many orders, with its exit status; answers of the port given."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console import replay as command
from console.client import AdminClient, Refusal

AT = 1_767_225_600_000
SALE = [1, AT, AT, ["v"], [], "", [], "", "10.5", "EUR", 0]
LATE = ["c2", AT - 5, "bob", "v", "click", [], AT + 9000]


def decision(number: int, *touches: list[Any], **changed: Any) -> list[Any]:
    """A line of the port: order `o<number>`, credited to alice by c1, a hash and an engine of another day."""
    row = {
        "decision_seq": number, "program": "p", "order_id": f"o{number}", "goal": "sale", "version": 1,
        "affiliate": "alice", "click_id": "c1", "method": "click", "ts": AT, "decided_at": AT + 20, "terms_hash": "x",
        "engine_version": "0", "disputed": 0, "candidates": [["c1", AT - 9, "WON"]], "is_judged": 1, "is_last": 1,
        "revisions": [SALE], "first_received_at": AT, "reversed_at": 0, "bindings": [],
        "touches": [["c1", AT - 9, "alice", "v", "click", [], AT - 9], *touches],
    }  # fmt: skip
    return list((row | changed).values())


def run(monkeypatch: pytest.MonkeyPatch, lines: list[Any], *arguments: str, end: str = "end") -> Result:
    asked: list[Any] = []

    def answer(_self: AdminClient, question: dict[str, Any]) -> Iterator[Any]:
        asked.append(question)
        yield {"section": "entities", "decisions": len(lines), "history": [], "stages": []}
        yield {"section": "decisions"}
        yield from lines
        if end == "refuse":
            raise Refusal("memory limit")
        if end:
            yield {"section": end}

    monkeypatch.setattr(AdminClient, "replay", answer)
    return CliRunner().invoke(command.replay, list(arguments))


def test_differences_are_named_with_order_and_click_and_the_exit_status_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        decision(1),
        decision(2, LATE),
        decision(3, revisions=[]),
        decision(4, candidates=[["c1", AT - 9, "WON"], ["c0", AT - 10, "NOT_LAST"]]),
        decision(5, affiliate="carol"),
        decision(6, revisions=[SALE, [2, AT + 500, AT, ["v", "w"], [], "", [], "", "10.5", "EUR", 1]]),
    ]
    done = run(monkeypatch, lines)
    assert done.exit_code == 1
    text = done.stdout
    assert "p o2 (sale), version 1, decided 2026-01-01 00:00:00.020 as no. 2: affiliate is alice, replayed bob" in text
    assert "click c2 of bob at 2025-12-31 23:59:59.995, received at 2026-01-01 00:00:09.000, was not there then" in text
    assert "the sale that was decided is in no table" in text
    assert "click c0 of an affiliate at" in text and "is not among the sale's clicks" in text
    assert "the rule and the terms of then decide otherwise" in text
    assert "a report that was not there then would have changed it" in text
    assert text.endswith("6 sales decided again: 5 with differences\n")


def test_differences_are_rows_for_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "answer.csv"
    assert run(monkeypatch, [decision(2, LATE)], "-o", str(path)).exit_code == 1
    (row,) = csv.DictReader(path.open())
    done = run(monkeypatch, [decision(2, LATE)], "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["verified"], answer["sales"]) == (1, False, 1)
    assert {name: str(value) for name, value in answer["differences"][0].items()} == row
    assert (row["why"], row["click_id"], row["click_affiliate"]) == ("CLICK_NOT_THERE_THEN", "c2", "bob")


def test_a_table_shows_fifty_and_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [decision(number, LATE) for number in range(60)]
    text = run(monkeypatch, lines).stdout
    assert text.count("was not there then") == 50 and "… and 10 more; --format json or csv has them all" in text
    path = tmp_path / "answer.txt"
    assert run(monkeypatch, lines, "--set", "rule=first_cookie", "-o", str(path)).exit_code == 0
    assert "60 sales decided again: 0 change hands" in path.read_text()
    lines = [decision(number, affiliate="carol", click_id="gone") for number in range(60)]
    assert run(monkeypatch, lines, "--set", "window=30d", "-o", str(path)).exit_code == 0
    text = path.read_text()
    assert text.count("carol's click no longer counts; alice gets it by click") == 50
    assert "60 change hands; the first 50 are shown, --format json or csv has them all" in text


def test_names_that_a_terminal_would_act_on_are_made_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(monkeypatch, [decision(1, order_id="\x1b[31m", affiliate="[bold]carol")], "--set", "window=1d").stdout
    assert "\x1b" not in text and "[bold]carol" in text


def test_a_formula_in_a_csv_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spreadsheet would run it. Numbers stay numbers."""
    moved = decision(1, order_id="=1+1", affiliate="carol", click_id="gone")
    text = run(monkeypatch, [moved], "--set", "window=30d", "--format", "csv").stdout
    assert ",'=1+1," in text and ",=" not in text


@pytest.mark.parametrize(("end", "message"), [("", "the answer broke off"), ("refuse", "memory limit")])
def test_half_an_answer_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str, message: str) -> None:
    done = run(monkeypatch, [decision(1)], "--json", end=end)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    path = tmp_path / "answer.csv"
    path.write_text("of yesterday")
    assert run(monkeypatch, [decision(1)], "-o", str(path), end=end).exit_code == 2
    assert [file.read_text() for file in tmp_path.iterdir()] == ["of yesterday"]


def test_the_output_may_be_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, [decision(1)], "-o", "/dev/null").exit_code == 0


def test_a_bar_shows_how_far_it_is_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    progress = command.Progress

    class Watched(progress):
        def update(self, *arguments: Any, **values: Any) -> None:
            shown.append((values["completed"], values["total"]))
            super().update(*arguments, **values)

    monkeypatch.setattr(command, "Progress", Watched)
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    assert run(monkeypatch, [decision(number) for number in range(2100)]).exit_code == 0
    assert shown == [(1, 2100), (1001, 2100), (2001, 2100)]
