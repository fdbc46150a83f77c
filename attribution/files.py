"""Attribution over two files alone, clicks and sales, in SQL from end to end.

The rule is that of `attribution/credit.py` as far as files can say it: window, view_window, rule, kinds. It goes in
five steps: read the sales; read the clicks, leaving out at once those of visitors who bought nothing; pair each sale
with its clicks, bucket by bucket, so that a bucket fits into memory; for visitors with very many sales sort and merge
instead of pairing; write the answer in the order of the sales. Everything that grows is on disk or spills to it.

Left out: what needs more than the two files (coupons, customers, standings, flags, earlier credits), and opening the
engine. Called by `lastcookie attribute`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from clickhouse_connect.driver.exceptions import DatabaseError

from attribution.file_input import (
    CLICKS,
    ENGINE_FORMATS,
    PROBLEMS_SHOWN_MAX,
    SALES,
    UNITS,
    FileInput,
    find_format,
    is_parse_error,
    may_skip,
    open_file,
    place_problems,
    refusal,
    skipped_rows,
    tolerating,
    unreadable,
)
from attribution.queries import query
from schemas.problems import FileError, Problem

SALES_PER_KEY_MAX = 16
"""Visitors with more sales than that in a program are sorted and merged: pairs stay below this times the clicks."""

HEAVY_BUCKET = 255
_BUCKETS_MAX = 250
_BYTES_PER_SALE = 250
"""What a sale takes while its bucket is paired: hash table, and its best pair on its way through the sort."""

_BYTES_PER_EXPLAINED_SALE = 1200
"""The same with all its candidates."""

_FILTER_BYTES_PER_SALE = 16
_DURATION_MAX = 2**62


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Durations in milliseconds; `memory_max` in bytes is for the engine alone."""

    clicks: Path
    sales: Path
    rule: str = "last_cookie"
    window: int = 30 * 86_400_000
    view_window: int = 0
    explain: bool = False
    skip_bad: bool = False
    memory_max: int = 600_000_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What came out: sales read, those of no known visitor, those credited; rows that were skipped."""

    sales: int
    sales_without_visitor: int
    credited: int
    skipped: int


def engine_settings(memory_max: int, cores: int) -> dict[str, Any]:
    """Settings of the engine under which memory stays within these bytes: sorts and aggregations spill at a quarter."""
    return {
        "max_threads": max(1, min(cores, memory_max // 150_000_000)),
        "max_memory_usage": memory_max,
        "max_bytes_before_external_sort": memory_max // 4,
        "max_bytes_ratio_before_external_sort": 0,
        "max_bytes_before_external_group_by": memory_max // 4,
        "max_bytes_ratio_before_external_group_by": 0,
        "min_insert_block_size_bytes": memory_max // 24,
        "min_insert_block_size_rows": 0,
        "input_format_parquet_memory_high_watermark": memory_max // 6,
        "input_format_parquet_enable_row_group_prefetch": 0,
        "use_index_for_in_with_subqueries": 0,
        "output_format_parquet_row_group_size_bytes": memory_max // 16,
        # Mapped files would count as memory of this process.
        "storage_file_read_method": "pread",
        # Nearly every page holds a row that is wanted: reading in two steps costs more than it saves.
        "optimize_move_to_prewhere": 0,
        "query_plan_join_swap_table": "false",
        "input_format_csv_allow_variable_number_of_columns": 1,
        "input_format_csv_detect_header": 0,
        "session_timezone": "UTC",
    }


def attribute(
    client: Any,
    question: Question,
    output: Path,
    folder: Path,
    note: Callable[[str], None],
    step: Callable[[str], None],
) -> Summary:
    """Answer into the file `output`, which must not exist; its extension says the format.

    `client` has an empty database of its own and the settings of `engine_settings`; `folder` is empty. `note` is told
    what was recognised, `step` what is being done. FileError if a file can't be used, or has rows that can't be read
    and may not be skipped: nothing is written then.
    """
    return _Run(client, question, folder, note, step).answer(output)


class _Run:
    def __init__(
        self, client: Any, question: Question, folder: Path, note: Callable[[str], None], step: Callable[[str], None]
    ) -> None:
        self.client, self.question, self.folder, self.note, self.step = client, question, folder, note, step

    def answer(self, output: Path) -> Summary:
        asked = self.question
        for statement in query("attribute_tables").split(";\n"):
            self.client.command(statement)
        clicks = self._open(asked.clicks, CLICKS)
        sales = self._open(asked.sales, SALES)
        _agree_on_programs(clicks, sales)
        self._begin("reading sales")
        sales = self._load(sales, {})
        buckets, is_filtered = self._plan()
        self._begin("reading clicks")
        clicks = self._load(clicks, {"buckets": buckets, "is_filtered": is_filtered})
        skipped = self._judge_rows(clicks, sales)
        self._begin("deciding")
        self._decide(buckets)
        self._begin("writing")
        self._write(output)
        [(count, unknown, credited)] = self._ask("attribute_sums")
        return Summary(count, unknown, credited, skipped)

    def _begin(self, step: str) -> None:
        """What the step before has freed goes back to the system at once."""
        self.step(step)
        self.client.command("SYSTEM JEMALLOC PURGE")

    def _run(self, name: str, **parameters: Any) -> None:
        self.client.command(query(name), parameters=parameters)

    def _ask(self, name: str, **parameters: Any) -> list[Any]:
        rows: list[Any] = self.client.query(query(name), parameters=parameters).result_rows
        return rows

    # Reading

    def _open(self, path: Path, role: Any) -> FileInput:
        file = open_file(self.client, path, role, self.folder)
        unused = f"; not used: {', '.join(file.unknown)}" if file.unknown else ""
        self.note(f"{path}: ts is {UNITS[file.unit] if file.unit else 'nowhere readable'}{unused}")
        return file

    def _load(self, file: FileInput, more: dict[str, Any]) -> FileInput:
        """Fill the table; a CSV file that the engine can't take apart is read again, noting what it skips."""
        try:
            self._insert(file, more)
        except DatabaseError as error:
            if may_skip(file, error):
                self.client.command(f"TRUNCATE TABLE file_{file.role.name}")
                return self._load(tolerating(file), more)
            raise unreadable(file.path, error) if is_parse_error(error) else error from None
        if file.format == "csv" and self._ask("attribute_quotes", path=str(file.link))[0][0]:
            raise refusal(file.path, "a quote is opened and never closed: where the rows end can't be told")
        return file

    def _insert(self, file: FileInput, more: dict[str, Any]) -> None:
        self.client.command(file.sql(file.role.load), parameters=file.parameters | more, settings=file.settings)

    def _plan(self) -> tuple[int, bool]:
        """In how many buckets the sales are decided; whether memory holds the set that leaves needless clicks out."""
        [(sales, _, _)] = self._ask("attribute_problem_count", table="file_sales")
        memory_max = self.question.memory_max
        bytes_per_sale = _BYTES_PER_EXPLAINED_SALE if self.question.explain else _BYTES_PER_SALE
        buckets = min(1 + sales * bytes_per_sale // (memory_max // 2), _BUCKETS_MAX)
        for bucket in range(buckets):
            self._run("attribute_heavy", sales_max=SALES_PER_KEY_MAX, bucket=bucket, buckets=buckets)
        return buckets, sales * _FILTER_BYTES_PER_SALE <= memory_max // 3

    def _judge_rows(self, *files: FileInput) -> int:
        """How many rows were skipped; FileError if any may not be."""
        problems: list[Problem] = []
        total, must_refuse = 0, not self.question.skip_bad
        for file in files:
            table = f"file_{file.role.name}"
            [(_, bad, mixed)] = self._ask("attribute_problem_count", table=table)
            skipped = skipped_rows(file)
            total += bad + len(skipped)
            must_refuse |= bool(mixed)
            if bad or skipped:
                rows = self._ask("attribute_problems", table=table, limit=PROBLEMS_SHOWN_MAX)
                problems += place_problems(self.client, file, rows, skipped)
        if not total:
            return 0
        shown = problems if total <= len(problems) else [*problems, _more(total - len(problems))]
        if must_refuse:
            raise FileError(shown)
        for problem in shown:
            self.note(f"skipped: {problem}")
        return total

    # Deciding and writing

    def _decide(self, buckets: int) -> None:
        asked = self.question
        rule = {
            "is_first": asked.rule == "first_cookie",
            "window": min(asked.window, _DURATION_MAX),
            "view_window": min(asked.view_window, _DURATION_MAX),
        }
        name = "attribute_explain" if asked.explain else "attribute_pairs"
        if asked.explain:
            self._run(name, bucket=HEAVY_BUCKET, buckets=buckets, **rule)
        else:
            for rank, window in ((1, rule["window"]), (2, rule["window"]), (3, rule["view_window"])):
                self._run("attribute_asof", rank=rank, is_first=rule["is_first"], window=window)
        for bucket in range(buckets):
            self._run(name, bucket=bucket, buckets=buckets, **rule)

    def _write(self, output: Path) -> None:
        format = find_format(output)
        assert format is not None
        candidates = ""
        if self.question.explain:
            candidates = (
                ",\n    " + ("toJSONString(candidates)" if format == "csv" else "candidates") + " AS candidates"
            )
        text = Template(query("attribute_output")).substitute(candidates=candidates)
        # A row with all its candidates can be long: fewer of them at a time.
        settings = {"max_block_size": 4096} if self.question.explain else {}
        parameters = {"path": str(output), "format": ENGINE_FORMATS[format]}
        self.client.command(text, parameters=parameters, settings=settings)


def _agree_on_programs(clicks: FileInput, sales: FileInput) -> None:
    if clicks.has_program != sales.has_program and clicks.unit and sales.unit:
        has, lacks = (clicks, sales) if clicks.has_program else (sales, clicks)
        message = f"no program, but {has.path} has: a sale would be credited with other programs' clicks"
        raise refusal(lacks.path, message, "program in both files, or in neither")


def _more(count: int) -> Problem:
    return Problem(f"… and {count} more", None, "", "")
