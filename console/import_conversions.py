"""`lastcookie import-conversions`: offline sales out of a CSV file, from tills, call centres and CRM systems.

    every row is checked  ->  each is reported, as POST /v1/conversions reports it  ->  what became of each row

Nothing is recorded before the whole file has been checked. An import that was cut off is completed by running it
again: what is recorded already is a duplicate. The file is read twice, row by row, and never held in memory. The work
is done in import_job.py; here are the options, the files, and what people see.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from console import embedded
from console.client import Refusal
from console.commands import Instance, fail, instance_options, json_option, named_errors, opened, printable
from console.import_mapping import ImportMapping, read_mapping
from console.import_report import FORMATS, Summary, problems, sums, write_report
from console.import_rows import RowsRead, read_rows
from console.replay_output import Rows
from schemas.problems import FileError, Problem
from schemas.settings import Settings
from tracker.click_id import ClickIds, load_keys
from tracker.report_fields import FieldError, read_program

_MAPPING_BYTES_MAX = 1 << 20
_SHOW_EVERY = 1000
_TIMEOUT_MS = 10_000
"""Nobody waits for an import: a log server that is slow is no reason to report a row again."""


def _path(**more: Any) -> click.Path:
    return click.Path(dir_okay=False, path_type=Path, **more)


@click.command("import-conversions")
@click.argument("file", type=_path())
@click.option("--program", required=True, help="The program in which these sales were made.")
@click.option("--mapping", "mapping_file", type=_path(), help="TOML: the file's columns, constants, numbers, times.")
@click.option("--dry-run", is_flag=True, help="Say what would become of each row, and record nothing.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that can't be taken, instead of refusing the file.")
@click.option("-o", "--output", type=_path(), help="A report of every row, CSV or JSON by the extension; default here.")
@json_option
@instance_options
def import_conversions(
    instance: Instance,
    file: Path,
    program: str,
    mapping_file: Path | None,
    dry_run: bool,
    skip_bad: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Record the sales of a CSV FILE, each once; exit 1 where one is refused or contradicts what is known."""
    form = _format(output, as_json)
    summary = Summary(printable(file.name), _program(program), dry_run)
    with named_errors():
        mapping = _mapping(mapping_file)
    settings = instance.settings
    with _source(file, output) as source, opened(output) as target, Rows() as results:
        with named_errors(), _shown_progress(source) as watch:
            read = _reader(source, summary.file, mapping, watch)
            uvloop.run(_run(settings, summary, read, skip_bad, results))
        for problem in problems(summary, results):
            click.echo(str(problem), err=True)
        try:
            write_report(summary, results, form, target)
            target.flush()
        except OSError as error:
            fail(f"the report cannot be written: {error}")
    click.echo(sums(summary), err=form != "table")
    if summary.stopped:
        fail(f"stopped: {summary.stopped}; run it again, nothing is recorded twice")
    if not summary.is_checked:
        fail("nothing was recorded; --skip-bad leaves out what can't be taken")
    sys.exit(1 if summary.counts["refused"] or summary.counts["conflict"] else 0)


def _format(output: Path | None, as_json: bool) -> str:
    if output is None:
        return "json" if as_json else "table"
    by_name = output.suffix[1:].lower()
    if by_name not in FORMATS or (as_json and by_name != "json"):
        raise click.BadParameter(f"{output}: the extension must be .csv or .json, .json with --json", param_hint="-o")
    return by_name


def _program(name: str) -> str:
    try:
        return read_program(name)
    except FieldError as error:
        raise click.BadParameter(error.message, param_hint="--program") from None


def _mapping(path: Path | None) -> ImportMapping:
    """The mapping, or that of a file whose columns have the parameters' names. Raises FileError."""
    if path is None:
        return ImportMapping()
    try:
        with path.open("rb") as file:
            data = file.read(_MAPPING_BYTES_MAX + 1)
        if len(data) > _MAPPING_BYTES_MAX:
            raise FileError([Problem(str(path), None, "", "too large for a mapping", "up to 1 MiB")])
        return read_mapping(data.decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise FileError([Problem(str(path), None, "", f"cannot be read: {error}")]) from error


@contextmanager
def _source(path: Path, output: Path | None) -> Iterator[IO[bytes]]:
    """The file of sales, open: a real one, that can be read twice, and that the report does not replace."""
    try:
        if path.exists() and not path.is_file():
            fail(f"{path}: not a regular file, and it must be read twice")
        with path.open("rb") as file:
            if output is not None and output.exists() and output.samefile(path):
                fail(f"{output}: the report would replace the file of sales")
            yield file
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")


Watch = Callable[[str, RowsRead], RowsRead]


def _reader(source: IO[bytes], name: str, mapping: ImportMapping, watch: Watch) -> Callable[[str], RowsRead]:
    """Reads the file from its beginning whenever it is called; what was checked must be what is recorded."""
    first = _state(source)

    def read(what_for: str) -> RowsRead:
        if _state(source) != first:
            raise FileError([Problem(name, None, "", "was changed while it was read; nothing was recorded")])
        source.seek(0)
        return watch(what_for, read_rows(source, name, mapping))

    return read


def _state(source: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(source.fileno())
    return found.st_size, found.st_mtime_ns


async def _run(
    settings: Settings, summary: Summary, read: Callable[[str], RowsRead], is_skipping: bool, results: Rows
) -> None:
    from console.import_job import Job
    from tracker.app import steady_clock
    from tracker.log_client import connect_redis

    patient = replace(settings, redis=replace(settings.redis, timeout_ms=_TIMEOUT_MS))
    redis = connect_redis(patient, embedded.url(settings))
    clock = steady_clock(lambda: time.time_ns() // 1_000_000, lambda: time.monotonic_ns() // 1_000_000)
    try:
        job = Job(settings, redis, _click_ids(settings), summary, clock, lambda: os.urandom(12).hex())
        await job.run(read, is_skipping, results)
    finally:
        await redis.aclose()


def _click_ids(settings: Settings) -> ClickIds:
    """The installation's keys; with others, no click id of the file would be one of ours."""
    path = settings.data.dir / "click-id.keys"
    if not path.exists():
        raise Refusal(f"{path} is missing: import where a tracker runs, with its --config and --data-dir")
    return load_keys(path, b"")


@contextmanager
def _shown_progress(source: IO[bytes]) -> Iterator[Watch]:
    """Follows rows that are read; on a terminal with a bar."""
    if not _is_terminal():
        yield lambda what_for, rows: rows
        return
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def watch(what_for: str, rows: RowsRead) -> RowsRead:
            task = progress.add_task(what_for, total=os.fstat(source.fileno()).st_size)
            for count, row in enumerate(rows, 1):
                if count % _SHOW_EVERY == 1:
                    progress.update(task, completed=source.tell())
                yield row
            progress.update(task, completed=source.tell())

        yield watch


def _is_terminal() -> bool:
    return sys.stderr.isatty()
