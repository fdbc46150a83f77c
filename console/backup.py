"""`lastcookie backup DIR` and `lastcookie restore DIR`: a copy of a running instance, and a new one out of it.

The copy is made by the engine (backups.py), which alone may open the tables; restored.py makes the new one here.
Called by the command line.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from console.backup_files import BackupError
from console.commands import Instance, fail, instance_options, json_option, named_errors


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@instance_options
def backup(instance: Instance, folder: Path, as_json: bool) -> None:
    """Copy everything that is acknowledged into FOLDER, while clicks flow; it must not exist, or be empty."""
    config = instance.config.read_text("utf-8") if instance.config.exists() else ""
    end: dict[str, Any] | None = None
    with named_errors():
        for line in instance.admin().backup({"folder": str(folder.absolute()), "config": config}):
            if line["section"] == "progress" and sys.stderr.isatty():
                click.echo(f"  {line['step']} …", err=True)
            end = line if line["section"] == "end" else None
    if end is None:
        fail("the backup was interrupted: run it again")
    del end["section"]
    click.echo(json.dumps(end) if as_json else f"backed up to {end['folder']}")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
@instance_options
def restore(instance: Instance, folder: Path, as_json: bool) -> None:
    """Make the data folder out of the backup in FOLDER; it must be empty, and nothing running on it."""
    from console.restored import described
    from console.restored import restore as make

    settings = instance.settings
    try:
        done = described(make(folder, settings))
    except BackupError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or settings.data.dir}: {error.strerror}")
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(f"restored {sum(done['rows'].values())} rows to {settings.data.dir}; start it with `lastcookie up`")
