"""`lastcookie rebuild-state`: have the engine rebuild touch state from the tables, and show how far it is.

The work is touch_state.py's, in the engine. Called by the command line.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from console.commands import Instance, fail, instance_options, json_option, named_errors


@click.command("rebuild-state")
@json_option
@instance_options
def rebuild_state(instance: Instance, as_json: bool) -> None:
    """Rebuild the log server's touch state from the tables, while clicks flow; exit 1 where it is not complete."""
    end: dict[str, Any] | None = None
    with named_errors():
        for line in _watched(instance.admin().rebuild_state()):
            end = line if line["section"] == "end" else None
    if end is None:
        fail("the rebuild was interrupted: run it again")
    del end["section"]
    is_complete = not end["problem"]
    if as_json:
        click.echo(json.dumps({**end, "complete": is_complete}))
    else:
        click.echo("\n".join(_sentences(end)))
    sys.exit(0 if is_complete else 1)


def _sentences(end: dict[str, Any]) -> Iterator[str]:
    yield f"{end['clicks']} clicks of {end['visitors']} visitors read, the touch state of {end['changed']} changed"
    if end["problem"]:
        yield f"evidence is not complete: {end['problem']}; until then sales are decided from the tables"
    elif end["closed"]:
        yield f"evidence is complete again in {len(end['closed'])} shards"
    else:
        yield "evidence is complete, as it was before"


def _watched(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield from lines
        return
    columns = ("rebuild-state", BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rebuild-state", total=None)
        for line in lines:
            if line["section"] == "progress":
                progress.update(task, completed=line["clicks"], total=line["of"])
            yield line
