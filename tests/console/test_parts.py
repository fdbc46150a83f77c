"""Fresh parts of the tables are few files, and nothing of them is left to be written when the log lets go of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from console.forget_tables import Person, Tables, Trace
from console.parts import SETTINGS, FreshParts

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
    FreshParts(tables).sync()
    insert(tables, 1, 2, 3)
    (part,) = parts(tables)
    files = [str(path.relative_to(part)) for path in part.rglob("*") if path.is_file()]
    assert sorted(files) == ["by_time.proj/data.packed", "data.packed"]


def test_projections_are_fsynced_once(tables: Any, synced: list[str]) -> None:
    """The engine does not; each file, and the folder that has it."""
    fresh = FreshParts(tables)
    fresh.sync()
    insert(tables, 1)
    fresh.sync()
    (part,) = parts(tables)
    assert set(synced) == {str(part / "by_time.proj"), str(part / "by_time.proj" / "data.packed")}
    fresh.sync()
    assert len(synced) == 2
    insert(tables, 2)
    fresh.sync()
    assert len(synced) == 4


def test_what_a_merge_made_is_not_waited_for(tables: Any, synced: list[str]) -> None:
    """The engine does that."""
    fresh = FreshParts(tables)
    insert(tables, 1)
    insert(tables, 2)
    fresh.sync()
    synced.clear()
    tables.command("OPTIMIZE TABLE clicks FINAL SETTINGS optimize_throw_if_noop = 1")
    fresh.sync()
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
    FreshParts(tables).sync()
    assert synced == []


def test_tables_get_their_settings_once(tables: Any) -> None:
    """Those that an older release has made, too; a table that has them is left alone."""
    query = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND engine = 'MergeTree'"
    for _ in range(2):
        FreshParts(tables).sync()
        engines = [engine for (engine,) in tables.query(query).result_rows]
        assert len(engines) > 6
        assert all(engine.count(f"{name} = {value}") == 1 for engine in engines for name, value in SETTINGS.items())


def test_a_part_that_has_not_reached_the_disk_whole_would_be_lost(tables: Any) -> None:
    """Why projections are fsynced: the engine puts such a part aside when it loads it."""
    FreshParts(tables).sync()
    insert(tables, 1)
    insert(tables, 2)
    part = min(parts(tables))
    tables.command("DETACH TABLE clicks")
    (part / "by_time.proj" / "data.packed").write_bytes(b"")
    tables.command("ATTACH TABLE clicks")
    assert tables.query("SELECT click_id FROM clicks").result_rows == [("2",)]
    tables.command(
        "ALTER TABLE clicks DROP DETACHED PART 'broken-on-start_" + part.name + "' SETTINGS allow_drop_detached = 1"
    )


def test_what_was_mutated_is_fsynced_too(tables: Any, synced: list[str]) -> None:
    """Where clicks are forgotten; the engine does it no more than with an insert."""
    fresh = FreshParts(tables)
    fresh.sync()
    insert(tables, 1, 2)
    insert(tables, 3)
    tables.command("OPTIMIZE TABLE clicks FINAL SETTINGS optimize_throw_if_noop = 1")
    fresh.sync()
    synced.clear()
    tables.command("ALTER TABLE clicks DELETE WHERE click_id = '1' SETTINGS mutations_sync = 2")
    fresh.sync()
    (part,) = parts(tables)
    assert part.name.count("_") == 4
    assert set(synced) == {str(part / "by_time.proj"), str(part / "by_time.proj" / "data.packed")}


def test_what_a_merge_made_the_engine_fsyncs(tables: Any) -> None:
    """By this setting, for whose sake its sources may go a second later."""
    (engine,) = tables.query(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'clicks'"
    ).result_rows[0]
    assert "min_rows_to_fsync_after_merge = 1" in engine


def test_where_clicks_are_forgotten_the_sources_stay_until_the_change_is_fsynced(
    tables: Any, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FreshParts(tables).sync()
    insert(tables, 1, 2)
    query = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'clicks'"
    kept = []
    real = FreshParts.sync

    def watched(fresh: FreshParts) -> None:
        kept.append(tables.query(query).result_rows[0][0])
        synced.clear()
        real(fresh)

    monkeypatch.setattr(FreshParts, "sync", watched)
    forgetting = Tables(tables, Person(visitor="v1"))
    forgetting._remember("click", ["1"])
    forgetting._forget_clicks(Trace())
    assert sorted(row[0] for row in tables.query("SELECT click_id FROM clicks").result_rows) == ["2", "forgotten"]
    assert "old_parts_lifetime = 480" in kept[0] and "old_parts_lifetime = 1," in tables.query(query).result_rows[0][0]
    assert {str(part / "by_time.proj" / "data.packed") for part in parts(tables)} <= set(synced)
