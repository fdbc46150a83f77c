"""The files of a backup: what they are called, how they are copied with their checksum, and the list of them.

    manifest.json      format, release, schema, shards, time, rows of each table, bytes and SHA-256 of each file
    click-id.keys      config.toml
    clickhouse/TABLE/PART/…      spool/PROCESS/….spool      valkey/appendonlydir/…

A backup comes from outside: its names are held against this before any is opened. Called by backups.py and restore.py.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import orjson

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG = "config.toml"
KEYS = "click-id.keys"
_MANIFEST_BYTES_MAX = 256 << 20
_CHUNK = 1 << 20
_NAME = re.compile(
    r"click-id\.keys|config\.toml|valkey/appendonlydir/[A-Za-z0-9_][A-Za-z0-9_.-]*"
    r"|spool/[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*"
    r"|clickhouse/[a-z_]+(/[A-Za-z0-9_%][A-Za-z0-9_.%@-]*){2,4}"
)


class BackupError(Exception):
    """A backup that cannot be made or used; `code` says it to machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Manifest:
    """What is in a backup. `at` is when it was begun, ms; `files` maps names to [bytes, SHA-256]."""

    release: str
    at: int
    shards: int
    schema: list[str]
    rows: dict[str, int]
    files: dict[str, list[Any]]
    format: int = FORMAT


def copy(source: IO[bytes], target: Path, length: int | None = None) -> list[Any]:
    """Copy a file, or its first bytes, durably; bytes and SHA-256 of what was written."""
    digest, copied = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while length is None or copied < length:
            chunk = source.read(_CHUNK if length is None else min(_CHUNK, length - copied))
            if not chunk:
                break
            digest.update(chunk)
            copied += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return [copied, digest.hexdigest()]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """The last file of a backup: without it there is none."""
    path = folder / MANIFEST
    with path.open("xb") as file:
        file.write(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    for one in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync_folder(one)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> Manifest:
    """What a backup says it has; every name is one that a backup may have. Raises BackupError."""
    try:
        path = folder / MANIFEST
        if path.stat().st_size > _MANIFEST_BYTES_MAX:
            raise BackupError("backup_malformed", f"{path} is larger than any manifest")
        raw = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BackupError("backup_not_found", f"no backup in {folder}: {error.strerror}: {MANIFEST}") from error
    except orjson.JSONDecodeError as error:
        raise BackupError("backup_malformed", f"{path} cannot be read: {error}") from error
    if isinstance(raw, dict) and isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
        raise BackupError("backup_newer", f"the backup was made by release {raw.get('release')}: restore it with that")
    if not _is_manifest(raw):
        raise BackupError("backup_malformed", f"{path} is not a list of the files of a backup")
    for name in raw["files"]:
        if not _NAME.fullmatch(name):
            raise BackupError("backup_foreign", f"no backup of ours has a file called {name!r}")
    if KEYS not in raw["files"]:
        raise BackupError("backup_malformed", f"{path} names no {KEYS}")
    return Manifest(**raw)


def _is_manifest(raw: Any) -> bool:
    kinds = {"format": int, "release": str, "at": int, "shards": int, "schema": list, "rows": dict, "files": dict}
    return (
        isinstance(raw, dict)
        and {name: type(value) for name, value in raw.items()} == kinds
        and all(isinstance(name, str) for name in raw["schema"])
        and all(type(count) is int and re.fullmatch("[a-z_]+", table) for table, count in raw["rows"].items())
        and all(
            isinstance(entry, list) and [type(value) for value in entry] == [int, str]
            for entry in raw["files"].values()
        )
    )


def check_files(folder: Path, manifest: Manifest) -> None:
    """Whether the files that are named are there, are files, and of their size. Raises BackupError."""
    for name, (size, _) in manifest.files.items():
        path = folder / name
        if any(one.is_symlink() for one in (path, *_parents(path, folder))) or not path.is_file():
            raise BackupError("backup_damaged", f"{name} is missing, or no plain file")
        if path.stat().st_size != size:
            raise BackupError("backup_damaged", f"{name} has {path.stat().st_size} bytes instead of {size}")


def _parents(path: Path, folder: Path) -> Iterator[Path]:
    while (path := path.parent) != folder:
        yield path
