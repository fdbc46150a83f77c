"""The tables' schema: files in schemas/clickhouse, applied once each, in order. Called when the engine starts."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import schemas

FOLDER = Path(schemas.__file__).parent / "clickhouse"


class NewerSchema(Exception):
    """The tables were made by a newer release; the message says by which file."""


def migrate(client: Any, database: str, only: Collection[str] | None = None) -> list[str]:
    """Bring the database to the newest schema, or to that of some files; the names of those that were applied.

    Raises NewerSchema where the tables know files that this release does not.
    """
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.command(
        f"CREATE TABLE IF NOT EXISTS {database}.migrations (name String, applied_at DateTime DEFAULT now()) "
        "ENGINE = MergeTree ORDER BY name"
    )
    done = {row[0] for row in client.query(f"SELECT name FROM {database}.migrations").result_rows}
    files = sorted(FOLDER.glob("*.sql"))
    if unknown := done - {path.stem for path in files}:
        raise NewerSchema(
            f"schema_newer: the tables have {', '.join(sorted(unknown))}, which this release does not know: "
            "start the release that made them, or restore a backup from before it"
        )
    applied = []
    for path in files:
        if path.stem in done or (only is not None and path.stem not in only):
            continue
        for statement in statements(path.read_text("utf-8")):
            client.command(statement)
        client.insert("migrations", [[path.stem]], column_names=["name"], database=database)
        applied.append(path.stem)
    return applied


def statements(text: str) -> list[str]:
    """The statements of a file: each ends with a semicolon at the end of a line."""
    code = "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in code.split(";\n") if statement.strip()]
