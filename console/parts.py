"""How an embedded engine keeps what was just inserted: in few files, all fsynced before the loader lets go of the log.

A part is otherwise a dozen files and as many fsyncs, while every click waits for the log server's fsync on the same
disk. In few files it must be whole: a part whose projection has not reached the disk is put aside as broken at the next
start, and the engine fsyncs nothing of projections. So who packs them fsyncs them too: here
(docs/decisions/0015-fresh-parts.md). Called by the engine and its loader.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

SETTINGS = {"fsync_part_directory": 1, "min_bytes_for_full_part_storage": 10 * 2**20}
"""Of every table. A part of less than 10 MB is one file, and one more for a projection."""


class FreshParts:
    """Parts that were just inserted into the tables of an embedded engine. Tables get their settings here."""

    def __init__(self, client: Any) -> None:
        tables = client.query(
            "SELECT name, engine_full, data_paths FROM system.tables "
            "WHERE database = currentDatabase() AND engine = 'MergeTree'"
        ).result_rows
        for table, engine, _ in tables:
            missing = [f"{name} = {value}" for name, value in SETTINGS.items() if f"{name} = {value}" not in engine]
            if missing:
                client.command(f"ALTER TABLE {table} MODIFY SETTING {', '.join(missing)}")
        self._folders = [Path(path) for table, _, paths in tables if table == "clicks" for path in paths]
        self._synced: set[str] = set()

    def sync(self) -> None:
        """Fsync the projections that were not here at the last call; clicks alone have one. Raises OSError."""
        parts = {entry.path for folder in self._folders for entry in os.scandir(folder) if _is_inserted(entry.name)}
        for part in parts - self._synced:
            for projection in Path(part).glob("*.proj"):
                with suppress(FileNotFoundError):  # merged long ago, and removed just now
                    for path in (*projection.iterdir(), projection):
                        _fsync(path)
        self._synced = parts


def _is_inserted(part: str) -> bool:
    """Whether a folder is a part that no merge has made, under its last name: `202601_7_7_0`."""
    return part.endswith("_0") and not part.startswith("tmp_")


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
