"""Offline sales out of a file, into a running system: recorded once, credited, explained, reported row by row."""

import csv
import json
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.system import ROOT, System

BERLIN = ZoneInfo("Europe/Berlin")
TILL = """
delimiter = ";"
encoding = "windows-1252"
decimal_separator = ","
thousands_separator = "."
time_format = "%d.%m.%Y %H:%M"
time_zone = "Europe/Berlin"
ambiguous_time = "first"
ignore = ["Kassierer"]

[columns]
"Bon-Nr." = "order_id"
"Betrag" = "amount"
"Gutschein" = "coupon"
"Datum" = "ts"

[constants]
currency = "EUR"
"""


@pytest.fixture
def till(system: System, tmp_path: Path) -> Any:
    """Imports lines of a till's export, with the till's mapping; what was printed, and the report if there is one."""
    mapping = tmp_path / "till.toml"
    mapping.write_text(TILL)

    def run(*lines: str, options: tuple[str, ...] = (), status: int = 0) -> Any:
        file = tmp_path / "till.csv"
        head = "Bon-Nr.;Betrag;Gutschein;Datum;Kassierer"
        file.write_bytes("\r\n".join([head, *lines, ""]).encode("windows-1252"))
        command = ("import-conversions", str(file), "--program", "shoes", "--mapping", str(mapping), "--json")
        done = system.run(*command, *options, check=False)
        assert done.returncode == status, (done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else done.stderr

    return run


def local(**ago: float) -> str:
    """A time as the till writes it."""
    return (datetime.now(BERLIN) - timedelta(**ago)).strftime("%d.%m.%Y %H:%M")


def outcomes(report: Any) -> list[tuple[str, str]]:
    return [(row["order_id"], row["outcome"]) for row in report["rows"]]


def test_sales_of_a_till_are_recorded_once_and_credited_by_their_coupon(system: System, till: Any) -> None:
    sold = local(days=3)
    lines = (f"i-1;1.234,50;alice10;{sold};Jörg", "", f"i-2;0,99;;{sold};", f"i-1;1234,5;ALICE10;{sold};Ute")
    foretold = till(*lines, options=("--dry-run",))
    assert outcomes(foretold) == [("i-1", "accepted"), ("i-2", "accepted"), ("i-1", "duplicate")]
    assert system.sql("SELECT count() AS n FROM reports WHERE order_id IN ('i-1', 'i-2')") == [{"n": 0}]
    first = till(*lines)
    assert (first["rows"], first["counts"]) == (foretold["rows"], foretold["counts"])
    assert [row["line"] for row in first["rows"]] == [2, 4, 5]

    credit = system.explain("shoes", "i-1")
    assert (credit["affiliate"], credit["method"]) == ("alice", "coupon")
    system.wait_for_rows("SELECT count() FROM reports WHERE order_id = 'i-1'", 2)
    [sale] = system.sql("SELECT ts, amount, currency, source, status FROM conversions WHERE order_id = 'i-1'")
    assert (float(sale["amount"]), sale["currency"], sale["source"]) == (1234.5, "EUR", "import")
    assert sale["status"] == "confirmed"
    utc = datetime.strptime(sold, "%d.%m.%Y %H:%M").replace(tzinfo=BERLIN).astimezone(ZoneInfo("UTC"))
    assert str(sale["ts"]).replace("T", " ").startswith(f"{utc:%Y-%m-%d %H:%M}:59.999")
    [report] = system.sql("SELECT trust, params FROM reports WHERE order_id = 'i-2'")
    assert (report["trust"], json.loads(report["params"])) == ("server", {"file": "till.csv", "line": "4"})

    again = till(*lines)
    assert [outcome for _, outcome in outcomes(again)] == ["duplicate"] * 3
    system.wait_for_rows("SELECT count() FROM reports WHERE order_id = 'i-1'", 4)
    assert system.sql("SELECT max(revision) AS n FROM conversions WHERE order_id IN ('i-1', 'i-2')") == [{"n": 1}]


def test_a_click_id_in_the_file_finds_its_click(system: System, tmp_path: Path) -> None:
    click_id, _ = system.click("/c/boots")
    file = tmp_path / "calls.csv"
    file.write_text(f'\ufeff"transaction_id","cid","amount"\ni-5,{click_id},5\ni-6,none of ours,6\n')
    done = system.run("import-conversions", str(file), "--program", "shoes")
    assert "2 rows: 2 accepted" in done.stdout
    assert system.explain("shoes", "i-5")["click_id"] == click_id
    assert system.explain("shoes", "i-6")["method"] == "none"
    kept = json.loads(system.sql("SELECT params FROM reports WHERE order_id = 'i-6'")[0]["params"])
    assert kept == {"file": "calls.csv", "line": "3", "click_id": "none of ours"}


def test_an_import_confirms_what_a_pixel_said_and_contradicts_what_the_api_said(
    system: System, api_key: str, till: Any
) -> None:
    _, visitor = system.click("/c/sneakers")
    system.get("/pixel.gif?program=shoes&order_id=i-10&amount=7", Cookie=f"lc={visitor}")
    sale = {"program": "shoes", "order_id": "i-11", "amount": "7"}
    assert system.post_json("/v1/conversions", sale, api_key).status == 202
    lines = (f"i-10;8,00;;{local(seconds=0)};", f"i-11;8,00;;{local(days=1)};")
    assert outcomes(till(*lines, options=("--dry-run",), status=1)) == [("i-10", "merged"), ("i-11", "conflict")]
    report = till(*lines, status=1)
    assert outcomes(report) == [("i-10", "merged"), ("i-11", "conflict")]
    assert report["rows"][1]["code"] == "conversion_conflict"
    assert system.explain("shoes", "i-10")["affiliate"] == "bob"
    answer = system.post_json("/v1/conversions", {**sale, "order_id": "i-10", "amount": "8"}, api_key)
    assert answer.json["status"] == "duplicate"


def test_one_bad_row_stops_the_file_or_is_skipped(system: System, till: Any, tmp_path: Path) -> None:
    lines = (
        f"i-20;1,00;;{local(days=1)};",
        f"i-21;1.00;;{local(days=1)};",
        f"i-22;1,00;;{local(days=91)};",
        f"=cmd|' /c calc'!A0;-1,00;;{local(days=1)};",
        "i-23;1,00;;29.03.2026 02:30;",
        "i-24;1,00",
    )
    report = till(*lines, status=2)
    codes = ["amount_malformed", "ts_too_old", "amount_malformed", "ts_nonexistent", "row_malformed"]
    assert [row["code"] for row in report["rows"]] == codes
    assert [row["line"] for row in report["rows"]] == [3, 4, 5, 6, 7]
    assert (report["complete"], report["counts"]["accepted"]) == (False, 0)
    output = tmp_path / "report.csv"
    file, mapping = tmp_path / "till.csv", tmp_path / "till.toml"
    command = ("import-conversions", str(file), "--program", "shoes", "--mapping", str(mapping), "--skip-bad")
    done = system.run(*command, "-o", str(output), check=False)
    assert done.returncode == 1 and "till.csv:3: i-21" in done.stderr and done.stdout == ""
    rows = list(csv.DictReader(output.open()))
    assert [row["outcome"] for row in rows] == ["accepted", *["refused"] * 5]
    assert [row["code"] for row in rows] == ["", *codes]
    assert rows[3]["order_id"] == "'=cmd|' /c calc'!A0"
    assert system.explain("shoes", "i-20")["method"] == "none"
    system.wait_for_rows("SELECT count() FROM reports WHERE order_id LIKE 'i-2_'", 1)
    assert system.sql("SELECT count() AS n FROM reports WHERE order_id LIKE 'i-2_'") == [{"n": 1}]


def test_an_import_that_was_killed_is_completed_by_running_it_again(system: System, tmp_path: Path) -> None:
    """Twice at once, too: every sale is one sale."""
    count = 6000
    file = tmp_path / "many.csv"
    file.write_text("order_id,amount\n" + "".join(f"im-{n},{n}\n" for n in range(count)))
    command = [sys.executable, "-m", "console.cli", "import-conversions", str(file), "--program", "shoes", "--json"]
    command += ["--config", str(system.config)]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    killed = start()
    deadline = time.monotonic() + 60
    while system.redis.exists("lc{0}:o:shoes:sale:im-500") == 0:
        assert time.monotonic() < deadline and killed.poll() is None, killed.communicate()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert system.redis.exists(f"lc{{0}}:o:shoes:sale:im-{count - 1}") == 0
    reports = [json.loads(one.communicate(timeout=120)[0]) for one in [start(), start()]]
    for report in reports:
        assert len(report["rows"]) == report["counts"]["accepted"] + report["counts"]["duplicate"] == count
    accepted = sum(report["counts"]["accepted"] for report in reports)
    assert 0 < accepted < count - 400  # of those before the 501st some were still under way
    system.wait_for_rows("SELECT count() FROM conversions WHERE order_id LIKE 'im-%'", count, 60)
    assert system.sql("SELECT count() AS n, max(revision) AS r FROM conversions WHERE order_id LIKE 'im-%'") == [
        {"n": count, "r": 1}
    ]
    assert system.check() == []


def test_what_cannot_be_imported_at_all_is_named(system: System, tmp_path: Path) -> None:
    file = tmp_path / "sales.csv"
    file.write_text("order_id;amount\n")
    for options, words in (
        (("--program", "hats"), ("unknown program 'hats'", "shoes")),
        (("--program", "\udcff"), ("--program",)),
        (("--program", "shoes"), ('is the delimiter ";"?',)),
        (("--program", "shoes", "-o", str(tmp_path / "r.xlsx")), (".csv or .json",)),
        (("--program", "shoes", "--mapping", str(tmp_path / "no.toml")), ("no.toml",)),
        (("--program", "shoes", "--data-dir", str(tmp_path / "elsewhere")), ("click-id.keys",)),
    ):
        done = system.run("import-conversions", str(file), *options, check=False)
        assert done.returncode == 2 and all(word in done.stderr for word in words), (options, done.stderr)
        assert "Traceback" not in done.stderr
    pipe = system.run("import-conversions", "/dev/null", "--program", "shoes", check=False)
    assert pipe.returncode == 2 and "regular file" in pipe.stderr
    onto_itself = system.run("import-conversions", str(file), "--program", "shoes", "-o", str(file), check=False)
    assert onto_itself.returncode == 2 and file.read_text() == "order_id;amount\n"
