"""The pure parts of the benchmark: what wrk printed, ratios, result files, arrival times. No figure is asserted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from loadtests import figures, results, steady, watch, wrk

PRINTED = """\
Running 8s test @ http://127.0.0.1:8080/c/boots
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms    2.93ms   67.87ms   89.10%
    Req/Sec    41.10k     2.77k   52.66k    60.18%
  Latency Distribution
     50%  820.00us
     75%    1.13ms
     90%    8.01ms
     99%    1.31s
  95254 requests in 8.10s, 25.07MB read
Requests/sec:  11759.75
Transfer/sec:      3.00MB
"""
FAILED = PRINTED.replace(
    "Requests/sec:",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec:",
)


def measured(per_second: float, cpu_us: float = 10.0, errors: int = 0) -> dict[str, Any]:
    return {**wrk.Measured(1000, per_second, 1.0, 5.0, errors).as_json, "cpu_us": cpu_us, "others": 0.0}


def one_round(before: float, ours: float, after: float, errors: int = 0) -> dict[str, Any]:
    return {
        "nginx_before": measured(before),
        "lastcookie": measured(ours, 90.0, errors),
        "nginx_after": measured(after, 20.0),
    }


def result(**changes: Any) -> dict[str, Any]:
    rounds = [one_round(100, 20, 100)]
    return {
        "date": "2026-11-22T10:00:00Z",
        "command": "python -m loadtests.bench",
        "machine": {"cpu": "a processor", "cores": 2},
        "versions": {"lastcookie": "abc1234", "python": "3.11"},
        "settings": {},
        "fdatasync_ms": {"p50": 0.1, "p99": 0.5},
        "rounds": rounds,
        "summary": figures.summarise(rounds),
        "clicks": {},
        "redis": {"bytes_per_visitor": 150.0, "bytes_per_link": 210.0},
        **changes,
    }


def test_what_wrk_prints_is_read_in_its_units() -> None:
    assert wrk.parse(PRINTED) == wrk.Measured(95254, 11759.75, 0.82, 1310.0, 0)


def test_wrong_answers_and_broken_connections_are_errors() -> None:
    assert wrk.parse(FAILED).errors == 54321


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:9 Connection refused", "10 requests in 1s"])
def test_what_is_no_measurement_is_an_error_and_not_a_rate_of_nothing(text: str) -> None:
    with pytest.raises(wrk.WrkFailed):
        wrk.parse(text)


def test_both_load_generators_send_the_same_headers() -> None:
    lua = (Path(wrk.__file__).parent / "browser_headers.lua").read_text()
    assert set(re.findall(r'^ +\["(.+)"\] = ', lua, re.MULTILINE)) == {"Host", *steady.BROWSER}


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.9, 100), (100, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert figures.percentile(range(100, 0, -1), percent) == value


def test_the_percentile_of_nothing_is_zero() -> None:
    assert figures.percentile([], 99) == 0


def test_a_ratio_is_taken_within_a_round_and_then_the_median() -> None:
    """A neighbour who halves the machine in one round changes no ratio."""
    summary = figures.summarise(
        [one_round(100, 20, 100), one_round(50, 10, 50), one_round(100, 30, 140), one_round(100, 2, 100)]
    )
    assert summary["ratio_of_each_round"] == [0.2, 0.2, 0.25, 0.02]
    assert summary["ratio"] == 0.2
    assert summary["noise"] == 0.4
    assert summary["cpu_ratio"] == 6.0


def test_rounds_in_which_others_had_the_cores_do_not_count_while_there_are_quiet_ones() -> None:
    busy = one_round(100, 5, 100, errors=1)
    busy["lastcookie"]["others"] = 0.5
    mixed, alone = figures.summarise([busy, one_round(100, 20, 100)]), figures.summarise([busy])
    assert (mixed["ratio"], mixed["others"], mixed["errors"]) == (0.2, 0.0, 1)
    assert (alone["ratio"], alone["others"], alone["errors"]) == (0.05, 0.5, 1)


def test_wrong_answers_of_all_rounds_add_up() -> None:
    assert figures.summarise([one_round(1, 1, 1, errors=2), one_round(1, 1, 1, errors=3)])["errors"] == 5


@pytest.mark.parametrize(("stored", "agrees"), [(99, False), (100, True), (164, True), (165, False)])
def test_every_answered_click_is_stored_and_at_most_those_under_way_besides(stored: int, agrees: bool) -> None:
    assert figures.clicks_agree(100, stored, 64) is agrees


def test_a_saved_result_is_the_next_runs_previous_one(tmp_path: Path) -> None:
    assert results.previous(tmp_path / "none") is None
    results.save(result(), tmp_path)
    later = result(date="2026-11-23T10:00:00Z")
    assert results.save(later, tmp_path).name == "2026-11-23T100000Z.json"
    assert results.previous(tmp_path) == json.loads(json.dumps(later))


def test_the_table_has_a_line_for_each_saved_result(tmp_path: Path) -> None:
    for day in (22, 23):
        results.save(result(date=f"2026-11-{day}T10:00:00Z"), tmp_path)
    head, rule, *lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.count("|") for line in (rule, *lines)] == [head.count("|")] * 3
    assert (
        lines[1]
        == "| 2026-11-23 | abc1234 | 2 × a processor | 20 | 100 | 0.2 | 1.0 | 5.0 | 6.0 | 150.0 | 210.0 | 0.1 | 0% |"
    )


def test_a_result_that_lacks_something_is_not_saved(tmp_path: Path) -> None:
    lacking = result()
    del lacking["machine"]
    with pytest.raises(ValueError, match="machine"):
        results.save(lacking, tmp_path)


def test_only_ratios_and_sizes_are_compared_between_runs() -> None:
    before = result(redis={"bytes_per_visitor": 200.0})
    assert results.compare(result(), before) == [
        "clicks/s ÷ nginx: 0.2, was 0.2 (+0 %)",
        "cpu of a click ÷ of nginx's request: 6, was 6 (+0 %)",
        "bytes a live visitor: 150, was 200 (-25 %)",
    ]


def test_arrivals_keep_their_rate_and_can_be_drawn_again() -> None:
    times = list(steady.due_times(1000, 20, seed=7))
    assert times == list(steady.due_times(1000, 20, seed=7)) != list(steady.due_times(1000, 20, seed=8))
    assert times == sorted(times) and times[0] > 0 and times[-1] < 20
    assert abs(len(times) - 20_000) < 1000


def pair(ours: float, late: float = 0.2, nginx_late: float = 0.2) -> dict[str, Any]:
    return {
        "nginx": {"p99_ms": 1.0, "lag_p99_ms": nginx_late},
        "lastcookie": {"p99_ms": ours, "lag_p99_ms": late},
    }


@pytest.mark.parametrize(
    ("pairs", "ours", "in_time"),
    [
        ([pair(3.0), pair(1.0), pair(2.0)], 2.0, 3),
        ([pair(1.0), pair(9.0)], 9.0, 2),
        ([pair(1.0, late=0.6), pair(3.0), pair(2.0, nginx_late=4.0)], 3.0, 1),
        ([pair(9.0, late=3.0), pair(8.0, late=2.0), pair(7.0, nginx_late=1.0)], 8.0, 0),
    ],
)
def test_of_the_runs_whose_generator_was_in_time_the_middle_one_counts(
    pairs: list[dict[str, Any]], ours: float, in_time: int
) -> None:
    """Of two the worse; and where none was, all count, and it says so."""
    found = figures.median_pair(pairs)
    assert (found["lastcookie"]["p99_ms"], found["in_time"]) == (ours, in_time)


def test_a_report_has_the_tail_and_the_wrong_answers() -> None:
    found = steady.report([float(n) for n in range(1, 1001)], [0.5], wrong=3, seconds=2)
    assert (found["requests"], found["per_second"], found["errors"]) == (1000, 500.0, 3)
    assert (found["p50_ms"], found["p99_ms"], found["p999_ms"], found["max_ms"]) == (500, 990, 999, 1000)


@pytest.mark.parametrize(
    ("received", "whole"),
    [
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 3\r\nx: y\r\n\r\nab", False),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 302 Found\r\nlocation: x\r\n", False),
        (b"HTTP/1.1 302 Found\r\nlocation: x\r\n\r\n", True),
    ],
)
def test_an_answer_ends_where_its_content_length_says(received: bytes, whole: bool) -> None:
    assert steady.is_whole(received) is whole


def test_a_watch_asks_for_what_is_awaited_and_times_it_from_when_it_was_acknowledged() -> None:
    asked = []

    def ask(text: str) -> list[dict[str, Any]]:
        asked.append(text)
        return [{"order_id": "o1"}]

    with watch.Watch(ask, "credits", "order_id") as found:
        found.await_key("o1", ago=100)
        found.wait(30)
    assert asked[0] == "SELECT order_id FROM credits WHERE order_id IN ('o1')"
    assert found.failure is None and found.seconds["o1"] > 100


def test_a_watch_that_cannot_ask_says_so() -> None:
    def ask(_: str) -> list[dict[str, Any]]:
        raise OSError("nothing answers")

    with watch.Watch(ask, "credits", "order_id") as found:
        found.await_key("o1")
        assert not found.wait(30)
    assert isinstance(found.failure, OSError)
