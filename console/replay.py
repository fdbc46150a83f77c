"""`lastcookie replay`: verify what was decided, or ask what other terms would have decided.

The engine sends the evidence (replays.py); here it is decided, counted and shown. Called by the command line.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from attribution.replay import Extent, Interrupted, Judged
from attribution.replay import replay as judge
from attribution.replay_report import Tally, difference_row
from console.commands import Instance, fail, instance_options, json_option, named_errors, opened
from console.replay_output import FORMATS, Rows, write_differences, write_what_if
from schemas.terms import TermsError
from schemas.what_if import ON_ARRIVAL, read_changes

_SHOW_EVERY = 1000
_EPOCH_MS_DIGITS = 13


@click.command()
@click.option("--program", help="Only this program; default all.")
@click.option("--from", "first", metavar="TIME", help="Sales dated from then on: a date (00:00 UTC) or RFC 3339.")
@click.option("--to", "end", metavar="TIME", help="Sales dated before then.")
@click.option(
    "--as-of",
    metavar="[TIME]",
    is_flag=False,
    flag_value="",
    help="Verify the decisions in force then, by what had been received then; default now.",
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="What if the terms had said this?")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: by the extension of -o, else table.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; default here.")
@json_option
@instance_options
def replay(
    instance: Instance,
    program: str | None,
    first: str | None,
    end: str | None,
    as_of: str | None,
    settings: tuple[str, ...],
    form: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Decide the sales of a period again: verify (exit 1 where something differs), or with --set ask what if."""
    form = _format("json" if as_json else form, output)
    changes = _changes(settings) if settings else None
    if changes is not None and as_of is not None:
        fail("--as-of verifies and --set asks what if: one of them")
    from_ms, to_ms = _read_time("--from", first), _read_time("--to", end)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        fail(f"empty period: --from {first} is not before --to {end}")
    as_of_ms = _read_time("--as-of", as_of or None)
    question = {"program": program, "from": from_ms, "to": to_ms, "as_of": as_of_ms, "set": changes}
    with named_errors(), opened(output) as file:
        extent = Extent()
        try:
            judged = _watched(judge(instance.admin().replay(question), changes, extent), extent)
            differs = _verify(judged, form, file) if changes is None else _ask(judged, changes, form, file)
        except Interrupted as error:
            fail(str(error))
    sys.exit(1 if differs else 0)


def _verify(judged: Iterator[Judged], form: str, file: Any) -> bool:
    sales = forgotten = 0
    with Rows() as rows:
        for one in judged:
            sales += 1
            forgotten += one.decision.is_forgotten
            if one.difference is not None:
                rows.add(difference_row(one))
        write_differences(sales, forgotten, rows, form, file)
        return rows.count > 0


def _ask(judged: Iterator[Judged], changes: dict[str, Any], form: str, file: Any) -> bool:
    tally = Tally()
    with Rows() as orders:
        for one in judged:
            row = tally.take(one)
            if row is not None:
                orders.add(row)
        write_what_if(tally, orders, changes, form, file)
    return False


def _changes(settings: tuple[str, ...]) -> dict[str, Any]:
    try:
        changes = read_changes(settings)
    except TermsError as error:
        fail(f"--set: {str(error).removeprefix('terms: ')}")
    for key in ON_ARRIVAL:
        if key in changes:
            click.echo(f"lastcookie: {key} works when clicks and reports arrive; here it changes nothing", err=True)
    return changes


def _format(form: str | None, output: Path | None) -> str:
    by_name = output.suffix[1:].lower() if output is not None else ""
    chosen = form or (by_name if by_name in FORMATS else "table")
    if chosen == "parquet" and output is None:
        fail("parquet needs a file: -o F.parquet")
    return chosen


def _read_time(option: str, text: str | None) -> int | None:
    """A date, a time (RFC 3339, or as the tables show it, UTC where it says nothing) or milliseconds, as ms."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) == _EPOCH_MS_DIGITS:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return (at - datetime.fromtimestamp(0, UTC)) // _MILLISECOND
    except (ValueError, OverflowError):
        fail(f"{option}: {text!r} is no time; accepted: 2026-01-31, 2026-01-31T12:00:00Z, or epoch milliseconds")


_MILLISECOND = datetime.fromtimestamp(0.001, UTC) - datetime.fromtimestamp(0, UTC)


def _watched(judged: Iterator[Judged], extent: Extent) -> Iterator[Judged]:
    """The same, with a progress bar on a terminal."""
    if not _is_terminal():
        yield from judged
        return
    columns = ("replay", BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replay", total=None)
        for count, one in enumerate(judged, 1):
            if count % _SHOW_EVERY == 1:
                progress.update(task, completed=count, total=extent.decisions)
            yield one


def _is_terminal() -> bool:
    return sys.stderr.isatty()
