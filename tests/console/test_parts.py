"""Fresh parts of the tables are few files, and nothing of them is left to be written when the log lets go of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from console.parts import SETTINGS, FreshProjections, keep_fresh_parts_in_few_files

CLICK = (
    '{{"click_id":"{id}","ts":"1767225600000","program":"shoes","visitor":"v{id}","received_at":"1767225600000",'
    '"stream":"s","stream_id":"{id}"}}'
)


def insert(tables: Any, *ids: int) -> None:
    rows = "\n".join(CLICK.format(id=id) for id in ids)
    tables.raw_insert("clicks", insert_block=rows.encode(), fmt="JSONEachRow", settings={"async_insert": 0})


def parts(tables: Any) -> list[Path]:
    """The folders of the clicks' parts that are in use."""
    query = "SELECT path FROM system.parts WHERE database = currentDatabase() AND table = 'clicks' AND active"
    return [Path(row[0]) for row in tables.query(query).result_rows]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is fsynced from here, not by the engine."""
    found: list[str] = []
    real = os.fsync

    def watched(file: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", watched)
    return found


def test_what_was_just_inserted_is_one_file_and_one_of_its_projection(tables: Any) -> None:
    insert(tables, 1, 2, 3)
    (part,) = parts(tables)
    files = [str(path.relative_to(part)) for path in part.rglob("*") if path.is_file()]
    assert sorted(files) == ["by_time.proj/data.packed", "data.packed"]


def test_projections_are_fsynced_once(tables: Any, synced: list[str]) -> None:
    """The engine does not; each file, and the folder that has it."""
    projections = FreshProjections(tables)
    insert(tables, 1)
    projections.sync()
    (part,) = parts(tables)
    assert set(synced) == {str(part / "by_time.proj"), str(part / "by_time.proj" / "data.packed")}
    projections.sync()
    assert len(synced) == 2
    insert(tables, 2)
    projections.sync()
    assert len(synced) == 4


def test_what_a_merge_made_is_not_waited_for(tables: Any, synced: list[str]) -> None:
    """What it was made from stays for minutes."""
    projections = FreshProjections(tables)
    insert(tables, 1)
    insert(tables, 2)
    projections.sync()
    synced.clear()
    tables.command("OPTIMIZE TABLE clicks FINAL SETTINGS optimize_throw_if_noop = 1")
    projections.sync()
    assert synced == []


def test_a_part_may_go_while_one_looks(tables: Any, synced: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there any more has been merged before the last call."""
    insert(tables, 1)
    real = Path.iterdir

    def gone(path: Path) -> Any:
        if path.name == "by_time.proj":
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(Path, "iterdir", gone)
    FreshProjections(tables).sync()
    assert synced == []


def test_an_older_server_does_without(monkeypatch: pytest.MonkeyPatch, tables: Any) -> None:
    """One setting that it does not know, and nothing is changed: that would fail."""
    monkeypatch.setitem(SETTINGS, "not_a_setting", 1)
    keep_fresh_parts_in_few_files(tables, tables.database)


def test_tables_of_an_older_release_get_the_settings(tables: Any) -> None:
    tables.command("ALTER TABLE clicks RESET SETTING min_bytes_for_full_part_storage")
    keep_fresh_parts_in_few_files(tables, tables.database)
    query = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND engine = 'MergeTree'"
    for (engine,) in tables.query(query).result_rows:
        assert all(f"{name} = {value}" in engine for name, value in SETTINGS.items())
