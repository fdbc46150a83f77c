"""The tables' schema: files in schemas/clickhouse, applied once each, in order. Called when the engine starts."""

from pathlib import Path
from typing import Any

import schemas

FOLDER = Path(schemas.__file__).parent / "clickhouse"


def migrate(client: Any, database: str) -> list[str]:
    """Bring the database to the newest schema; the names of the files that were applied."""
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.command(
        f"CREATE TABLE IF NOT EXISTS {database}.migrations (name String, applied_at DateTime DEFAULT now()) "
        "ENGINE = MergeTree ORDER BY name"
    )
    done = {row[0] for row in client.query(f"SELECT name FROM {database}.migrations").result_rows}
    applied = []
    for path in sorted(FOLDER.glob("*.sql")):
        if path.stem in done:
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
