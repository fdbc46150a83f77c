"""The schema's files: applied once each, in order, and again from the start where one was interrupted."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from console import migrate as migrate_module
from console.migrate import migrate, statements


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
