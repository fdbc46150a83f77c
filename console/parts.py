"""How the tables keep what was just inserted: few files, all of them fsynced before the loader lets go of the log.

A part is otherwise a dozen files and as many fsyncs, while every click waits for the log server's fsync on the same
disk. And of a projection the engine fsyncs nothing, though a part with an empty file of one is put aside as broken at
the next start; so here is what does (docs/decisions/0015-fresh-parts.md). Called with every migration, and by the
loader of an embedded engine.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from schemas.logs import logger

SETTINGS = {"fsync_part_directory": 1, "min_bytes_for_full_part_storage": 10 * 2**20}
"""Of every table. A part of less than 10 MB is one file, and one more for a projection."""


def keep_fresh_parts_in_few_files(client: Any, database: str) -> None:
    """Give every table the settings that it has not got yet; where the server does not know them all, none."""
    names = sorted(SETTINGS)
    known = client.query(
        "SELECT count() FROM system.merge_tree_settings WHERE name IN {names:Array(String)}",
        parameters={"names": names},
    ).result_rows[0][0]
    if known < len(names):
        logger().warning("this server does not know all of these settings of tables, and does without", settings=names)
        return
    tables = client.query(
        "SELECT name, engine_full FROM system.tables WHERE database = {database:String} AND engine = 'MergeTree'",
        parameters={"database": database},
    ).result_rows
    for table, engine in tables:
        missing = [f"{name} = {value}" for name, value in SETTINGS.items() if f"{name} = {value}" not in engine]
        if missing:
            client.command(f"ALTER TABLE {database}.{table} MODIFY SETTING {', '.join(missing)}")


class FreshProjections:
    """The projections of clicks that were just inserted, in the folders of an embedded engine."""

    def __init__(self, client: Any) -> None:
        query = "SELECT data_paths FROM system.tables WHERE database = currentDatabase() AND name = 'clicks'"
        self._folders = [Path(path) for path in client.query(query).result_rows[0][0]]
        self._synced: set[str] = set()

    def sync(self) -> None:
        """Fsync those that were not here at the last call. Raises OSError."""
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
