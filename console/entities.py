"""Entities from a file, or a single one, into the stream of their versions; or only looked at.

Called by `apply`, `key`, `verify-config` and the demo.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from schemas import keys
from schemas.entities import EntityEvent, EntityKey, dump_record
from schemas.entity_diff import Plan, diff
from schemas.entity_file import EntityFile, parse_file
from schemas.entity_keys import UrlChecks
from schemas.problems import FileError, Problem
from schemas.projection import MARK, version_line
from tracker.deep_links import check_allowed_host
from tracker.destination import check_template
from tracker.snapshot import load_snapshot, snapshot_path

SCRIPT = (Path(__file__).parent / "publish.lua").read_text()
CHECKS = UrlChecks(check_template, check_allowed_host)
_CHUNK = 500


class ChangedMeanwhile(Exception):
    """Somebody else changed entities at the same time; what was applied of a large file stays, apply again."""


def plan_file(redis: Any, path: Path, at: int, terms_defaults: Mapping[str, object]) -> tuple[Plan, str]:
    """What applying the file would change, and the projection's mark that this holds for. Raises EntityError."""
    file = read_entities(path)
    mark, records = read_projection(redis)
    return diff(records, file, at, terms_defaults), mark


def read_entities(path: Path) -> EntityFile:
    """What the file says. Raises FileError (EntityError, or where it cannot be read)."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError([Problem(str(path), None, "", f"cannot be read: {error}")]) from error
    return parse_file(text, str(path), CHECKS)


def find_problems(
    paths: Sequence[Path], records: Mapping[EntityKey, Any] | None, at: int, terms_defaults: Mapping[str, object]
) -> list[Problem]:
    """What `apply` would refuse of these files, one after the other, in view of the records that there are.

    Without records the files are only read. So are those that follow one with mistakes: what they refer to may stand
    in it.
    """
    problems: list[Problem] = []
    for path in paths:
        try:
            file = read_entities(path)
            if records is not None and not problems:
                events = diff(records, file, at, terms_defaults).events
                records = {**records, **{(event["type"], event["id"]): event["data"] for event in events}}
        except FileError as error:
            problems += error.problems
    return problems


def read_snapshot(data_dir: Path) -> dict[EntityKey, Any] | None:
    """Every record as a tracker of this machine wrote it down; None where none did, or not whole."""
    projection = load_snapshot(snapshot_path(data_dir))
    if not projection.position:
        return None
    pairs = ((key.partition(":"), data) for key, data in projection.items())
    return {(kind, id): orjson.loads(data) for (kind, _, id), data in pairs}


def read_projection(redis: Any) -> tuple[str, dict[EntityKey, Any]]:
    """The mark and every current record."""
    mark = (redis.hget(keys.PROJECTION, MARK) or b"").decode()
    records: dict[EntityKey, Any] = {}
    for field, data in redis.hscan_iter(keys.PROJECTION, count=5000):
        if field != MARK.encode():
            kind, _, id = field.decode().partition(":")
            records[kind, id] = orjson.loads(data)
    return mark, records


def publish(redis: Any, events: Sequence[EntityEvent], mark: str) -> int:
    """Append the versions; the position of the last one. Raises ChangedMeanwhile."""
    script = redis.register_script(SCRIPT)
    position = int(mark.partition(" ")[0] or 0)
    for start in range(0, len(events), _CHUNK):
        lines, pairs = [], []
        for event in events[start : start + _CHUNK]:
            position += 1
            lines.append(version_line(position, event["at"], event["type"], event["id"], event["data"]))
            pairs += [f"{event['type']}:{event['id']}", dump_record(event["type"], event["data"])]
        stream_id = script(keys=[keys.ENTITIES, keys.PROJECTION], args=[mark, position, b"\n".join(lines), *pairs])
        if not stream_id:
            raise ChangedMeanwhile
        mark = f"{position} {stream_id.decode()}"
    return position


def wait_for_edge(run_dir: Path, position: int, seconds: float) -> bool:
    """Until every tracker worker of this machine serves this position; True unless that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        beats = [orjson.loads(path.read_bytes()) for path in run_dir.glob("tracker-*.json")]
        if all(beat["position"] >= position for beat in beats):
            return True
        time.sleep(0.05)
    return False
