"""The schema's files: applied once each, in order, and again from the start where one was interrupted."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console import migrate as migrate_module
from console.migrate import NewerSchema, migrate, statements
from tests.system import ROOT, System


def test_a_statement_ends_with_a_semicolon_at_the_end_of_a_line() -> None:
    text = "-- a comment; with one\nSELECT ';' AS a,\n  1;\n\n  -- another\nSELECT 2;\n"
    assert statements(text) == ["SELECT ';' AS a,\n  1", "SELECT 2"]


def test_the_schema_is_applied_once(tables: Any) -> None:
    database = tables.query("SELECT currentDatabase()").result_rows[0][0]
    assert migrate(tables, database) == []
    names = [row[0] for row in tables.query("SELECT name FROM migrations ORDER BY name").result_rows]
    assert names == sorted(path.stem for path in migrate_module.FOLDER.glob("*.sql"))


def test_an_interrupted_file_is_applied_again(tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is marked when all of it is done, so its statements must bear being repeated."""
    database = tables.query("SELECT currentDatabase()").result_rows[0][0]
    for path in migrate_module.FOLDER.glob("*.sql"):
        shutil.copy(path, tmp_path)
    (tmp_path / "0009_more.sql").write_text(
        "CREATE TABLE IF NOT EXISTS more (a String) ENGINE = MergeTree ORDER BY a;\nSELECT throwIf(1);\n"
    )
    monkeypatch.setattr(migrate_module, "FOLDER", tmp_path)
    with pytest.raises(Exception, match="throwIf"):
        migrate(tables, database)
    (tmp_path / "0009_more.sql").write_text((tmp_path / "0009_more.sql").read_text().replace("throwIf(1)", "1"))
    assert migrate(tables, database) == ["0009_more"]
    assert migrate(tables, database) == []
    tables.command("TRUNCATE TABLE migrations")
    monkeypatch.undo()
    assert migrate(tables, database)  # our own bear it


def test_a_newer_schema_is_refused_by_name(tables: Any) -> None:
    database = tables.query("SELECT currentDatabase()").result_rows[0][0]
    tables.command("INSERT INTO migrations (name) VALUES ('9999_later')")
    with pytest.raises(NewerSchema, match="schema_newer: the tables have 9999_later"):
        migrate(tables, database)


_FIRST_RELEASE = """
import os, sys, clickhouse_connect
from console.migrate import migrate
dsn, rows = f"chdb://{sys.argv[1]}", int(sys.argv[2])
client = clickhouse_connect.get_client(dsn=dsn)
client.command("CREATE DATABASE lastcookie")
client.close()
client = clickhouse_connect.get_client(dsn=dsn, database="lastcookie")
migrate(client, "lastcookie", ["0001_tables"])
for table in ("clicks", "refusals", "reports", "conversion_versions", "credit_versions", "dead_letters"):
    days = f"SELECT toString(number), number * 86400 FROM numbers({rows})"
    client.command(f"INSERT INTO {table} (stream_id, received_at) {days}")
credit = "('p', 'o', 'sale', 'alice', 1)"
client.command(f"INSERT INTO credit_versions (program, order_id, goal, affiliate, version) VALUES {credit}")
client.close()
os._exit(0)
"""


def test_a_folder_of_the_first_release_loses_nothing(tmp_path: Path) -> None:
    """Made by its schema alone, brought up by the command; then what a newer release made is refused."""
    system = System(tmp_path)
    system.data_dir.mkdir()
    command = [sys.executable, "-c", _FIRST_RELEASE, str(system.data_dir / "clickhouse"), "300"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    later = sorted(path.stem for path in migrate_module.FOLDER.glob("*.sql"))[1:]
    assert system.run("migrate", "--dry-run").stdout == f"would be applied: {', '.join(later)}\n"
    assert system.run("migrate").stdout == f"applied: {', '.join(later)}\n"
    assert system.run("migrate").stdout == "the tables have this release's schema\n"
    counts = ", ".join(f"(SELECT count() FROM {table})" for table in ("clicks", "refusals", "reports", "dead_letters"))
    query = f"SELECT [{counts}] AS counts, (SELECT affiliate || follows FROM credits WHERE order_id = 'o') AS credit"
    assert '[{"counts": [300, 300, 300, 300], "credit": "alice"}]' in system.run("sql", query, "--json").stdout
