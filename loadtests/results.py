"""Result files: one dated JSON a saved run, and a line for each in table.md. Says how a run compares with the last.

Those of bench.py stand in results/, those of scale.py below it in scale/, with a table of their own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
KEYS = ("date", "command", "machine", "versions", "settings", "fdatasync_ms", "rounds", "summary", "clicks", "redis")
"""What every result has; `steady` and `sales` come with a full run."""

_COMPARED = (
    ("clicks/s ÷ nginx", "summary", "ratio"),
    ("cpu of a click ÷ of nginx's request", "summary", "cpu_ratio"),
    ("bytes a live visitor", "redis", "bytes_per_visitor"),
    ("bytes a link", "redis", "bytes_per_link"),
)
_COLUMNS = (
    "date", "version", "processor", "clicks/s", "nginx/s", "÷ nginx", "p50 ms", "p99 ms", "cpu ÷ nginx",
    "B/visitor", "B/link", "fdatasync p50 ms", "noise",
)  # fmt: skip


def previous(folder: Path = FOLDER) -> dict[str, Any] | None:
    """The newest saved result, or None."""
    saved = sorted(folder.glob("*.json"))
    return json.loads(saved[-1].read_text()) if saved else None


def compare(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """A line for each figure that can be compared between runs: ratios and sizes, never rates or times."""
    lines = []
    for name, section, key in _COMPARED:
        new, old = now[section].get(key), before[section].get(key)
        if new is not None and old:
            lines.append(f"{name}: {new:g}, was {old:g} ({(new / old - 1) * 100:+.0f} %)")
    return lines


def save(result: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write the file and its line. Raises ValueError for a result that lacks something."""
    return write(result, folder, KEYS, _COLUMNS, table_line)


def write(
    result: Mapping[str, Any],
    folder: Path,
    keys: Sequence[str],
    columns: Sequence[str],
    line: Callable[[Mapping[str, Any]], str],
) -> Path:
    """The same for a result with other `keys`, and a table with other columns."""
    if lacking := [key for key in keys if key not in result]:
        raise ValueError(f"a result without {', '.join(lacking)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['date'].replace(':', '')}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    table = folder / "table.md"
    if not table.exists():
        table.write_text(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    with table.open("a") as file:
        file.write(line(result) + "\n")
    return path


def table_line(result: Mapping[str, Any]) -> str:
    """One line of the table; its columns are those of the head that `save` writes."""
    machine, summary, redis = result["machine"], result["summary"], result["redis"]
    ours = [r["lastcookie"] for r in result["rounds"]]
    middle = sorted(ours, key=lambda measured: measured["per_second"])[len(ours) // 2]
    cells = (
        result["date"][:10], result["versions"]["lastcookie"], f"{machine['cores']} × {machine['cpu']}",
        summary["clicks_per_second"], summary["nginx_per_second"], summary["ratio"], middle["p50_ms"],
        middle["p99_ms"], summary["cpu_ratio"], redis["bytes_per_visitor"], redis["bytes_per_link"],
        result["fdatasync_ms"]["p50"], f"{summary['noise']:.0%}",
    )  # fmt: skip
    return f"| {' | '.join(str(cell) for cell in cells)} |"
