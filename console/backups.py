"""Backups on the private port: a copy of everything that is embedded, while it runs.

Events go from the spool to the log to the tables, so the spools are copied first. Then the loader is held between two
batches: the tables are frozen (hard links, in an instant) and the log server's append-only file is opened with the
length it has. What the tables lack of what was acknowledged before is in that file, behind the loader's position, and
what is in both is known by its id. The loader goes on, and the copying is done. A backup has its name when it is
complete. Called by admin.py.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from console.backup_files import CONFIG, KEYS, Manifest, copy, sync_folder, write_manifest
from console.pause import NotHeld, Pause
from console.replays import Refused
from console.tables import Tables
from schemas.failpoints import failpoint
from schemas.settings import Settings
from schemas.version import ENGINE_VERSION

_HOLD_SECONDS = 30.0
_FREEZE = "lastcookie_backup"
_LOOKS_MAX = 50


class _Opened(NamedTuple):
    """A file as long as it was when it was opened: what is appended later is not of this backup."""

    name: str
    file: IO[bytes]
    length: int


class Backups:
    """Makes backups of one instance. `clock` gives ms."""

    def __init__(
        self,
        settings: Settings,
        redis: Any,
        tables: Tables,
        pause: Pause,
        running: threading.Lock,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._tables = tables
        self._pause = pause
        self._running = running
        self._clock = clock
        self._data = settings.data.dir.absolute()

    def open(self, body: bytes) -> Iterator[bytes]:
        """Begin; the lines that say how far it is, to be closed by who reads them. Raises Refused."""
        folder, config = self._read(body)
        if not self._running.acquire(blocking=False):
            raise Refused(429, "busy", "another backup, rebuild or forgetting is running; try again")
        lines = self._lines(folder, config)
        next(lines)  # started, it gives back what it holds also when it is dropped
        return lines

    def _read(self, body: bytes) -> tuple[Path, str]:
        try:
            raw = orjson.loads(body)
            folder, config = Path(raw["folder"]), raw["config"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise Refused(400, "question_malformed", "the body must be {folder, config}") from None
        if not isinstance(config, str):
            raise Refused(400, "config_malformed", "config must be text", "config")
        if self._settings.redis.url or self._settings.clickhouse.dsn:
            raise Refused(
                422, "not_embedded", "redis.url or clickhouse.dsn names a server: back that up as its makers say"
            )
        if not folder.is_absolute() or "\0" in str(folder) or ".." in folder.parts:
            raise Refused(400, "folder_malformed", "folder must be an absolute path", "folder")
        if folder.resolve().is_relative_to(self._data.resolve()):
            raise Refused(422, "folder_within", f"{folder} is within the data folder: choose another disk", "folder")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Refused(409, "folder_not_empty", f"{folder} is there already, and not empty", "folder")
        return folder, config

    def _lines(self, folder: Path, config: str) -> Iterator[bytes]:
        draft = folder.with_name(f".{folder.name}.part")
        try:
            yield b""
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True, mode=0o700)
            at = self._clock()
            with ExitStack() as opened:
                yield from self._copy(draft, config, at, opened)
            if folder.exists():
                folder.rmdir()
            failpoint("backup_before_rename")
            draft.rename(folder)
            sync_folder(folder.parent)
            yield _line("end", folder=str(folder), at=at)
        except Refused as refused:
            yield _line("error", message=f"{refused.code}: {refused}")
        except Exception as error:
            yield _line("error", message=f"{type(error).__name__}: {error}"[:2000])
        finally:
            shutil.rmtree(self._data / "clickhouse" / "shadow", ignore_errors=True)
            shutil.rmtree(draft, ignore_errors=True)
            self._running.release()

    def _copy(self, draft: Path, config: str, at: int, opened: ExitStack) -> Iterator[bytes]:
        files: dict[str, list[Any]] = {}
        for one in self._spooled(opened):
            files[one.name] = copy(one.file, draft / one.name, one.length)
        yield _line("progress", step="spool")
        client = self._tables.client()
        opened.callback(client.close)
        try:
            with self._pause.held(_HOLD_SECONDS):
                shutil.rmtree(self._data / "clickhouse" / "shadow", ignore_errors=True)
                uuids = self._freeze(client)
                rows = dict(_counts(client))
                schema = sorted(row[0] for row in client.query("SELECT name FROM migrations").result_rows)
                log = self._log(opened)
        except NotHeld:
            raise Refused(503, "loader_busy", "the loader does not come to rest: is the log server there?") from None
        yield _line("progress", step="frozen")
        for one in log:
            files[one.name] = copy(one.file, draft / one.name, one.length)
        yield _line("progress", step="log")
        for name, path in self._frozen(uuids):
            with path.open("rb") as file:
                files[name] = copy(file, draft / name)
        yield _line("progress", step="tables")
        with (self._data / KEYS).open("rb") as file:
            files[KEYS] = copy(file, draft / KEYS)
        (draft / "config").write_text(config)
        with (draft / "config").open("rb") as file:
            files[CONFIG] = copy(file, draft / CONFIG)
        (draft / "config").unlink()
        write_manifest(draft, Manifest(ENGINE_VERSION, at, self._settings.redis.shards, schema, rows, files))

    def _spooled(self, opened: ExitStack) -> Iterator[_Opened]:
        """Whole records only; a file that is gone has been drained into the log, which comes later."""
        for path in sorted((self._data / "spool").glob("*/*")):
            if path.name == "lock":
                continue
            try:
                file = opened.enter_context(path.open("rb"))
            except FileNotFoundError:
                continue
            length = file.read().rfind(b"\n") + 1
            file.seek(0)
            yield _Opened(f"spool/{path.parent.name}/{path.name}", file, length)

    def _freeze(self, client: Any) -> dict[str, str]:
        """Hard links to the data of every table; the tables by their UUID, which names their folder."""
        query = (
            "SELECT toString(uuid), name FROM system.tables WHERE database = currentDatabase() AND engine = 'MergeTree'"
        )
        uuids = dict(client.query(query).result_rows)
        for table in uuids.values():
            client.command(f"ALTER TABLE {table} FREEZE WITH NAME '{_FREEZE}'")
        return uuids

    def _frozen(self, uuids: dict[str, str]) -> Iterator[tuple[str, Path]]:
        """The name in the backup and the path of every file of the tables."""
        store = self._data / "clickhouse" / "shadow" / _FREEZE / "store"
        for uuid, table in sorted(uuids.items(), key=lambda pair: pair[1]):
            folder = store / uuid[:3] / uuid
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                yield f"clickhouse/{table}/{path.relative_to(folder)}", path

    def _log(self, opened: ExitStack) -> list[_Opened]:
        """The append-only file as it is now: its list, and what that names."""
        folder = self._data / "valkey" / "appendonlydir"
        for _ in range(_LOOKS_MAX):  # a rewrite that ends just now takes files away
            (listed,) = folder.glob("*.manifest")
            before = listed.read_bytes()
            names = [line.split()[1] for line in before.decode().splitlines() if line.startswith("file ")]
            try:
                files = [opened.enter_context((folder / name).open("rb")) for name in names]
                manifest = opened.enter_context(listed.open("rb"))
            except FileNotFoundError:
                continue
            found = [_Opened(f"valkey/appendonlydir/{Path(file.name).name}", file, file.seek(0, 2)) for file in files]
            for file in files:
                file.seek(0)
            if listed.read_bytes() == before:
                return [*found, _Opened(f"valkey/appendonlydir/{listed.name}", manifest, len(before))]
        raise Refused(503, "log_busy", "the log server is rewriting its append-only file all the time; try again")


def _counts(client: Any) -> Iterator[tuple[str, int]]:
    rows = client.query(
        "SELECT table, sum(rows) FROM system.parts WHERE database = currentDatabase() AND active GROUP BY table"
    ).result_rows
    yield from ((table, int(count)) for table, count in rows)


def _line(section: str, **values: Any) -> bytes:
    return orjson.dumps({"section": section, **values}) + b"\n"
