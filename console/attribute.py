"""`lastcookie attribute`: attribution over two files alone, for analysts without a server.

Opens ClickHouse's engine on a folder of its own, which is removed afterwards, asks `attribution/files.py`, and puts the
answer in its place by a rename, so that half an answer is never seen. The work is done in a thread: the main one shows
how far it is and hears Ctrl-C and SIGTERM.
"""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from console.commands import fail
from schemas.durations import parse_duration
from schemas.problems import FileError
from schemas.terms import KEYS

_OWN_BYTES = 400_000_000
"""What this process takes beside what the engine counts: its programs, Python, and what is on its way to be freed."""

_ALLOCATOR = "dirty_decay_ms:1000,muzzy_decay_ms:0,percpu_arena:disabled,narenas:4"
"""The engine's allocator gives back what is free after 1 s, not 5 s, and keeps less of it: 100 MB less at the peak."""

_MEMORY_LIMIT_EXCEEDED = 241
"""The engine's code."""

_MEMORY_MIN = 700_000_000
_POLL_SECONDS = 0.1


class _Duration(click.ParamType[int]):
    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Bytes(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        written = re.fullmatch(r"([0-9]{1,9})(MB|GB)", str(value))
        if written is None:
            self.fail(f"{value!r} is not a size: write 1GB or 800MB", param, ctx)
        size = int(written[1]) * {"MB": 10**6, "GB": 10**9}[written[2]]
        if size < _MEMORY_MIN:
            self.fail(f"{value} is too little: at least {_MEMORY_MIN // 10**6}MB", param, ctx)
        return size


def _path(**more: Any) -> click.Path:
    return click.Path(dir_okay=False, path_type=Path, **more)


@click.command()
@click.option("--clicks", required=True, type=_path(), help="visitor, ts, affiliate[, click_id, kind, program].")
@click.option("--sales", required=True, type=_path(), help="visitor, ts, order_id[, program].")
@click.option("--window", default="30d", show_default=True, type=_Duration(), help="How long a click can earn.")
@click.option("--view-window", default="0s", show_default=True, type=_Duration(), help="The same for views.")
@click.option("--rule", default="last_cookie", show_default=True, type=click.Choice(KEYS["rule"].accepts.split(" | ")))
@click.option("--explain", is_flag=True, help="Add the candidates of each sale, with the reasons why they lost.")
@click.option("-o", "--output", type=_path(), help="Where to; JSONL, CSV or Parquet by the extension. Default: stdout.")
@click.option("--max-memory", default="1GB", show_default=True, type=_Bytes(), help="What does not fit goes to disk.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that can't be read, instead of refusing the file.")
@click.option("--json", "as_json", is_flag=True, help="Sums and notes as JSON: on stdout with -o, else on stderr.")
def attribute(
    clicks: Path,
    sales: Path,
    window: int,
    view_window: int,
    rule: str,
    explain: bool,
    output: Path | None,
    max_memory: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Attribution over files alone (JSONL, CSV, Parquet by extension), no server needed."""
    os.environ.setdefault("JE_MALLOC_CONF", _ALLOCATOR)  # read when the engine is loaded, by the next line
    from clickhouse_connect.driver.exceptions import DatabaseError

    from attribution.file_input import accepted_extensions, find_format
    from attribution.files import Question

    if output is not None and find_format(output) is None:
        raise click.BadParameter(f"{output}: the extension must be one of {accepted_extensions()}", param_hint="-o")
    question = Question(clicks, sales, rule, window, view_window, explain, skip_bad, max_memory - _OWN_BYTES)
    try:
        with _folder_beside(output) as target, tempfile.TemporaryDirectory(prefix="lastcookie-") as folder:
            made = target / f"answer{''.join(output.suffixes[-2:]) if output else '.jsonl'}"
            summary = _answer(question, made, Path(folder), as_json)
            _deliver(made, output)
    except FileError as error:
        click.echo(str(error), err=True)
        fail("nothing was written")
    except OSError as error:
        fail(str(error))
    except DatabaseError as error:
        fail(_explained(error), 1)
    if as_json:
        click.echo(json.dumps(summary), err=output is None)
    else:
        unknown = (
            f", {summary['sales_without_visitor']} of no known visitor" if summary["sales_without_visitor"] else ""
        )
        skipped = f"; {summary['skipped']} rows skipped" if summary["skipped"] else ""
        click.echo(f"{summary['credited']} of {summary['sales']} sales credited{unknown}{skipped}", err=True)


def _explained(error: Exception) -> str:
    text = str(error).partition("DB::Exception: ")[2].partition("\n")[0] or str(error)
    if getattr(error, "code", None) == _MEMORY_LIMIT_EXCEEDED:
        return f"this needs more than --max-memory; nothing was written ({text})"
    return f"the engine failed; nothing was written ({text})"


@contextmanager
def _folder_beside(output: Path | None) -> Iterator[Path]:
    """A folder on the disk where the answer will be, so that it gets there by a rename."""
    beside = None if output is None else output.resolve().parent
    with tempfile.TemporaryDirectory(prefix=".lastcookie-", dir=beside) as folder:
        yield Path(folder)


def _deliver(made: Path, output: Path | None) -> None:
    if output is None:
        with made.open("rb") as answer:
            shutil.copyfileobj(answer, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
        return
    mask = os.umask(0)
    os.umask(mask)
    made.chmod(0o666 & ~mask)
    made.replace(output.resolve())


def _answer(question: Any, made: Path, folder: Path, as_json: bool) -> dict[str, Any]:
    """Open the engine, answer in a thread, and close the engine whatever happens."""
    import clickhouse_connect

    from attribution.files import attribute as answer
    from attribution.files import engine_settings

    dsn = f"chdb://{folder / 'engine'}"
    cores = len(os.sched_getaffinity(0))
    client = clickhouse_connect.get_client(dsn=dsn, settings=engine_settings(question.memory_max, cores))
    watching = clickhouse_connect.get_client(dsn=dsn)
    try:
        with _shown_progress(watching, question, as_json) as step:
            links = folder / "files"
            links.mkdir()
            notes: list[str] = []
            note = notes.append if as_json else _note
            summary = _in_thread(watching, lambda: answer(client, question, made, links, note, step))
            return {**asdict(summary), "notes": notes}
    finally:
        watching.close()
        client.close()


def _note(text: str) -> None:
    click.echo(text, err=True)


def _quiet(text: str) -> None:
    pass


def _in_thread(watching: Any, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises; Ctrl-C and SIGTERM stop the engine's query and come through."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
    except BaseException:
        while thread.is_alive():
            with suppress(Exception):
                watching.command("KILL QUERY WHERE query_id != queryID()")
            thread.join(_POLL_SECONDS)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def _shown_progress(watching: Any, question: Any, as_json: bool) -> Iterator[Callable[[str], None]]:
    """On a terminal a bar; what to call at each step."""
    if as_json or not sys.stderr.isatty():
        yield _quiet
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking at the files", total=None)
        sizes = {"reading clicks": _size(question.clicks), "reading sales": _size(question.sales)}
        ended = threading.Event()

        def poll() -> None:
            while not ended.wait(_POLL_SECONDS):
                with suppress(Exception):
                    rows = watching.query("SELECT max(read_bytes) FROM system.processes").result_rows
                    progress.update(task, completed=rows[0][0])

        def step(name: str) -> None:
            progress.reset(task, description=name, total=sizes.get(name))

        watcher = threading.Thread(target=poll)
        watcher.start()
        try:
            yield step
        finally:
            ended.set()
            watcher.join()


def _size(path: Path) -> int | None:
    """Bytes that the engine will say it has read, if that can be foretold."""
    return path.stat().st_size if path.suffix in (".jsonl", ".ndjson", ".csv", ".parquet") and path.exists() else None
