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
    applied = []
    for name in pending(client, database):
        if only is not None and name not in only:
            continue
        for statement in statements((FOLDER / f"{name}.sql").read_text("utf-8")):
            client.command(statement)
        client.insert("migrations", [[name]], column_names=["name"], database=database)
        applied.append(name)
    return applied


def pending(client: Any, database: str) -> list[str]:
    """The files that are still to be applied, in order. Raises NewerSchema."""
    client.command(
        f"CREATE TABLE IF NOT EXISTS {database}.migrations (name String, applied_at DateTime DEFAULT now()) "
        "ENGINE = MergeTree ORDER BY name"
    )
    done = {row[0] for row in client.query(f"SELECT name FROM {database}.migrations").result_rows}
    names = sorted(path.stem for path in FOLDER.glob("*.sql"))
    if unknown := done - set(names):
        raise NewerSchema(
            f"schema_newer: the tables have {', '.join(sorted(unknown))}, which this release does not know: "
            "start the release that made them, or restore a backup from before it"
        )
    return [name for name in names if name not in done]


def statements(text: str) -> list[str]:
    """The statements of a file: each ends with a semicolon at the end of a line."""
    code = "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in code.split(";\n") if statement.strip()]
