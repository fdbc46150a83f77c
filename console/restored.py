"""A backup put into a new data folder. Called by the command line; nothing of the instance may be running.

Everything is checked before it is believed: what the backup says it has, then every file by its checksum while it is
copied, then the rows of every table. The folder gets its name when all of it is there.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clickhouse_connect

from console.backup_files import CONFIG, BackupError, Manifest, check_files, copy, read_manifest, sync_folder
from console.migrate import FOLDER, migrate
from schemas.failpoints import failpoint
from schemas.settings import Settings

_TABLES = "clickhouse/"


def restore(backup: Path, settings: Settings) -> Manifest:
    """Make the data folder of the settings out of a backup; what that said of itself. Raises BackupError, OSError."""
    data = settings.data.dir.absolute()
    if settings.redis.url or settings.clickhouse.dsn:
        raise BackupError("not_embedded", "redis.url or clickhouse.dsn names a server: restore that as its makers say")
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BackupError("data_dir_not_empty", f"{data} is not empty: move it away, or name another with --data-dir")
    manifest = read_manifest(backup)
    if unknown := set(manifest.schema) - {path.stem for path in FOLDER.glob("*.sql")}:
        raise BackupError(
            "backup_newer", f"the backup is of release {manifest.release}, whose schema has {sorted(unknown)[0]}"
        )
    if manifest.shards != settings.redis.shards:
        raise BackupError(
            "shards_differ", f"the backup has {manifest.shards} shards, redis.shards is {settings.redis.shards}"
        )
    check_files(backup, manifest)
    with _draft(data) as draft:
        for name, entry in manifest.files.items():
            if name != CONFIG:
                target = draft / ("restored" if name.startswith(_TABLES) else "") / name
                with (backup / name).open("rb") as file:
                    if copy(file, target) != entry:
                        raise BackupError("backup_damaged", f"{name} is not as it was written: its checksum differs")
        _attach(draft, settings.clickhouse.database, manifest)
        shutil.rmtree(draft / "restored", ignore_errors=True)
        failpoint("restore_before_rename")
        if data.exists():
            data.rmdir()
        draft.rename(data)
        sync_folder(data.parent)
    return manifest


@contextmanager
def _draft(data: Path) -> Iterator[Path]:
    """A new folder beside the data folder, held while it is filled; what one that died has left is removed."""
    draft = data.with_name(f".{data.name}.restoring")
    draft.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in draft.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield draft
    except BlockingIOError:
        raise BackupError("restore_running", f"another restore is filling {draft}") from None
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        os.close(held)


def _attach(draft: Path, database: str, manifest: Manifest) -> None:
    """Tables with the schema of the backup, and its data in them. Raises BackupError."""
    path = draft / "clickhouse"
    path.mkdir()
    first = clickhouse_connect.get_client(dsn=f"chdb://{path}", database="default")
    first.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    first.close()
    client = clickhouse_connect.get_client(dsn=f"chdb://{path}", database=database)
    try:
        migrate(client, database, manifest.schema)
        query = (
            "SELECT name, toString(uuid) FROM system.tables WHERE database = currentDatabase() AND engine = 'MergeTree'"
        )
        uuids: dict[str, str] = dict(client.query(query).result_rows)
        for table in sorted(uuids.keys() - {"migrations"}):
            client.command(f"SYSTEM STOP MERGES {table}")  # nothing may be written once the folder is renamed
            parts = draft / "restored" / _TABLES / table
            detached = path / "store" / uuids[table][:3] / uuids[table] / "detached"
            for part in sorted(parts.iterdir()) if parts.exists() else ():
                part.rename(detached / part.name)
            if any(detached.iterdir()):
                client.command(f"ALTER TABLE {table} ATTACH PARTITION ALL")
            count = client.query(f"SELECT count() FROM {table}").result_rows[0][0]
            if count != manifest.rows.get(table, 0):
                raise BackupError(
                    "backup_damaged", f"{table} has {count} rows instead of {manifest.rows.get(table, 0)}"
                )
    except BackupError:
        raise
    except Exception as error:
        raise BackupError("backup_damaged", f"the tables do not take their data: {str(error)[:500]}") from error
    finally:
        client.close()


def described(manifest: Manifest) -> dict[str, Any]:
    """What was restored, for people and machines."""
    size = sum(entry[0] for entry in manifest.files.values())
    return {"release": manifest.release, "at": manifest.at, "bytes": size, "rows": manifest.rows}
