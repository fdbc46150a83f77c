"""How an embedded engine keeps what was just written: in few files, all fsynced before its sources may go.

A part is otherwise a dozen files and as many fsyncs, while every click waits for the log server's fsync on the same
disk. In few files it must be whole: a part whose projection has not reached the disk is put aside as broken at the next
start, and the engine fsyncs projections when it merges parts, but not when it inserts or mutates. So who packs them
fsyncs them too: here (docs/decisions/0015-fresh-parts.md). Called by the loader, and where clicks are forgotten.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

SETTINGS = {"fsync_part_directory": 1, "min_bytes_for_full_part_storage": 10 * 2**20}
"""Of every table. A part of less than 10 MB is one file, and one more for a projection."""


class FreshParts:
    """Parts of an embedded engine's tables that no merge has made."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._folders: list[Path] | None = None
        self._synced: set[str] = set()

    def sync(self) -> None:
        """Fsync the projections that were not here at the last call; clicks alone have one. The first call gives the
        tables their settings. Raises OSError, and what the client raises."""
        if self._folders is None:
            self._folders = self._prepare()
        parts = {entry.path for folder in self._folders for entry in os.scandir(folder) if _is_fresh(entry.name)}
        for part in parts - self._synced:
            for projection in Path(part).glob("*.proj"):
                with suppress(FileNotFoundError):  # merged long ago, and removed just now
                    for path in (*projection.iterdir(), projection):
                        _fsync(path)
        self._synced = parts

    def _prepare(self) -> list[Path]:
        """Settings for every table that has not got them; the folders of the clicks."""
        tables = self._client.query(
            "SELECT name, engine_full, data_paths FROM system.tables "
            "WHERE database = currentDatabase() AND engine = 'MergeTree'"
        ).result_rows
        for table, engine, _ in tables:
            missing = [f"{name} = {value}" for name, value in SETTINGS.items() if f"{name} = {value}" not in engine]
            if missing:
                self._client.command(f"ALTER TABLE {table} MODIFY SETTING {', '.join(missing)}")
        return [Path(path) for table, _, paths in tables if table == "clicks" for path in paths]


def _is_fresh(part: str) -> bool:
    """Whether a folder is a part that was inserted (`202601_7_7_0`) or mutated (`202601_1_7_2_9`), under its last name.
    What a merge has made is fsynced whole (`min_rows_to_fsync_after_merge`)."""
    fields = part.split("_")
    return fields[0].isdigit() and (len(fields) == 5 or fields[3:] == ["0"])


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
