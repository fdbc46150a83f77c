"""The pure parts of the run beside peers: lost clicks, ratios, the saved result. No figure is asserted."""

from pathlib import Path
from typing import Any

import pytest

from loadtests import results, wrk
from loadtests.peers import figures, servers


def measured(requests: int, errors: int = 0) -> wrk.Measured:
    return wrk.Measured(requests, requests / 2, 1.0, 5.0, errors)


@pytest.mark.parametrize(
    ("recorded", "errors", "verdict"),
    [
        (1000, 0, "all"),
        (1064, 0, "all"),  # 64 were under way when wrk stopped
        (999, 0, "**1 LOST**"),
        (1065, 0, "**1 TOO MANY**"),
        (990, 10, "all"),  # what was answered with an error need not be recorded
        (989, 10, "**1 LOST**"),
        (0, 0, "**1,000 LOST**"),
    ],
)
def test_a_peer_that_lost_clicks_is_shown_so(recorded: int, errors: int, verdict: str) -> None:
    assert figures.verdict(figures.run("a peer", measured(1000, errors), recorded, "fsync on")) == verdict


def saved(**changes: Any) -> dict[str, Any]:
    runs = [
        figures.run("nginx before", measured(900), 900, "no"),
        figures.run("lastcookie", measured(250), 250, "always"),
        figures.run("a peer", measured(10), 8, "fsync on"),
        figures.run("nginx after", measured(1100), 1100, "no"),
    ]
    return {
        **{"date": "2026-11-22T10:00:00Z", "command": "python -m loadtests.peers", "settings": {}, "left_out": {}},
        **{"machine": {"cpu": "a processor", "cores": 2}, "versions": {"lastcookie": "abc1234"}},
        **{"fdatasync_ms": {"p50": 0.1, "p99": 0.5}, "runs": runs, "summary": figures.summarise(runs)},
        **changes,
    }


def test_ratios_are_to_both_runs_of_nginx_and_to_lastcookie() -> None:
    summary = saved()["summary"]
    assert summary["nginx_per_second"] == 500
    assert summary["to_nginx"] == {"lastcookie": 0.25, "a peer": 0.01}
    assert summary["to_lastcookie"] == {"lastcookie": 1.0, "a peer": 0.04}
    _, rule, *lines = figures.table(saved()["runs"], summary)
    assert len({line.count(" | ") for line in lines}) == 1 and rule.count("|") - 2 == lines[0].count(" | ")
    assert "**2 LOST**" in lines[2]


def test_a_result_is_saved_with_a_line_that_names_the_losses(tmp_path: Path) -> None:
    results.write(saved(), tmp_path, figures.KEYS, figures.COLUMNS, figures.table_line)
    head, _, line = (tmp_path / "table.md").read_text().splitlines()
    assert head.count("|") == line.count("|")
    assert "| lastcookie 0.2500; a peer 0.0100 | a peer 2 |" in line


def test_what_a_peer_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.postgres, "is_installed", lambda: False)
    flask, django, *_ = servers.PEERS
    assert servers.lacking(flask, {"flask": "3", "gunicorn": "27"}) == []
    assert servers.lacking(django, {"django": "5", "gunicorn": "27"}) == ["psycopg", "postgresql"]
