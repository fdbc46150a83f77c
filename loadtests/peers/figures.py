"""What a run beside peers amounts to: ratios to nginx and to lastcookie, and clicks that were lost. Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests import figures, wrk

FOLDER = Path(__file__).parent.parent / "results" / "peers"
KEYS = ("date", "command", "machine", "versions", "settings", "fdatasync_ms", "runs", "left_out", "summary")
COLUMNS = ("date", "version", "processor", "nginx/s", "noise", "clicks/s ÷ nginx", "lost clicks", "fdatasync p50 ms")
OURS = "lastcookie"
_NGINX = ("nginx before", "nginx after")


def run(name: str, measured: wrk.Measured, recorded: int, fsync: str) -> dict[str, Any]:
    """One server under wrk. `recorded`: clicks found afterwards, less those found before.

    `lost`: answered and not found. An answer that wrk counts as an error need not have been recorded. `surplus`:
    found, and more than were answered or under way when wrk stopped.
    """
    return {
        "name": name,
        **measured.as_json,
        "fsync": fsync,
        "recorded": recorded,
        "lost": max(0, measured.requests - measured.errors - recorded),
        "surplus": max(0, recorded - measured.requests - measured.errors - wrk.CONNECTIONS),
    }


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ratios by name, to the mean of nginx before and after, and to lastcookie."""
    rates = {found["name"]: found["per_second"] for found in runs}
    before, after = (rates.pop(name) for name in _NGINX)
    return {
        "nginx_per_second": round((before + after) / 2),
        "noise": figures.noise([(before, after)]),
        "to_nginx": {name: round(rate / ((before + after) / 2), 5) for name, rate in rates.items()},
        "to_lastcookie": {name: round(rate / rates[OURS], 4) for name, rate in rates.items()},
    }


def table(runs: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown, a server a line."""
    head = ("server", "clicks/s", "÷ nginx", "÷ lastcookie", "p50 ms", "p99 ms", "on disk before the answer")
    lines = [f"| {' | '.join((*head, 'answered', 'found'))} |", "|---" * (len(head) + 2) + "|"]
    for found in runs:
        name = found["name"]
        cells = (
            name,
            f"{found['per_second']:,.0f}",
            f"{summary['to_nginx'].get(name, 1):.4f}" if name in summary["to_nginx"] else "",
            f"{summary['to_lastcookie'][name]:.3f}" if name in summary["to_lastcookie"] else "",
            f"{found['p50_ms']:.2f}",
            f"{found['p99_ms']:.2f}",
            found["fsync"],
            f"{found['requests']:,}" + (f", {found['errors']:,} wrong" if found["errors"] else ""),
            verdict(found),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(found: Mapping[str, Any]) -> str:
    """Whether each answered click was found."""
    if found["lost"]:
        return f"**{found['lost']:,} LOST**"
    if found["surplus"]:
        return f"**{found['surplus']:,} TOO MANY**"
    return "all"


def table_line(result: Mapping[str, Any]) -> str:
    """One line of results/peers/table.md, below COLUMNS."""
    machine, summary = result["machine"], result["summary"]
    lost = {found["name"]: found["lost"] for found in result["runs"] if found["lost"]}
    cells = (
        result["date"][:10],
        result["versions"]["lastcookie"],
        f"{machine['cores']} × {machine['cpu']}",
        summary["nginx_per_second"],
        f"{summary['noise']:.0%}",
        "; ".join(f"{name} {ratio:.4f}" for name, ratio in summary["to_nginx"].items()),
        "; ".join(f"{name} {count}" for name, count in lost.items()) or "none",
        result["fdatasync_ms"]["p50"],
    )
    return f"| {' | '.join(str(cell) for cell in cells)} |"
